"""MobileNetV2 with the last two stages dilated instead of strided, total stride 8 (SiamRPN++, sec. 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

# expansion, channels, blocks, stride, dilation: MobileNetV2's table 2 with strides traded for dilation
STAGES = ((1, 16, 1, 1, 1), (6, 24, 2, 2, 1), (6, 32, 3, 2, 1), (6, 64, 4, 1, 2),
          (6, 96, 3, 1, 2), (6, 160, 3, 1, 4), (6, 320, 1, 1, 4))  # fmt: skip
USED_LAYERS = (3, 5, 7)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection. Strided blocks are unpadded, as in pysot."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int, dilation: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        padding = dilation if dilation > 1 else 2 - stride
        self.residual = stride == 1 and c_in == c_out
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, padding, dilation, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Stages `layer0` to `layer7`; parameter names of pysot's `mobilenetv2`.

    Args:
        width: multiplies the channels of every stage (pysot's published tracker: 1.4).
    """

    def __init__(self, width: float = 1.4) -> None:
        super().__init__()
        c_in = int(32 * width)
        self.layer0 = nn.Sequential(nn.Conv2d(3, c_in, 3, 2, bias=False), nn.BatchNorm2d(c_in), nn.ReLU6())
        previous = 1
        for index, (expansion, channels, blocks, stride, dilation) in enumerate(STAGES, start=1):
            c_out = int(channels * width)
            first = dilation if dilation == previous else max(dilation // 2, 1)
            layers = [InvertedResidual(c_in, c_out, stride, expansion, first)]
            layers += [InvertedResidual(c_out, c_out, 1, expansion, dilation) for _ in range(blocks - 1)]
            self.add_module(f"layer{index}", nn.Sequential(*layers))
            c_in, previous = c_out, dilation

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S) pixels -> features of stages 3, 5, 7; S 127 gives side 15, 255 gives 31."""
        features = []
        for index, stage in enumerate(self.children()):
            x = stage(x)
            if index in USED_LAYERS:
                features.append(x)
        return features
