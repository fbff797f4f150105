"""AlexNet as the Siamese trackers use it: no padding, total stride 8 (SiamFC, table 1; SiamRPN, sec. 3.1)."""

from __future__ import annotations

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
