"""Crops for training beside the tracker's, and what changes them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from siamtrt.runtime.crop import mean_colour, subwindow
from siamtrt.training.augment import Appearance, changed, covered, warped_crop

NOTHING = Appearance(colour=0, grey=0, flip=0, blur=0, small=0, noise=0, cover=0, fill=0, turn=0)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth (240, 320, 3) picture: bilinear weights that differ in their last bits differ by a level or two."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize(("side", "size"), [(127, 127), (300, 127), (255, 127), (64, 127), (90, 255), (31, 30)])
@pytest.mark.parametrize("center", [(160.0, 120.0), (150.3, 99.8), (3.0, 5.0), (318.5, 239.0)])
def test_a_training_crop_is_the_trackers(picture, center, side, size):
    """`subwindow` starts on a whole pixel; the training crop about the middle of what it cut is the same."""
    theirs = subwindow(picture, center, side, size, mean_colour(picture))
    start = [math.floor(value - (side + 1) / 2 + 0.5) for value in center]
    ours = warped_crop(picture, np.array(start) + (side - 1) / 2, np.array([side, side]), size)
    edge = math.ceil(size / side)  # `subwindow` repeats its outermost pixels, the warp sees what lies beyond them
    inner = (slice(edge, size - edge),) * 2
    np.testing.assert_allclose(ours[inner].astype(int), theirs[inner].astype(int), atol=2)


def test_sides_stretch_each_axis_on_its_own(picture):
    """Two pixels to one across, one to one down, half a pixel between two rows."""
    crop = warped_crop(picture, np.array([160.0, 120.0]), np.array([160.0, 80.0]), 80).astype(int)
    between = (picture[:-1].astype(int) + picture[1:]) / 2
    np.testing.assert_allclose(crop, between[80:160, 81:241:2], atol=2)


@pytest.mark.parametrize("sides", [(101.0, 101.0), (101.0, 51.0)])
def test_a_turn_is_clockwise_and_of_the_finished_square(picture, sides):
    place = np.array([160.0, 120.0]), np.array(sides), 101
    upright, turned = warped_crop(picture, *place), warped_crop(picture, *place, 90.0)
    np.testing.assert_allclose(turned.astype(int), np.rot90(upright, -1).astype(int), atol=2)


def test_another_picture_is_seen_exactly_where_this_one_ends(picture):
    behind = np.full((100, 100, 3), (255, 0, 255), np.uint8)
    place = np.array([10.25, 230.25]), np.array([100.0, 100.0]), 100
    padded, filled = warped_crop(picture, *place), warped_crop(picture, *place, behind=behind)
    x, y = np.meshgrid(np.arange(100) + 10.25 - 49.5, np.arange(100) + 230.25 - 49.5)
    outside = (x < -0.5) | (y > 239.5)
    assert (filled[outside] == (255, 0, 255)).all()
    np.testing.assert_array_equal(filled[~outside], padded[~outside])
    mean = np.array(mean_colour(picture))
    far = (x < -1) | (y > 240)
    assert (padded[far] == mean).all()


def test_nothing_changes_where_every_chance_is_zero(picture):
    for seed in range(5):
        crop = changed(np.random.default_rng(seed), picture, NOTHING, grey=False)
        np.testing.assert_array_equal(crop, picture)


def test_grey_crops_have_equal_channels(picture):
    crop = changed(np.random.default_rng(0), picture, Appearance(), grey=True)
    assert (crop == crop[..., :1]).all()
    assert crop.std() > 10


@pytest.mark.parametrize("name", ["blur", "small", "noise"])
def test_each_change_leaves_size_and_mean(picture, name):
    square = picture[:200, :200]
    for seed in range(8):
        crop = changed(np.random.default_rng(seed), square, Appearance(**{**vars(NOTHING), name: 1.0}), grey=False)
        assert (crop.shape, crop.dtype) == (square.shape, square.dtype)
        assert (crop != square).any()
        assert abs(crop.mean() - square.mean()) < 1


@pytest.mark.parametrize("name", ["blur", "small"])
def test_blur_leaves_the_target_in_its_place(name):
    spot = np.zeros((127, 127, 3), np.uint8)
    spot[55:72, 55:72] = 200
    y, x = np.mgrid[:127, :127]
    for seed in range(30):
        crop = changed(np.random.default_rng(seed), spot, Appearance(**{**vars(NOTHING), name: 1.0}), grey=False)
        weight = crop[..., 0].astype(float)
        middle = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        assert np.abs(middle - 63).max() <= 0.6  # a motion blur of even length is half a pixel off


def test_colours_change_by_no_more_than_they_should():
    grey = np.full((8, 8, 3), 128, np.uint8)
    strength = 0.2
    colourful = Appearance(**{**vars(NOTHING), "colour": strength})
    seen = [changed(np.random.default_rng(seed), grey, colourful, grey=False)[0, 0] for seed in range(200)]
    most = 128 * strength + 128 * (strength / 2) * (1 + strength)
    apart = np.array(seen).astype(int) - 128
    assert np.abs(apart).max() <= most + 1
    assert np.abs(apart).max() > 0.6 * most
    assert np.abs(apart.mean(axis=0)).max() < 4
    assert (apart[:, 0] != apart[:, 2]).mean() > 0.9


@pytest.mark.parametrize("box", [(0, 0, 60, 40), (-50, 55, 80, 30), (0, 0, 3, 3), (60, 60, 200, 20)])
def test_a_cover_hides_less_than_half_of_the_target_and_nothing_far_from_it(picture, box):
    search = picture[:127, :127]
    before, cx_cy_w_h = search.copy(), np.array(box, float)
    middle, sides = cx_cy_w_h[:2] + 63.5, cx_cy_w_h[2:]
    shares = []
    for seed in range(40):
        crop = covered(np.random.default_rng(seed), search, cx_cy_w_h)
        np.testing.assert_array_equal(search, before)
        rows, columns = np.nonzero((crop != search).any(axis=2))
        shares.append(len(rows) / sides.prod())
        if len(rows):
            far = np.abs(np.stack([columns, rows], 1) - middle).max(axis=0)
            assert (far <= sides / 2 + np.maximum(2, 0.7 * sides) / 2 + 1).all()
    assert max(shares) <= max(0.5, 4 / sides.prod())
    assert max(shares) > 0


def test_the_same_generator_changes_alike(picture):
    crop = picture[:200, :200]
    one, again = (changed(np.random.default_rng(3), crop, Appearance(), grey=False) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert (changed(np.random.default_rng(4), crop, Appearance(), grey=False) != one).any()
