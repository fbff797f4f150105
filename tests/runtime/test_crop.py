"""Crops equal the reference trackers' at every position relative to the frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from goldens import STEPS, load_steps

from siamtrt.runtime.crop import LARGEST_SQUARE, CropBuffer, check_frame, context_side, mean_colour, subwindow
from siamtrt.runtime.decode import crop_side
from siamtrt.runtime.state import TargetState, state_from_box

FILL = (10, 20, 30)


@pytest.fixture(scope="module")
def frame():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", STEPS)
def test_crops_equal_the_reference(shared_dir, kind):
    steps = load_steps(shared_dir, kind)
    crop = steps.preset.preprocessing
    for step in range(len(steps.data["template_crop"])):
        frame, fill = steps.frame(step), mean_colour(steps.frame(step))
        start = state_from_box(tuple(steps.data["init_box"][step].tolist()))
        state = TargetState(tuple(steps.data["center"][step].tolist()), tuple(steps.data["size"][step].tolist()))
        crops = {
            "template_crop": (start, crop.template_size),
            "search_crop": (state, crop.search_size),
        }
        for name, (at, size) in crops.items():
            side = round(crop_side(at, crop, size))
            found = subwindow(frame, at.center_xy, side, size, fill).transpose(2, 0, 1).astype(int)
            assert (np.abs(found - steps.data[name][step]) <= 1).mean() >= 0.999


@pytest.mark.parametrize("center", [(40, 30), (0, 0), (79.5, 59.5), (-3, 30), (40, 75), (300, -200)])
@pytest.mark.parametrize("side", [1, 2, 31, 64, 200])
def test_subwindow_equals_padding_the_whole_frame(frame, center, side):
    """Padding the frame generously and slicing is the definition; resizing is OpenCV's."""
    pad = 600
    wide = cv2.copyMakeBorder(frame, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=FILL)
    left, top = (int(np.floor(c - (side + 1) / 2 + 0.5)) + pad for c in center)
    expected = cv2.resize(np.ascontiguousarray(wide[top : top + side, left : left + side]), (33, 33))
    np.testing.assert_array_equal(subwindow(frame, center, side, 33, FILL), expected)


def test_frame_is_not_changed(frame):
    before = frame.copy()
    buffer = CropBuffer(33)
    for side in (33, 40, 200):
        buffer.cut(frame, (0.0, 0.0), side, FILL)
        buffer.cut(frame, (40.0, 30.0), side, FILL)
    np.testing.assert_array_equal(frame, before)


def test_buffer_used_again_cuts_like_a_new_one(frame):
    buffer = CropBuffer(33)
    for center, side in (((0, 0), 200), ((79, 59), 33), ((40, 30), 90), ((0, 59), 300), ((-40, 30), 31)):
        expected = subwindow(frame, center, side, 33, FILL).transpose(2, 0, 1)[None]
        np.testing.assert_array_equal(buffer.cut(frame, center, side, FILL), expected)


@pytest.mark.parametrize("side", [33, 47])
def test_buffer_holds_planes_in_the_frame_s_channel_order(frame, side):
    tensor = CropBuffer(33).cut(frame, (70.0, 5.0), side, FILL)
    assert tensor.dtype == np.float32
    expected = subwindow(frame, (70.0, 5.0), side, 33, FILL).transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(tensor, expected)


def test_strided_frames_are_read_in_place(frame):
    wide = np.zeros((60, 160, 3), np.uint8)
    wide[:, ::2] = frame
    np.testing.assert_array_equal(
        subwindow(wide[:, ::2], (20.0, 20.0), 25, 33, FILL), subwindow(frame, (20.0, 20.0), 25, 33, FILL)
    )


def test_context_side_of_a_square_is_twice_its_side():
    assert context_side((64, 64), 0.5) == pytest.approx(128)
    assert context_side((20, 80), 0.5) == pytest.approx(np.sqrt(70 * 130))


def test_mean_colour_truncates():
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0] = 255  # mean 63.75
    assert mean_colour(frame) == (63, 63, 63)


def test_frame_size_is_width_then_height(frame):
    assert check_frame(frame) == (80, 60)


@pytest.mark.parametrize("center", [(40, 30), (0, 0), (79.5, 12.3)])
def test_a_square_too_large_to_pad_is_sampled_in_one_step(frame, center):
    """Around the limit both ways agree but for the border between frame and fill, a pixel wide."""
    below = subwindow(frame, center, LARGEST_SQUARE, 511, FILL).astype(int)
    above = subwindow(frame, center, LARGEST_SQUARE + 1, 511, FILL).astype(int)
    inside = (above != FILL).any(axis=2)
    assert 20 <= inside.sum() <= 120
    assert ((below != FILL).any(axis=2) ^ inside).sum() <= 40
    assert subwindow(frame, center, 10**6, 511, FILL).shape == (511, 511, 3)
