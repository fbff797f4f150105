"""No feature of the cropping-inside residual backbones depends on where the crop ends."""

from __future__ import annotations

import functools

import pytest
import torch

from siamtrt.models.cir import CIResInception22, CIResNet22, CIResNeXt22

LIMIT = 1e-4
STRIDE = 8


@pytest.mark.parametrize(
    "backbone", [CIResNet22, functools.partial(CIResNet22, widening=2), CIResInception22, CIResNeXt22]
)
def test_a_feature_is_the_same_wherever_the_crop_begins_and_ends(backbone):
    """Crops taken whole strides apart share the features they have in common, those on the border included."""
    torch.manual_seed(0)
    network = backbone().eval()
    for module in network.modules():  # PyTorch's own initialisation leaves the 3x3 convolutions next to no influence
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    pixels = 255 * torch.rand(1, 3, 127 + STRIDE, 127 + 2 * STRIDE)
    with torch.no_grad():
        whole = network(pixels)[-1]
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 2)):
            top, left = down * STRIDE, right * STRIDE
            part = network(pixels[:, :, top : top + 127, left : left + 127])[-1]
            expected = whole[:, :, down : down + 5, right : right + 5]
            assert part.shape == expected.shape == (1, whole.shape[1], 5, 5)
            assert (part - expected).abs().max() <= LIMIT * expected.abs().max()
