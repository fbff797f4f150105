"""RASNet's weighted cross-correlation and its attentions, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from siamtrt.models.alexnet import GroupedAlexNet
from siamtrt.models.rasnet import RASNet

CHANNELS, SCALE = 8, 0.25


class _Features(nn.Module):
    """A backbone that takes features for pixels."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x]


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.fixture(scope="module")
def network() -> RASNet:
    torch.manual_seed(0)
    network = RASNet(_Features(), CHANNELS, scale=SCALE).eval()
    nn.init.normal_(network.general_att)
    return network


def _convolved(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, layer.kernel_size, axis=(1, 2))
    return np.einsum("chwij,ocij->ohw", windows, _numpy(layer.weight)) + _numpy(layer.bias)[:, None, None]


def _spread(x: np.ndarray, layer: nn.ConvTranspose2d) -> np.ndarray:
    """Transposed convolution: each position adds its kernel to the larger map."""
    weight, bias = _numpy(layer.weight), _numpy(layer.bias)
    (rows, columns), side = x.shape[1:], weight.shape[2]
    out = np.zeros((weight.shape[1], rows + side - 1, columns + side - 1)) + bias[:, None, None]
    for i in range(rows):
        for j in range(columns):
            out[:, i : i + side, j : j + side] += np.einsum("c,coij->oij", x[:, i, j], weight)
    return out


def _weights(network: RASNet, z: np.ndarray) -> np.ndarray:
    """gamma (C, 6, 6): general plus residual attention, times channel attention."""
    residual = z
    for layer in network.res_att.res_attention:
        if isinstance(layer, nn.ReLU):
            residual = np.maximum(residual, 0)
        else:
            residual = (_convolved if isinstance(layer, nn.Conv2d) else _spread)(residual, layer)
    reduce, _, expand, _ = network.channel_att.fc
    hidden = np.maximum(_numpy(reduce.weight) @ z.mean((1, 2)) + _numpy(reduce.bias), 0)
    channel = 1 / (1 + np.exp(-(_numpy(expand.weight) @ hidden + _numpy(expand.bias))))
    return (_numpy(network.general_att)[0] + residual) * channel[:, None, None]


def test_the_response_is_the_weighted_cross_correlation(network):
    z, x = torch.randn(1, CHANNELS, 6, 6), torch.randn(2, CHANNELS, 9, 9)
    with torch.no_grad():
        (response,) = network.search(x, *network.template(z))
    weighted = _weights(network, _numpy(z)[0]) * _numpy(z)[0]
    expected = np.zeros((2, 1, 4, 4))
    for n, row, column in np.ndindex(2, 4, 4):
        for c, i, j in np.ndindex(CHANNELS, 6, 6):
            expected[n, 0, row, column] += SCALE * weighted[c, i, j] * float(x[n, c, row + i, column + j])
    np.testing.assert_allclose(response.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_template_position_of_no_weight_has_no_influence(network):
    """Where the general attention cancels the residual one, the search features meet zeros."""
    z = torch.randn(1, CHANNELS, 6, 6)
    general = network.general_att.detach().clone()
    with torch.no_grad():
        network.general_att[:, :, 2, 3] = -network.res_att(z)[:, :, 2, 3]
        (kernel,) = network.template(z)
        network.general_att.copy_(general)
    assert not kernel[:, :, 2, 3].any()
    assert kernel.abs().amax(1).count_nonzero() == 35


def test_a_batch_equals_single_crops():
    torch.manual_seed(1)
    network = RASNet(GroupedAlexNet()).eval()
    x = 255 * torch.rand(3, 3, 255, 255)
    with torch.no_grad():
        (kernel,) = network.template(255 * torch.rand(1, 3, 127, 127))
        (batch,) = network.search(x, kernel)
        singles = torch.cat([network.search(crop[None], kernel)[0] for crop in x])
    assert kernel.shape == (1, 256, 6, 6)
    assert batch.shape == (3, 1, 17, 17)
    torch.testing.assert_close(batch, singles, rtol=1e-4, atol=1e-5)
    assert (batch[0] - batch[1]).abs().max() > 1e-3  # the crops do differ
