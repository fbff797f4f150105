"""Anchor assignment against hand-computed cases and a brute-force IoU."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siamtrt.errors import BoxError
from siamtrt.runtime.decode import anchor_grid
from siamtrt.tracking import AnchorDecoding
from siamtrt.training.targets import BACKGROUND, IGNORED, TARGET, Sampling, assign_anchors, encode_offsets

ALEX = AnchorDecoding(21, stride=8, ratios=(0.33, 0.5, 1.0, 2.0, 3.0), scales=(8.0,))
ALL = Sampling(positives=10**6, samples=2 * 10**6)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two cx, cy, w, h boxes, written out."""
    w = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    h = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    shared = max(w, 0.0) * max(h, 0.0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def test_labels_of_a_row_of_anchors():
    # IoU with the 40x40 box at the origin: 1, 30/50 = 0.6, 20/60 = 0.333, 18/62 = 0.290, 0
    anchors = np.array([[x, 0, 40, 40] for x in (0, 10, 20, 22, 100)], np.float32)
    labels, _ = assign_anchors(anchors, np.array([0, 0, 40, 40]), rng())
    assert labels.tolist() == [TARGET, TARGET, IGNORED, BACKGROUND, BACKGROUND]


def test_offsets_of_two_anchors():
    anchors = np.array([[0, 0, 64, 64], [-8, 16, 40, 80]], np.float32)
    offsets = encode_offsets(anchors, np.array([16.0, -8.0, 80.0, 40.0]))
    first = [16 / 64, -8 / 64, math.log(80 / 64), math.log(40 / 64)]
    expected = [first, [24 / 40, -24 / 80, math.log(2), -math.log(2)]]
    np.testing.assert_allclose(offsets.T, expected, rtol=1e-6)
    assert offsets.dtype == np.float32


@pytest.mark.parametrize("box", [(0, 0, 64, 64), (-37.5, 61.2, 90, 41), (64, -64, 33, 120), (3, 5, 20, 20)])
def test_labels_agree_with_brute_force(box):
    anchors = anchor_grid(ALEX)
    labels, _ = assign_anchors(anchors, np.array(box, float), rng(), sampling=ALL)
    overlaps = np.array([overlap(anchor, box) for anchor in anchors.astype(float)])
    expected = np.where(overlaps >= 0.6, TARGET, np.where(overlaps <= 0.3, BACKGROUND, IGNORED))
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("box", [(0, 0, 64, 64), (-50, 20, 88, 40), (64, -64, 33, 96)])
def test_offsets_lead_every_anchor_to_the_box(box):
    anchors = anchor_grid(ALEX)
    _, offsets = assign_anchors(anchors, np.array(box, float), rng())
    centres = offsets[:2].T * anchors[:, 2:] + anchors[:, :2]
    sides = np.exp(offsets[2:].T) * anchors[:, 2:]
    np.testing.assert_allclose(np.hstack([centres, sides]), np.tile(box, (len(anchors), 1)), atol=1e-3)


def test_at_most_16_positives_of_64():
    anchors = np.tile(np.array([[0, 0, 64, 64], [500, 0, 64, 64]], np.float32), (200, 1))
    labels, _ = assign_anchors(anchors, np.array([0, 0, 64, 64.0]), rng())
    assert (labels == TARGET).sum() == 16
    assert (labels == BACKGROUND).sum() == 48
    assert not (labels[1::2] == TARGET).any()
    assert not (labels[::2] == BACKGROUND).any()


def test_fewer_positives_leave_room_for_background():
    labels, _ = assign_anchors(anchor_grid(ALEX), np.array([1.0, 2.0, 62.0, 65.0]), rng())
    assert 0 < (labels == TARGET).sum() < 16
    assert (labels != IGNORED).sum() == 64


def test_another_object_is_background():
    box = np.array([0, 0, 64, 64.0])
    matching, offsets = assign_anchors(anchor_grid(ALEX), box, rng())
    labels, same_offsets = assign_anchors(anchor_grid(ALEX), box, rng(), matches=False)
    assert (matching == TARGET).any()
    assert not (labels == TARGET).any()
    assert (labels[matching == TARGET] == BACKGROUND).all()
    np.testing.assert_array_equal(offsets, same_offsets)


def test_same_seed_same_choice():
    anchors, box = anchor_grid(ALEX), np.array([8, 8, 70, 60.0])
    one, again = (assign_anchors(anchors, box, np.random.default_rng(7))[0] for _ in range(2))
    other, _ = assign_anchors(anchors, box, np.random.default_rng(8))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_inputs_stay_unchanged():
    anchors, box = anchor_grid(ALEX), np.array([8, 8, 70, 60.0])
    before = anchors.copy()
    assign_anchors(anchors, box, rng())
    np.testing.assert_array_equal(anchors, before)
    np.testing.assert_array_equal(box, [8, 8, 70, 60.0])


@pytest.mark.parametrize("box", [(0, 0, 0, 10), (0, 0, 10, -1), (math.nan, 0, 10, 10), (0, 0, 10)])
def test_rejects_boxes_without_extent(box):
    with pytest.raises(BoxError, match="cx,cy,w,h"):
        assign_anchors(anchor_grid(ALEX), np.array(box, float), rng())
