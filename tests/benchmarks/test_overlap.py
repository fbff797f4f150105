"""Overlap in pixels: by hand, against a raster drawn pixel by pixel, and near the ratio of areas."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from siamtrt.benchmarks.overlap import FEW_CELLS, overlaps, surely_meet
from siamtrt.benchmarks.regions import corners_of

FRAME = (60, 50)


def pixels(corners, frame):
    """The pixels that one polygon fills: rows top to bottom, edges one by one."""
    rounded = [tuple(math.floor(abs(v) + 0.5) * (1 if v > 0 else -1) for v in corner) for corner in corners]
    filled = set()
    for row in range(frame[1]):
        met = []
        for (x, y), (x0, y0) in zip(rounded, rounded[-1:] + rounded[:-1], strict=True):
            if y != y0 and min(y, y0) <= row <= max(y, y0):
                met.append(int(x + (row - y) / (y0 - y) * (x0 - x)))
        met.sort()
        while len(met) > 1:
            left = met.pop(0)
            if left != met[0]:
                right = met.pop(0)
                filled |= {(column, row) for column in range(max(left, 0), min(right, frame[0] - 1) + 1)}
    return filled


def drawn_overlap(a, b, frame):
    """Drawn from the first pixel of either inside the frame: where columns are cut to whole ones, it matters."""
    low = np.maximum(np.floor(np.minimum(a.min(axis=0), b.min(axis=0))), 0)
    first, second = (pixels((polygon - low).tolist(), (frame - low).astype(int)) for polygon in (a, b))
    return len(first & second) / len(first | second) if first | second else 0.0


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((10, 10, 4, 3), (10, 10, 4, 3), 1),
        ((10, 10, 4, 3), (12, 10, 4, 3), 12 / 28),  # both ends count: 5x4 pixels each, 3x4 of them shared
        ((10, 10, 4, 3), (11, 12, 8, 8), 8 / 93),
        ((10, 10, 4, 3), (10.4, 9.6, 4, 3), 1),  # rounded
        ((10, 10, 4, 3), (10.5, 10, 4, 3), 16 / 24),
        ((10, 10, 4, 3), (10.4999999999, 10, 4, 3), 16 / 24),  # which single precision cannot tell from 10.5
        ((10, 10, 4, 3), (15, 10, 4, 3), 0),
        ((10, 10, 4, 3), (14, 10, 4, 3), 0),  # a shared column alone is no area
        ((-4, 10, 8, 3), (0, 10, 4, 3), 1),  # outside the frame nothing counts
        ((50, 40, 500, 500), (50, 40, 9, 9), 1),
        ((10, 10, 4, 3), (10, 10, 4, 3, 10, 10, 14, 13), 0),  # a polygon of a line
        ((10, 10, 0, 3), (10, 10, 4, 3), 0),
        ((10, 10, 4, 4), (10, 10, 14, 10, 14, 14), 14 / 25),  # of the triangle 14: its highest row 10 to 14 counts
        ((70, 10, 4, 3), (70, 10, 4, 3), 0),
        ((10, 10, 20, 20, 20, 20), (10, 10, 20, 20, 20, 20), 0),  # a slanted line fills nothing
    ],
)
def test_by_hand(a, b, expected):
    assert overlaps(corners_of([a]), corners_of([b]), FRAME)[0] == pytest.approx(expected, abs=1e-12)
    assert overlaps(corners_of([b]), corners_of([a]), FRAME)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [3, 4, 7])
def test_any_polygons_as_drawn_pixel_by_pixel(count):
    """Among them polygons that cross themselves or leave the frame."""
    rng = np.random.default_rng(count)
    a = rng.uniform(-0.2, 1.2, (150, count, 2)) * FRAME
    b = np.where(np.arange(150)[:, None, None] % 2, a + rng.normal(0, 4, a.shape), rng.uniform(5, 45, a.shape))
    a[::3], b[::3] = np.round(a[::3]), np.round(b[::3])
    a, b = a.astype(np.float32), b.astype(np.float32)
    expected = [drawn_overlap(p, q, FRAME) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(overlaps(a, b, FRAME), expected, atol=1e-12)
    assert np.mean(np.array(expected) > 0.1) > 0.5


def test_large_polygons_overlap_nearly_as_their_areas_do():
    """A turned rectangle of hundreds of pixels: borders of a pixel weigh little."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        boxes = [((rng.uniform(400, 500), rng.uniform(400, 500)), tuple(rng.uniform(300, 400, 2)), a) for a in (20, 50)]
        a, b = (np.array(cv2.boxPoints(box)) for box in boxes)
        shared, _ = cv2.intersectConvexConvex(a, b)
        areas = [cv2.contourArea(polygon) for polygon in (a, b)]
        assert overlaps(a[None], b[None], (1000, 1000))[0] == pytest.approx(shared / (sum(areas) - shared), abs=6e-3)


def test_frames_do_not_disturb_each_other():
    """Whatever is computed together: tall and short, many and few, with and without a region."""
    rng = np.random.default_rng(1)
    a = rng.uniform(0, 1000, (40, 4, 2)) * rng.uniform(0.05, 1, (40, 1, 1))
    b = a + rng.normal(0, 10, a.shape)
    a[7], b[11, 2, 1] = np.nan, np.nan
    together = overlaps(a, b, (1000, 1000))
    alone = [overlaps(a[i : i + 1], b[i : i + 1], (1000, 1000))[0] for i in range(40)]
    np.testing.assert_array_equal(together, alone)
    assert np.flatnonzero(np.isnan(together)).tolist() == [7, 11]
    assert FEW_CELLS < 40 * 1000  # more than one part


def test_sizes():
    assert overlaps(np.empty((0, 1, 2)), np.empty((0, 4, 2)), FRAME).shape == (0,)
    with pytest.raises(ValueError, match="2 and 1 regions"):
        overlaps(np.zeros((2, 4, 2)), np.zeros((1, 4, 2)), FRAME)


def test_huge_regions_cost_no_more_than_the_frame():
    a, b = corners_of([(-1e9, -1e9, 2e9, 2e9)]), corners_of([(10, 10, 20, 20)])
    assert overlaps(a, b, FRAME)[0] == pytest.approx(21 * 21 / (60 * 50))
    assert overlaps(a, a, FRAME)[0] == 1


def test_what_surely_meets_does():
    """Never where pixels say otherwise, and often where they share a quarter."""
    rng = np.random.default_rng(3)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (3000, 4)), axis=1)
    a = rng.uniform(-10, 60, (3000, 1, 2)) + 15 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    b = corners_of(np.hstack([a.min(axis=1) + rng.uniform(-15, 15, (3000, 2)), rng.uniform(0, 30, (3000, 2))]))
    exact = overlaps(a, b, FRAME)
    quick = np.array([surely_meet(*pair, FRAME) for pair in zip(a, b, strict=True)])
    assert (exact[quick] > 0).all()
    assert quick[exact > 0.25].mean() > 0.5
    assert quick.sum() > 200


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((0, 0, 20, 0, 0, 20), (22, 22, 22, 2, 2, 22)),  # triangles 2.8 pixels apart, the middle between them
        ((0, 0, 20, 0, 0, 20), (12, 12, 20, 20)),  # a box in the empty corner of a triangle's bounds
        ((70, 10, 20, 20), (65, 10, 30, 20)),  # behind the frame's edge
    ],
)
def test_bounds_that_meet_are_not_enough(a, b):
    for pair in ((a, b), (b, a)):
        corners = [corners_of([tuple(map(float, region))]) for region in pair]
        assert overlaps(*corners, FRAME)[0] == 0
        assert not surely_meet(corners[0][0], corners[1][0], FRAME)
