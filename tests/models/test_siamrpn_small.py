"""The default tracker's network: its shapes, and its head against a correlation written out."""

from __future__ import annotations

import pytest
import torch

from siamtrt.models.presets import PRESETS

PRESET = PRESETS["siamrpn_mobilev2_small"]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = PRESET.build().eval()
    for module in net.modules():  # statistics away from their neutral values
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def crops():
    """A template crop and three search crops, of pixels."""
    pixels = torch.Generator().manual_seed(0)
    sides = PRESET.preprocessing.template_size, PRESET.preprocessing.search_size
    return [torch.rand(count, 3, side, side, generator=pixels) * 255 for count, side in zip((1, 3), sides, strict=True)]


@torch.no_grad()
def test_shapes(net, crops):
    z, x = crops
    (kernel,) = net.template(z)
    cls, loc = net.search(x, kernel.expand(3, -1, -1, -1))
    positions, kinds = PRESET.decoding.score_size, len(PRESET.decoding.ratios)
    assert kernel.shape == (1, 192, 5, 5)
    assert cls.shape == (3, 2 * kinds, positions, positions)
    assert loc.shape == (3, 4 * kinds, positions, positions)


@torch.no_grad()
def test_head_is_a_depthwise_correlation_with_the_templates_centre(net, crops):
    """Both branches, each channel on its own, at every one of the 13 x 13 positions."""
    z, x = crops[0], crops[1][:1]
    template = net.neck(net.backbone(z))
    assert template.shape[-1] == 11
    kernel = net.conv_kernel(template[..., 2:9, 2:9])
    features = net.conv_search(net.neck(net.backbone(x)))
    response = torch.stack([
        torch.stack([(features[..., i : i + 5, j : j + 5] * kernel).sum(dim=(2, 3)) for j in range(13)], dim=-1)
        for i in range(13)
    ], dim=-2)  # fmt: skip
    expected = net.cls_tower(response[:, :96]), net.loc_tower(response[:, 96:])
    for ours, wanted in zip(net.search(x, *net.template(z)), expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_coarse_features_lie_on_the_grid_of_the_fine_ones(net):
    """Cell i of stride 16 spreads over the cells 2i to 2i + 2 of stride 8, which share its centre."""
    fine, coarse = torch.zeros(1, 32, 11, 11), torch.zeros(1, 96, 5, 5)
    still = net.neck((fine, coarse))
    coarse[0, :, 1, 3] = 1.0
    rows, columns = (net.neck((fine, coarse)) != still).any(dim=1)[0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 4, 6, 8)
