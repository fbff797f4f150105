"""What a check says of answers that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from known_answers import ANCHORS, BOXES, Answering, answered, held_batch

from siamtrt.training.checks import best_overlaps, checked
from siamtrt.training.targets import BACKGROUND, TARGET, assign_anchors


def test_right_offsets_at_any_anchor_give_the_box():
    cls, loc = answered(BOXES, [0, 400, len(ANCHORS) - 1])
    np.testing.assert_allclose(best_overlaps(cls, loc, torch.from_numpy(BOXES), ANCHORS), 1, atol=1e-4)


def test_overlaps_of_wrong_answers():
    """Of the best anchor alone: shifted by half its width 1/3, twice as wide 1/2, elsewhere 0."""
    shifted, wide, away = BOXES.copy(), BOXES.copy(), BOXES.copy()
    shifted[:, 0] += BOXES[:, 2] / 2
    wide[:, 2] *= 2
    away[:, 1] += 200
    answers = np.stack([shifted[0], wide[1], away[2]])
    cls, loc = answered(answers, [3, 400, 800])
    loc.reshape(3, 4, -1)[0, :, 4:] = 0  # of other anchors: no matter
    np.testing.assert_allclose(best_overlaps(cls, loc, torch.from_numpy(BOXES), ANCHORS), [1 / 3, 1 / 2, 0], atol=1e-4)


def test_checked_over_several_parts():
    """A hundred pairs, every fourth of another object: the mean IoU leaves those out."""
    boxes = np.tile(BOXES[:1], (100, 1))
    rng = np.random.default_rng(0)
    labels = np.stack([assign_anchors(ANCHORS, boxes[0], rng, matches=n % 4 > 0)[0] for n in range(100)])
    answers = boxes.copy()
    answers[::4] += 1000
    answers[1::4, 0] += boxes[1::4, 2] / 2  # a third of the rest: IoU 1/3
    cls, loc = answered(answers, [700] * 100)
    first, second, overlap = checked(Answering(cls, loc), held_batch(labels, boxes), ANCHORS, 1.2, 1 / 9)
    assert overlap == pytest.approx((2 + 1 / 3) / 3, abs=1e-4)
    assert first > 0
    assert second > 0


def test_without_matching_pairs_there_is_no_overlap():
    labels = np.full((3, len(ANCHORS)), BACKGROUND)
    cls, loc = answered(BOXES, [0, 0, 0])
    first, second, overlap = checked(Answering(cls, loc), held_batch(labels, BOXES), ANCHORS, 1.2, 1 / 9)
    assert math.isnan(overlap)
    count = len(ANCHORS)
    expected = (math.log(1 + math.exp(5)) + (count - 1) * math.log(2)) / count / 2
    assert first == pytest.approx(expected, rel=1e-5)
    assert second == 0
    labels[0, 0] = TARGET
    assert checked(Answering(cls, loc), held_batch(labels, BOXES), ANCHORS, 1.2, 1 / 9)[2] == pytest.approx(1, abs=1e-4)
