"""C-RPN's cascade, against one anchor at a time carried through its stages in NumPy."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from siamtrt.models.alexnet import GroupedAlexNet
from siamtrt.models.crpn import CRPN, FeatureTransfer, composed_offsets, filtered_logits
from siamtrt.models.siamrpn import UpChannelRPN

A, R = 5, 3
RNG = np.random.default_rng(0)


def _narrow() -> CRPN:
    torch.manual_seed(0)
    backbone = GroupedAlexNet((3, 4, 5), channels=(4, 8, 12, 10, 6))
    return CRPN(backbone, channels=(12, 10, 6)).eval()


def _maps(channels: int, spread: float, stages: int = 3, side: int = R) -> list[np.ndarray]:
    return [RNG.normal(0, spread, (1, channels, side, side)) for _ in range(stages)]


def _tensors(maps: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(m) for m in maps]


def _proposals(cls: list[np.ndarray], loc: list[np.ndarray], anchors: np.ndarray, theta: float) -> dict:
    """Algorithm 1 of C-RPN, anchor by anchor: (anchor, row, column) of those kept -> box cx, cy, w, h and score."""
    kept = {}
    count, side = anchors.shape[0], cls[0].shape[-1]
    for a, row, col in np.ndindex(count, side, side):
        x, y, w, h = anchors[a, row, col]
        for c, r in zip(cls, loc, strict=True):
            background, target = (math.exp(c[0, k * count + a, row, col]) for k in (0, 1))
            if background / (background + target) > theta:
                break
            rx, ry, rw, rh = (r[0, k * count + a, row, col] for k in range(4))
            x, y, w, h = x + w * rx, y + h * ry, w * math.exp(rw), h * math.exp(rh)
        else:
            kept[a, row, col] = (x, y, w, h), target / (background + target)
    return kept


def _decoded(cls: np.ndarray, loc: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One stage's boxes (A, S, S, 4) and scores (A, S, S), as SiamRPN decodes them."""
    side = cls.shape[-1]
    dx, dy, dw, dh = loc.reshape(4, -1, side, side)
    x, y, w, h = np.moveaxis(anchors, 3, 0)
    background, target = cls.reshape(2, -1, side, side)
    boxes = np.stack([x + w * dx, y + h * dy, w * np.exp(dw), h * np.exp(dh)], axis=3)
    return boxes, 1 / (1 + np.exp(background - target))


def _anchors(side: int) -> np.ndarray:
    return np.concatenate([RNG.normal(0, 50, (A, side, side, 2)), RNG.uniform(20, 100, (A, side, side, 2))], axis=3)


def _assert_agree(cls: np.ndarray, loc: np.ndarray, anchors: np.ndarray, kept: dict) -> None:
    boxes, scores = _decoded(cls, loc, anchors)
    for index in np.ndindex(scores.shape):
        if index in kept:
            box, score = kept[index]
            np.testing.assert_allclose(boxes[index], box, rtol=1e-5, atol=1e-4)
            assert scores[index] == pytest.approx(score, rel=1e-5)
        else:
            assert scores[index] < 1e-8


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_outputs_decode_to_the_proposals_of_algorithm_1(stages):
    cls, loc, anchors = _maps(2 * A, 2.0, stages), _maps(4 * A, 0.5, stages), _anchors(R)
    kept = _proposals(cls, loc, anchors, 0.95)
    assert 0 < len(kept) < A * R * R
    found = filtered_logits(_tensors(cls), 0.95).numpy(), composed_offsets(_tensors(loc)).numpy()
    _assert_agree(*found, anchors, kept)


def test_a_threshold_of_1_filters_nothing():
    """Even where the background's confidence rounds to 1."""
    cls = _maps(2 * A, 200.0)
    np.testing.assert_array_equal(filtered_logits(_tensors(cls), 1.0).numpy(), cls[-1])


def test_every_stage_filters_and_only_targets_are_changed():
    for stage in range(3):
        cls = [np.zeros((1, 2 * A, R, R)) for _ in range(3)]
        cls[stage][0, 2, 1, 0] = math.log(0.951 / 0.049)
        cls[stage][0, 3, 1, 0] = math.log(0.949 / 0.051)
        change = filtered_logits(_tensors(cls), 0.95).numpy() - cls[-1]
        assert np.argwhere(change).tolist() == [[0, A + 2, 1, 0]]
        assert change.min() < -15


def test_wild_sizes_stay_finite_in_half_precision():
    loc = [torch.full((1, 4 * A, R, R), value, dtype=torch.float16) for value in (50.0, 50.0, -200.0)]
    found = composed_offsets(loc)
    assert found.isfinite().all()
    torch.testing.assert_close(found[:, 2 * A :].exp(), torch.full_like(found[:, 2 * A :], 1 / 62.5), rtol=1e-2, atol=0)


def _deconvolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(C, H, W), weight (C, C', k, k) -> (C', H+k-1, W+k-1): every pixel leaves a copy of the kernel."""
    k, (_, h, w) = weight.shape[-1], x.shape
    out = np.zeros((weight.shape[1], h + k - 1, w + k - 1)) + bias[:, None, None]
    for row, col in np.ndindex(h, w):
        out[:, row : row + k, col : col + k] += np.einsum("c,cokl->okl", x[:, row, col], weight)
    return out


def _convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(C, H, W), weight (C', C, 3, 3) -> (C', H, W), zeros outside."""
    _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = [[padded[:, row : row + 3, col : col + 3] for col in range(w)] for row in range(h)]
    return np.einsum("ockl,hwckl->ohw", weight, np.array(windows)) + bias[:, None, None]


@pytest.mark.parametrize("kernel", [3, 5])
def test_feature_transfer_equals_numpy_and_opencv(kernel):
    torch.manual_seed(kernel)
    block = FeatureTransfer(2, 3, kernel)
    high, low = torch.randn(1, 2, 7, 7), torch.randn(1, 3, 6 + kernel, 6 + kernel)
    p = {name: value.detach().numpy() for name, value in block.named_parameters()}
    deep = _deconvolved(high[0].numpy(), p["deconv.weight"], p["deconv.bias"])
    deep = _convolved(deep, p["high_conv.weight"], p["high_conv.bias"])
    shallow = low[0].numpy()
    for i in range(2):
        shallow = _convolved(shallow, p[f"low_convs.{i}.weight"], p[f"low_convs.{i}.bias"])
    fused = np.maximum(deep + shallow, 0)
    expected = [cv2.resize(channel, (7, 7), interpolation=cv2.INTER_LINEAR) for channel in fused]
    with torch.no_grad():
        found = block(high, low)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "side"), [(127, 6), (255, 22), (271, 24)])
def test_every_stage_has_the_deepest_level_s_resolution(size, side):
    with torch.no_grad():
        stages = _narrow().features(torch.zeros(1, 3, size, size))
    assert [tuple(s.shape) for s in stages] == [(1, 6, side, side), (1, 10, side, side), (1, 12, side, side)]


def _correlated(rpn: UpChannelRPN, z: torch.Tensor, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """One stage (C-RPN, eq. 3), its adjustment of the regression applied to the response."""
    cls_kernel = rpn.template_cls_conv(z)[0].unflatten(0, (-1, z.shape[1]))
    loc_kernel = rpn.template_loc_conv(z)[0].unflatten(0, (-1, z.shape[1]))
    cls = torch.conv2d(rpn.search_cls_conv(x), cls_kernel)
    loc = rpn.loc_adjust(torch.conv2d(rpn.search_loc_conv(x), loc_kernel))
    return cls.numpy(), loc.numpy()


def _cascade(network: CRPN, z: torch.Tensor, x: torch.Tensor) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Logits and regressions of the three stages, each on features that passed through the transfers before it."""
    (z3, z4, z5), (x3, x4, x5) = network.backbone(z), network.backbone(x)
    first, second = network.transfers
    z4, x4 = first(z5, z4), first(x5, x4)
    z3, x3 = second(z4, z3), second(x4, x3)
    pairs = zip(network.rpns, ((z5, x5), (z4, x4), (z3, x3)), strict=True)
    cls, loc = zip(*[_correlated(rpn, *pair) for rpn, pair in pairs], strict=True)
    return list(cls), list(loc)


def test_the_network_is_its_stages_in_cascade():
    network, anchors = _narrow(), _anchors(17)
    z, x = torch.randn(1, 3, 127, 127), torch.randn(1, 3, 255, 255)
    with torch.no_grad():
        cls, loc = _cascade(network, z, x)
        highest = np.max([c[0, :A] - c[0, A:] for c in cls], axis=0)
        network.theta = float(1 / (1 + np.exp(-np.median(highest))) + 1e-5)  # half of an untrained network's anchors
        kernels = network.template(z)
        found = [output.numpy() for output in network.search(x, *kernels)]
    assert [tuple(k.shape) for k in kernels] == [(1, n, c, 4, 4) for c in (6, 10, 12) for n in (10, 20)]
    assert [f.shape for f in found] == [(1, 10, 17, 17), (1, 20, 17, 17)]
    kept = _proposals(cls, loc, anchors, network.theta)
    assert len(kept) == pytest.approx(A * 17 * 17 / 2, rel=0.1)
    _assert_agree(*found, anchors, kept)
