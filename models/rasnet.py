"""RASNet: a correlation whose template is weighted by position and by channel (RASNet, Wang et al., CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamtrt.models.siamfc import SiamFC


class ResidualAttention(nn.Module):
    """Hourglass over the template's features: what this target's spatial weights add to the general ones.

    Unpadded 3x3, 3x3, 2x2 convolutions bring 6x6 positions to one, transposed ones back; sizes and names of the
    public re-implementation chenqihuang/RASNet. Its last layer is linear: a residual may be negative.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for side in (3, 3, 2):
            layers += [nn.Conv2d(channels, channels, side), nn.ReLU()]
        for side in (2, 3):
            layers += [nn.ConvTranspose2d(channels, channels, side), nn.ReLU()]
        self.res_attention = nn.Sequential(*layers, nn.ConvTranspose2d(channels, 1, 3))

    def forward(self, z: Tensor) -> Tensor:
        """(1, C, t, t) template features -> (1, 1, t, t)."""
        return self.res_attention(z)


class ChannelAttention(nn.Module):
    """One weight in 0..1 a channel, from the channels' means by a two-layer perceptron."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        narrow = channels // reduction
        self.fc = nn.Sequential(nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels), nn.Sigmoid())

    def forward(self, z: Tensor) -> Tensor:
        """(1, C, t, t) template features -> (1, C, 1, 1)."""
        return self.fc(z.mean((2, 3)))[:, :, None, None]


class RASNet(SiamFC):
    """SiamFC with the weighted cross-correlation WXCorr, whose weights depend on the template alone.

    Response at u: sum over positions p and channels c of gamma[p, c] z[p, c] x[u + p, c], where
    gamma = (general + residual attention)[p] * channel attention[c]. Hence the weights fold into the kernel and
    `search` is SiamFC's.

    Choices: the residual map's last layer is linear and the general map starts at one (the paper leaves both open);
    the scale is SiamFC's and fixed; the response has no bias, which would move every score alike.

    Args:
        backbone: pixels -> [one feature level].
        channels: of that level.
        side: of the template's features, 6 for a 127 px template.
        reduction: of the channel attention's hidden layer, 4 in the paper.
        scale: of the response; folded into the kernel.
    """

    def __init__(
        self, backbone: nn.Module, channels: int = 256, side: int = 6, reduction: int = 4, scale: float = 0.001
    ) -> None:
        super().__init__(backbone, scale)
        self.general_att = nn.Parameter(torch.ones(1, 1, side, side))
        self.res_att = ResidualAttention(channels)
        self.channel_att = ChannelAttention(channels, reduction)

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, T, T) template crop -> (1, C, t, t) kernel, weighted."""
        features = self.backbone(z)[-1]
        dual = self.general_att + self.res_att(features)
        return (features * dual * self.channel_att(features) * self.scale,)
