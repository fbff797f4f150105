"""MobileNetV2: with its last stages dilated, total stride 8 (SiamRPN++, sec. 3.2), and as trained on ImageNet."""

from __future__ import annotations

from torch import Tensor, nn

# expansion, channels, blocks, stride, dilation: MobileNetV2's table 2 with strides traded for dilation
STAGES = ((1, 16, 1, 1, 1), (6, 24, 2, 2, 1), (6, 32, 3, 2, 1), (6, 64, 4, 1, 2),
          (6, 96, 3, 1, 2), (6, 160, 3, 1, 4), (6, 320, 1, 1, 4))  # fmt: skip
USED_LAYERS = (3, 5, 7)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection. Strided blocks are unpadded, as in pysot.

    Args:
        expand: whether the 1x1 expansion is there; MobileNetV2's first block has none, pysot's has.
    """

    def __init__(
        self, c_in: int, c_out: int, stride: int, expansion: int, dilation: int = 1, expand: bool = True
    ) -> None:
        super().__init__()
        hidden = c_in * expansion
        padding = dilation if dilation > 1 else 2 - stride
        self.residual = stride == 1 and c_in == c_out
        widening = [nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()] if expand else []
        self.conv = nn.Sequential(
            *widening,
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


class PlainMobileNetV2(nn.Module):
    """The first five stages at width 1 and their own strides, so that weights trained on ImageNet fit by name.

    Raw BGR pixels go in; `training.imagenet` folds the normalisation into the first layer. Unlike the original,
    strided convolutions are unpadded, which keeps the grids of template and search crops aligned.
    """

    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))  # (...), stride
    channels = (32, 96)  # of the features that `forward` returns

    def __init__(self) -> None:
        super().__init__()
        c_in = 32
        layers: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(3, c_in, 3, 2, bias=False), nn.BatchNorm2d(c_in), nn.ReLU6())
        ]
        for expansion, c_out, blocks, stride in self.stages:
            for block in range(blocks):
                layers.append(
                    InvertedResidual(c_in, c_out, stride if block == 0 else 1, expansion, expand=expansion > 1)
                )
                c_in = c_out
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) pixels -> features of stages 3 and 5, strides 8 and 16; S 95 gives 11 and 5, 159 19 and 9."""
        fine = self.features[:7](x)
        return fine, self.features[7:](fine)
