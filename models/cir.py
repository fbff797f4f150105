"""CIResNet-22, CIResInception-22, CIResNeXt-22: backbones of cropping-inside residual (CIR) units (SiamDW, sec. 4).

A CIR unit pads its 3x3 convolution by 1 and cuts 1 position off each side of its output, so that no feature depends
on padding. Here the 3x3 convolution is unpadded instead and the shortcut cropped: the same values, none computed to
be cut off. Layout and names are those of researchmm/SiamDW.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

CARDINALITY = 32  # groups of the 3x3 convolutions of CIResNeXt


def _cropped(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H-2, W-2)."""
    return x[:, :, 1:-1, 1:-1]


def _conv1x1(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1, bias=False)


class Bottleneck(nn.Module):
    """1x1, unpadded 3x3 and 1x1 convolution, each normalised; no activation after the last.

    Args:
        c_in: channels of the input.
        inner: of the 3x3 convolution's input.
        c_out: of the output.
        widening: times `inner`, of the 3x3 convolution's output.
        groups: of the 3x3 convolution.
        names: of the three convolutions.
    """

    def __init__(
        self, c_in: int, inner: int, c_out: int, groups: int = 1,
        names: tuple[str, str, str] = ("conv1", "conv2", "conv3"), widening: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        widened = widening * inner
        middle = nn.Conv2d(inner, widened, 3, groups=groups, bias=False)
        convs = (_conv1x1(c_in, inner), middle, _conv1x1(widened, c_out))
        for name, conv in zip(names, convs, strict=True):
            self.add_module(name, conv)
        self.bn1 = nn.BatchNorm2d(inner)
        self.bn2 = nn.BatchNorm2d(widened)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()
        self.names = names

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H-2, W-2)."""
        first, middle, last = (self.get_submodule(name) for name in self.names)
        x = self.relu(self.bn1(first(x)))
        x = self.relu(self.bn2(middle(x)))
        return self.bn3(last(x))


class CIRUnit(Bottleneck):
    """The bottleneck around a cropped shortcut, projected where the channels change; inner width C_out / 4."""

    def __init__(self, c_in: int, c_out: int, activation: nn.Module, widening: int = 1) -> None:
        super().__init__(c_in, c_out // 4, c_out, widening=widening)
        self.downsample: nn.Module = nn.Identity()
        if c_in != c_out:
            self.downsample = nn.Sequential(_conv1x1(c_in, c_out), nn.BatchNorm2d(c_out))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H-2, W-2)."""
        return self.activation(super().forward(x) + self.downsample(_cropped(x)))


class _PointwiseBranch(nn.Module):
    """1x1 convolution, normalised."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = _conv1x1(c_in, c_out)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class CIRInceptionUnit(nn.Module):
    """The bottleneck beside a 1x1 convolution: 4/5 and 1/5 of the output channels, in that order, no shortcut."""

    def __init__(self, c_in: int, c_out: int, activation: nn.Module) -> None:
        super().__init__()
        width = c_out // 5
        self.branch3x3 = Bottleneck(c_in, width, 4 * width)
        self.branch1x1 = _PointwiseBranch(c_in, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H-2, W-2)."""
        return self.activation(torch.cat([self.branch3x3(x), self.branch1x1(_cropped(x))], dim=1))


class CIRNeXtUnit(nn.Module):
    """The bottleneck with a grouped 3x3 convolution around a cropped shortcut, normalised after the sum.

    Inner width C_out / 2.
    """

    def __init__(self, c_in: int, c_out: int, activation: nn.Module) -> None:
        super().__init__()
        self.basic = Bottleneck(c_in, c_out // 2, c_out, CARDINALITY, ("conv1_0", "conv3_0", "conv1_1"))
        self.shortcut = nn.Identity() if c_in == c_out else nn.Sequential(_conv1x1(c_in, c_out))
        self.bn0 = nn.BatchNorm2d(c_out)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H-2, W-2)."""
        return self.activation(self.bn0(self.basic(x) + self.shortcut(_cropped(x))))


Unit = Callable[[int, int, nn.Module], nn.Module]


class CIRBackbone(nn.Module):
    """Stem, three units, one unit, 2x2 pooling, three units; total stride 8, no padding anywhere.

    Pooling inside the second stage stands for a strided convolution (CIR-D unit). The last unit has no ReLU.

    Args:
        unit: (input channels, output channels, activation) -> module that shrinks the side by 2.
        channels: of the features; the first stage has half as many.
        stem: convolution of stride 2 to 64 channels.
        pool: side of the stem's pooling window, stride 2.
    """

    def __init__(self, unit: Unit, channels: int, stem: nn.Conv2d, pool: int) -> None:
        super().__init__()
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(stem.out_channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(pool, 2)
        half, relu = channels // 2, nn.ReLU()
        self.layer1 = nn.Sequential(
            unit(stem.out_channels, half, relu), unit(half, half, relu), unit(half, half, relu)
        )  # fmt: skip
        self.layer2 = nn.Sequential(
            unit(half, channels, relu), nn.MaxPool2d(2), unit(channels, channels, relu),
            unit(channels, channels, relu), unit(channels, channels, nn.Identity()),
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S) pixels -> [(N, channels, s, s)]; S 127 gives s 5, 255 gives 21."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return [self.layer2(self.layer1(x))]


class CIResNet22(CIRBackbone):
    """512 channels. Its stem's cropping leaves out the outermost pixel on each side.

    Args:
        widening: of the 3x3 convolutions' output; 2 is the authors' later CIResNet-22W.
    """

    def __init__(self, widening: int = 1) -> None:
        unit = functools.partial(CIRUnit, widening=widening)
        super().__init__(unit, 512, nn.Conv2d(3, 64, 7, 2, bias=False), pool=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """See `CIRBackbone.forward`. Padding by 3 and cropping 2 at stride 2 begins at pixel 2 * 2 - 3 = 1."""
        return super().forward(_cropped(x))


class CIResInception22(CIRBackbone):
    """640 channels."""

    def __init__(self) -> None:
        super().__init__(CIRInceptionUnit, 640, nn.Conv2d(3, 64, 7, 2, bias=False), pool=3)


class CIResNeXt22(CIRBackbone):
    """512 channels. The authors call the stem `conv0` and `bn0`; its convolution has a bias."""

    def __init__(self) -> None:
        super().__init__(CIRNeXtUnit, 512, nn.Conv2d(3, 64, 7, 2), pool=3)
