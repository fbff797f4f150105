"""Metrics against the published tables and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from siamtrt.benchmarks.metrics import precision, success_auc
from siamtrt.boxes import iou
from siamtrt.runtime.sequences import find_sequences


@pytest.mark.parametrize("version", [2, 3])
def test_reference_boxes_score_as_their_table_says(shared_dir, version):
    goldens = shared_dir / "goldens"
    table = json.loads((goldens / f"nanotrack_v{version}_table.json").read_text())
    boxes = np.load(goldens / f"nanotrack_v{version}_boxes.npz")
    sequences = {sequence.name: sequence.truth_xywh for sequence in find_sequences(shared_dir / "sequences")}
    assert set(sequences) == set(table)
    for name, row in table.items():
        assert success_auc(boxes[name][:, :4], sequences[name]) == pytest.approx(row["success_auc"], abs=6e-5)
        assert precision(boxes[name][:, :4], sequences[name]) == pytest.approx(row["precision_20px"], abs=6e-5)


def test_iou_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0], [np.nan] * 4])
    b = np.array([[1, 0, 2, 2], [5, 5, 1, 1], [0, 0, 2, 2], [0, 0, 0, 0], [0, 0, 1, 1]])
    before = a.copy(), b.copy()
    np.testing.assert_allclose(iou(a, b), [1 / 3, 0, 1, 0, np.nan])
    assert iou(a[0], b[0]) == pytest.approx(1 / 3)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_iou_of_a_box_with_itself_is_not_above_one():
    """Where sides and sums are rounded it was, and then counted for the threshold of 1."""
    boxes = np.random.default_rng(0).uniform(0.1, 200, (500, 4))
    overlap = iou(boxes, boxes)
    assert overlap.max() == 1.0
    assert overlap.min() > 1 - 1e-12
    assert success_auc(boxes, boxes) == pytest.approx(20 / 21)


def test_perfect_tracking_scores_one_but_for_the_last_threshold():
    truth = np.array([[0, 0, 10, 10], [np.nan] * 4])
    assert success_auc(truth, truth) == pytest.approx(20 / 21)
    assert precision(truth + np.array([15, 0, 0, 0]), truth) == 1.0
    assert precision(truth + np.array([20, 0, 0, 0]), truth) == 1.0
    assert precision(truth + np.array([21, 0, 0, 0]), truth) == 0.0
