"""Which crop the next frame is searched in: the rules of DaSiamRPN's and pysot's long-term trackers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from siamtrt.manifest import GraphSpec, Manifest, Source, TensorSpec
from siamtrt.models.presets import PRESETS
from siamtrt.runtime.search import first_search, next_search, search_decoders
from siamtrt.runtime.state import TargetState
from siamtrt.runtime.tracker import Tracker
from siamtrt.tracking import AdaptiveSearch, AnchorDecoding, DistractorAware, LongTermSearch, PointDecoding

LONG_TERM = "siamrpn_r50_l234_dwxcorr_lt"
SEARCHING = [name for name, preset in PRESETS.items() if preset.strategies.search]
# Sides of the score maps by the references' formula, (S - 127) / 8 + 1, and 8 more for the networks that pad.
MAP_SIDES = {
    "dasiamrpn_big": {"search": 19, "search_287": 21},
    "dasiamrpn_lt": {"search": 19, "search_439": 40, "search_607": 61, "search_775": 82},
    LONG_TERM: {"search": 25, "search_831": 97},
}


def graph(name, inputs, outputs):
    tensors = [tuple(TensorSpec(key, shape) for key, shape in side.items()) for side in (inputs, outputs)]
    return GraphSpec(f"{name}.onnx", "0" * 64, *tensors)


def manifest_of(preset):
    """A manifest with the shapes of a preset's graphs and one-number template tensors, for proposals."""
    crop, decoding, policy = preset.preprocessing, preset.decoding, preset.strategies.template
    kernels = {f"kernel{index}": (1, 1) for index in range(3)}
    graphs = {"template": graph("template", {"z": (1, 3, crop.template_size, crop.template_size)}, kernels)}
    for size in (crop.search_size, *preset.strategies.search_sizes):
        name = "search" if size == crop.search_size else f"search_{size}"
        side = decoding.score_size + (size - crop.search_size) // decoding.stride
        maps = {"cls": (1, 2 * decoding.anchors, side, side), "loc": (1, 4 * decoding.anchors, side, side)}
        if isinstance(policy, DistractorAware):
            maps["distractor"] = maps["cls"]
        graphs[name] = graph(name, {"x": (1, 3, size, size), **kernels}, maps)
    return Manifest(
        preset.name, preset.paper, Source("none.pth", "0" * 64), graphs, crop, decoding, preset.tracking,
        {"cls": 0.0}, {}, strategies=preset.strategies,
    )  # fmt: skip


def maps_of(manifest, search):
    return {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in manifest.graphs[search].outputs}


# --- first_search


BIG = PRESETS["dasiamrpn_big"].strategies.search


@pytest.mark.parametrize(
    ("size_wh", "expected"),
    [
        ((40.0, 19.9), "search_287"),
        ((40.0, 20.0), "search"),  # 800 of 200000 pixels: 0.4 %, not less
        ((40.0, 20.1), "search"),
        ((2.0, 399.0), "search_287"),
        ((2.0, 401.0), "search"),
    ],
)
def test_small_targets_are_searched_for_in_the_larger_crop(size_wh, expected):
    assert first_search(BIG, TargetState((250, 200), size_wh), (500, 400)) == expected


def test_first_search_is_dasiamrpns_rule():
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(500):
        width, height, frame_width, frame_height = rng.uniform((5, 5, 200, 200), (80, 80, 1920, 1080))
        size = 287 if (width * height) / (frame_width * frame_height) < 0.004 else 271
        found = first_search(BIG, TargetState((0, 0), (width, height)), (frame_width, frame_height))
        assert found == ("search" if size == 271 else "search_287")
        small += size == 287
    assert 100 < small < 400


@pytest.mark.parametrize("policy", [None, LongTermSearch((439,), 0.8, 0.95)])
def test_other_policies_begin_with_the_ordinary_crop(policy):
    assert first_search(policy, TargetState((5, 5), (1, 1)), (1000, 1000)) == "search"


# --- next_search


LADDER = LongTermSearch((439, 607, 775), low=0.8, high=0.95)
OLD = TargetState(
    (50.0, 60.0), (20.0, 30.0), score=0.7, distractors=((5.0, 6.0, 7.0, 8.0),), memory={"kernel2": np.ones(1)}
)


def found(score, search, status="locked"):
    return TargetState((80.0, 90.0), (22.0, 33.0), score, status, search=search, distractors=((1.0, 2.0, 3.0, 4.0),))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("search", "search_439"),
        ("search_439", "search_607"),
        ("search_607", "search_775"),
        ("search_775", "search_775"),
    ],
)
@pytest.mark.parametrize("score", [0.0, 0.5, 0.799])
def test_a_low_score_widens_and_freezes(before, after, score):
    old = dataclasses.replace(OLD, search=before)
    new = next_search(LADDER, old, found(score, before))
    assert (new.center_xy, new.size_wh) == (old.center_xy, old.size_wh)
    assert (new.score, new.status, new.search, new.distractors) == (score, "lost", after, ())
    assert new.memory is old.memory
    assert old == dataclasses.replace(OLD, search=before)


@pytest.mark.parametrize("search", ["search", "search_439", "search_775"])
@pytest.mark.parametrize(("score", "returns"), [(0.8, False), (0.9, False), (0.95, False), (0.951, True), (1.0, True)])
def test_a_high_score_returns_and_one_in_between_moves_only(search, score, returns):
    new = found(score, search)
    expected = dataclasses.replace(new, search="search") if returns else new
    assert next_search(LADDER, dataclasses.replace(OLD, search=search), new) == expected


@pytest.mark.parametrize("search", ["search", "search_607"])
def test_invalid_outputs_change_nothing(search):
    new = dataclasses.replace(OLD, search=search, score=0.0, status="invalid")
    assert next_search(LADDER, dataclasses.replace(OLD, search=search), new) == new


@pytest.mark.parametrize("policy", [None, AdaptiveSearch((287,), 0.004)])
@pytest.mark.parametrize("score", [0.0, 0.99])
def test_other_policies_never_change_the_crop(policy, score):
    new = found(score, "search_287")
    assert next_search(policy, dataclasses.replace(OLD, search="search_287"), new) == new


# --- search_decoders


def test_every_preset_that_searches_is_tested():
    assert set(SEARCHING) == set(MAP_SIDES)
    assert all(isinstance(PRESETS[name].decoding, AnchorDecoding | PointDecoding) for name in SEARCHING)


@pytest.mark.parametrize("name", MAP_SIDES)
def test_decoders_have_the_references_map_sides(name):
    decoders = search_decoders(manifest_of(PRESETS[name]))
    assert {graph_name: decoder.decoding.score_size for graph_name, decoder in decoders.items()} == MAP_SIDES[name]


@pytest.mark.parametrize("name", MAP_SIDES)
def test_crops_grow_with_the_search(name):
    """The same frame pixels a crop pixel: 127 crop pixels hold sqrt((w + p)(h + p)) of the frame, p = (w + h) / 2."""
    side = math.sqrt((40 + 35) * (30 + 35))
    decoders = search_decoders(manifest_of(PRESETS[name]))
    for graph_name, decoder in decoders.items():
        size = int(graph_name.partition("_")[2] or PRESETS[name].preprocessing.search_size)
        (view,) = decoder.views(TargetState((100, 100), (40, 30)))
        assert view.side == round(side * size / 127)
        assert view.angle_rad == 0


@pytest.mark.parametrize("name", MAP_SIDES)
def test_window_of_the_wide_search(name):
    """A proposal in the corner with a slightly higher score wins only where the window hardly counts."""
    manifest = manifest_of(PRESETS[name])
    lenient = isinstance(manifest.strategies.search, LongTermSearch)
    for graph_name, decoder in search_decoders(manifest).items():
        side = MAP_SIDES[name][graph_name]
        maps = maps_of(manifest, graph_name)
        maps["cls"][0, :5] = 9
        maps["cls"][0, [2, 7], side // 2, side // 2] = 2, 4
        maps["cls"][0, [2, 7], 0, 1] = 2, 4.5
        new = decoder.decode(TargetState((2000, 2000), (40, 40)), maps, (4000, 4000))
        wide = lenient and graph_name != "search"
        assert new.position_rc == ((0, 1) if wide else (side // 2, side // 2))
        shift = (1 - side // 2) * 8 * 80 / 127  # eight crop pixels a position, 80 frame pixels in 127
        assert new.center_xy[0] - 2000 == pytest.approx(shift if wide else 0, abs=0.01)


# --- the whole step, against pysot's long-term tracker


class LongTermStep:
    """One step with the constants of pysot's `siamrpn_r50_l234_dwxcorr_lt`, in double precision.

    Without the clipping to the frame, which the reference leaves out of its state.
    """

    exemplar, sizes, stride = 127, {False: 255, True: 831}, 8
    penalty_k, influence, lr, low, high = 0.05, {False: 0.28, True: 0.001}, 0.22, 0.8, 0.998
    sides = ((104, 32), (88, 40), (64, 64), (40, 80), (32, 96))

    def __call__(self, center, size, lost, cls, loc):
        """Raw (10, S, S) and (20, S, S) maps -> centre, size, score, whether the next frame is searched widely."""
        side = (self.sizes[lost] - self.exemplar) // self.stride + 1 + 8
        assert cls.shape == (10, side, side)
        zoom = self.exemplar / self.padded(*size)
        score = 1 / (1 + np.exp(cls[:5].astype(float) - cls[5:]))
        offsets = loc.astype(float).reshape(4, 5, side, side)
        width = np.stack([w * np.exp(offsets[2, a]) for a, (w, _) in enumerate(self.sides)])
        height = np.stack([h * np.exp(offsets[3, a]) for a, (_, h) in enumerate(self.sides)])
        scale = self.padded(width, height) / self.padded(size[0] * zoom, size[1] * zoom)
        shape = (size[0] / size[1]) / (width / height)
        penalty = np.exp(-(np.maximum(scale, 1 / scale) * np.maximum(shape, 1 / shape) - 1) * self.penalty_k)
        hanning, influence = np.hanning(side), self.influence[lost]
        ranked = penalty * score * (1 - influence) + np.outer(hanning, hanning) * influence
        best = anchor, row, column = np.unravel_index(ranked.argmax(), ranked.shape)
        next_lost = score[best] < self.low or (lost and score[best] <= self.high)
        if score[best] < self.low:
            return center, size, score[best], next_lost
        rate = penalty[best] * score[best] * self.lr
        x = (column - side // 2) * self.stride + offsets[(0, *best)] * self.sides[anchor][0]
        y = (row - side // 2) * self.stride + offsets[(1, *best)] * self.sides[anchor][1]
        center = center[0] + x / zoom, center[1] + y / zoom
        grown = width[best] / zoom, height[best] / zoom
        size = [old * (1 - rate) + new * rate for old, new in zip(size, grown, strict=True)]
        return center, size, score[best], next_lost

    @staticmethod
    def padded(width, height):
        total = (width + height) * 0.5
        return np.sqrt((width + total) * (height + total))


@pytest.mark.parametrize("lost", [False, True])
def test_long_term_steps_equal_pysots(lost):
    """Random maps in which three proposals are likely, with scores around both thresholds."""
    manifest, step = manifest_of(PRESETS[LONG_TERM]), LongTermStep()
    decoders, policy = search_decoders(manifest), manifest.strategies.search
    search = "search_831" if lost else "search"
    seen = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        side = MAP_SIDES[LONG_TERM][search]
        cls = rng.normal(size=(10, side, side)).astype(np.float32)
        cls[5:] -= 9
        for score in rng.choice([0.3, 0.78, 0.82, 0.99, 0.997, 0.999, 0.9999], size=3):
            anchor, (row, column) = rng.integers(5), rng.integers(side // 4, side - side // 4, size=2)
            cls[[anchor, anchor + 5], row, column] = 0, math.log(score / (1 - score))
        loc = (rng.normal(size=(20, side, side)) * 0.3).astype(np.float32)
        state = TargetState(tuple(rng.uniform(3900, 4100, 2)), tuple(rng.uniform(20, 90, 2)), search=search)
        center, size, score, wide = step(state.center_xy, state.size_wh, lost, cls, loc)
        decoded = decoders[search].decode(state, {"cls": cls[None], "loc": loc[None]}, (8000, 8000))
        new = next_search(policy, state, decoded)
        np.testing.assert_allclose(new.center_xy, center, atol=0.05, err_msg=f"seed {seed}")
        np.testing.assert_allclose(new.size_wh, size, atol=0.05, err_msg=f"seed {seed}")
        assert new.score == pytest.approx(score, abs=1e-5)
        assert new.search == ("search_831" if wide else "search")
        assert new.status == ("lost" if score < 0.8 else "locked")
        seen.add((new.status, wide, new.center_xy != state.center_xy))
    between = {("locked", True, True)} if lost else set()
    assert seen == {("lost", True, False), ("locked", False, True), *between}


# --- the tracker


class Scripted:
    """A session that finds the target in the middle of its map, eight crop pixels to the right, with a given score."""

    backend = "test"

    def __init__(self, spec, name, log):
        self.inputs, self.outputs = spec.inputs, spec.outputs
        self.name, self.log, self.score = name, log, 1.0

    def run(self, feeds):
        maps = {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in self.outputs}
        if "cls" in maps:
            self.log.append((self.name, feeds["x"].shape[-1]))
            middle = maps["cls"].shape[-1] // 2
            maps["cls"][0, :5] = 20
            maps["cls"][0, [2, 7], middle, middle] = 0, -math.log(1 / self.score - 1)
            maps["loc"][0, 2, middle, middle] = 1 / 8  # of an anchor of 64
        return maps

    def close(self):
        pass


def scripted(preset):
    """A tracker, the sessions it runs, and the log of the search graphs and their crop sides."""
    manifest, log = manifest_of(preset), []
    sessions = {name: Scripted(spec, name, log) for name, spec in manifest.graphs.items()}
    return Tracker(manifest, sessions), sessions, log


FRAME = np.zeros((480, 640, 3), np.uint8)


def test_tracker_climbs_the_ladder_and_returns():
    tracker, sessions, log = scripted(PRESETS["dasiamrpn_lt"])
    tracker.init(FRAME, (300, 200, 32, 32))
    script = [
        (0.99, 271, 1, "locked"), (0.5, 271, 0, "lost"), (0.1, 439, 0, "lost"), (0.5, 607, 0, "lost"),
        (0.5, 775, 0, "lost"), (0.9, 775, 1, "locked"), (float("nan"), 775, 0, "invalid"), (0.9, 775, 1, "locked"),
        (0.2, 775, 0, "lost"), (0.96, 775, 1, "locked"), (0.9, 271, 1, "locked"), (0.7, 271, 0, "lost"),
        (0.97, 439, 1, "locked"), (0.99, 271, 1, "locked"),
    ]  # fmt: skip
    for score, size, moves, status in script:
        before = tracker.state
        for session in sessions.values():
            session.score = score
        result = tracker.update(FRAME)
        assert log[-1] == ("search" if size == 271 else f"search_{size}", size)
        assert (result.status, result.ok) == (status, status == "locked")
        moved = tracker.state.center_xy[0] - before.center_xy[0]
        step = 8 * 2 * before.size_wh[0] / 127  # a square of twice the target's side makes 127 crop pixels
        assert moved == pytest.approx(moves * step, rel=1e-5, abs=1e-9)
        assert moves or tracker.state.size_wh == before.size_wh
    assert len(log) == len(script)


@pytest.mark.parametrize(("box_xywh", "size"), [((300, 200, 32, 38), 287), ((300, 200, 32, 39), 271)])
def test_tracker_keeps_the_crop_it_began_with(box_xywh, size):
    """1216 and 1248 of 307200 pixels, 0.396 % and 0.406 %."""
    tracker, sessions, log = scripted(PRESETS["dasiamrpn_big"])
    tracker.init(FRAME, box_xywh)
    for score in (0.99, 0.1, 0.99):
        sessions["search"].score = sessions["search_287"].score = score
        assert tracker.update(FRAME).ok
    assert log == [("search" if size == 271 else "search_287", size)] * 3
