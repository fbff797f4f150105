"""ResNet-50 with stride 8: the last two stages dilated (SiamRPN++, sec. 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the first block of a dilated stage uses half its dilation."""

    def __init__(self, c_in: int, planes: int, stride: int, dilation: int, downsample: nn.Module | None) -> None:
        super().__init__()
        padding = dilation if dilation > 1 else 2 - stride
        self.conv1 = nn.Conv2d(c_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * EXPANSION)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + shortcut)


def _shortcut(c_in: int, c_out: int, kernel: int, stride: int, dilation: int) -> nn.Sequential:
    """Projection of the shortcut; like the block it bridges, it is unpadded where it strides."""
    padding = 0 if kernel == 1 or stride > 1 else dilation
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


def _stage(c_in: int, planes: int, blocks: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Bottlenecks of one stage; the first halves the dilation, and strided or dilated stages have a 3x3 shortcut."""
    c_out, first_dilation = planes * EXPANSION, max(dilation // 2, 1)
    kernel = 1 if stride == 1 and dilation == 1 else 3
    shortcut = _shortcut(c_in, c_out, kernel, stride, first_dilation)
    first = Bottleneck(c_in, planes, stride, first_dilation, shortcut)
    return nn.Sequential(first, *(Bottleneck(c_out, planes, 1, dilation, None) for _ in range(blocks - 1)))


class ResNet50(nn.Module):
    """Parameter names of pysot's atrous `resnet50`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(64, 64, 3)
        self.layer2 = _stage(256, 128, 4, stride=2)
        self.layer3 = _stage(512, 256, 6, dilation=2)
        self.layer4 = _stage(1024, 512, 3, dilation=4)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S) pixels -> features of stages 2, 3, 4 (512, 1024, 2048 channels); S 255 gives side 31."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        c2 = self.layer2(self.layer1(x))
        c3 = self.layer3(c2)
        return [c2, c3, self.layer4(c3)]
