"""Long-term precision, recall and F-score on runs small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrt.benchmarks.long_term import (
    LongTermRun,
    long_term_run_of,
    precision_recall,
    score_long_term,
    thresholds_of,
)
from siamtrt.benchmarks.regions import corners_of, parse_trajectory

NAN, INF = np.nan, np.inf


def run(overlaps, confidences, present):
    return LongTermRun(np.array(overlaps, float), np.array(confidences, float), present)


# Given in frame 1; then found at 0.8, at 0.6, absent but reported, found at 0.4.
ONE = run([0, 0.8, 0.6, 0, 0.4], [0, 0.9, 0.7, 0.5, 0.3], 4)


def test_one_run_by_hand():
    """From 0.7 on two frames count, 1.4 in all: precision 1.4 / 2, recall 1.4 / 4."""
    found = precision_recall(ONE, np.array([INF, 0.9, 0.7, 0.5, 0.3, 0, -INF]))
    sums = [0, 0.8, 1.4, 1.4, 1.8, 1.8, 1.8]
    counts = [0, 1, 2, 3, 4, 5, 5]
    precision = [1, *(total / count for total, count in zip(sums[1:], counts[1:], strict=True))]
    np.testing.assert_allclose(found, np.stack([precision, np.array(sums) / 4], axis=1))


def test_the_best_threshold_is_taken():
    scores = score_long_term({"one": [ONE]})
    f_scores = {t: 2 * p * r / (p + r) for t, p, r in [(0.9, 0.8, 0.2), (0.7, 0.7, 0.35), (0.3, 0.45, 0.45)]}
    assert max(f_scores, key=f_scores.get) == 0.7
    assert scores.threshold == 0.7
    assert (scores.f_score, scores.precision, scores.recall) == pytest.approx((f_scores[0.7], 0.7, 0.35))


def test_sequences_count_alike_and_their_repetitions_together():
    short = run([0, 0.5], [0, 0.6], 2)
    again = run([0, 0.7], [0, 0.8], 2)
    scores = score_long_term({"one": [ONE], "short": [short, again]})
    thresholds = thresholds_of(np.concatenate([ONE.confidences, short.confidences, again.confidences]))
    assert thresholds.tolist() == [INF, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0, 0, 0, -INF]
    at = thresholds.tolist().index(0.7)  # of the repetitions one is sure enough: precision 1 and 0.7, recall 0 and 0.35
    assert scores.curve[at].tolist() == pytest.approx([(0.7 + (1 + 0.7) / 2) / 2, (0.35 + (0 + 0.35) / 2) / 2])


def test_nothing_found_scores_nothing():
    scores = score_long_term({"one": [run([0, 0, 0], [0, 0.5, 0.4], 3)]})
    assert (scores.f_score, scores.recall) == (0, 0)


def test_a_confidence_that_is_no_number_never_counts():
    found = precision_recall(run([0, 0.8, 0.6], [0, NAN, 0.5], 3), np.array([-INF]))
    assert found.tolist() == [[0.3, pytest.approx(0.2)]]


def test_hundred_thresholds_are_enough():
    confidences = np.random.default_rng(0).permutation(np.arange(1000.0))
    thresholds = thresholds_of(np.append(confidences, NAN))
    assert len(thresholds) == 100
    assert (thresholds[0], thresholds[-1]) == (INF, -INF)
    assert thresholds[[1, 2, -2]].tolist() == [989, 979, 9]  # about ten frames between
    assert len(thresholds_of(np.arange(98.0))) == 100
    assert thresholds_of(np.array([])).tolist() == [INF, -INF]


def test_overlap_counts_where_the_target_is():
    trajectory = parse_trajectory("1\n10,10,9,9\n10,10,9,9\n0\n15,10,9,9\n")
    truth = corners_of([(10, 10, 9, 9), (10, 10, 9, 9), (), (10, 10, 9, 9), (10, 10, 9, 9)])
    found = long_term_run_of(trajectory, np.zeros(5), truth, (100, 80))
    np.testing.assert_allclose(found.overlaps, [0, 1, 0, 0, 1 / 3])
    assert found.present == 4
