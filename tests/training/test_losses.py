"""The loss of a head against hand-computed cases, plain loops and numerical gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from siamtrt.training.losses import head_loss
from siamtrt.training.targets import BACKGROUND, IGNORED, TARGET

LOC_WEIGHT, TURN = 1.2, 1 / 9
N, A, S = 2, 2, 3
P = A * S * S


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Float64 outputs of a head, labels of all three kinds, and offsets; some misses are below `TURN`, some above."""
    rng = np.random.default_rng(seed)
    cls, loc = rng.normal(0, 2, (N, 2 * A, S, S)), rng.normal(0, 1, (N, 4 * A, S, S))
    labels = rng.choice([IGNORED, BACKGROUND, TARGET], (N, P), p=[0.4, 0.4, 0.2])
    offsets = loc.reshape(N, 4, P) + rng.choice([0.02, -0.05, 0.4, -1.5], (N, 4, P))
    return tuple(map(torch.from_numpy, (cls, loc, labels, offsets)))


def by_loops(cls, loc, labels, offsets) -> tuple[float, float]:
    """Both parts, one anchor at a time: anchor a of cell (i, j) is number a*S*S + i*S + j."""
    costs = {TARGET: [], BACKGROUND: []}
    misses = []
    for n in range(N):
        for a in range(A):
            for i in range(S):
                for j in range(S):
                    label = int(labels[n, a * S * S + i * S + j])
                    if label == IGNORED:
                        continue
                    logits = float(cls[n, a, i, j]), float(cls[n, A + a, i, j])
                    chance = math.exp(logits[label]) / (math.exp(logits[0]) + math.exp(logits[1]))
                    costs[label].append(-math.log(chance))
                    if label == TARGET:
                        wanted = [float(offsets[n, k, a * S * S + i * S + j]) for k in range(4)]
                        gaps = [abs(float(loc[n, k * A + a, i, j]) - wanted[k]) for k in range(4)]
                        misses.append(sum(g * g / 2 / TURN if g < TURN else g - TURN / 2 for g in gaps))
    halves = [sum(costs[label]) / len(costs[label]) for label in (TARGET, BACKGROUND)]
    return sum(halves) / 2, LOC_WEIGHT * sum(misses) / len(misses)


@pytest.mark.parametrize("seed", range(4))
def test_both_parts_agree_with_plain_loops(seed):
    case = drawn(seed)
    found = [part.item() for part in head_loss(*case, LOC_WEIGHT, TURN)]
    np.testing.assert_allclose(found, by_loops(*case), rtol=1e-5)  # the loss is computed in float32


def test_by_hand():
    """One target of even chances, one background at 1 : 3, offsets missed by 1 and by 0.1."""
    cls = torch.tensor([0.0, 0.0, 0.0, math.log(3.0)]).reshape(1, 2, 1, 2)  # target's logit: 0 and log 3
    loc = torch.zeros(1, 4, 1, 2)
    labels = torch.tensor([[TARGET, BACKGROUND]])
    offsets = torch.zeros(1, 4, 2)
    offsets[0, :, 0] = torch.tensor([1.0, -0.1, 0.0, 0.0])
    offsets[0, :, 1] = 7.0  # of a background anchor: no matter
    first, second = head_loss(cls, loc, labels, offsets, 2.0, 0.5)
    assert first.item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert second.item() == pytest.approx(2.0 * (1.0 - 0.25 + 0.1**2 / (2 * 0.5)))


def test_targets_weigh_as_much_as_background_however_few():
    """A lone target among 17 background anchors, all undecided: half of the gradient's weight is the target's."""
    cls = torch.zeros(1, 2 * A, S, S, requires_grad=True)
    labels = torch.full((1, P), BACKGROUND)
    labels[0, 4] = TARGET
    first, _ = head_loss(cls, torch.zeros(1, 4 * A, S, S), labels, torch.zeros(1, 4, P), 1.0, TURN)
    assert first.item() == pytest.approx(math.log(2))
    first.backward()
    pull = cls.grad.reshape(2, P)[1]
    assert pull[4].item() == pytest.approx(-0.25)
    assert pull.sum().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("label", [IGNORED, BACKGROUND])
def test_without_targets_the_rest_is_finite(label):
    """Nothing sampled costs nothing; background alone costs its half and trains no box."""
    cls, loc, _, offsets = (value.requires_grad_(value.is_floating_point()) for value in drawn())
    first, second = head_loss(cls, loc, torch.full((N, P), label), offsets, LOC_WEIGHT, TURN)
    assert second.item() == 0
    assert (first.item() == 0) == (label == IGNORED)
    (first + second).backward()
    assert torch.isfinite(cls.grad).all()
    assert not loc.grad.any()
    assert cls.grad.any() == (label == BACKGROUND)


def test_ignored_anchors_do_not_count():
    cls, loc, labels, offsets = drawn()
    expected = head_loss(cls, loc, labels, offsets, LOC_WEIGHT, TURN)
    ignored = labels == IGNORED
    cls.reshape(N, 2, P)[:, 1][ignored] += 100
    loc.reshape(N, 4, P)[ignored[:, None].expand(N, 4, P)] -= 100
    torch.testing.assert_close(head_loss(cls, loc, labels, offsets, LOC_WEIGHT, TURN), expected)


@pytest.mark.parametrize("hardest", [1, 3, 1000])
def test_the_hardest_background_alone(hardest):
    """Of each pair's background the costliest anchors, all of them where there are fewer; targets as before."""
    cls, loc, labels, offsets = drawn(3)
    labels[1] = labels[1].where(labels[1] != BACKGROUND, torch.tensor(IGNORED))
    labels[1, :2] = BACKGROUND
    whole = head_loss(cls, loc, labels, offsets, LOC_WEIGHT, TURN)
    costs = -torch.log_softmax(cls.reshape(N, 2, P), dim=1)[:, 0]
    kept = [
        value
        for cost, label in zip(costs, labels, strict=True)
        for value in sorted(cost[label == BACKGROUND].tolist())[-hardest:]
    ]
    expected = whole[0].item() + (np.mean(kept) - costs[labels == BACKGROUND].mean().item()) / 2
    first, second = head_loss(cls, loc, labels, offsets, LOC_WEIGHT, TURN, hardest)
    assert first.item() == pytest.approx(expected, rel=1e-5)
    assert second.item() == whole[1].item()


def test_extreme_logits_stay_finite():
    """Logits as half precision can overflow to: certain and wrong costs their gap, and the gradient is bounded."""
    cls = torch.tensor([6e4, -6e4]).reshape(1, 2, 1, 1).requires_grad_()
    first, _ = head_loss(cls, torch.zeros(1, 4, 1, 1), torch.tensor([[TARGET]]), torch.zeros(1, 4, 1), 1.0, TURN)
    first.backward()
    assert first.item() == pytest.approx(6e4)
    assert cls.grad.abs().max() <= 0.5


def test_gradients_are_those_of_finite_differences(monkeypatch):
    """In float64: the cast to float32, which is for bfloat16's sake, is taken out for the check."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    cls, loc, labels, offsets = drawn(5)
    cls.requires_grad_()
    loc.requires_grad_()
    assert torch.autograd.gradcheck(lambda c, b: head_loss(c, b, labels, offsets, LOC_WEIGHT, TURN), (cls, loc))
