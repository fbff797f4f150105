"""NanoTrack v1, v2, v3: MobileNetV3 features, pixelwise correlation, anchor-free head (HonglinChu/SiamTrackers).

The networks have no paper. The correlation and its channel gate are AlphaRefine's (sec. 3.2), the head
SiamBAN's (sec. 3.2). Each head exposes `template(z) -> tensors` and `search(x, tensors) -> (cls, loc)`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from siamtrt.models.mobilenetv3 import MobileNetV3
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.siamrpnpp import crop_centre
from siamtrt.models.xcorr import depthwise_xcorr, pixelwise_xcorr

POSITIONS = 64  # template features are 8x8; each position is one kernel of the pixelwise correlation
DEPTHWISE_SIDE = 4  # v3 crops the template to 4x4 for its depthwise correlation


def _conv1x1_bn(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))


def _as_kernels(features: Tensor) -> Tensor:
    """(N, C, h, w) template features -> (N, h*w, C), one kernel per position."""
    return features.flatten(2).transpose(1, 2)


def fold_search_conv(kernels: Tensor, conv_bn: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Move the search side's 1x1 convolution into the template's kernels: K(Wx + b) = (KW)x + Kb.

    Args:
        kernels: (N, K, C).
        conv_bn: 1x1 convolution C -> C and its BatchNorm, no activation after it.

    Returns:
        (N, K, C) kernels and (N, K, 1) bias for the raw search features.
    """
    conv, bn = conv_bn
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(bn, nn.BatchNorm2d)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return kernels @ weight[:, :, 0, 0], kernels @ bias[:, None]


class ChannelGate(nn.Module):
    """Sigmoid gate per channel from the spatial mean (squeeze and excitation without a bottleneck)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(POSITIONS, POSITIONS, 1)
        self.fc2 = nn.Conv2d(POSITIONS, POSITIONS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class PixelwiseXCorr(nn.Module):
    """Gated pixelwise correlation of one branch.

    Args:
        channels: feature channels, for the 1x1 convolutions on both sides; `None` has none (v1).
        refine: append v3's 2x2 depthwise and 1x1 convolutions to the response.
    """

    def __init__(self, channels: int | None = None, refine: bool = False) -> None:
        super().__init__()
        self.CA_layer = ChannelGate()
        if channels is not None:
            self.conv_kernel = _conv1x1_bn(channels)
            self.conv_search = _conv1x1_bn(channels)
        if refine:
            self.conv = nn.Sequential(
                nn.Conv2d(POSITIONS, POSITIONS, 2, groups=POSITIONS, bias=False), nn.BatchNorm2d(POSITIONS),
                nn.ReLU6(), nn.Conv2d(POSITIONS, POSITIONS, 1), nn.BatchNorm2d(POSITIONS),
            )  # fmt: skip

    def template(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, 8, 8) -> kernels (N, 64, C) and bias (N, 64, 1) that act on raw search features."""
        return fold_search_conv(_as_kernels(self.conv_kernel(z)), self.conv_search)


class _BranchedPixelwise(nn.Module):
    """Both branches' pixelwise correlations as one product: cls kernels first, then loc."""

    corr_pw_cls: PixelwiseXCorr
    corr_pw_reg: PixelwiseXCorr

    def pixelwise_template(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, 8, 8) -> kernels (N, 128, C) and bias (N, 128, 1)."""
        kernels, biases = zip(self.corr_pw_cls.template(z), self.corr_pw_reg.template(z), strict=True)
        return torch.cat(kernels, dim=1), torch.cat(biases, dim=1)

    def pixelwise_search(self, x: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, 16, 16) features -> gated responses (N, 64, 16, 16) of cls and loc."""
        cls, loc = (pixelwise_xcorr(x, kernel) + bias[..., None]).chunk(2, dim=1)
        return self.corr_pw_cls.CA_layer(cls), self.corr_pw_reg.CA_layer(loc)


def _tower(widths: tuple[int, ...], kernels: tuple[int, ...]) -> nn.Sequential:
    """v1, v2: depthwise and 1x1 convolution, then BatchNorm and ReLU6, layer by layer."""
    layers: list[nn.Module] = []
    for c_in, c_out, kernel in zip(widths[:-1], widths[1:], kernels, strict=True):
        layers += [
            nn.Conv2d(c_in, c_in, kernel, padding=kernel // 2, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU6(),
        ]  # fmt: skip
    return nn.Sequential(*layers)


def _linear_tower(channels: int, depth: int) -> nn.Sequential:
    """v3: the activation sits between the depthwise and the 1x1 convolution."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU6(), nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels),
        ]  # fmt: skip
    return nn.Sequential(*layers)


def _output(channels: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, c_out, 1))


class HeadV1(nn.Module):
    """One ungated-kernel correlation feeds both towers."""

    def __init__(self) -> None:
        super().__init__()
        self.corr_pw = PixelwiseXCorr()
        self.cls_tower = _tower((64, 128, 128, 128), (5, 5, 3))
        self.bbox_tower = _tower((64, 96, 96, 96, 96), (3, 3, 5, 5))
        self.cls_logits = _output(128, 2)
        self.bbox_pred = _output(96, 4)

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        return (_as_kernels(z),)

    def search(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        response = self.corr_pw.CA_layer(pixelwise_xcorr(x, kernel))
        cls, loc = self.cls_tower(response), self.bbox_tower(response)
        return self.cls_logits(cls), torch.exp(self.bbox_pred(loc))


class HeadV2(_BranchedPixelwise):
    """A correlation and a tower of six layers for each branch."""

    def __init__(self) -> None:
        super().__init__()
        self.corr_pw_reg = PixelwiseXCorr(48)
        self.corr_pw_cls = PixelwiseXCorr(48)
        self.cls_pw_tower = _tower((64,) + (96,) * 6, (3,) * 6)
        self.bbox_pw_tower = _tower((64,) + (96,) * 6, (3,) * 6)
        self.cls_pred = _output(96, 2)
        self.bbox_pred = _output(96, 4)

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        return self.pixelwise_template(z)

    def search(self, x: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        cls, loc = self.pixelwise_search(x, kernel, bias)
        cls, loc = self.cls_pw_tower(cls), self.bbox_pw_tower(loc)
        return self.cls_pred(cls), torch.exp(self.bbox_pred(loc))


class DepthwiseXCorr(nn.Module):
    """1x1 convolutions on both sides of v3's depthwise correlation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_kernel = _conv1x1_bn(channels)
        self.conv_search = _conv1x1_bn(channels)


class HeadV3(_BranchedPixelwise):
    """Pixelwise and depthwise correlation side by side in each branch."""

    def __init__(self, channels: int = 96) -> None:
        super().__init__()
        self.corr_dw_reg = DepthwiseXCorr(channels)
        self.corr_pw_reg = PixelwiseXCorr(channels, refine=True)
        self.corr_dw_cls = DepthwiseXCorr(channels)
        self.corr_pw_cls = PixelwiseXCorr(channels, refine=True)
        self.cls_tower = _linear_tower(channels, 6)
        self.bbox_tower = _linear_tower(channels, 6)
        self.cls_logits = _output(channels, 2)
        self.bbox_pred = _output(channels, 4)
        self.down_reg = _output(channels + POSITIONS, channels)
        self.down_cls = _output(channels + POSITIONS, channels)

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """Adds to the pixelwise tensors the (N, 192, 4, 4) depthwise kernel, cls first."""
        centre = crop_centre(z, DEPTHWISE_SIDE)
        depthwise = [self.corr_dw_cls.conv_kernel(centre), self.corr_dw_reg.conv_kernel(centre)]
        return *self.pixelwise_template(z), torch.cat(depthwise, dim=1)

    def search(self, x: Tensor, kernel: Tensor, bias: Tensor, depthwise: Tensor) -> tuple[Tensor, Tensor]:
        pw_cls, pw_loc = self.pixelwise_search(x, kernel, bias)
        pw_cls, pw_loc = self.corr_pw_cls.conv(pw_cls), self.corr_pw_reg.conv(pw_loc)
        features = torch.cat([self.corr_dw_cls.conv_search(x), self.corr_dw_reg.conv_search(x)], dim=1)
        dw_cls, dw_loc = depthwise_xcorr(F.pad(features, (1, 1, 1, 1)), depthwise).chunk(2, dim=1)
        cls = self.cls_tower(self.down_cls(torch.cat([pw_cls, dw_cls], dim=1)))
        loc = self.bbox_tower(self.down_reg(torch.cat([pw_loc, dw_loc], dim=1)))
        return self.cls_logits(cls), torch.exp(self.bbox_pred(loc))


Head = HeadV1 | HeadV2 | HeadV3


class _UnusedNeck(nn.Module):
    """The reference builds a neck, stores its weights and never calls it; kept so that checkpoints load strictly."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))


class NanoTrack(SiameseNetwork):
    """NanoTrack split in two: `template` runs once a target, `search` once a frame.

    Args:
        version: 1, 2 or 3.
    """

    def __init__(self, version: int) -> None:
        super().__init__()
        self.backbone = MobileNetV3(extra_block=version == 3)
        self.neck = _UnusedNeck(96 if version == 3 else 64)
        heads: dict[int, type[Head]] = {1: HeadV1, 2: HeadV2, 3: HeadV3}
        self.ban_head: Head = heads[version]()

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 127, 127) template crop -> kernels (N, K, C), with bias (N, K, 1) in v2 and v3."""
        return self.ban_head.template(self.backbone(z))

    def search(self, x: Tensor, *kernels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, 255, 255) search crop and template tensors -> raw cls (N, 2, R, R), distances (N, 4, R, R)."""
        return self.ban_head.search(self.backbone(x), *kernels)
