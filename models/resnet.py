"""ResNet-18, 34 and 50 with stride 8: the last two stages dilated instead of strided (SiamRPN++, sec. 3.2)."""

from __future__ import annotations

from torch import Tensor, nn


def _conv3x3(c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """3x3 convolution, unpadded where it strides, as the reference trackers have it."""
    padding = 0 if stride > 1 else dilation
    return nn.Conv2d(c_in, c_out, 3, stride, padding, dilation, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; with a projected shortcut the first has half the dilation."""

    expansion = 1

    def __init__(self, c_in: int, planes: int, stride: int, dilation: int, downsample: nn.Module | None) -> None:
        super().__init__()
        first_dilation = dilation if downsample is None else max(dilation // 2, 1)
        self.conv1 = _conv3x3(c_in, planes, stride, first_dilation)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3(planes, planes, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; with a projected shortcut the 3x3 has half the dilation."""

    expansion = 4

    def __init__(self, c_in: int, planes: int, stride: int, dilation: int, downsample: nn.Module | None) -> None:
        super().__init__()
        if downsample is not None:
            dilation = max(dilation // 2, 1)
        self.conv1 = nn.Conv2d(c_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3(planes, planes, stride, dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + shortcut)


Block = type[BasicBlock] | type[Bottleneck]


def _shortcut(c_in: int, c_out: int, stride: int, dilation: int) -> nn.Sequential | None:
    """Projection where the shape changes: 1x1 in an undilated stage of stride 1, else 3x3 with half the dilation."""
    if stride == 1 and c_in == c_out:
        return None
    if stride == 1 and dilation == 1:
        conv = nn.Conv2d(c_in, c_out, 1, bias=False)
    else:
        conv = _conv3x3(c_in, c_out, stride, max(dilation // 2, 1))
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


def _stage(block: Block, c_in: int, planes: int, depth: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    c_out = planes * block.expansion
    first = block(c_in, planes, stride, dilation, _shortcut(c_in, c_out, stride, dilation))
    return nn.Sequential(first, *(block(c_out, planes, 1, dilation, None) for _ in range(depth - 1)))


class ResNet(nn.Module):
    """Parameter names of pysot's atrous ResNets.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks in each of the four stages.
    """

    def __init__(self, block: Block, depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        widths = [planes * block.expansion for planes in (64, 128, 256)]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(block, 64, 64, depths[0])
        self.layer2 = _stage(block, widths[0], 128, depths[1], stride=2)
        self.layer3 = _stage(block, widths[1], 256, depths[2], dilation=2)
        self.layer4 = _stage(block, widths[2], 512, depths[3], dilation=4)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S) pixels -> features of stages 2, 3, 4 (128, 256, 512 times the expansion); S 255: side 31."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        c2 = self.layer2(self.layer1(x))
        c3 = self.layer3(c2)
        return [c2, c3, self.layer4(c3)]
