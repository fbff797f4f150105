"""Candidates lie on rings around the target, and in the crop where the frame has them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siamtrt.runtime.sampling import crop_boxes, radius_candidates, radius_within

SCALES = (math.sqrt(2) / 2, 1.0, math.sqrt(2))


def test_sint_has_303_candidates():
    boxes = radius_candidates((40, 20), 30 / 512 * 640, 10, 10, SCALES)
    assert boxes.shape == (303, 4)
    assert boxes.dtype == np.float32
    assert len(np.unique(boxes, axis=0)) == 303
    np.testing.assert_array_equal(boxes[::101, :2], 0)
    np.testing.assert_allclose(boxes[::101, 2:], [[28.284271, 14.142136], [40, 20], [56.568542, 28.284271]], rtol=1e-6)


def test_rings_are_equally_spaced():
    boxes = radius_candidates((40, 20), 37.5, 10, 10, SCALES)
    for scale in boxes.reshape(3, 101, 4):
        distances = np.hypot(scale[1:, 0], scale[1:, 1]).reshape(10, 10)
        np.testing.assert_allclose(distances, np.repeat(3.75 * np.arange(1, 11)[:, None], 10, axis=1), rtol=1e-5)
        np.testing.assert_allclose(scale[1:, :2].reshape(10, 10, 2).sum(1), 0, atol=1e-4)


def test_candidates_by_hand():
    found = radius_candidates((10, 20), 8, 2, 4, (1.0, 2.0))
    centers = [(0, 0), (4, 0), (0, 4), (-4, 0), (0, -4), (8, 0), (0, 8), (-8, 0), (0, -8)]
    expected = [(*center, 10 * scale, 20 * scale) for scale in (1, 2) for center in centers]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_rings_leave_the_centre():
    np.testing.assert_array_equal(radius_candidates((10, 20), 8, 0, 10, (1.0,)), [[0, 0, 10, 20]])


def test_crop_boxes_by_hand():
    """A 128-pixel square around (200, 100) at 256 pixels: two crop pixels a frame pixel, the centre at 127.5."""
    frame = np.array([[200, 100, 20, 10], [210, 90, 20, 10]])
    found = crop_boxes(frame, (200, 100), 128, 256)
    np.testing.assert_allclose(found, [[107.5, 117.5, 147.5, 137.5], [127.5, 97.5, 167.5, 117.5]])
    assert found.dtype == np.float32
    relative = frame - [200, 100, 0, 0]
    np.testing.assert_array_equal(crop_boxes(relative, (0, 0), 128, 256), found)


def test_crop_boxes_stay_in_the_crop():
    found = crop_boxes(np.array([[-60, 0, 20, 10], [0, 90, 10, 10.0], [0, 0, 500, 500]]), (0, 0), 128, 255)
    assert found.min() >= 0
    assert found.max() <= 254
    assert found[0, 0] == 0
    np.testing.assert_array_equal(found[1, [1, 3]], 254)
    np.testing.assert_array_equal(found[2], [0, 0, 254, 254])


def test_a_crop_of_the_frames_scale_copies_coordinates():
    """A crop of 255 frame pixels around pixel (127, 127) is the frame itself."""
    found = crop_boxes(np.array([[50.0, 60, 20, 30]]), (127, 127), 255, 255)
    np.testing.assert_allclose(found, [[40, 45, 60, 75]])


def test_a_marked_box_is_where_crop_boxes_says():
    """The crop of the tracker's own cutter holds a bright rectangle at the mapped corners."""
    from siamtrt.runtime.crop import subwindow

    frame = np.zeros((240, 320, 3), np.uint8)
    frame[100:130, 140:190] = 255  # pixel centres 140..189, hence edges 139.5..189.5
    crop = subwindow(frame, (160.5, 110.5), 85, 255, (0, 0, 0))
    ys, xs = np.nonzero(crop[..., 0] > 127)
    edges = xs.min() - 0.5, ys.min() - 0.5, xs.max() + 0.5, ys.max() + 0.5
    found = crop_boxes(np.array([[164.5, 114.5, 50, 30]]), (160, 110), 85, 255)
    np.testing.assert_allclose(found[0], edges, atol=0.51)


@pytest.mark.parametrize("size_wh", [(40, 20), (15, 60)])
def test_candidates_within_the_radius_are_not_clipped(size_wh):
    radius = radius_within(size_wh, SCALES, 160)
    for grown, clipped in ((0.99, False), (1.05, True)):
        boxes = radius_candidates(size_wh, radius * grown, 10, 20, SCALES)
        found = crop_boxes(boxes, (0, 0), 160, 255)
        sides = boxes[:, 2:] * 255 / 160
        assert (not np.allclose(found[:, 2:] - found[:, :2], sides, atol=1e-3)) == clipped


def test_a_target_as_large_as_the_crop_leaves_no_radius():
    assert radius_within((100, 50), SCALES, 120) == 0
    assert radius_within((50, 100), (1.0,), 120) == 10
