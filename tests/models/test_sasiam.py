"""SA-Siam and Siam-BM: attention, fusion and masks, against plain NumPy in the order of the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from siamtrt.models.sasiam import CaffeNet, GridAttention, SASiam
from siamtrt.models.siambm import SiamBM

SCALE = 0.001
TEMPLATE, SEARCH = 0, 1


class _Stored(nn.Module):
    """A backbone whose features are given: those of the input whose first pixel is 0 and of the one where it is 1."""

    def __init__(self, *features: list[torch.Tensor]) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.features[int(x[0, 0, 0, 0])]


def _pixels(which: int) -> torch.Tensor:
    return torch.full((1, 3, 255, 255), float(which))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def _stored(kind: type[SASiam]) -> SASiam:
    """The network with random weights over random features: both semantic levels weigh alike in the response."""
    torch.manual_seed(0)
    network = kind().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    semantic = [[3 * torch.randn(1, 384, 24, 24).relu(), torch.randn(1, 256, 22, 22).relu()] for _ in range(2)]
    network.semantic_net = _Stored(*semantic)
    network.appearance_net = _Stored([torch.randn(1, 256, 6, 6)], [torch.randn(1, 256, 22, 22)])
    nn.init.normal_(network.conv4.fuse.weight, std=0.6)
    return network


@pytest.fixture(scope="module")
def sasiam() -> SASiam:
    return _stored(SASiam)


@pytest.fixture(scope="module")
def siambm() -> SASiam:
    return _stored(SiamBM)


def _attention(module: GridAttention, features: np.ndarray, side: int) -> np.ndarray:
    """(C, H, H) -> one weight a channel, computed channel by channel."""
    low = (features.shape[1] - side) // 2
    edges = [0, low, low + side, features.shape[1]]
    weights = []
    for channel in features:
        cells = [
            channel[edges[r] : edges[r + 1], edges[c] : edges[c + 1]].max() for r in range(3) for c in range(3)
        ]  # fmt: skip
        hidden = np.maximum(_numpy(module.hidden.weight) @ np.array(cells) + _numpy(module.hidden.bias), 0)
        logit = float(_numpy(module.output.weight)[0] @ hidden + _numpy(module.output.bias)[0])
        weights.append(1 / (1 + np.exp(-logit)) + 0.5)
    return np.array(weights)


def _fused(level: nn.Module, features: np.ndarray) -> np.ndarray:
    weight, bias = _numpy(level.fuse.weight)[:, :, 0, 0], _numpy(level.fuse.bias)
    return np.einsum("oc,chw->ohw", weight, features * level.gain) + bias[:, None, None]


def _correlated(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, z.shape[1:], axis=(1, 2))
    return np.einsum("chwij,cij->hw", windows, z)


def _expected(network: SASiam, mask4: np.ndarray | float = 1.0, mask5: np.ndarray | float = 1.0) -> np.ndarray:
    """The response with both sides fused, conv5 padded to conv4's size, and the branches correlated as wholes."""
    z4, z5 = (_numpy(f)[0] for f in network.semantic_net.features[TEMPLATE])
    x4, x5 = (_numpy(f)[0] for f in network.semantic_net.features[SEARCH])
    z4 = _fused(network.conv4, (z4 * _attention(network.conv4.attention, z4, 8)[:, None, None])[:, 8:16, 8:16]) * mask4
    z5 = _fused(network.conv5, (z5 * _attention(network.conv5.attention, z5, 6)[:, None, None])[:, 8:14, 8:14]) * mask5
    pad = ((0, 0), (1, 1), (1, 1))
    template = np.concatenate([z4, np.pad(z5, pad)])
    search = np.concatenate([_fused(network.conv4, x4), np.pad(_fused(network.conv5, x5), pad)])
    biases = _numpy(network.biases)
    semantic = SCALE * _correlated(search, template) + biases[1]
    appearance = [_numpy(network.appearance_net.features[which][0])[0] for which in (SEARCH, TEMPLATE)]
    return 0.3 * (SCALE * _correlated(*appearance) + biases[0]) + 0.7 * semantic


def _response(network: SASiam, *template_inputs: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        kernels = network.template(_pixels(TEMPLATE), *template_inputs)
        (response,) = network.search(_pixels(SEARCH), *kernels)
    return response.numpy()[0, 0]


def test_the_response_is_the_weighted_sum_of_the_branches(sasiam):
    response = _response(sasiam)
    assert response.shape == (17, 17)
    np.testing.assert_allclose(response, _expected(sasiam), rtol=1e-4, atol=1e-4 * np.ptp(response))


@pytest.mark.parametrize("level", ["conv4", "conv5"])
def test_each_semantic_level_counts_in_that_comparison(sasiam, level):
    """Guards the test above: without either level the response is another."""
    response = _response(sasiam)
    weight = getattr(sasiam, level).fuse.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.zero_()
        changed = _response(sasiam)
        weight.copy_(kept)
    assert np.abs(changed - response).max() > 0.1 * np.ptp(response)


def test_the_mask_of_ones_is_sasiam(siambm):
    np.testing.assert_allclose(
        _response(siambm, siambm.template_inputs()["mask"]), _expected(siambm), rtol=1e-4, atol=1e-3
    )


def test_the_mask_is_applied_to_both_semantic_levels(siambm):
    """Position p of conv5 sees positions p to p+2 of conv4: the middle one is p+1."""
    mask = torch.ones(1, 1, 6, 6)
    mask[:, :, :, [0, 5]] = 0
    mask4 = np.ones((8, 8))
    mask4[:, [0, 1, 6, 7]] = 0
    expected = _expected(siambm, mask4, mask[0, 0].numpy())
    response = _response(siambm, mask)
    np.testing.assert_allclose(response, expected, rtol=1e-4, atol=1e-4 * np.ptp(response))
    assert np.abs(_expected(siambm) - expected).max() > 0.1 * np.ptp(response)


def test_masked_positions_have_no_influence_on_the_semantic_response(siambm):
    """Fully masked, what the semantic branch sees in either crop changes nothing."""
    mask = torch.zeros(1, 1, 6, 6)
    response = _response(siambm, mask)
    kept = siambm.semantic_net
    siambm.semantic_net = _Stored(*([10 * f for f in features] for features in kept.features))
    changed = _response(siambm, mask)
    siambm.semantic_net = kept
    np.testing.assert_array_equal(response, changed)
    assert np.ptp(response) > 0  # the appearance branch is not masked


def test_caffenet_subtracts_the_mean_and_normalises():
    """Against Caffe's layers one by one; activations are large enough for the normalisation to count."""
    torch.manual_seed(0)
    network = CaffeNet().eval()
    x = 255 * torch.rand(1, 3, 127, 127)

    def normalised(y: torch.Tensor) -> torch.Tensor:
        squares = np.pad(_numpy(y)[0] ** 2, ((2, 2), (0, 0), (0, 0)))
        sums = sum(squares[i : i + y.shape[1]] for i in range(5))
        found = y * torch.from_numpy((1 + 2e-5 * sums) ** -0.75).float()
        assert (found / y.clamp(min=1e-6)).min() < 0.99
        return found

    with torch.no_grad():
        nn.init.normal_(network.conv2.weight, std=0.3)
        y = x - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
        y = normalised(F.max_pool2d(network.conv1(y).relu(), 3, 2))
        y = normalised(F.max_pool2d(network.conv2(y).relu(), 3, 2))
        conv4 = network.conv4(network.conv3(y).relu()).relu()
        for found, expected in zip(network(x), (conv4, network.conv5(conv4).relu()), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert conv4.shape == (1, 384, 8, 8)


def test_a_batch_equals_single_crops_and_the_target_is_the_crops_centre():
    torch.manual_seed(1)
    network = SASiam().eval()
    z, x = 255 * torch.rand(1, 3, 255, 255), 255 * torch.rand(3, 3, 255, 255)
    with torch.no_grad():
        kernels = network.template(z)
        (batch,) = network.search(x, *kernels)
        singles = torch.cat([network.search(crop[None], *kernels)[0] for crop in x])
        whole = network.appearance_net(z)[-1]  # the authors crop the features of the whole crop instead
    assert [tuple(k.shape) for k in kernels] == [(1, 512, 6, 6), (1, 384, 8, 8), (1, 1, 1, 1)]
    assert batch.shape == (3, 1, 17, 17)
    torch.testing.assert_close(batch, singles, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kernels[0][:, :256], 0.3 * SCALE * whole[:, :, 8:14, 8:14], rtol=1e-3, atol=1e-7)
