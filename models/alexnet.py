"""AlexNet as the Siamese trackers use it: no padding, total stride 8 (SiamFC, table 1; SiamRPN, sec. 3.1)."""

from __future__ import annotations

import itertools

from torch import Tensor, nn


class AlexNet(nn.Module):
    """Five unpadded convolutions; parameter names of pysot's `alexnetlegacy`.

    Args:
        width: multiplies the 96, 256, 384, 384, 256 channels.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = (int(c * width) for c in (96, 256, 384, 384, 256))
        self.features = nn.Sequential(
            nn.Conv2d(3, c1, 11, stride=2), nn.BatchNorm2d(c1), nn.MaxPool2d(3, 2), nn.ReLU(),
            nn.Conv2d(c1, c2, 5), nn.BatchNorm2d(c2), nn.MaxPool2d(3, 2), nn.ReLU(),
            nn.Conv2d(c2, c3, 3), nn.BatchNorm2d(c3), nn.ReLU(),
            nn.Conv2d(c3, c4, 3), nn.BatchNorm2d(c4), nn.ReLU(),
            nn.Conv2d(c4, c5, 3), nn.BatchNorm2d(c5),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S) pixels -> [(N, 256*width, s, s)]; S 127 gives s 6, 287 gives 26."""
        return [self.features(x)]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-6, momentum=0.05)


class GroupedAlexNet(nn.Module):
    """SiamFC's AlexNet, whose second, fourth and fifth convolutions are in two groups.

    Parameter names of siamfc-pytorch's `AlexNetV1`.

    Args:
        levels: convolutions whose output to return, of 1 to 5; those after the last are left out.
        channels: output channels of each convolution; the last one has neither norm nor activation.
        strides: of the two pooling layers; (2, 1) gives a total stride of 4 (CFNet, sec. 4.1).
    """

    def __init__(
        self,
        levels: tuple[int, ...] = (5,),
        channels: tuple[int, ...] = (96, 256, 384, 384, 256),
        strides: tuple[int, int] = (2, 2),
    ) -> None:
        super().__init__()
        kernels, groups = (11, 5, 3, 3, 3), (1, 2, 1, 2, 2)
        for level, (c_in, c_out) in enumerate(itertools.pairwise((3, *channels)), start=1):
            conv = nn.Conv2d(c_in, c_out, kernels[level - 1], 2 if level == 1 else 1, groups=groups[level - 1])
            layers: list[nn.Module] = [conv]
            if level < len(channels):
                layers += [_norm(c_out), nn.ReLU()]
                layers += [nn.MaxPool2d(3, strides[level - 1])] if level <= len(strides) else []
            self.add_module(f"conv{level}", nn.Sequential(*layers))
        self.levels = levels

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S) pixels -> one (N, C, s, s) per level; at stride 8 S 127 gives s 6, 255 gives 22 (level 5)."""
        found = []
        for level in range(1, max(self.levels) + 1):
            x = self.get_submodule(f"conv{level}")(x)
            if level in self.levels:
                found.append(x)
        return found
