"""CFNet's kernel is the ridge regression it claims to be, and finds its own template."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siamtrt.models.cfnet import CFNet, CFNetBackbone, CorrelationFilter

SHAPES = {1: (62, 30), 2: (57, 25), 3: (53, 21), 5: (49, 17)}  # depth: side of features and of the kernel


def solved(features: np.ndarray, sigma: float, ridge: float) -> np.ndarray:
    """The filter by the normal equations in space: one row a circular shift, one column a filter coefficient."""
    side = features.shape[1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / (side - 1))
    features = features * hann[:, None] * hann[None, :]
    rows, targets = [], []
    for dy in range(side):
        for dx in range(side):
            rows.append(np.roll(features, (-dy, -dx), axis=(1, 2)).ravel())
            distance = np.hypot(min(dy, side - dy), min(dx, side - dx))
            targets.append(np.exp(-0.5 * (distance / sigma) ** 2))
    shifts, target = np.array(rows), np.array(targets)
    normal = shifts.T @ shifts / side**2 + ridge * np.eye(features.size)
    return np.linalg.solve(normal, shifts.T @ target / side**2).reshape(features.shape)


def network(depth: int, **options: float) -> CFNet:
    torch.manual_seed(depth)
    return CFNet(CFNetBackbone(depth), SHAPES[depth][0], **options).eval()


def texture(side: int) -> torch.Tensor:
    """(1, 3, side, side) pixels of many sizes of detail."""
    noise = torch.rand(1, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(1)) * 255
    return torch.nn.functional.interpolate(noise, size=(side, side), mode="bicubic").clamp(0, 255)


@pytest.mark.parametrize("side", [5, 6])
@pytest.mark.parametrize("ridge", [0.01, 10.0])
@pytest.mark.parametrize("size", [0.1, 30.0])
def test_the_filter_solves_the_ridge_regression(side, ridge, size):
    features = np.random.default_rng(side).standard_normal((2, side, side)) * size
    found = CorrelationFilter(side, 1.5, ridge).double()(torch.from_numpy(features)[None])[0].numpy()
    expected = solved(features, 1.5, ridge)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_half_precision_holds_the_filter_of_large_features():
    features = torch.rand(1, 32, 49, 49, generator=torch.Generator().manual_seed(0)) * 30
    plain = CorrelationFilter(49, 2.0, 10.0)
    expected = plain(features)
    found = plain.half()(features.half()).float()
    assert (found - expected).abs().max() <= 0.01 * expected.abs().max()


def test_blank_features_give_a_finite_filter():
    assert not CorrelationFilter(6, 1.5, 10.0)(torch.zeros(1, 2, 6, 6)).any()


@pytest.mark.parametrize("depth", SHAPES)
def test_shapes(depth):
    net, (_, kernel_side) = network(depth), SHAPES[depth]
    with torch.no_grad():
        (kernel,) = net.template(texture(255))
        (response,) = net.search(texture(255).expand(2, -1, -1, -1), kernel)
    assert kernel.shape == (1, 32, kernel_side, kernel_side)
    assert response.shape == (2, 1, 33, 33)


def test_the_peak_moves_with_the_target():
    """The template, cut from the middle of a scene, is found where the search crop holds it: 4 px a position."""
    net, scene = network(2), texture(320)
    with torch.no_grad():
        (kernel,) = net.template(scene[:, :, 32:287, 32:287])
        crops = torch.cat([scene[:, :, 32 + y : 287 + y, 32 + x : 287 + x] for y, x in ((0, 0), (12, -20))])
        (response,) = net.search(crops, kernel)
    peaks = [divmod(int(r.argmax()), 33) for r in response[:, 0]]
    assert peaks == [(16, 16), (16 - 3, 16 + 5)]


def test_scale_and_bias_act_on_the_response():
    net, crop = network(1), texture(255)
    with torch.no_grad():
        net.bias.fill_(0)
        plain = net.search(crop, *net.template(crop))[0]
        net.scale.fill_(2)
        net.bias.fill_(3)
        torch.testing.assert_close(net.search(crop, *net.template(crop))[0], 2 * plain + 3)


def test_the_update_is_a_rolling_average():
    assert not network(1).extra_graphs()
    net, crop = network(1, template_lr=0.25), texture(255)
    assert [(g.name, g.inputs, g.outputs) for g in net.extra_graphs()] == [
        ("update", ("z", "kernel0"), ("updated_kernel0",))
    ]
    with torch.no_grad():
        (new,) = net.template(crop)
        (kernel,) = net.update(crop, torch.ones_like(new))
    torch.testing.assert_close(kernel, 0.75 + 0.25 * new)
