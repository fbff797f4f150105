"""SiamRPN: the up-channel head, whose template branch makes the kernels of a plain convolution (SiamRPN, sec. 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtrt.models.network import SiameseNetwork
from siamtrt.models.xcorr import upchannel_xcorr


class UpChannelRPN(nn.Module):
    """Classification and regression by kernels of 2A and 4A filters; parameter names of pysot's `UPChannelRPN`."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        cls, loc = 2 * anchors, 4 * anchors
        self.template_cls_conv = nn.Conv2d(channels, channels * cls, 3)
        self.template_loc_conv = nn.Conv2d(channels, channels * loc, 3)
        self.search_cls_conv = nn.Conv2d(channels, channels, 3)
        self.search_loc_conv = nn.Conv2d(channels, channels, 3)
        self.loc_adjust = nn.Conv2d(loc, loc, 1)

    def template(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, s, s) template features -> kernels (N, 2A, C, s-2, s-2) and (N, 4A, C, s-2, s-2).

        `loc_adjust` is a 1x1 convolution over the response, hence over the kernels, hence over the weights of
        the convolution that makes them: exported, it has vanished into those.
        """
        c = z.shape[1]
        loc_conv, adjust = self.template_loc_conv, self.loc_adjust.weight[:, :, 0, 0]
        assert loc_conv.bias is not None
        weight = torch.einsum("oj,jcihw->ocihw", adjust, loc_conv.weight.unflatten(0, (-1, c)))
        bias = adjust @ loc_conv.bias.unflatten(0, (-1, c))
        kernels = self.template_cls_conv(z), F.conv2d(z, weight.flatten(0, 1), bias.flatten())
        return kernels[0].unflatten(1, (-1, c)), kernels[1].unflatten(1, (-1, c))

    def search(self, x: Tensor, cls_kernel: Tensor, loc_kernel: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) search features and kernels -> (N, 2A, R, R) cls and (N, 4A, R, R) loc."""
        cls, loc = self.search_features(x)
        return upchannel_xcorr(cls, cls_kernel), self.regress(loc, loc_kernel)

    def search_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) search features -> those of classification and regression, (N, C, S-2, S-2) each."""
        cls, loc = torch.cat([self.search_cls_conv(x), self.search_loc_conv(x)], dim=1).chunk(2, dim=1)
        return cls, loc

    def regress(self, loc: Tensor, kernel: Tensor) -> Tensor:
        """Features and kernel of the regression -> (N, 4A, R, R)."""
        bias = self.loc_adjust.bias
        assert bias is not None
        return upchannel_xcorr(loc, kernel) + bias[:, None, None]


class SiamRPN(SiameseNetwork):
    """SiamRPN split in two: `template` runs once a target, `search` once a frame.

    Args:
        backbone: pixels -> one feature level of `channels` channels.
        channels: of the backbone's features.
        anchors: anchor boxes a position.
    """

    def __init__(self, backbone: nn.Module, channels: int = 256, anchors: int = 5) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn_head = UpChannelRPN(channels, anchors)

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 127, 127) template crop -> kernels (N, 2A, C, k, k) and (N, 4A, C, k, k); AlexNet: k 4."""
        return self.rpn_head.template(self.backbone(z)[0])

    def search(self, x: Tensor, *kernels: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, S, S) search crop and the template's kernels -> raw cls (N, 2A, R, R), loc (N, 4A, R, R)."""
        return self.rpn_head.search(self.backbone(x)[0], *kernels)


class DistractorAwareSiamRPN(SiamRPN):
    """SiamRPN that classifies with a second kernel, the mean of the distractors' (DaSiamRPN, sec. 3.3).

    Without distractors that kernel is zero, and zero its response.
    """

    outputs = ("cls", "loc", "distractor")

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """As `SiamRPN`, and the distractors' kernel, (N, 2A, C, k, k) of zeros."""
        cls, loc = super().template(z)
        none = (z[:, :1, :1, :1, None] * 0).expand(cls.shape)  # of the input: the FP16 converter fails at a constant
        return cls, loc, none

    def search(self, x: Tensor, *kernels: Tensor) -> tuple[Tensor, ...]:
        """As `SiamRPN`, and the response to the distractors' kernel, (N, 2A, R, R)."""
        cls_kernel, loc_kernel, distractors = kernels
        cls, loc = self.rpn_head.search_features(self.backbone(x)[0])
        likeness = upchannel_xcorr(cls, distractors)
        return upchannel_xcorr(cls, cls_kernel), self.rpn_head.regress(loc, loc_kernel), likeness
