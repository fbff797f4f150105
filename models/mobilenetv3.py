"""MobileNetV3-Small cut at stride 16, the backbone of NanoTrack (MobileNetV3, table 2)."""

from __future__ import annotations

from torch import Tensor, nn

# kernel, expansion, channels, squeeze-excite, hard-swish, stride
BLOCKS = ((3, 1, 16, True, False, 2), (3, 4.5, 24, False, False, 2), (3, 3.67, 24, False, False, 1),
          (5, 4, 40, True, True, 2), (5, 6, 40, True, True, 1), (5, 6, 40, True, True, 1),
          (5, 3, 48, True, True, 1), (5, 3, 48, True, True, 1))  # fmt: skip
EXTRA_BLOCK = (5, 6, 96, True, True, 1)  # NanoTrack v3 keeps the next block, its stride removed


def round_channels(value: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor` that loses at most a tenth of `value` (MobileNetV2's reference rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class SqueezeExcite(nn.Module):
    """Channel gate from the spatial mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = round_channels(channels // 4)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Block(nn.Module):
    """Inverted residual; the activation follows the gate, except where there is no expansion."""

    def __init__(
        self, c_in: int, hidden: int, c_out: int, kernel: int, stride: int, gated: bool, hard_swish: bool
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and c_in == c_out
        activation = nn.Hardswish if hard_swish else nn.ReLU
        gate = SqueezeExcite(hidden) if gated else nn.Identity()
        depthwise = [
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False), nn.BatchNorm2d(hidden)
        ]  # fmt: skip
        project = [nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        if c_in == hidden:
            layers = [*depthwise, activation(), gate, *project]
        else:
            expand = [nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), activation()]
            layers = [*expand, *depthwise, gate, activation(), *project]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV3(nn.Module):
    """Parameter names of NanoTrack's `mobilenetv3_small`.

    Args:
        extra_block: append NanoTrack v3's 96-channel block.
    """

    def __init__(self, extra_block: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        ]
        c_in = 16
        for kernel, expansion, c_out, gated, hard_swish, stride in BLOCKS + (EXTRA_BLOCK,) * extra_block:
            hidden = round_channels(c_in * expansion)
            layers.append(Block(c_in, hidden, c_out, kernel, stride, gated, hard_swish))
            c_in = c_out
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) pixels -> (N, 48 or 96, s, s); S 127 gives s 8, 255 gives 16."""
        return self.features(x)
