"""Masks and rotated boxes in the frame, against shapes whose place is known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from siamtrt.runtime.mask import mask_corner, mask_in_frame, rotated_box
from siamtrt.tracking import MaskDecoding

FRAME = (640, 480)
CENTER, SIDE, POSITION = (300.5, 230.25), 383, (14, 10)  # of the search crop; row and column
ASIDE = (5.0, 6.0, 7.0, 8.0)

Rotated = tuple[tuple[float, float], tuple[float, float], float]  # centre, size, degrees: OpenCV's RotatedRect


def corner_and_zoom(mask_size: int) -> tuple[float, float, float]:
    """The mask's first pixel in the frame and its pixels' side.

    Position (r, c) sees the 127 search-crop pixels from 8 (r - 4), 8 (c - 4) on, for 255 pixels a crop.
    """
    pixel = SIDE / 255
    x = CENTER[0] - SIDE / 2 + 8 * (POSITION[1] - 4) * pixel
    y = CENTER[1] - SIDE / 2 + 8 * (POSITION[0] - 4) * pixel
    return x, y, 127 * pixel / mask_size


def drawn(shape: str, target: Rotated, mask_size: int) -> np.ndarray:
    """Logits of a shape given in frame pixels: zero on its edge, positive inside."""
    x, y, zoom = corner_and_zoom(mask_size)
    (cx, cy), (width, height), degrees = target
    dx = x + zoom * np.arange(mask_size)[None, :] - cx
    dy = y + zoom * np.arange(mask_size)[:, None] - cy
    angle = math.radians(degrees)
    along = (dx * math.cos(angle) + dy * math.sin(angle)) / (width / 2)
    across = (dy * math.cos(angle) - dx * math.sin(angle)) / (height / 2)
    radius = np.hypot(along, across) if shape == "ellipse" else np.maximum(abs(along), abs(across))
    return (20 * (1 - radius)).astype(np.float32).reshape(1, -1)


def rotated_iou(corners: np.ndarray, target: Rotated) -> float:
    found = cv2.minAreaRect(corners.astype(np.float32))
    common = cv2.rotatedRectangleIntersection(found, target)[1]
    both = 0.0 if common is None else cv2.contourArea(common)
    return both / (math.prod(found[1]) + math.prod(target[1]) - both)


@pytest.mark.parametrize("mask_size", [127, 63])
@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
@pytest.mark.parametrize("degrees", [0.0, 20.0, 65.0, 110.0])
def test_a_drawn_shape_gives_its_rotated_rectangle(shape, degrees, mask_size):
    x, y, zoom = corner_and_zoom(mask_size)
    side = mask_size * zoom
    target = ((x + 0.52 * side, y + 0.47 * side), (0.7 * side, 0.35 * side), degrees)
    decoding = MaskDecoding(0.5, mask_size)
    mask = mask_in_frame(drawn(shape, target, mask_size), POSITION, CENTER, SIDE, FRAME, decoding)
    corners = rotated_box(mask, ASIDE, decoding)
    assert rotated_iou(corners, target) > 0.95
    turned = (target[0], target[1], degrees + 30)
    assert rotated_iou(corners, turned) < 0.70  # so that the bound above means something


@pytest.mark.parametrize(("mask_size", "outside"), [(127, 0.0), (63, -1.0)])
@pytest.mark.parametrize("center", [CENTER, (12.0, 470.0), (630.0, 3.0)])
def test_warp_equals_inverse_mapping_of_every_pixel(mask_size, outside, center):
    """Two thirds of the tests' masks hang over the frame's edge."""
    logits = np.random.default_rng(1).normal(0, 3, (mask_size, mask_size))
    logits = cv2.GaussianBlur(logits, (9, 9), 2).astype(np.float32)
    decoding = MaskDecoding(0.3, mask_size, outside=outside)
    mask = mask_in_frame(logits, POSITION, center, SIDE, FRAME, decoding)
    found = mask.in_frame(FRAME, outside)
    expected = inverse_mapped(1 / (1 + np.exp(-logits.astype(np.float64))), center, outside)
    assert found.shape == expected.shape == (480, 640)
    # OpenCV below 5 rounds where it samples to 1/32 pixel
    steepest = max(np.abs(np.diff(expected, axis=axis)).max() for axis in (0, 1))
    zoom = corner_and_zoom(mask_size)[2]
    assert np.abs(found - expected).max() <= max(1, zoom) * steepest / 16
    assert mask.values.size < 0.5 * found.size  # only a part of the frame was computed
    reached = expected != outside
    assert found[reached].std() > 0.05


def inverse_mapped(probabilities: np.ndarray, center: tuple[float, float], outside: float) -> np.ndarray:
    """Bilinear sampling where each frame pixel p comes from; the references stretch p by L / (L - 1)."""
    size = probabilities.shape[0]
    _, _, zoom = corner_and_zoom(size)
    bordered = np.pad(probabilities, 1, constant_values=outside)
    samples = []
    for axis, length in ((1, FRAME[1]), (0, FRAME[0])):
        first = center[axis] - SIDE / 2 + 8 * (POSITION[1 - axis] - 4) * SIDE / 255
        source = (np.arange(length) * length / (length - 1) - first) / zoom
        source = np.clip(source, -1, size) + 1  # in `bordered`, whose border is the outside
        low = np.minimum(np.floor(source).astype(int), size)
        samples.append((low, source - low))
    (top, down), (left, right) = samples
    down, right = down[:, None], right[None, :]
    upper = bordered[np.ix_(top, left)] * (1 - right) + bordered[np.ix_(top, left + 1)] * right
    lower = bordered[np.ix_(top + 1, left)] * (1 - right) + bordered[np.ix_(top + 1, left + 1)] * right
    return upper * (1 - down) + lower * down


def test_a_mask_begins_where_its_position_looks():
    """The centre of a 25x25 map sees the crop's centre; one position further right, 8 pixels of the crop further."""
    decoding = MaskDecoding(0.5)
    x, y = mask_corner((12, 12), (100.0, 50.0), 255, decoding)
    assert (x + 127.5 / 2, y + 127.5 / 2) == pytest.approx((100.0, 50.0), abs=0.5)
    assert mask_corner((12, 13), (100.0, 50.0), 255, decoding) == (x + 8, y)
    assert mask_corner((13, 12), (100.0, 50.0), 255, decoding) == (x, y + 8)


def test_the_largest_part_counts():
    decoding = MaskDecoding(0.5)
    x, y, zoom = corner_and_zoom(127)
    logits = np.full((127, 127), -9.0, np.float32)
    logits[10:30, 10:30] = 9
    logits[60:110, 20:100] = 9
    corners = rotated_box(mask_in_frame(logits, POSITION, CENTER, SIDE, FRAME, decoding), ASIDE, decoding)
    expected = ((x + 59.5 * zoom, y + 84.5 * zoom), (80 * zoom, 50 * zoom), 0.0)
    assert rotated_iou(corners, expected) > 0.95


@pytest.mark.parametrize("side", [0, 4], ids=["empty", "too small"])
def test_a_mask_without_a_target_gives_the_box(side):
    decoding = MaskDecoding(0.5)
    logits = np.full((127, 127), -9.0, np.float32)
    logits[60 : 60 + side, 60 : 60 + side] = 9  # at 1.5 frame pixels a mask pixel about 36 of the 100 it takes
    corners = rotated_box(mask_in_frame(logits, POSITION, CENTER, SIDE, FRAME, decoding), ASIDE, decoding)
    assert corners.tolist() == [[5, 6], [12, 6], [12, 14], [5, 14]]


def test_a_mask_outside_the_frame_is_empty_and_gives_the_box():
    decoding = MaskDecoding(0.5)
    mask = mask_in_frame(np.full(127 * 127, 9, np.float32), (0, 0), (0.0, 0.0), SIDE, FRAME, decoding)
    assert mask.values.size == 0
    assert not mask.in_frame(FRAME).any()
    assert rotated_box(mask, ASIDE, decoding)[0].tolist() == [5, 6]


def test_extreme_logits_saturate():
    """exp(1000) would overflow."""
    decoding = MaskDecoding(0.5)
    logits = np.full((127, 127), -1000, np.float32)
    logits[40:90, 40:90] = 1000
    with np.errstate(all="raise"):
        values = mask_in_frame(logits, POSITION, CENTER, SIDE, FRAME, decoding).values
    assert (values.min(), values.max()) == (0, 1)
