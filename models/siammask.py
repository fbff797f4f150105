"""SiamMask: boxes as SiamRPN++, and a segmentation mask of the chosen position (SiamMask, sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtrt.models.network import ExtraGraph, SiameseNetwork
from siamtrt.models.resnet import Bottleneck, ResNet
from siamtrt.models.siamrpnpp import TEMPLATE_SIDE, DepthwiseRPN, Neck, XCorrBranch, crop_centre
from siamtrt.models.xcorr import depthwise_xcorr

HIDDEN = 256  # width of neck and heads
MASK_SIDE = 63  # of the mask without refinement
MARGIN = 4  # outermost cells of the response map whose windows reach beyond the search crop
# Of the levels that the refinement reads, finest first:
STRIDES = (4, 2, 1)  # per cell of the response map, which is 8 pixels of the search crop
WINDOWS = (61, 31, 15)  # side of the features of a 127-pixel window
REFINED_SIDES = (31, 61, 127)  # what the merges are enlarged to, coarsest first


def _two_convs(c_in: int, c_middle: int, c_out: int) -> nn.Sequential:
    first, second = nn.Conv2d(c_in, c_middle, 3, padding=1), nn.Conv2d(c_middle, c_out, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def _cell(features: Tensor, position: Tensor) -> Tensor:
    """(N, C, R, R) features and (row, column) -> (N, C, 1, 1)."""
    return features.index_select(2, position[:1]).index_select(3, position[1:])


def _window(features: Tensor, position: Tensor, level: int) -> Tensor:
    """(N, C, S, S) features of a level and (row, column) -> the (N, C, W, W) that a template there covers.

    Indices computed from the position, on padded features, keep every shape static.
    """
    pad, offsets = MARGIN * STRIDES[level], torch.arange(WINDOWS[level], device=position.device)
    rows, columns = (position * STRIDES[level]).unbind()
    return F.pad(features, (pad,) * 4).index_select(2, rows + offsets).index_select(3, columns + offsets)


class Refine(nn.Module):
    """Grows a mask out of one cell's correlation, merging in ever finer backbone levels (SiamMask, sec. 3.2).

    Parameter names of pysot's `Refine`, which enlarges by nearest neighbours.
    """

    def __init__(self) -> None:
        super().__init__()
        self.v0, self.v1, self.v2 = _two_convs(64, 16, 4), _two_convs(256, 64, 16), _two_convs(512, 128, 32)
        self.h0, self.h1, self.h2 = _two_convs(4, 4, 4), _two_convs(16, 16, 16), _two_convs(32, 32, 32)
        self.deconv = nn.ConvTranspose2d(HIDDEN, 32, 15, 15)
        self.post0 = nn.Conv2d(32, 16, 3, padding=1)
        self.post1 = nn.Conv2d(16, 4, 3, padding=1)
        self.post2 = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, windows: Sequence[Tensor], cell: Tensor) -> Tensor:
        """Windows (N, 64, 61, 61), (N, 256, 31, 31), (N, 512, 15, 15), cell (N, 256, 1, 1) -> (N, 127*127) logits."""
        out = self.deconv(cell)
        steps = ((self.h2, self.v2, self.post0), (self.h1, self.v1, self.post1), (self.h0, self.v0, self.post2))
        for (horizontal, vertical, post), window, side in zip(steps, reversed(windows), REFINED_SIDES, strict=True):
            out = post(F.interpolate(horizontal(out) + vertical(window), size=(side, side)))
        return out.flatten(1)


class SiamMask(SiameseNetwork):
    """SiamMask in three graphs: `template` once a target, `search` once a frame, then `refine` for one position.

    The mask head has 63*63 outputs, so it is computed only where the box was found, not at all 25x25 positions.
    Parameter names of pysot's `siammask_r50_l3`. ResNet-50 without its last stage; a 1x1 convolution to 256 channels.

    Args:
        refine: refine the mask to 127x127 with the backbone's levels (SiamMask's "sharp" variant) instead of
            taking the mask head's 63x63. The mask head's own last layers are then in no graph: they are kept
            because the authors' checkpoints have them.
        anchors: anchor boxes a position.
    """

    def __init__(self, refine: bool = True, anchors: int = 5) -> None:
        super().__init__()
        self.backbone = ResNet(Bottleneck, (3, 4, 6, 3), levels=(0, 1, 2, 3) if refine else (3,))
        self.neck = Neck((1024,), (HIDDEN,))
        self.rpn_head = DepthwiseRPN(HIDDEN, anchors)
        self.mask_head = XCorrBranch(HIDDEN, MASK_SIDE**2)
        self.refine_head = Refine() if refine else None
        self._levels = tuple(f"feature{level}" for level in range(len(STRIDES))) if refine else ()
        self.outputs = ("cls", "loc", *self._levels, "correlation")

    def extra_graphs(self) -> tuple[ExtraGraph, ...]:
        """`refine` on search's later outputs and "position": row and column in the response map."""
        examples = {"position": torch.tensor([12, 12])}
        return (ExtraGraph("refine", (*self._levels, "correlation", "position"), ("mask",), examples),)

    def _branches(self) -> tuple[XCorrBranch, XCorrBranch, XCorrBranch]:
        """What shares one correlation; their concatenated convolutions the exporter merges into one."""
        return self.rpn_head.cls, self.rpn_head.loc, self.mask_head

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, 127, 127) template crop -> (1, 768, 5, 5) kernels of cls, loc and mask."""
        features = crop_centre(self.neck(self.backbone(z)[-1:])[0], TEMPLATE_SIDE)
        return (torch.cat([branch.conv_kernel(features) for branch in self._branches()], dim=1),)

    def search(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, 255, 255) search crop and kernels -> cls (1, 2A, 25, 25), loc (1, 4A, 25, 25), what `refine` reads.

        That is, with refinement, backbone levels (1, 64, 125, 125), (1, 256, 63, 63), (1, 512, 31, 31); then the
        mask branch's correlation (1, 256, 25, 25).
        """
        *levels, last = self.backbone(x)
        features = self.neck([last])[0]
        searched = torch.cat([branch.conv_search(features) for branch in self._branches()], dim=1)
        cls, loc, correlation = depthwise_xcorr(searched, kernel).chunk(3, dim=1)
        return self.rpn_head.cls.head(cls), self.rpn_head.loc.head(loc), *levels, correlation

    def refine(self, *tensors: Tensor) -> tuple[Tensor]:
        """Levels (with refinement), correlation and (2,) int64 position -> (1, 127*127) or (1, 63*63) mask logits."""
        *levels, correlation, position = tensors
        cell = _cell(correlation, position)
        if self.refine_head is None:
            return (self.mask_head.head(cell).flatten(1),)
        windows = [_window(features, position, level) for level, features in enumerate(levels)]
        return (self.refine_head(windows, cell),)
