"""DSiam's transformations are the ridge regressions they claim to be, and start as nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtrt.models.alexnet import GroupedAlexNet
from siamtrt.models.dsiam import DSiam, learned_transformation, transformed
from siamtrt.models.fourier import Dft2


class TwoLevels(nn.Module):
    """(N, 3, S, S) pixels -> (N, 4, S/8, S/8) and (N, 3, S/8 - 1, S/8 - 1) features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 8, stride=8), nn.Conv2d(3, 3, 16, stride=8)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.first(x), self.second(x)]


def small_network(**options: tuple[float, float]) -> DSiam:
    torch.manual_seed(0)
    return DSiam(TwoLevels(), (4, 3), (4, 3), (8, 7), search_size=64, **options).double().eval()


def crop(size: int, seed: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolved(kernel: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Circular convolution, shift by shift."""
    shifts = np.ndindex(kernel.shape)
    return sum(kernel[i, j] * np.roll(features, (i, j), axis=(0, 1)) for i, j in shifts)  # type: ignore[return-value]


def solved(source: np.ndarray, wanted: np.ndarray, ridge: float) -> np.ndarray:
    """The kernel by the normal equations in space, for one channel."""
    side = source.shape[0]
    columns = [np.roll(source, shift, axis=(0, 1)).ravel() for shift in np.ndindex(side, side)]
    shifts = np.stack(columns, axis=1)
    normal = shifts.T @ shifts / side**2 + ridge * np.eye(side**2)
    return np.linalg.solve(normal, shifts.T @ wanted.ravel() / side**2).reshape(side, side)


@pytest.mark.parametrize("side", [5, 6])
@pytest.mark.parametrize("ridge", [1e-2, 10.0])
@pytest.mark.parametrize("size", [0.2, 20.0])
def test_the_transformation_solves_the_ridge_regression(side, ridge, size):
    source, wanted = np.random.default_rng(side).standard_normal((2, 2, side, side)) * size
    dft = Dft2(side).double()
    found = learned_transformation(dft, torch.from_numpy(source)[None], torch.from_numpy(wanted)[None], ridge)
    ridge = max(ridge, 1e-5 * np.abs(source).max() ** 2)
    kernels = np.stack([solved(s, w, ridge) for s, w in zip(source, wanted, strict=True)])
    expected = np.fft.rfft2(kernels)
    spectrum = (found[0] + 1j * found[1])[0].numpy()
    assert np.abs(spectrum - expected).max() <= 1e-4 * np.abs(expected).max()
    features = np.random.default_rng(9).standard_normal((2, side, side))
    moved = transformed(dft, torch.from_numpy(features)[None], found)[0].numpy()
    by_shifts = np.stack([convolved(k, f) for k, f in zip(kernels, features, strict=True)])
    assert np.abs(moved - by_shifts).max() <= 1e-4 * np.abs(by_shifts).max()


def test_half_precision_holds_a_silent_channel_and_large_features():
    source = torch.relu(torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))) * 100
    source[:, 1] = 0
    wanted = source.flip(3) + 1
    dft = Dft2(6)
    expected = transformed(dft, source, learned_transformation(dft, source, wanted, 1e-5))
    dft = dft.half()
    found = transformed(dft, source.half(), learned_transformation(dft, source.half(), wanted.half(), 1e-5))
    assert (found.float() - expected).abs().max() <= 0.02 * expected.abs().max()


def test_before_the_first_update_it_is_siamfc():
    """Plain correlation at both levels, averaged: the identity transformations and equal weights change nothing."""
    torch.manual_seed(0)
    net = DSiam(GroupedAlexNet(levels=(4, 5))).eval()
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(2, 3, 255, 255) * 255
    with torch.no_grad():
        (response,) = net.search(x, *net.template(z))
        levels = zip(net.backbone(x), net.backbone(z), strict=True)
        expected = sum(F.conv2d(features, kernel) for features, kernel in levels) * 0.001 / 2
    assert response.shape == (2, 1, 17, 17)
    assert (response - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_each_position_of_each_level_has_its_weight():
    net, z, x = small_network(), crop(32, 1), crop(64, 2)
    tensors = net.template(z)
    responses = []
    for level in (0, 1):
        with torch.no_grad():
            net.fusion.zero_()[level].fill_(1)
        responses.append(net.search(x, *tensors)[0][0, 0])
    weights = torch.rand(2, 5, 5, dtype=torch.float64)
    net.fusion.data = weights
    torch.testing.assert_close(net.search(x, *tensors)[0][0, 0], (weights * torch.stack(responses)).sum(0))


def test_an_update_brings_the_template_to_the_last_frame_and_fades_the_surroundings():
    """Without regularisation and at full rate, both regressions reach what they aim at in the frame they learn from."""
    net = small_network(ridges=(0.0, 0.0), learning_rates=(1.0, 1.0))
    z, x, last = crop(32, 1), crop(64, 2), crop(32, 3)
    tensors = net.template(z)
    (response,) = net.search(x, *tensors[:2], *net.update(last, x, *tensors[:2]))
    hann = torch.from_numpy(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 63))
    levels = zip(net.backbone(x * hann[:, None] * hann), net.backbone(last), strict=True)
    expected = sum(F.conv2d(features, kernel) for features, kernel in levels) * 0.001 / 2
    assert (response - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_an_unchanged_target_leaves_the_template_as_it_is():
    net, z, x = small_network(), crop(32, 1), crop(64, 2)
    tensors = net.template(z)
    updated = net.update(z, x, *tensors[:2])
    for level, dft in enumerate(net.template_dfts):
        appearance = updated[2 * level], updated[2 * level + 1]
        first = tensors[level]
        torch.testing.assert_close(transformed(dft, first, appearance), first, atol=1e-3 * first.max().item(), rtol=0)
    assert (updated[4] - tensors[6]).abs().max() > 0.05


def test_the_learning_rates_blend_with_the_identity():
    crops = crop(32, 3), crop(64, 2)
    full, part = small_network(learning_rates=(1.0, 1.0)), small_network(learning_rates=(0.5, 0.25))
    first = full.template(crop(32, 1))
    spectra = zip(full.update(*crops, *first[:2]), part.update(*crops, *first[:2]), first[2:], strict=True)
    for index, (learned, blended, identity) in enumerate(spectra):
        rate = 0.5 if index < 4 else 0.25
        torch.testing.assert_close(blended, identity + rate * (learned - identity))


def test_the_update_names_every_transformation():
    net = DSiam(GroupedAlexNet(levels=(4, 5)))
    (graph,) = net.extra_graphs()
    assert (graph.name, graph.inputs) == ("update", ("z", "x", "kernel0", "kernel1"))
    assert graph.outputs == tuple(f"updated_kernel{index}" for index in range(2, 10))


@pytest.mark.parametrize("strong", [0, 1])
def test_each_transformation_has_its_regularisation(strong):
    """One so strong that it leaves nothing of v, or of w."""
    ridges = (1e9, 1e-3) if strong == 0 else (1e-3, 1e9)
    net = small_network(ridges=ridges, learning_rates=(1.0, 1.0))
    updated = net.update(crop(32, 3), crop(64, 2), *net.template(crop(32, 1))[:2])
    vanished = [part.abs().max().item() < 1e-3 for part in updated]
    assert vanished == [strong == 0] * 4 + [strong == 1] * 4
