"""A small SiamRPN++: ImageNet's MobileNetV2 at three quarters of the paper's resolution, a separable head.

Depthwise correlation, anchors and shift-trained padding are SiamRPN++'s (secs. 3.1 to 3.3). Ours are the fusion of two
levels before one correlation instead of after three, and towers of separable convolutions after it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamtrt.models.mobilenetv2 import PlainMobileNetV2
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.siamrpnpp import TEMPLATE_SIDE, crop_centre
from siamtrt.models.xcorr import depthwise_xcorr


def _separable(c_in: int, c_out: int, padding: int) -> list[nn.Module]:
    """3x3 depthwise and 1x1 convolution, BatchNorm after both."""
    return [
        nn.Conv2d(c_in, c_in, 3, padding=padding, groups=c_in, bias=False), nn.BatchNorm2d(c_in),
        nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
    ]  # fmt: skip


class FusedNeck(nn.Module):
    """Stride 8 features plus the stride 16 ones brought to their grid by a transposed convolution."""

    def __init__(self, channels: tuple[int, int], hidden: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(channels[0], hidden, 1, bias=False)
        self.coarse = nn.ConvTranspose2d(channels[1], hidden, 3, stride=2, bias=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(hidden), nn.ReLU())

    def forward(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """(N, c0, 2S+1, 2S+1) and (N, c1, S, S) -> (N, C, 2S+1, 2S+1)."""
        return self.norm(self.fine(features[0]) + self.coarse(features[1]))


def _tower(hidden: int, c_out: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(hidden, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()]
    for _ in range(depth):
        layers += _separable(hidden, hidden, padding=1)
    return nn.Sequential(*layers, nn.Conv2d(hidden, c_out, 1))


class SmallSiamRPN(SiameseNetwork):
    """The network of the default tracker.

    Args:
        hidden: channels C of the neck and of each branch.
        anchors: boxes A at a position.
        depth: separable convolutions of a branch after its correlation.
    """

    def __init__(self, hidden: int = 96, anchors: int = 5, depth: int = 2) -> None:
        super().__init__()
        self.backbone = PlainMobileNetV2()
        self.neck = FusedNeck(PlainMobileNetV2.channels, hidden)
        self.conv_kernel = nn.Sequential(*_separable(hidden, 2 * hidden, padding=0))
        self.conv_search = nn.Sequential(*_separable(hidden, 2 * hidden, padding=0))
        self.cls_tower = _tower(hidden, 2 * anchors, depth)
        self.loc_tower = _tower(hidden, 4 * anchors, depth)

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 95, 95) template crop -> (N, 2C, 5, 5) kernel, cls first."""
        return (self.conv_kernel(crop_centre(self.neck(self.backbone(z)), TEMPLATE_SIDE)),)

    def search(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, 159, 159) search crop and kernel -> raw cls (N, 2A, 13, 13), loc (N, 4A, 13, 13)."""
        features = self.conv_search(self.neck(self.backbone(x)))
        cls, loc = torch.chunk(depthwise_xcorr(features, kernel), 2, dim=1)
        return self.cls_tower(cls), self.loc_tower(loc)
