"""C-RPN: region proposal networks in cascade, from deep to shallow features (C-RPN, secs. 3.3 to 3.5)."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtrt.models.network import SiameseNetwork
from siamtrt.models.siamrpn import UpChannelRPN

# A filtered anchor's target logit lies this far below its background logit, which makes its score 2e-9.
FILTERED_MARGIN = 20.0
# log(62.5), the bound detectors put on regressed sizes: keeps exp(size) small enough for FP16, whose largest is 65504.
SIZE_LIMIT = 4.135


class FeatureTransfer(nn.Module):
    """Feature transfer block: brings deeper features into a shallower level (sec. 3.4 and fig. 6).

    Args:
        c_high: channels of the deeper features.
        c_low: channels of the shallower features, and of the result.
        kernel: of the deconvolution, by how many positions plus one the shallower features are wider.
    """

    def __init__(self, c_high: int, c_low: int, kernel: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(c_high, c_low, kernel)
        self.high_conv = nn.Conv2d(c_low, c_low, 3, padding=1)
        self.low_convs = nn.Sequential(*[nn.Conv2d(c_low, c_low, 3, padding=1) for _ in range(2)])

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """(N, C, s, s) deeper and (N, C', s + kernel - 1, s + kernel - 1) shallower features -> (N, C', s, s)."""
        fused = F.relu(self.high_conv(self.deconv(high)) + self.low_convs(low))
        return F.interpolate(fused, size=high.shape[2:], mode="bilinear", align_corners=False)


def composed_offsets(stages: list[Tensor]) -> Tensor:
    """Regressions that follow each other, as one relative to the predefined anchors (eq. 6).

    A stage moves a box by fractions of the sides that the stages before it gave the box, so its shift is multiplied
    by exp of their summed log-sizes. That sum stays within `SIZE_LIMIT` after each stage: no refined box has a side
    more than 62.5 times longer or shorter than its anchor's.

    Args:
        stages: (N, 4A, R, R) each, first the A offsets of x, then those of y, of width and of height.

    Returns:
        (N, 4A, R, R), in the same order.
    """
    shift, size = stages[0].chunk(2, dim=1)
    size = size.clamp(-SIZE_LIMIT, SIZE_LIMIT)
    for stage in stages[1:]:
        step, growth = stage.chunk(2, dim=1)
        shift = shift + size.exp() * step
        size = (size + growth).clamp(-SIZE_LIMIT, SIZE_LIMIT)
    return torch.cat([shift, size], dim=1)


def filtered_logits(stages: list[Tensor], theta: float) -> Tensor:
    """The last stage's logits, where anchors that some stage filters out have lost (algorithm 1, line "Remove").

    Args:
        stages: (N, 2A, R, R) each, first the A background logits, then the A target logits.
        theta: an anchor whose background confidence exceeds it is filtered out; 1 keeps every anchor.

    Returns:
        (N, 2A, R, R), in the same order.
    """
    logits = [stage.chunk(2, dim=1) for stage in stages]
    highest = functools.reduce(torch.maximum, [background - target for background, target in logits])
    filtered = torch.sigmoid(highest) > theta
    background, target = logits[-1]
    return torch.cat([background, torch.where(filtered, background - FILTERED_MARGIN, target)], dim=1)


class CRPN(SiameseNetwork):
    """C-RPN split in two: `template` runs once a target, `search` once a frame, all stages in it.

    Every anchor runs through every stage and the filtered ones lose at the end, so that shapes are static; what a
    stage makes of one anchor does not depend on the others. The decoder of SiamRPN reads the outputs as they are.
    The later stages are as wide as their levels, 384 channels (fig. 6): 119 million parameters, 97 of them in the
    convolutions that make the kernels.

    The paper leaves open, and these are our choices: crops of 127 and 255 pixels, as in SiamRPN, whose sampling it
    adopts; of the three convolutions that fig. 6 names, one after the deconvolution and two on the shallower
    features, with a bias and without norm or activation; deconvolutions of 3x3 and 5x5 with stride 1, which undo
    the unpadded convolutions between the levels; bilinear interpolation; the bound on sizes, `SIZE_LIMIT`.

    Args:
        backbone: pixels -> one feature level a stage, shallowest first, each two positions narrower than the last.
        channels: of each level, in that order.
        anchors: anchor boxes a position.
        theta: background confidence above which an anchor is filtered out (sec. 4).
    """

    def __init__(
        self, backbone: nn.Module, channels: tuple[int, ...] = (384, 384, 256), anchors: int = 5, theta: float = 0.95
    ) -> None:
        super().__init__()
        deepest, *shallower = channels[::-1]
        self.backbone = backbone
        self.transfers = nn.ModuleList()
        self.rpns = nn.ModuleList([UpChannelRPN(deepest, anchors)])
        for stage, width in enumerate(shallower, start=1):
            self.transfers.append(FeatureTransfer(channels[-stage], width, 2 * stage + 1))
            self.rpns.append(UpChannelRPN(width, anchors))
        self.theta = theta

    def features(self, pixels: Tensor) -> list[Tensor]:
        """(N, 3, S, S) pixels -> (N, C, s, s) per stage, deepest first, all of the deepest level's side (eq. 2)."""
        high, *shallower = self.backbone(pixels)[::-1]
        stages = [high]
        for transfer, low in zip(self.transfers, shallower, strict=True):
            stages.append(transfer(stages[-1], low))
        return stages

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, 127, 127) template crop -> per stage kernels (1, 2A, C, 4, 4) and (1, 4A, C, 4, 4)."""
        stages = zip(self.rpns, self.features(z), strict=True)
        return tuple(kernel for rpn, features in stages for kernel in rpn.template(features))  # type: ignore[operator]

    def search(self, x: Tensor, *kernels: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, S, S) search crop and the template's kernels -> raw cls (1, 2A, R, R) and composed loc (1, 4A, R, R).

        S 255 gives R 17.
        """
        stages = zip(self.rpns, self.features(x), kernels[::2], kernels[1::2], strict=True)
        outputs = [rpn.search(features, cls, loc) for rpn, features, cls, loc in stages]  # type: ignore[operator]
        return filtered_logits([cls for cls, _ in outputs], self.theta), composed_offsets([loc for _, loc in outputs])
