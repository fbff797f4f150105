"""The most similar candidate becomes the target, and keeps the size of the first frame times a scale."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siamtrt.runtime.crop import subwindow
from siamtrt.runtime.sampling import SamplingDecoder
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import Preprocessing, SamplingDecoding, SamplingTracking

SMALL = SamplingDecoding(radial=2, angular=4, scales=(0.5, 1.0, 1.5), radius_share=0.02)
SINT = SamplingDecoding(radial=10, angular=10, scales=(0.5**0.5, 1.0, 2**0.5), radius_share=30 / 512)
CROP = Preprocessing(255, 255, exemplar_size=127)
FRAME = (1000, 800)
STATE = TargetState((500.0, 400.0), (40.0, 60.0), first_wh=(40.0, 60.0))


def decoder(decoding: SamplingDecoding = SMALL, min_side: float = 10.0) -> SamplingDecoder:
    return SamplingDecoder(decoding, SamplingTracking(min_side), CROP)


def similarity(decoding: SamplingDecoding, best: int, value: float = 0.75) -> dict[str, np.ndarray]:
    """Below `value` everywhere but at one candidate."""
    values = np.random.default_rng(best).uniform(-1, value - 0.01, (1, decoding.boxes)).astype(np.float32)
    values[0, best] = value
    return {"similarity": values}


def expected_boxes(first_wh: tuple[float, float], radius: float) -> list[tuple[float, float, float, float]]:
    """The candidates of `SMALL` by hand: scale by scale the centre, then right, below, left and above, twice."""
    places = [(0.0, 0.0)]
    for distance in (radius / 2, radius):
        places += [(distance, 0.0), (0.0, distance), (-distance, 0.0), (0.0, -distance)]
    width, height = first_wh
    return [(x, y, width * scale, height * scale) for scale in SMALL.scales for x, y in places]


def test_the_candidate_of_the_highest_similarity_is_chosen():
    """2% of 1000 pixels are 20."""
    for best, (x, y, width, height) in enumerate(expected_boxes((40, 60), 20)):
        new = decoder().decode(STATE, similarity(SMALL, best), FRAME)
        np.testing.assert_allclose(new.center_xy, (500 + x, 400 + y), atol=1e-4)
        np.testing.assert_allclose(new.size_wh, (width, height), atol=1e-4)
        assert (new.status, new.score) == ("locked", pytest.approx(0.75))


@pytest.mark.parametrize("size_wh", [(40.0, 60.0), (56.0, 84.0), (20.0, 30.0)])
def test_boxes_come_in_the_order_that_decode_reads(size_wh):
    """The chosen box, carried into the crop by the crop's own side, is the box that was compared."""
    state = TargetState((500.0, 400.0), size_wh, first_wh=(40.0, 60.0))
    (view,) = decoder(SINT).views(state)
    boxes = decoder(SINT).inputs(state, FRAME)["boxes"]
    assert (boxes.shape, boxes.dtype) == ((303, 4), np.float32)
    zoom = 255 / view.side
    for best, box in enumerate(boxes):
        new = decoder(SINT).decode(state, similarity(SINT, best), FRAME)
        x, y = ((at - middle) * zoom + 127 for at, middle in zip(new.center_xy, state.center_xy, strict=True))
        width, height = (side * zoom for side in new.size_wh)
        corners = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        np.testing.assert_allclose(box, corners, atol=1e-3)


@pytest.mark.parametrize("best", [14, 16, 101 + 35, 202 + 7])
def test_a_target_at_a_candidate_fills_its_box_in_the_crop(best):
    """A bright box drawn in the frame; its place in the crop may differ by 1.5 frame pixels, as the crop's does."""
    new = decoder(SINT).decode(STATE, similarity(SINT, best), FRAME)
    frame = np.zeros((FRAME[1], FRAME[0], 3), np.uint8)
    x, y, width, height = (round(value) for value in new.box_xywh)
    frame[y : y + height, x : x + width] = 255
    (view,) = decoder(SINT).views(STATE)
    crop = subwindow(frame, STATE.center_xy, view.side, 255, (0, 0, 0))
    ys, xs = np.nonzero(crop[..., 0] > 127)
    box = decoder(SINT).inputs(STATE, FRAME)["boxes"][best]
    np.testing.assert_allclose((xs.min(), ys.min(), xs.max(), ys.max()), box, atol=2.5 * 255 / view.side)
    assert (view.angle_rad, decoder(SINT).views(STATE)) == (0.0, (view,))


@pytest.mark.parametrize("first_wh", [(4.0, 4.0), (40.0, 60.0), (300.0, 20.0), (5.0, 400.0), (900.0, 700.0)])
@pytest.mark.parametrize("scale", SINT.scales)
@pytest.mark.parametrize("frame_size", [(320, 240), (3840, 2160)])
def test_boxes_lie_in_the_crop(first_wh, scale, frame_size):
    state = TargetState((100.0, 100.0), (first_wh[0] * scale, first_wh[1] * scale), first_wh=first_wh)
    boxes = decoder(SINT).inputs(state, frame_size)["boxes"]
    assert np.isfinite(boxes).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 254
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_sizes_are_multiples_of_the_first_one_for_ever():
    """However often a larger candidate wins: a multiple of the last size would grow to 2 ** 10 times."""
    larger, same = 2 * 101, 101
    state = STATE
    for _ in range(20):
        state = decoder(SINT).decode(state, similarity(SINT, larger), FRAME)
        np.testing.assert_allclose(state.size_wh, (40 * math.sqrt(2), 60 * math.sqrt(2)), rtol=1e-6)
    assert decoder(SINT).decode(state, similarity(SINT, same), FRAME).size_wh == (40, 60)
    assert state.first_wh == (40, 60)


def test_a_state_without_a_first_size_uses_its_own():
    state = TargetState((500.0, 400.0), (40.0, 60.0))
    assert decoder().decode(state, similarity(SMALL, 18), FRAME).size_wh == (60, 90)


def farthest(state: TargetState, frame_size: tuple[int, int]) -> float:
    """How far right of the target the last ring reaches, in frame pixels."""
    new = decoder().decode(state, similarity(SMALL, 9 + 5), frame_size)
    return new.center_xy[0] - state.center_xy[0]


@pytest.mark.parametrize(("frame_size", "radius"), [((1000, 800), 20), ((1000, 2000), 20), ((700, 800), 14)])
def test_radius_is_a_share_of_the_frame_s_width(frame_size, radius):
    assert farthest(STATE, frame_size) == pytest.approx(radius, abs=1e-4)


def test_radius_ends_where_the_largest_candidate_leaves_the_crop():
    """A target of 12 x 12 has a crop of 24 * 255 / 127 = 48 pixels: 15 are left beside one of 18."""
    small = TargetState((500.0, 400.0), (12.0, 12.0), first_wh=(12.0, 12.0))
    assert farthest(small, FRAME) == pytest.approx(15, abs=1e-4)
    boxes = decoder().inputs(small, FRAME)["boxes"]
    sides = np.repeat([6, 12, 18], 9)[:, None] * [1, 1] * 255 / 48
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], sides, atol=0.51)  # the crop's edge, at -0.5, is cut off
    assert boxes[18:].min() == 0


def test_a_shrunk_target_has_a_smaller_crop():
    """Half as large, 6 x 6, its crop has 24 pixels, and 3 are left beside one of 18; one of 8 pixels has none left."""
    shrunk = TargetState((500.0, 400.0), (6.0, 6.0), first_wh=(12.0, 12.0))
    assert decoder().views(shrunk)[0].side == 24
    assert farthest(shrunk, FRAME) == pytest.approx(3, abs=1e-4)
    tiny = TargetState((500.0, 400.0), (2.0, 2.0), first_wh=(12.0, 12.0))
    assert farthest(tiny, FRAME) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, 13, 26])
def test_similarities_that_are_not_finite_leave_the_target_where_it_was(bad, index):
    maps = similarity(SMALL, 5)
    maps["similarity"][0, index] = bad
    new = decoder().decode(STATE, maps, FRAME)
    assert (new.center_xy, new.size_wh, new.first_wh) == (STATE.center_xy, STATE.size_wh, STATE.first_wh)
    assert (new.status, new.score) == ("invalid", 0.0)
    assert decoder().decode(new, similarity(SMALL, 5), FRAME).status == "locked"


@pytest.mark.parametrize(("value", "score"), [(0.3, 0.3), (1.0005, 1.0), (-0.2, 0.0)])
def test_score_is_the_best_similarity_within_0_and_1(value, score):
    new = decoder().decode(STATE, similarity(SMALL, 3, value), FRAME)
    assert (new.status, new.score) == ("locked", pytest.approx(score))


@pytest.mark.parametrize(("center", "best", "expected"), [
    ((995.0, 400.0), 9 + 5, (1000, 400)), ((5.0, 400.0), 9 + 7, (0, 400)),
    ((500.0, 795.0), 9 + 6, (500, 800)), ((500.0, 5.0), 9 + 8, (500, 0)),
])  # fmt: skip
def test_centre_is_clipped_to_the_frame(center, best, expected):
    state = TargetState(center, (40.0, 60.0), first_wh=(40.0, 60.0))
    assert decoder().decode(state, similarity(SMALL, best), FRAME).center_xy == pytest.approx(expected)


def test_size_is_clipped_to_the_frame_and_the_smallest_side():
    state = TargetState((50.0, 40.0), (90.0, 20.0), first_wh=(90.0, 20.0))
    assert decoder().decode(state, similarity(SMALL, 18), (100, 80)).size_wh == (100, 30)
    assert decoder(min_side=12).decode(state, similarity(SMALL, 0), (100, 80)).size_wh == (45, 12)


def test_decode_is_pure():
    maps = similarity(SMALL, 7)
    before = maps["similarity"].copy()
    sampler = decoder()
    new = sampler.decode(STATE, maps, FRAME)
    assert sampler.decode(STATE, similarity(SMALL, 20), (640, 480)) != new
    assert sampler.decode(STATE, maps, FRAME) == new
    np.testing.assert_array_equal(maps["similarity"], before)
    inputs = sampler.inputs(STATE, FRAME)["boxes"]
    sampler.inputs(new, (640, 480))
    np.testing.assert_array_equal(sampler.inputs(STATE, FRAME)["boxes"], inputs)
