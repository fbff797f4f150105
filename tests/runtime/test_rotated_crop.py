"""Turned crops are upright crops of a turned frame, pixel by pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from siamtrt.runtime.crop import CropBuffer, rotated_subwindow, subwindow

FILL = (10, 120, 230)
CENTERS = [(100.0, 80.0), (100.5, 80.5), (90.25, 70.75)]
SIZES = [(40, 40), (41, 64), (90, 33)]  # sides of the square and of the crop


@pytest.fixture(scope="module")
def frame():
    """(160, 200, 3), smooth: up to 12 grey levels from pixel to pixel, because OpenCV may round places to 1/32."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return cv2.resize(noise, (200, 160), interpolation=cv2.INTER_CUBIC)


def square_corner(center, side):
    """First pixel of the upright square: the definition of `subwindow`, which test_crop.py holds to."""
    return [math.floor(c - (side + 1) / 2 + 0.5) for c in center]


def bilinear(frame, x, y):
    """Colour at a place, of the fill outside the frame."""
    height, width = frame.shape[:2]
    left, top = math.floor(x), math.floor(y)
    colour = np.zeros(3)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        inside = 0 <= column < width and 0 <= row < height
        weight = (1 - abs(x - column)) * (1 - abs(y - row))
        colour += weight * np.array(frame[row, column] if inside else FILL, float)
    return colour


def mapped(frame, center, side, size, angle):
    """Every pixel looked up: to its place in the upright square, then by the angle around the centre."""
    crop = np.empty((size, size, 3))
    (left, top), (cx, cy) = square_corner(center, side), center
    for row in range(size):
        for column in range(size):
            dx = left - 0.5 + (column + 0.5) * side / size - cx
            dy = top - 0.5 + (row + 0.5) * side / size - cy
            x = cx + dx * math.cos(angle) - dy * math.sin(angle)
            y = cy + dx * math.sin(angle) + dy * math.cos(angle)
            crop[row, column] = bilinear(frame, x, y)
    return crop


def assert_same_inside(turned, upright):
    """But for the outermost pixels, where an enlarged upright crop sees its own edge instead of the frame beyond."""
    inside = np.s_[1:-1, 1:-1]
    np.testing.assert_allclose(turned[inside], upright[inside].astype(int), atol=2)


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize(("side", "size"), SIZES)
def test_without_an_angle_it_is_the_upright_crop(frame, center, side, size):
    upright = subwindow(frame, center, side, size, FILL)
    assert_same_inside(rotated_subwindow(frame, center, side, size, FILL, 0.0), upright)


@pytest.mark.parametrize("angle", [0.3, -1.1, 2.5])
@pytest.mark.parametrize(("center", "side", "size"), [((100.5, 80.5), 41, 64), ((90.25, 70.75), 90, 33)])
def test_pixels_are_those_of_the_inverse_mapping(frame, center, side, size, angle):
    found = rotated_subwindow(frame, center, side, size, FILL, angle)
    assert (found.shape, found.dtype) == ((size, size, 3), np.uint8)
    np.testing.assert_allclose(found, mapped(frame, center, side, size, angle), atol=2)


def test_pixels_outside_the_frame_have_the_fill_colour(frame):
    """The corners of a square turned by 45 degrees around the frame's corner, and its far half."""
    center, angle = (2.5, 1.5), math.pi / 4
    found = rotated_subwindow(frame, center, 61, 61, FILL, angle)
    expected = mapped(frame, center, 61, 61, angle)
    edge = cv2.dilate((np.abs(expected - FILL).max(2) > 1e-6).astype(np.uint8), np.ones((3, 3))) > 0
    assert 0.2 < edge.mean() < 0.4
    assert (found[~edge] == FILL).all()
    # at the frame's edge the colour falls to the fill within a pixel, where 1/32 of a pixel is 8 levels
    np.testing.assert_allclose(found, expected, atol=16)
    assert (np.abs(found - expected) <= 2).mean() > 0.97
    assert (rotated_subwindow(frame, (-500.0, 80.0), 61, 33, FILL, angle) == FILL).all()


@pytest.mark.parametrize(("angle", "turns"), [(math.pi / 2, 1), (math.pi, 2), (-math.pi / 2, 3)])
def test_quarter_turns_are_those_of_numpy(frame, angle, turns):
    """Positive from x to y: what lies below the target comes to lie right of it, and right comes to lie above.

    `subwindow`'s square around a whole pixel reaches one pixel further left and up than right and down when its side
    is even; a turn takes this pixel with it, hence the shift of the upright square.
    """
    (cx, cy), side = (100, 80), 64
    shift = {1: (1, 0), 2: (1, 1), 3: (0, 1)}[turns]
    upright = subwindow(frame, (cx + shift[0], cy + shift[1]), side, side, FILL)
    found = rotated_subwindow(frame, (cx, cy), side, side, FILL, angle)
    np.testing.assert_allclose(found, np.rot90(upright, turns).astype(int), atol=1)


@pytest.mark.parametrize(("angle", "beyond"), [(0.0, (30, 0)), (math.pi / 2, (0, 30)), (math.pi, (-30, 0))])
def test_right_in_the_crop_is_the_angle_in_the_frame(angle, beyond):
    """A dot 30 pixels from the centre, in the direction the crop's x axis points to."""
    frame = np.zeros((160, 200, 3), np.uint8)
    cv2.circle(frame, (100 + beyond[0], 80 + beyond[1]), 3, (255, 255, 255), -1)
    crop = rotated_subwindow(frame, (100, 80), 100, 200, (0, 0, 0), angle)
    ys, xs = np.nonzero(crop[..., 0] > 127)
    np.testing.assert_allclose((xs.mean() - 99.5, ys.mean() - 99.5), (60, 0), atol=2)


@pytest.mark.parametrize("angle", [0.4, -0.9])
@pytest.mark.parametrize(("side", "size"), SIZES)
@pytest.mark.parametrize("center", CENTERS)
def test_a_frame_turned_about_the_target_and_cut_upright_is_the_turned_crop(frame, center, side, size, angle):
    """The frame is turned back by the angle; cv2's own rotation matrix counts degrees in that direction."""
    turned_back = cv2.getRotationMatrix2D(center, math.degrees(angle), 1.0)
    whole = cv2.warpAffine(frame, turned_back, (200, 160), borderValue=FILL)
    upright = subwindow(whole, center, side, size, FILL)
    assert_same_inside(rotated_subwindow(frame, center, side, size, FILL, angle), upright)


def test_frame_is_not_changed(frame):
    before = frame.copy()
    rotated_subwindow(frame, (5.0, 5.0), 90, 33, FILL, 0.7)
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(("order", "channels"), [("bgr", [0, 1, 2]), ("rgb", [2, 1, 0])])
def test_buffer_holds_upright_and_turned_crops_in_its_channel_order(frame, order, channels):
    """Each crop in its own place of the batch, whatever the order of cutting; again after other crops."""
    views = [(60, 0.0), (33, 0.0), (60, 0.7), (90, -0.7)]  # a side of 33 needs no resizing
    buffer = CropBuffer(33, len(views), order)
    for index in (3, 1, 0, 2, 2, 0):
        buffer.cut(frame, (30.0, 40.0), 50, FILL, index, 0.2)
    for index in (2, 0, 3, 1):
        side, angle = views[index]
        found = buffer.cut(frame, (100.5, 80.5), side, FILL, index, angle)
    assert found is buffer.tensor
    assert (found.shape, found.dtype) == ((4, 3, 33, 33), np.float32)
    for crop, (side, angle) in zip(found, views, strict=True):
        expected = mapped(frame, (100.5, 80.5), side, 33, angle)[..., channels].transpose(2, 0, 1)
        np.testing.assert_allclose(crop, expected, atol=2)


def test_a_crop_without_an_index_is_the_first(frame):
    found = CropBuffer(33, 2, "rgb").cut(frame, (2.5, 1.5), 60, FILL)
    np.testing.assert_array_equal(found[0, ::-1].transpose(1, 2, 0), subwindow(frame, (2.5, 1.5), 60, 33, FILL))
