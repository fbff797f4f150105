"""SiamRPN++: depthwise correlation heads, aggregated layer by layer (SiamRPN++, secs. 3.3 and 3.4)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from siamtrt.models.network import SiameseNetwork
from siamtrt.models.xcorr import depthwise_xcorr

TEMPLATE_SIDE = 7  # the template features are cropped to their centre 7x7 (SiamRPN++, sec. 3.2)


class Adjust(nn.Module):
    """1x1 convolution that brings one backbone level to the head's width."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(x)


class Neck(nn.Module):
    """One `Adjust` per backbone level, named `downsample2`, `downsample3`, ... as in pysot; a single one unnumbered."""

    def __init__(self, channels: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__()
        for level, (c_in, c_out) in enumerate(zip(channels, hidden, strict=True), start=2):
            self.add_module(f"downsample{level}" if len(channels) > 1 else "downsample", Adjust(c_in, c_out))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [adjust(feature) for adjust, feature in zip(self.children(), features, strict=True)]


def crop_centre(features: Tensor, side: int) -> Tensor:
    """Centre `side` x `side` window of (N, C, H, W)."""
    low = (features.shape[3] - side) // 2
    return features[:, :, low : low + side, low : low + side]


def _conv_bn_relu(c_in: int, c_out: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]


class XCorrBranch(nn.Module):
    """Classification or regression branch of one level: template and search convolutions, then the head."""

    def __init__(self, hidden: int, c_out: int) -> None:
        super().__init__()
        self.conv_kernel = nn.Sequential(*_conv_bn_relu(hidden, hidden, 3))
        self.conv_search = nn.Sequential(*_conv_bn_relu(hidden, hidden, 3))
        self.head = nn.Sequential(*_conv_bn_relu(hidden, hidden, 1), nn.Conv2d(hidden, c_out, 1))


class DepthwiseRPN(nn.Module):
    """One level: both branches share one correlation over their concatenated channels.

    The concatenation is what lets the exporter merge the two sibling convolutions into one.
    """

    def __init__(self, hidden: int, anchors: int) -> None:
        super().__init__()
        self.cls = XCorrBranch(hidden, 2 * anchors)
        self.loc = XCorrBranch(hidden, 4 * anchors)

    def template(self, z: Tensor) -> Tensor:
        """(N, C, s, s) template features -> (N, 2C, s-2, s-2) kernels, cls first."""
        return torch.cat([self.cls.conv_kernel(z), self.loc.conv_kernel(z)], dim=1)

    def search(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) search features and kernels -> (N, 2A, R, R) cls and (N, 4A, R, R) loc."""
        features = torch.cat([self.cls.conv_search(x), self.loc.conv_search(x)], dim=1)
        cls, loc = depthwise_xcorr(features, kernel).chunk(2, dim=1)
        return self.cls.head(cls), self.loc.head(loc)


class MultiRPN(nn.Module):
    """Layer-wise aggregation: the levels' outputs, averaged or with learned softmax weights (eq. 2)."""

    def __init__(self, hidden: tuple[int, ...], anchors: int, weighted: bool) -> None:
        super().__init__()
        self.levels = len(hidden)
        for level, channels in enumerate(hidden, start=2):
            self.add_module(f"rpn{level}", DepthwiseRPN(channels, anchors))
        if weighted:
            self.cls_weight = nn.Parameter(torch.ones(self.levels))
            self.loc_weight = nn.Parameter(torch.ones(self.levels))
        self.weighted = weighted

    def _rpns(self) -> list[DepthwiseRPN]:
        return [self.get_submodule(f"rpn{level}") for level in range(2, 2 + self.levels)]  # type: ignore[misc]

    def _fuse(self, maps: list[Tensor], name: str) -> Tensor:
        weights: Sequence[Tensor | float] = (1.0 / self.levels,) * self.levels
        if self.weighted:
            weights = torch.softmax(self.get_parameter(name), dim=0).unbind()
        return functools.reduce(torch.add, [m * weight for m, weight in zip(maps, weights, strict=True)])

    def template(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(rpn.template(z) for rpn, z in zip(self._rpns(), features, strict=True))

    def search(self, features: list[Tensor], kernels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        outputs = [rpn.search(x, k) for rpn, x, k in zip(self._rpns(), features, kernels, strict=True)]
        cls, loc = zip(*outputs, strict=True)
        return self._fuse(list(cls), "cls_weight"), self._fuse(list(loc), "loc_weight")


class SiamRPNpp(SiameseNetwork):
    """SiamRPN++ split in two: `template` runs once a target, `search` once a frame.

    Args:
        backbone: pixels -> list of feature levels.
        channels: channels of each level, as the backbone gives them.
        hidden: width of neck and head at each level.
        anchors: anchor boxes a position.
        weighted: learned fusion weights (ResNet-50) instead of the mean.

    One level has neither neck nor fusion: the AlexNet tracker of pysot.
    """

    def __init__(
        self, backbone: nn.Module, channels: tuple[int, ...], hidden: tuple[int, ...], anchors: int = 5,
        weighted: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone = backbone
        self.rpn_head: DepthwiseRPN | MultiRPN
        if len(channels) == 1:
            self.rpn_head = DepthwiseRPN(hidden[0], anchors)
        else:
            self.neck = Neck(channels, hidden)
            self.rpn_head = MultiRPN(hidden, anchors, weighted)

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 127, 127) template crop -> one (N, 2C, h, w) kernel per level of width C."""
        features = self.backbone(z)
        if isinstance(self.rpn_head, DepthwiseRPN):
            return (self.rpn_head.template(features[0]),)
        return self.rpn_head.template([crop_centre(f, TEMPLATE_SIDE) for f in self.neck(features)])

    def search(self, x: Tensor, *kernels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) search crop and the template's kernels -> raw cls (N, 2A, R, R), loc (N, 4A, R, R)."""
        features = self.backbone(x)
        if isinstance(self.rpn_head, DepthwiseRPN):
            return self.rpn_head.search(features[0], kernels[0])
        return self.rpn_head.search(self.neck(features), kernels)
