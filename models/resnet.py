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
        levels: what to return: 0 the stem before its pooling, 1 to 4 the stages; those after the last are left out.
    """

    def __init__(self, block: Block, depths: tuple[int, int, int, int], levels: tuple[int, ...] = (2, 3, 4)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c_in, strides, dilations = 64, (1, 2, 1, 1), (1, 1, 2, 4)
        for stage in range(max(levels)):
            planes = 64 * 2**stage
            layer = _stage(block, c_in, planes, depths[stage], strides[stage], dilations[stage])
            self.add_module(f"layer{stage + 1}", layer)
            c_in = planes * block.expansion
        self.levels = levels

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S) pixels -> one (N, C, s, s) per level.

        C is 64 for the stem, 64, 128, 256, 512 times the expansion for the stages. S 255 gives s 125 at level 0,
        63 at level 1, 31 at the others.
        """
        x = self.relu(self.bn1(self.conv1(x)))
        found = [x]
        x = self.maxpool(x)
        for level in range(1, max(self.levels) + 1):
            x = self.get_submodule(f"layer{level}")(x)
            found.append(x)
        return [found[level] for level in self.levels]
