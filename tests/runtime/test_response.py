"""A step on response maps equals SiamFC's, written down a second time in NumPy, and follows a rendered target."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from siamtrt.runtime.crop import CropBuffer, subwindow
from siamtrt.runtime.response import ResponseDecoder
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import Preprocessing, ResponseDecoding, ResponseTracking

STEP3, STEP5 = 1.0375, 1.025
SCALES3 = (1 / STEP3, 1.0, STEP3)
SCALES5 = (STEP5**-2, 1 / STEP5, 1.0, STEP5, STEP5**2)
SIAMFC = ResponseTracking(scale_penalty=0.9745, window_influence=0.176, scale_lr=0.59)
CROP = Preprocessing(127, 255)
LARGE = (4000, 4000)  # a frame in which nothing is clipped
TURN = 0.4
TURNING = ResponseDecoding(17, 8, SCALES3, angles_rad=(-TURN, TURN))


class Layout(NamedTuple):
    """A decoder and the sizes its step is computed from."""

    side: int
    stride: int
    scales: tuple[float, ...]
    upsampling: int

    def decoder(self) -> ResponseDecoder:
        decoding = ResponseDecoding(self.side, self.stride, self.scales, upsampling=self.upsampling)
        return ResponseDecoder(decoding, SIAMFC, CROP)


LAYOUTS = (Layout(17, 8, SCALES3, 16), Layout(17, 8, SCALES5, 16), Layout(33, 4, SCALES3, 8))


def cubic(distance: float) -> float:
    """The cubic convolution kernel with a = -0.75."""
    a, x = -0.75, abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def enlargement(count: int, factor: int) -> np.ndarray:
    """(count * factor, count) weights of bicubic interpolation; pixels at half-integer places, edges repeated."""
    weights = np.zeros((count * factor, count))
    for row in range(count * factor):
        at = (row + 0.5) / factor - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            weights[row, min(max(tap, 0), count - 1)] += cubic(at - tap)
    return weights


def hann(count: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / (count - 1))


class Step(NamedTuple):
    """What SiamFC's step finds: the chosen map, its peak in the enlarged map, displacement in pixels, new size."""

    chosen: int
    peak_rc: tuple[int, int]
    moved_xy: tuple[float, float]
    size_wh: tuple[float, float]


def siamfc_step(layout: Layout, maps: np.ndarray, size_wh: tuple[float, float]) -> Step:
    """SiamFC's step in float64, for maps (N, R, R) with positive peaks: paper sec. 2.2, facts of siamfc-pytorch."""
    weights = enlargement(layout.side, layout.upsampling)
    large = weights @ maps.astype(np.float64) @ weights.T
    penalties = [1.0 if scale == 1.0 else SIAMFC.scale_penalty for scale in layout.scales]
    chosen = int(np.argmax(large.max((1, 2)) * penalties))
    response = large[chosen] - large[chosen].min()
    window = np.outer(hann(len(response)), hann(len(response)))
    share = SIAMFC.window_influence
    mixed = (1 - share) * response / response.sum() + share * window / window.sum()
    row, column = (int(index) for index in np.unravel_index(mixed.argmax(), mixed.shape))
    (width, height), scale = size_wh, layout.scales[chosen]
    exemplar = math.sqrt((1.5 * width + 0.5 * height) * (1.5 * height + 0.5 * width))
    pixel = layout.stride / layout.upsampling * exemplar / 127 * scale
    middle = (len(response) - 1) / 2
    grown = 1 - SIAMFC.scale_lr + SIAMFC.scale_lr * scale
    moved = (column - middle) * pixel, (row - middle) * pixel
    return Step(chosen, (row, column), moved, (width * grown, height * grown))


def random_state(rng: np.random.Generator) -> TargetState:
    x, y = rng.uniform(1500, 2500, 2).tolist()
    width, height = rng.uniform(20, 200, 2).tolist()
    return TargetState((x, y), (width, height))


def batch(maps: np.ndarray) -> dict[str, np.ndarray]:
    """(N, R, R) -> the search graph's output."""
    return {"response": np.ascontiguousarray(maps[:, None], np.float32)}


def chosen_scale(old: TargetState, new: TargetState) -> float:
    """The scale that the change of size reveals."""
    return 1 + (new.size_wh[0] / old.size_wh[0] - 1) / SIAMFC.scale_lr


def assert_step(layout: Layout, maps: np.ndarray, state: TargetState) -> Step:
    """The decoder's state is that of SiamFC's step, which is returned."""
    expected = siamfc_step(layout, maps, state.size_wh)
    new = layout.decoder().decode(state, batch(maps), LARGE)
    assert chosen_scale(state, new) == pytest.approx(layout.scales[expected.chosen], abs=1e-6)
    np.testing.assert_allclose(np.subtract(new.center_xy, state.center_xy), expected.moved_xy, atol=1e-3)
    np.testing.assert_allclose(new.size_wh, expected.size_wh, atol=1e-4)
    assert (new.status, new.angle_rad) == ("locked", 0.0)
    return expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_maps_step_as_siamfc(layout):
    steps = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        maps = rng.uniform(-1, 1, (len(layout.scales), layout.side, layout.side)).astype(np.float32)
        maps[seed % len(maps)] *= 1.5
        steps.append(assert_step(layout, maps, random_state(rng)))
    assert {step.chosen for step in steps} == set(range(len(layout.scales)))
    assert len({step.peak_rc for step in steps}) > 12


@pytest.mark.parametrize("layout", LAYOUTS)
def test_peaks_in_the_corners_step_as_siamfc(layout):
    """High enough to beat the window, at any scale."""
    last = layout.side - 1
    for seed, (row, column, index) in enumerate(itertools.product((0, last), (0, last), range(len(layout.scales)))):
        rng = np.random.default_rng(seed)
        maps = rng.uniform(-0.05, 0.05, (len(layout.scales), layout.side, layout.side)).astype(np.float32)
        maps[index, row, column] = 5
        step = assert_step(layout, maps, random_state(rng))
        assert step.chosen == index
        assert [at // layout.upsampling for at in step.peak_rc] == [row, column]


@pytest.mark.parametrize(("share", "expected"), [(1.01, 1.0), (1.02, 1.0), (1.03, STEP3), (1.1, STEP3)])
def test_another_scale_must_be_better_by_the_penalty(share, expected):
    """1 / 0.9745 is 1.026."""
    layout, state = LAYOUTS[0], TargetState((2000, 2000), (80, 50))
    base = np.random.default_rng(1).uniform(0, 1, (17, 17))
    maps = np.stack([base * 0.5, base, base * share])
    assert layout.scales[assert_step(layout, maps, state).chosen] == expected


def test_window_holds_the_peak_near_the_centre():
    """Of two equal bumps the nearer one is taken, and the farther one without a window."""
    y, x = np.mgrid[:17, :17]
    far, near = (np.exp(-((x - at) ** 2 + (y - 8) ** 2) / 4) for at in (1, 11))
    state = TargetState((2000, 2000), (64, 64))  # one frame pixel a crop pixel, but for 127 / 128
    maps = batch(np.stack([0.5 * near, 1.02 * far + near, 0.5 * near]))
    for share, cells in ((SIAMFC.window_influence, 3), (0.0, -7)):
        tracking = ResponseTracking(SIAMFC.scale_penalty, share, SIAMFC.scale_lr)
        new = ResponseDecoder(ResponseDecoding(17, 8, SCALES3), tracking, CROP).decode(state, maps, LARGE)
        np.testing.assert_allclose(new.center_xy, (2000 + 8 * cells * 128 / 127, 2000), atol=2.5)


def flat(*peaks: float) -> dict[str, np.ndarray]:
    """Maps of one value each, whose peak under the window is the centre."""
    return batch(np.repeat(np.array(peaks), 17 * 17).reshape(-1, 17, 17))


@pytest.mark.parametrize(
    ("peaks", "expected"),
    [
        ((-1.0, -1.0, -1.0), 1.0),
        ((-0.98, -1.0, -0.98), 1.0),  # -0.98 / 0.9745 is -1.006
        ((-0.98, -1.0, -0.5), STEP3),
        ((-0.5, -1.0, -0.98), 1 / STEP3),
        ((-0.1, -1.0, 0.1), STEP3),
        ((-0.1, 0.0, -0.1), 1.0),
    ],
)
def test_negative_peaks_are_not_rewarded_by_the_penalty(peaks, expected):
    state = TargetState((2000, 2000), (64, 64))
    assert chosen_scale(state, LAYOUTS[0].decoder().decode(state, flat(*peaks), LARGE)) == pytest.approx(expected)


@pytest.mark.parametrize("peak", [-1000.0, -20.0, -1.5, 0.0, 0.25, 3.0, 1000.0])
@pytest.mark.parametrize("scale", [0, 1])
def test_score_is_the_logistic_function_of_the_response(peak, scale):
    """Of the response itself, not of the penalised one."""
    peaks = [peak - 100] * 3
    peaks[scale] = peak
    new = LAYOUTS[0].decoder().decode(TargetState((2000, 2000), (64, 64), 0.5), flat(*peaks), LARGE)
    assert new.score == pytest.approx((1 + math.tanh(peak / 2)) / 2, abs=1e-6)


def turning_maps(index: int) -> np.ndarray:
    """Five maps, the best one that of candidate `index`."""
    maps = np.random.default_rng(index).uniform(-1, 1, (5, 17, 17)).astype(np.float32)
    maps[index] *= 3
    return maps


def test_scale_and_angle_change_one_at_a_time():
    """M + N - 1 candidates: three scales and three angles, the unchanged one among them, make five crops."""
    scales, angles = zip(*TURNING.candidates, strict=True)
    assert scales == (*SCALES3, 1.0, 1.0)
    assert angles == (0.0, 0.0, 0.0, -TURN, TURN)


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("old_angle", [0.0, 0.9, -2.0])
def test_displacement_is_turned_into_the_frame(index, old_angle):
    """The displacement in the turned crop is that of SiamFC's step, with candidates turned as scale 1."""
    state = TargetState((2000.5, 1999.25), (90, 60), angle_rad=old_angle)
    maps = turning_maps(index)
    new = ResponseDecoder(TURNING, SIAMFC, CROP).decode(state, batch(maps), LARGE)
    scales = [1.0, 1.0, 1.0]
    scales[1] = (*SCALES3, 1.0, 1.0)[index]
    layout = LAYOUTS[0]._replace(scales=tuple(scales))
    step = siamfc_step(layout, np.stack([maps[index] - 9, maps[index], maps[index] - 9]), state.size_wh)
    angle = old_angle + (0.0, 0.0, 0.0, -TURN, TURN)[index]
    moved = complex(*step.moved_xy) * complex(math.cos(angle), math.sin(angle))
    assert abs(moved) > 1
    np.testing.assert_allclose(np.subtract(new.center_xy, state.center_xy), (moved.real, moved.imag), atol=1e-3)
    np.testing.assert_allclose(new.size_wh, step.size_wh, atol=1e-4)
    assert new.angle_rad == pytest.approx(angle)


def test_a_quarter_turn_moves_right_in_the_crop_down_in_the_frame():
    decoder = ResponseDecoder(ResponseDecoding(17, 8, (1.0,), (math.pi / 2,)), SIAMFC, CROP)
    y, x = np.mgrid[:17, :17]
    bump = 10 * np.exp(-((x - 12) ** 2 + (y - 8) ** 2))
    new = decoder.decode(TargetState((2000, 2000), (64, 64)), batch(np.stack([0.5 * bump, bump])), LARGE)
    np.testing.assert_allclose(new.center_xy, (2000, 2000 + 4 * 8 * 128 / 127), atol=1.5)


@pytest.mark.parametrize(("share", "angle"), [(1.02, 0.0), (1.2, 0.0), (1.3, TURN)])
def test_an_angle_has_a_penalty_of_its_own(share, angle):
    tracking = ResponseTracking(0.5, 0.176, 0.59, angle_penalty=0.8)
    state = TargetState((2000, 2000), (64, 64))
    new = ResponseDecoder(TURNING, tracking, CROP).decode(state, flat(0.1, 1, 1.9, 0.1, share), LARGE)
    assert (new.angle_rad, new.size_wh) == (pytest.approx(angle), (64, 64))


@pytest.mark.parametrize("upsampling", [1, 16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_maps_that_are_not_finite_leave_the_target_where_it_was(bad, upsampling):
    """One bad value is enough, wherever it is."""
    decoding = ResponseDecoding(17, 8, SCALES3, (TURN,), upsampling)
    state = TargetState((50, 40), (20, 30), 0.9, angle_rad=0.3)
    decoder = ResponseDecoder(decoding, SIAMFC, CROP)
    for index, row, column in itertools.product(range(4), (0, 7, 16), (0, 8, 16)):
        maps = turning_maps(1)[:4]
        maps[index, row, column] = bad
        new = decoder.decode(state, batch(maps), (100, 100))
        assert (new.center_xy, new.size_wh, new.angle_rad) == (state.center_xy, state.size_wh, state.angle_rad)
        assert (new.status, new.score) == ("invalid", 0.0)
    new = decoder.decode(state, batch(np.full((4, 17, 17), bad)), (100, 100))
    assert (new.center_xy, new.size_wh, new.status, new.score) == (state.center_xy, state.size_wh, "invalid", 0.0)


def test_a_target_is_found_again_after_an_invalid_frame():
    decoder, state = LAYOUTS[0].decoder(), TargetState((2000, 2000), (64, 64))
    lost = decoder.decode(state, flat(math.nan, 1, 1), LARGE)
    assert decoder.decode(lost, flat(0, 1, 0), LARGE).status == "locked"


@pytest.mark.parametrize(("row", "column", "center"), [(0, 0, (0, 0)), (0, 16, (100, 0)), (16, 0, (0, 60))])
def test_centre_is_clipped_to_the_frame(row, column, center):
    maps = np.zeros((3, 17, 17))
    maps[1, row, column] = 9
    assert LAYOUTS[0].decoder().decode(TargetState((50, 30), (64, 64)), batch(maps), (100, 60)).center_xy == center


def test_size_is_clipped_to_the_frame_and_the_smallest_side():
    decoder = ResponseDecoder(ResponseDecoding(17, 8, (0.5, 1.0, 2.0)), ResponseTracking(1, 0.176, 1, 1, 12), CROP)
    state = TargetState((50, 30), (20, 40))
    assert decoder.decode(state, flat(2, 1, 1), (100, 60)).size_wh == (12, 20)
    assert decoder.decode(state, flat(1, 1, 2), (100, 60)).size_wh == (40, 60)


def test_decode_is_pure():
    """Inputs stay as they were, and a decoder keeps nothing from one frame to the next."""
    decoder = ResponseDecoder(TURNING, SIAMFC, CROP)
    state = TargetState((2000, 2000), (64, 50), angle_rad=0.2, first_wh=(60, 60), memory={"kernel": np.ones(2)})
    first, other = (batch(turning_maps(index)) for index in (0, 4))
    before = first["response"].copy()
    new = decoder.decode(state, first, LARGE)
    assert decoder.decode(state, other, LARGE) != new
    assert decoder.decode(state, first, LARGE) == new
    np.testing.assert_array_equal(first["response"], before)
    assert state == TargetState((2000, 2000), (64, 50), angle_rad=0.2, first_wh=(60, 60))
    assert (new.first_wh, new.memory) == (state.first_wh, state.memory)


@pytest.mark.parametrize("crop", [CROP, Preprocessing(255, 255, exemplar_size=127)])
def test_views_are_scaled_then_turned(crop):
    """sqrt((40 + 35)(30 + 35)) = 69.82 pixels with context, 255 / 127 times that in the search crop: 140.19."""
    state = TargetState((50, 60), (40, 30), angle_rad=0.5)
    views = ResponseDecoder(TURNING, SIAMFC, crop).views(state)
    assert [view.side for view in views] == [135, 140, 145, 140, 140]  # 140.19 / 1.0375, * 1.0375
    assert [view.angle_rad for view in views] == pytest.approx([0.5, 0.5, 0.5, 0.5 - TURN, 0.5 + TURN])
    assert all(isinstance(view.side, int) for view in views)


def test_context_and_search_size_widen_the_views():
    state = TargetState((50, 60), (40, 30))
    for crop, side in ((Preprocessing(127, 383), 211), (Preprocessing(127, 255, context_amount=0), 70)):
        assert [view.side for view in ResponseDecoder(ResponseDecoding(17, 8), SIAMFC, crop).views(state)] == [side]


def test_views_of_the_smallest_target_hold_a_pixel():
    assert [view.side for view in LAYOUTS[0].decoder().views(TargetState((5, 5), (0.01, 0.01)))] == [1, 1, 1]


def test_nothing_but_crops_goes_into_the_search_graph():
    assert LAYOUTS[0].decoder().inputs(TargetState((5, 5), (9, 9)), (100, 100)) == {}


GREY = (128, 128, 128)


def texture(seed: int, side: int, grain: int) -> np.ndarray:
    """Smooth random colours."""
    noise = np.random.default_rng(seed).integers(0, 256, (side // grain, side // grain, 3), dtype=np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def rendered(center_xy: tuple[float, float], side: float, angle_rad: float = 0.0) -> np.ndarray:
    """(480, 640, 3) frame with a textured square of `side` pixels on a faint background."""
    patch, scale = texture(0, 96, 12), side / 96
    cosine, sine = scale * math.cos(angle_rad), scale * math.sin(angle_rad)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    shift = np.array(center_xy) - rotation @ np.array([47.5, 47.5])
    frame = cv2.resize(texture(1, 640, 20) // 4 + 96, (640, 480))
    return cv2.warpAffine(
        patch, np.column_stack([rotation, shift]), (640, 480), dst=frame, borderMode=cv2.BORDER_TRANSPARENT
    )


class Correlator:
    """SiamFC with pixels for features: the normalised correlation at every eighth place of a 255-pixel crop."""

    def __init__(self, decoding: ResponseDecoding, frame: np.ndarray, state: TargetState) -> None:
        (view,) = ResponseDecoder(ResponseDecoding(17, 8), SIAMFC, Preprocessing(127, 127)).views(state)
        self.template = subwindow(frame, state.center_xy, view.side, 127, GREY)
        self.decoder = ResponseDecoder(decoding, SIAMFC, CROP)
        self.buffer = CropBuffer(255, len(decoding.candidates))

    def next(self, frame: np.ndarray, state: TargetState) -> TargetState:
        for index, view in enumerate(self.decoder.views(state)):
            self.buffer.cut(frame, state.center_xy, view.side, GREY, index, view.angle_rad)
        crops = self.buffer.tensor.transpose(0, 2, 3, 1).astype(np.uint8)
        found = [cv2.matchTemplate(crop, self.template, cv2.TM_CCOEFF_NORMED) for crop in crops]
        maps = np.stack([response[::8, ::8] for response in found])
        return self.decoder.decode(state, batch(maps), (640, 480))


def overlap(center: tuple[float, float], side: float, state: TargetState) -> float:
    """Intersection over union of an upright square and the state's box."""
    shared = 1.0
    for at, middle, length in zip(center, state.center_xy, state.size_wh, strict=True):
        shared *= max(0.0, min(at + side / 2, middle + length / 2) - max(at - side / 2, middle - length / 2))
    return shared / (side * side + state.size_wh[0] * state.size_wh[1] - shared)


@pytest.mark.parametrize("scales", [SCALES3, SCALES5])
def test_a_growing_target_is_followed(scales):
    """Its side grows by 2.5% a frame, to 1.64 times; the first box there would overlap by 0.37 at most."""
    center, side = (180.0, 160.0), 48.0
    state = TargetState(center, (side, side))
    tracker = Correlator(ResponseDecoding(17, 8, scales), rendered(center, side), state)
    for _ in range(20):
        center, side = (center[0] + 9, center[1] + 5), side * 1.025
        state = tracker.next(rendered(center, side), state)
        assert overlap(center, side, state) > 0.5
    assert state.size_wh[0] > 1.4 * 48


@pytest.mark.parametrize("turn", [0.1, -0.1])
def test_a_turning_target_is_followed(turn):
    """2 radians in all, while it moves; to the tracker positive is from x to y."""
    center, angle = (180.0, 160.0), 0.0
    state = TargetState(center, (64.0, 64.0))
    decoding = ResponseDecoding(17, 8, angles_rad=(-0.12, 0.12))
    tracker = Correlator(decoding, rendered(center, 64), state)
    for _ in range(20):
        center, angle = (center[0] + 9, center[1] + 5), angle + turn
        state = tracker.next(rendered(center, 64, angle), state)
        np.testing.assert_allclose(state.center_xy, center, atol=8)
        assert state.angle_rad == pytest.approx(angle, abs=0.15)
