"""Evidence that a box holds the target, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siamtrt.runtime.evidence import (
    MOST_LOG_ODDS,
    Evidence,
    blended,
    log_odds,
    log_odds_map,
    peak_shape,
    probabilities,
    signature,
)
from siamtrt.tracking import LossDetection

POLICY = LossDetection(0.2, 0.3, 0.1, 12.0, 0.7, 1.0, -1.0, 1.0)
GOOD = Evidence(0.9, 9.0, 0.1, 0.8)


@pytest.mark.parametrize(("side", "row", "column"), [(13, 6, 6), (13, 0, 12), (16, 15, 3), (17, 8, 0), (4, 1, 2)])
def test_peak_and_sidelobe(side, row, column):
    rng = np.random.default_rng(side)
    field = rng.normal(-4, 1, (side, side)).astype(np.float32)
    field[row, column] = 5
    sidelobe = [
        float(field[r, c])
        for r in range(side)
        for c in range(side)
        if max(abs(r - row), abs(c - column)) > side // 6
    ]
    psr, second = peak_shape(field)
    mean = sum(sidelobe) / len(sidelobe)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in sidelobe) / len(sidelobe))
    assert psr == pytest.approx((5 - mean) / deviation, rel=1e-4)
    assert second == pytest.approx(1 / (1 + math.exp(-max(sidelobe))), rel=1e-4)


def test_a_second_target_is_a_second_peak_and_lowers_the_ratio():
    alone = np.full((13, 13), -5, np.float32) + np.random.default_rng(0).normal(0, 0.1, (13, 13)).astype(np.float32)
    alone[6, 6] = 6
    double = alone.copy()
    double[2, 2] = 5
    assert peak_shape(alone)[1] < 0.01
    assert peak_shape(double)[1] > 0.99
    assert peak_shape(double)[0] < peak_shape(alone)[0] / 2


def test_the_best_anchor_scale_or_angle_counts():
    rng = np.random.default_rng(1)
    cls = rng.normal(0, 1, (1, 10, 3, 3)).astype(np.float32)
    expected = np.array([[max(cls[0, 5 + a, r, c] - cls[0, a, r, c] for a in range(5)) for c in range(3)]
                         for r in range(3)])  # fmt: skip
    np.testing.assert_allclose(log_odds_map({"loc": cls, "cls": cls}), expected, rtol=1e-6)
    response = rng.normal(0, 1, (3, 1, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(log_odds_map({"response": response}), response[:, 0].max(axis=0))
    assert log_odds_map({"similarity": np.ones((1, 9), np.float32)}) is None


def test_probabilities_are_finite_whatever_the_network_says():
    found = probabilities(np.array([[np.nan, np.inf], [-np.inf, 0.0]], np.float32))
    np.testing.assert_allclose(found, [[0, 1], [0, 0.5]], atol=1e-9)
    assert found.dtype == np.float32


def test_a_product_of_signatures_is_the_mean_cosine():
    rng = np.random.default_rng(2)
    one, other = ({"a": rng.normal(size=(1, 4, 3, 3)), "b": 1e4 * rng.normal(size=(1, 7))} for _ in range(2))
    cosines = [
        float((one[name] * other[name]).sum() / np.sqrt((one[name] ** 2).sum() * (other[name] ** 2).sum()))
        for name in one
    ]
    assert float(signature(one) @ signature(other)) == pytest.approx(np.mean(cosines))
    assert float(signature(one) @ signature(one)) == pytest.approx(1)
    assert not signature({"a": np.zeros((1, 3)), "b": np.full((1, 3), np.nan)}).any()


def test_a_memory_follows_and_keeps_its_length():
    first, latest = signature({"a": np.array([1.0, 0.0])}), signature({"a": np.array([0.0, 1.0])})
    np.testing.assert_array_equal(blended(first, latest, 0.0), first)
    half = blended(first, latest, 0.5)
    np.testing.assert_allclose(half, [math.sqrt(0.5)] * 2)
    assert not blended(first, -first, 0.5).any()


def test_log_odds_are_the_weighted_sum():
    odds = math.log(0.9 / 0.1)
    expected = 0.2 * odds + 0.3 * math.log(9) + 0.1 * (odds - math.log(0.1 / 0.9)) + 12 * (0.8 - 0.7)
    assert log_odds(GOOD, POLICY) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "worse"), [("score", 0.5), ("psr", 4.0), ("second_peak", 0.6), ("similarity", 0.6)]
)
def test_each_kind_of_evidence_counts(kind, worse):
    assert log_odds(GOOD._replace(**{kind: worse}), POLICY) < log_odds(GOOD, POLICY)


@pytest.mark.parametrize("evidence", [Evidence(1, 1e9, 0, 1), Evidence(0, -3, 1, -1)])
def test_no_frame_is_surer_than_the_limit(evidence):
    assert abs(log_odds(evidence, POLICY)) == MOST_LOG_ODDS
