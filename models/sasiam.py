"""SA-Siam: the weighted sum of an appearance and a semantic response (SA-Siam, He et al., CVPR 2018)."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtrt.models.alexnet import GroupedAlexNet
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.siamrpnpp import crop_centre
from siamtrt.models.xcorr import shared_xcorr

TARGET_SIDE = 127  # pixels of the 255 px template crop that hold the target, at its centre


def _normalised(x: Tensor) -> Tensor:
    """Local response normalisation over five channels: x / (1 + 2e-5 * sum of squares)^0.75.

    The factor goes in before squaring: activations above 255 have squares beyond FP16's range.
    """
    root = math.sqrt(2e-5)
    return F.local_response_norm(x * root, size=5, alpha=5.0, beta=0.75, k=1.0) / root


class CaffeNet(nn.Module):
    """The semantic branch's frozen classifier: Caffe's AlexNet without padding, at stride 8 as SiamFC has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=2)
        self.conv2 = nn.Conv2d(96, 256, 5, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3)
        self.conv4 = nn.Conv2d(384, 384, 3, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, groups=2)
        self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]), persistent=False)  # of BGR planes

    def _first(self, x: Tensor) -> Tensor:
        """conv1 of x less the mean: the mean goes into the bias, which needs no pass over the pixels."""
        weight, bias = self.conv1.weight, self.conv1.bias
        assert bias is not None
        return F.conv2d(x, weight, bias - torch.einsum("ocij,c->o", weight, self.mean), stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S) BGR pixels -> [conv4 (N, 384, s+2, s+2), conv5 (N, 256, s, s)]; S 255 gives s 22."""
        x = _normalised(F.max_pool2d(torch.relu(self._first(x)), 3, 2))
        x = _normalised(F.max_pool2d(torch.relu(self.conv2(x)), 3, 2))
        conv4 = torch.relu(self.conv4(torch.relu(self.conv3(x))))
        return [conv4, torch.relu(self.conv5(conv4))]


class GridAttention(nn.Module):
    """A weight of 0.5 to 1.5 a channel, from its maxima in a 3x3 grid around the target.

    The grid's middle cell is the target, the others its surroundings. One perceptron, 9 to 9 to 1, serves every
    channel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(9, 9)
        self.output = nn.Linear(9, 1)

    def forward(self, features: Tensor, side: int) -> Tensor:
        """(1, C, H, H) features of target and surroundings, target's side in positions -> (1, C, 1, 1)."""
        low = (features.shape[3] - side) // 2
        spans = list(itertools.pairwise((0, low, low + side, features.shape[3])))
        maxima = [features[:, :, t:b, l:r].amax((2, 3)) for t, b in spans for l, r in spans]  # noqa: E741
        weight = self.output(torch.relu(self.hidden(torch.stack(maxima, dim=2))))
        return torch.sigmoid(weight)[..., None] + 0.5


class SemanticLevel(nn.Module):
    """One level of the semantic branch: the attention on its template and the 1x1 fusion of both sides.

    Args:
        channels: of the level's features.
        fused: channels after the fusion.
        side: of the target in the template's features.
        gain: factor before the fusion.
    """

    def __init__(self, channels: int, fused: int, side: int, gain: float) -> None:
        super().__init__()
        self.attention = GridAttention()
        self.fuse = nn.Conv2d(channels, fused, 1)
        self.side = side
        self.gain = gain

    def embedding(self, features: Tensor) -> Tensor:
        """(1, C, H, H) template features with surroundings -> (1, F, side, side), fused."""
        target = crop_centre(features, self.side) * self.attention(features, self.side)
        return self.fuse(target * self.gain)

    def kernel(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Template embedding -> the (1, C, side, side) kernel for unfused search features, and a (1, 1, 1, 1) constant.

        <e, W x + b> = <W'e, x> + <e, b>: the search side's fusion moves into the kernel.
        """
        assert self.fuse.bias is not None
        kernel = F.conv2d(embedding, self.fuse.weight.transpose(0, 1)) * self.gain
        return kernel, (embedding * self.fuse.bias[:, None, None]).sum((1, 2, 3), keepdim=True)


class SASiam(SiameseNetwork):
    """SA-Siam split in two: `template` runs once a target, `search` once a frame.

    The template crop is 255 px at the search crop's scale: all of it feeds the channel attention, its centre 127 px
    are the target. Each level is correlated at its own size and the responses are added: conv5's 6x6 with 22x22 (both
    branches in one correlation), conv4's 8x8 with 24x24.

    Sizes, the normalisation, the attention's perceptron, the level gains (conv4 0.1), the response's scale (0.001) and
    its two learned biases are those of the authors' code, microsoft/SA-Siam. There both branches take RGB; here the
    pixels are BGR, so the appearance branch's first convolution must be stored in BGR order.

    Args:
        appearance_weight: lambda, the appearance branch's share; 0.3 in the authors' code.
        scale: of each branch's response; folded into the kernels.
    """

    outputs = ("response",)

    def __init__(self, appearance_weight: float = 0.3, scale: float = 0.001) -> None:
        super().__init__()
        self.appearance_net = GroupedAlexNet()
        self.semantic_net = CaffeNet().requires_grad_(False)
        self.conv4 = SemanticLevel(384, 128, side=8, gain=0.1)
        self.conv5 = SemanticLevel(256, 128, side=6, gain=1.0)
        self.biases = nn.Parameter(torch.zeros(2))  # appearance, semantic
        self.shares = (appearance_weight, 1 - appearance_weight)
        self.scale = scale

    def semantic_embeddings(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, 255, 255) template crop -> (1, 128, 8, 8) of conv4 and (1, 128, 6, 6) of conv5."""
        conv4, conv5 = self.semantic_net(z)
        return self.conv4.embedding(conv4), self.conv5.embedding(conv5)

    def kernels(self, z: Tensor, embedding4: Tensor, embedding5: Tensor) -> tuple[Tensor, ...]:
        """Template crop and the semantic branch's embeddings -> what `search` takes."""
        appearance, semantic = self.shares
        kernel4, constant4 = self.conv4.kernel(embedding4 * (semantic * self.scale))
        kernel5, constant5 = self.conv5.kernel(embedding5 * (semantic * self.scale))
        target = self.appearance_net(crop_centre(z, TARGET_SIDE))[-1] * (appearance * self.scale)
        bias = appearance * self.biases[0] + semantic * self.biases[1]
        return torch.cat([target, kernel5], dim=1), kernel4, constant4 + constant5 + bias

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, 255, 255) template crop -> conv5 (1, 512, 6, 6), appearance first, conv4 (1, 384, 8, 8), constant."""
        return self.kernels(z, *self.semantic_embeddings(z))

    def search(self, x: Tensor, kernel5: Tensor, kernel4: Tensor, constant: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 255, 255) search crops, one a scale, and the template's tensors -> (N, 1, 17, 17) response."""
        conv4, conv5 = self.semantic_net(x)
        features = torch.cat([self.appearance_net(x)[-1], conv5], dim=1)
        return (shared_xcorr(features, kernel5) + shared_xcorr(conv4, kernel4) + constant,)
