"""A tracker that knows whether it has its target: statuses, the search for a lost one, a detector's offers, bounds."""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pytest

from siamtrt.boxes import iou
from siamtrt.default_tracker import default_bundle
from siamtrt.errors import FrameError, SiamtrtError
from siamtrt.models.presets import PRESETS
from siamtrt.runtime.evidence import Evidence
from siamtrt.runtime.session import open_sessions
from siamtrt.runtime.state import TargetState
from siamtrt.runtime.tracker import Tracker
from siamtrt.runtime.watched import DETECTOR_PERIOD, Judged, Watch, WatchedTracker, followed, looked_for
from siamtrt.tracking import LossDetection, Strategies

SIZE = (480, 320)
SIDE = 40
POLICY = LossDetection(0.2, 0.2, 0.1, 12.0, 0.7, uncertain=1.0, lost=-1.0, regained=1.0, rate=0.5)


def texture(seed, size=SIZE, cell=16):
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = rng.integers(0, 256, (height // cell, width // cell, 3), dtype=np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


def scene(box=None, size=SIZE, background=0):
    """A frame with the target in a box, or without it."""
    frame = texture(background, size)
    if box is not None:
        x, y, w, h = map(int, box)
        target = np.random.default_rng(99).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        frame[y : y + h, x : x + w] = cv2.resize(target, (w, h), interpolation=cv2.INTER_NEAREST)
    return frame


def place(number):
    return 60.0 + 3 * number, 80.0 + number, SIDE, SIDE


@pytest.fixture(scope="module")
def opened():
    manifest, sessions = open_sessions(default_bundle(), threads=1)
    loss = PRESETS[manifest.model].strategies.loss
    yield dataclasses.replace(manifest, strategies=Strategies(loss=loss)), sessions
    for session in sessions.values():
        session.close()


@pytest.fixture
def watched(opened):
    return WatchedTracker(*opened)


def follow(tracker, frames=10):
    """Through frames with the target; the last result."""
    tracker.init(scene(place(0)), place(0))
    for number in range(1, frames):
        result = tracker.update(scene(place(number)))
    return result


def lose(tracker, limit=10, **how):
    """Through frames without the target until it is lost; the last result."""
    for _ in range(limit):
        result = tracker.update(scene(**how))
        if result.status == "lost":
            break
    return result


def test_followed_lost_and_found_elsewhere(watched):
    result = follow(watched)
    assert (result.ok, result.status) == (True, "locked")
    assert iou(np.array(result.box_xywh), np.array(place(9))) > 0.7
    gone = [watched.update(scene()) for _ in range(12)]
    statuses = [result.status for result in gone]
    assert statuses == sorted(statuses, key=["locked", "uncertain", "lost"].index), "never back without the target"
    assert statuses[4] == "lost"
    assert [result.ok for result in gone] == [status != "lost" for status in statuses]
    still = {result.box_xywh for result in gone if result.status == "lost"}
    assert len(still) == 1
    assert iou(np.array(still.pop()), np.array(place(9))) > 0.7
    back = 300.0, 200.0, SIDE, SIDE  # out of reach of the crop at the last place
    found = [watched.update(scene(back)) for _ in range(15)]
    assert found[-1].status == "locked"
    assert iou(np.array(found[-1].box_xywh), np.array(back)) > 0.6
    assert np.mean([result.status == "lost" for result in found]) > 0, "the far crops are not all searched at once"


def test_another_scene_is_noticed(watched):
    follow(watched)
    result = lose(watched, background=5)
    assert result.status == "lost"
    assert result.evidence.similarity < 0.7


def test_evidence_of_what_is_there_and_what_is_not(watched):
    there = follow(watched).evidence
    gone = watched.update(scene()).evidence
    assert isinstance(there, Evidence)
    assert there.score > gone.score
    assert there.psr > 2 * gone.psr
    assert there.similarity > gone.similarity + 0.2
    assert 0 <= there.second_peak <= 1


def test_a_plain_tracker_is_as_it_was(opened):
    manifest, sessions = opened
    results = []
    for strategies in (manifest.strategies, Strategies()):
        tracker = Tracker(dataclasses.replace(manifest, strategies=strategies), sessions)
        tracker.init(scene(place(0)), place(0))
        frames = [scene(place(number)) for number in range(1, 6)] + [scene()] * 6
        results.append([tracker.update(frame) for frame in frames])
    for one, other in zip(*results, strict=True):
        assert one.box_xywh == other.box_xywh
        assert (one.status, one.evidence) == ("locked", None)


def test_while_it_is_sure_a_watched_tracker_gives_the_boxes_of_a_plain_one(opened, watched):
    follow(watched, 8)
    plain = Tracker(*opened)
    follow(plain, 8)
    assert watched.state == plain.state


def test_without_thresholds_nothing_is_watched(tiny_bundle, short_video):
    boxes, first = [], short_video.frames[0]
    for kind in (Tracker, WatchedTracker):
        with kind.load(tiny_bundle, "onnxruntime", threads=1) as tracker:
            tracker.init(first, short_video.boxes_xywh[0])
            results = [tracker.update(frame) for frame in (*short_video.frames[1:], np.zeros_like(first))]
        boxes.append([(result.box_xywh, result.status, result.ok, result.evidence) for result in results])
    assert boxes[0] == boxes[1]


def far_scene(box=None):
    return scene(box, (1280, 320))


def test_a_detector_brings_back_what_is_out_of_reach(opened):
    """Beyond all rings; what the detector offers beside the target is not believed."""
    back = 1150.0, 200.0, SIDE, SIDE
    asked = []

    def detector(frame):
        asked.append(frame)
        return [(400, 20, SIDE, SIDE), np.array(back), (700, 250, 30, 60)]

    statuses = {}
    for offers in (None, detector):
        tracker = WatchedTracker(*opened)
        tracker.detector = offers
        tracker.init(far_scene(place(0)), place(0))
        kernels = tracker._target.kernels
        for _ in range(8):
            tracker.update(far_scene())
        assert tracker.state.status == "lost"
        statuses[offers] = [tracker.update(far_scene(back)).status for _ in range(12)]
        assert tracker._target.kernels is kernels, "the template stays the first one"
    assert "locked" not in statuses[None]
    assert statuses[detector][-1] == "locked"
    assert iou(np.array(tracker.state.box_xywh), np.array(back)) > 0.6
    assert 1 <= len(asked) <= 20 / DETECTOR_PERIOD
    assert all(frame.shape == (320, 1280, 3) for frame in asked)


def test_a_detector_may_be_given_when_it_is_opened(tiny_bundle):
    with WatchedTracker.load(tiny_bundle, threads=1, detector=far_scene) as tracker:
        assert tracker.detector is far_scene


def test_a_detector_is_not_asked_while_the_target_is_there(watched):
    watched.detector = lambda frame: pytest.fail("asked")
    assert follow(watched).status == "locked"


@pytest.mark.parametrize(
    "answer",
    [
        lambda frame: 1 / 0,
        lambda frame: None,
        lambda frame: [(np.nan, 1, 2, 3)],
        lambda frame: [(1, 2, -3, 4)],
        lambda frame: [(1, 2, 3)],
        lambda frame: [(1e9, 1e9, 5, 5)],
        lambda frame: ["box"],
        lambda frame: [(10, 10, 20, 20), (1, 2)],
    ],
    ids=["raises", "none", "nan", "negative", "three", "outside", "text", "second"],
)
def test_a_broken_detector_is_counted_and_survived(watched, answer):
    watched.detector = answer
    follow(watched, 4)
    for _ in range(6):
        result = watched.update(scene())
    assert result.status == "lost"
    assert watched.detector_errors > 0
    for _ in range(8):
        result = watched.update(scene(place(4)))
    assert result.status == "locked"


def test_many_offers_cost_no_more_than_a_few(watched, monkeypatch):
    searches = []
    look = WatchedTracker._look
    monkeypatch.setattr(WatchedTracker, "_look", lambda self, *rest: searches.append(1) or look(self, *rest))
    watched.detector = lambda frame: itertools.repeat((10, 10, 30, 30))
    follow(watched, 3)
    lose(watched)
    searches.clear()
    watched.update(scene())
    assert len(searches) <= 5 + 5


@pytest.mark.parametrize("hostile", ["black", "white", "noise", "changing"])
def test_boxes_stay_finite_and_inside_the_frame(watched, hostile):
    black, rng = np.zeros((320, 480, 3), np.uint8), np.random.default_rng(0)
    frames = {
        "black": [black] * 15, "white": [black + 255] * 15,
        "noise": [rng.integers(0, 256, black.shape, dtype=np.uint8) for _ in range(15)],
        "changing": [scene(place(5)) if number % 2 else texture(number) for number in range(15)],
    }[hostile]  # fmt: skip
    follow(watched, 3)
    for frame in frames:
        result = watched.update(frame)
        x, y, w, h = result.box_xywh
        assert np.isfinite(result.box_xywh).all()
        assert min(w, h) >= 10
        assert w <= 480
        assert h <= 320
        assert 0 <= x + w / 2 <= 480
        assert 0 <= y + h / 2 <= 320
        assert 0 <= result.score <= 1
        assert np.isfinite(result.evidence).all()


def all_nan(maps):
    return {name: np.full_like(value, np.nan) for name, value in maps.items()}


def infinite_corner(maps):
    """Background without any doubt, where no proposal is chosen."""
    cls = maps["cls"].copy()
    cls[0, :5, 0, 0] = np.inf
    return {**maps, "cls": cls}


@pytest.mark.parametrize("damaged", [all_nan, infinite_corner])
def test_outputs_that_are_not_finite_are_invalid_and_survived(opened, damaged):
    manifest, sessions = opened
    tracker = WatchedTracker(manifest, sessions)
    last = follow(tracker, 4)

    class Broken:
        def __init__(self, session):
            self.inputs, self.session, self.broken = session.inputs, session, True

        def run(self, feeds):
            maps = self.session.run(feeds)
            return damaged(maps) if self.broken else maps

    tracker._sessions["search"] = broken = Broken(sessions["search"])
    results = [tracker.update(scene(place(4))) for _ in range(3)]
    assert {(result.status, result.ok, result.box_xywh) for result in results} == {("invalid", False, last.box_xywh)}
    broken.broken = False
    assert tracker.update(scene(place(4))).status == "locked"
    lose(tracker)
    broken.broken = True
    assert tracker.update(scene()).status == "lost"
    assert np.isfinite(tracker.state.box_xywh).all()


def test_init_begins_anew(watched):
    follow(watched)
    assert lose(watched).status == "lost"
    watched.init(scene(place(0)), place(0))
    assert watched.response is None
    assert watched.update(scene(place(1))).status == "locked", "no doubt is left of the target before"


def test_a_frame_of_another_size_leaves_everything_as_it_was(watched):
    with pytest.raises(SiamtrtError, match="tracker has no target"):
        watched.update(scene())
    follow(watched)
    before = watched.state
    with pytest.raises(FrameError, match="frame size changed"):
        watched.update(scene(size=(320, 240)))
    assert watched.state is before


def test_times_hold_every_search(watched):
    follow(watched, 3)
    lose(watched)
    times = watched.update(scene()).times
    assert sum(times[:4]) == pytest.approx(times.total_ms, rel=0.01)
    assert times.extra_ms > 0


def test_response_is_the_map_of_the_last_search(watched):
    assert watched.response is None
    watched.init(scene(place(0)), place(0))
    assert watched.response is None
    watched.update(scene(place(1)))
    response = watched.response
    assert (response.shape, response.dtype) == ((13, 13), np.float32)
    assert 0 <= response.min() < 0.1
    assert 0.9 < response.max() <= 1
    peak = np.array(np.unravel_index(response.argmax(), response.shape))
    assert np.abs(peak - watched.state.position_rc).max() <= 2
    follow(watched)
    lose(watched)
    assert watched.response.max() < 0.9


def judged(odds, size=(20.0, 20.0), center=(50.0, 50.0)):
    state = TargetState(center, size, 0.5)
    return Judged(state, Evidence(0.5, 1, 0.1, 0.5), odds, np.array([0.0, 1.0]))


def test_a_frame_in_doubt_changes_neither_size_nor_the_last_good_place():
    before = TargetState((50.0, 50.0), (20.0, 20.0))
    first = np.array([1.0, 0.0])
    watch = Watch(first, first, before, belief=5.0)
    sure, state = followed(watch, before, judged(4.0, (30.0, 30.0)), POLICY)
    assert (state.status, state.size_wh) == ("locked", (30.0, 30.0))
    assert sure.recent[1] > 0
    assert sure.good is state
    doubt, state = followed(watch, before, judged(-0.5, (30.0, 30.0), (60.0, 50.0)), POLICY)
    assert (state.status, state.size_wh, state.center_xy) == ("uncertain", (20.0, 20.0), (60.0, 50.0))
    assert doubt.recent is first
    assert doubt.good is before
    assert doubt.belief == pytest.approx(2.25)
    likely, state = followed(dataclasses.replace(watch, belief=-0.5), before, judged(1.5, (30.0, 30.0)), POLICY)
    assert (state.status, state.size_wh) == ("uncertain", (20.0, 20.0)), "not at once sure again"
    assert likely.recent[1] > 0, "what is likelier the target than not is learned"
    assert likely.good is before


def test_one_bad_frame_is_doubt_and_several_are_a_loss():
    before = TargetState((50.0, 50.0), (20.0, 20.0))
    watch, statuses = Watch(np.ones(2), np.ones(2), before, belief=6.0), []
    for _ in range(3):
        watch, state = followed(watch, before, judged(-6.0, center=(90.0, 90.0)), POLICY)
        statuses.append(state.status)
    assert statuses == ["uncertain", "lost", "lost"]
    assert state.center_xy == before.center_xy
    assert watch.candidate.center_xy == (90.0, 90.0), "where it seemed to go is looked at first"


def test_what_is_looked_for_is_uncertain_until_no_place_is_likely():
    before = TargetState((50.0, 50.0), (20.0, 20.0))
    policy = dataclasses.replace(POLICY, sought=-1.0, lost=-2.0)
    watch = Watch(np.ones(2), np.ones(2), before, belief=0.0)
    watch, state = followed(watch, before, judged(-3.0, (22.0, 22.0), (90.0, 90.0)), policy)
    assert watch.belief == -1.5
    assert (state.status, state.center_xy, state.size_wh) == ("uncertain", (90.0, 90.0), (22.0, 22.0))
    assert watch.candidate.center_xy == (90.0, 90.0)
    elsewhere = judged(-3.0, center=(10.0, 10.0)).state
    lost = looked_for(dataclasses.replace(watch, belief=-2.5, candidate=elsewhere), policy)
    assert (lost.status, lost.center_xy, lost.size_wh) == ("lost", before.center_xy, before.size_wh)
    nothing = dataclasses.replace(watch, candidate=dataclasses.replace(elsewhere, status="invalid"))
    assert looked_for(nothing, policy).status == "lost", "a place that was not found is not shown"


def test_it_is_looked_for_before_it_is_lost(opened, monkeypatch):
    """Early enough for what it only lost sight of; the box moves with the likeliest place, and goes back when lost."""
    manifest, sessions = opened
    policy = dataclasses.replace(manifest.strategies.loss, sought=0.5, lost=-1.25)
    tracker = WatchedTracker(dataclasses.replace(manifest, strategies=Strategies(loss=policy)), sessions)
    good = follow(tracker).box_xywh
    searches, look = [], WatchedTracker._look
    monkeypatch.setattr(WatchedTracker, "_look", lambda self, *rest: searches.append(1) or look(self, *rest))
    counts, results = [], []
    while not results or results[-1].status != "lost":
        searches.clear()
        results.append(tracker.update(scene(background=5)))
        counts.append(len(searches))
        assert len(results) < 15
    assert (counts[0], counts[-1]) == (1, 5)
    assert 5 in counts[:-1], "uncertain, and looked for"
    assert results[-1].box_xywh == good
    assert [result.ok for result in results] == [True] * (len(results) - 1) + [False]


def test_the_search_has_run_before_the_first_init_returns(opened, monkeypatch):
    """And leaves no trace: no response map, and the first result is that of a tracker already warm."""
    manifest, sessions = opened
    runs = []
    search = sessions["search"].run
    monkeypatch.setattr(sessions["search"], "run", lambda feeds: runs.append(1) or search(feeds))
    cold, warm = WatchedTracker(manifest, sessions), WatchedTracker(manifest, sessions)
    for tracker, expected in ((cold, 1), (warm, 2), (warm, 2)):
        tracker.init(scene(place(0)), place(0))
        assert (len(runs), tracker.response) == (expected, None)
    first, again = (tracker.update(scene(place(1))) for tracker in (cold, warm))
    assert (first.box_xywh, first.score, first.evidence) == (again.box_xywh, again.score, again.evidence)
