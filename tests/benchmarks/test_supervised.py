"""Supervised, real-time and long-term runs of trackers whose answers are known beforehand."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from siamtrt.benchmarks.protocols import Protocol, implied_protocol
from siamtrt.benchmarks.regions import corners_of
from siamtrt.benchmarks.supervised import Patient, RealTime, long_term_run, region_of, supervised_run
from siamtrt.errors import SiamtrtError
from siamtrt.runtime.evidence import Evidence
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.tracker import StageTimes, TrackResult

BOX = (10.0, 10.0, 9.0, 9.0)
ASIDE = (15.0, 10.0, 9.0, 9.0)
AWAY = (60.0, 50.0, 9.0, 9.0)


def frames(count):
    """Frames whose first value is their number."""
    pictures = np.zeros((count, 80, 100, 3), np.uint8)
    pictures[:, 0, 0, 0] = np.arange(count)
    return pictures


class Scripted:
    """Answers by the frame's number; notes what it is asked."""

    def __init__(self, answers, ms=7.0):
        self.answers, self.ms, self.asked = answers, ms, []

    def init(self, frame, box_xywh):
        self.asked.append(("init", int(frame[0, 0, 0]), tuple(box_xywh)))

    def update(self, frame):
        number = int(frame[0, 0, 0])
        self.asked.append(("update", number))
        return self.answers[number], self.ms


def run(follower, count, truth=BOX):
    boxes = np.array([truth] * count)
    return supervised_run(follower, frames(count), boxes, corners_of([truth] * count))


# --- supervised


def test_a_loss_in_frame_3():
    """Lost in frame 3, given again in frame 8, five later; in between nothing is asked."""
    follower = Scripted({1: BOX, 2: ASIDE, 3: AWAY, 9: BOX})
    found = run(follower, 10)
    zero = (0,)
    assert found.trajectory.regions == ((1,), BOX, ASIDE, (2,), zero, zero, zero, zero, (1,), BOX)
    assert found.update_ms.tolist() == [0, 7, 7, 7, 0, 0, 0, 0, 0, 7]
    assert follower.asked == [
        ("init", 0, BOX), ("update", 1), ("update", 2), ("update", 3), ("init", 8, BOX), ("update", 9),
    ]  # fmt: skip
    assert found.confidences is None


def test_it_is_given_the_box_of_the_frame_it_starts_in():
    boxes = np.array([(10.0 + index, 10, 9, 9) for index in range(8)])
    follower = Scripted({1: AWAY, 7: BOX})
    supervised_run(follower, frames(8), boxes, corners_of([tuple(box) for box in boxes]))
    assert [entry for entry in follower.asked if entry[0] == "init"] == [("init", 0, BOX), ("init", 6, (16, 10, 9, 9))]


@pytest.mark.parametrize(
    ("count", "codes"), [(2, [1, 2]), (6, [1, 2, 0, 0, 0, 0]), (7, [1, 2, 0, 0, 0, 0, 1])], ids=["2", "6", "7"]
)
def test_lost_near_the_end(count, codes):
    assert run(Scripted({1: AWAY}), count).trajectory.codes.tolist() == codes


def test_lost_again_at_once():
    codes = run(Scripted({1: AWAY, 7: AWAY}), 9).trajectory.codes.tolist()
    assert codes == [1, 2, 0, 0, 0, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ASIDE, -1),
        ((19.0, 10.0, 9.0, 9.0), 2),  # a shared column alone is no overlap
        ((18.0, 18.0, 9.0, 9.0), -1),
        ((10.0, 10.0, 0.0, 9.0), 2),  # no pixel
        ((20.0, 10.0, 10.0, 20.0, 15.0, 25.0), -1),  # a polygon
        ((20.0, 20.0, 30.0, 20.0, 25.0, 25.0), 2),
    ],
)
def test_any_overlap_is_enough(answer, code):
    assert run(Scripted({1: answer}), 2).trajectory.codes.tolist() == [1, code]


def test_what_overlaps_outside_the_frame_alone_is_lost():
    """The frame ends at column 99: there the truth covers 95 to 99, the region nothing, behind it both."""
    truth = (95.0, 10.0, 30.0, 9.0)
    assert run(Scripted({1: (101.0, 10.0, 20.0, 9.0)}), 2, truth).trajectory.codes.tolist() == [1, 2]
    assert run(Scripted({1: (98.0, 10.0, 20.0, 9.0)}), 2, truth).trajectory.codes.tolist() == [1, -1]


# --- real time


def real_time(follower, count, fps=20.0, latency_ms=None):
    return run(RealTime(follower, fps, latency_ms), count)


@pytest.mark.parametrize(
    ("fps", "latency_ms", "updated"),
    [
        (20, 10, [1, 2, 3, 4, 5, 6, 7]),
        (20, 50, [1, 2, 3, 4, 5, 6, 7]),  # there again as the next frame comes
        (20, 50.1, [1, 3, 5, 7]),
        (20, 100, [1, 3, 5, 7]),
        (20, 101, [1, 4, 7]),
        (30, 2e3 / 30, [1, 3, 5, 7]),  # two frames, though rounding says a little more
        (25, 120, [1, 4, 7]),
        (20, 1e6, [1]),
    ],
)
def test_frames_that_come_while_it_is_busy_are_skipped(fps, latency_ms, updated):
    answers = {number: (10.0 + number / 4, 10.0, 9.0, 9.0) for number in range(1, 8)}
    follower = Scripted(answers)
    found = real_time(follower, 8, fps, latency_ms)
    assert follower.asked[1:] == [("update", number) for number in updated]
    last = [max(number for number in updated if number <= frame) for frame in range(1, 8)]
    assert found.trajectory.regions == ((1,), *(answers[number] for number in last))
    assert found.update_ms.tolist() == [0, *(latency_ms if frame in updated else 0 for frame in range(1, 8))]


def test_by_the_measured_latency():
    follower = Scripted(dict.fromkeys(range(1, 6), BOX), ms=70.0)
    found = real_time(follower, 6)
    assert found.update_ms.tolist() == [0, 70, 0, 70, 0, 70]


def test_a_kept_region_loses_the_target():
    """The target goes away in frame 2, while the tracker is still busy with frame 1; it starts afresh in frame 7."""
    truth = [BOX, BOX, *[AWAY] * 7]
    follower = Scripted({1: BOX, 8: AWAY})
    slow = RealTime(follower, 20, 400)
    found = supervised_run(slow, frames(9), np.array(truth), corners_of(truth))
    assert found.trajectory.codes.tolist() == [1, -1, 2, 0, 0, 0, 0, 1, -1]
    assert [entry[:2] for entry in follower.asked] == [("init", 0), ("update", 1), ("init", 7), ("update", 8)]


@pytest.mark.parametrize("latency", [0.0, -1.0, math.nan, math.inf])
def test_latencies_that_cannot_be(latency):
    with pytest.raises(SiamtrtError, match="bad real-time setting"):
        Protocol("realtime", 20, latency)
    with pytest.raises(SiamtrtError, match="bad real-time setting"):
        Protocol("realtime", latency)


# --- long-term


def result(box, score, polygon=None):
    return TrackResult(True, box, score, "locked", StageTimes(0, 0, 0, 0, 4.0), polygon)


class Sure:
    """A tracker with scores."""

    def __init__(self, results):
        self._results = iter(results)

    def init(self, frame, box_xywh):
        self.given = box_xywh

    def update(self, frame):
        return next(self._results)


def test_a_long_term_run_has_confidences():
    corners = ((1.0, 2.0), (5.0, 2.0), (5.0, 8.0))
    tracker = Sure([result(BOX, 0.75), result(AWAY, 0.25, corners)])
    found = long_term_run(tracker, frames(3), BOX)
    assert tracker.given == BOX
    assert found.trajectory.regions == ((1,), BOX, (1, 2, 5, 2, 5, 8))
    np.testing.assert_array_equal(found.confidences, [np.nan, 0.75, 0.25])
    assert found.update_ms.tolist() == [0, 4, 4]


def test_a_lost_target_has_no_confidence_where_it_is_watched():
    """The score of a long-term tracker without evidence is kept, as pysot keeps it."""
    lost = dataclasses.replace(result(BOX, 0.75), ok=False, status="lost")
    watched = dataclasses.replace(lost, evidence=Evidence(0.75, 9.0, 0.1, 0.8))
    doubted = dataclasses.replace(watched, ok=True, status="uncertain")
    found = long_term_run(Sure([lost, watched, doubted]), frames(4), BOX)
    np.testing.assert_array_equal(found.confidences, [np.nan, 0.75, 0, 0.75])
    assert found.trajectory.regions == ((1,), BOX, BOX, BOX)


def test_a_tracker_of_boxes_or_polygons():
    assert region_of(result(BOX, 1.0)) == BOX
    patient = Patient(SimpleNamespace(update=lambda frame: result(BOX, 1.0, ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))))
    assert patient.update(frames(1)[0]) == ((0, 0, 1, 0, 1, 1), 4.0)


# --- what a dataset implies


def sequence(layout, absent=False):
    truth = np.array([BOX, [np.nan] * 4 if absent else BOX])
    return Sequence("a", None, truth, layout=layout)


@pytest.mark.parametrize(
    ("sequences", "protocol"),
    [
        ([sequence("OTB")], "one-pass"),
        ([sequence("VOT"), sequence("VOT")], "supervised"),
        ([sequence("VOT"), sequence("VOT", absent=True)], "long-term"),
        ([sequence("VOT"), sequence("OTB", absent=True)], "one-pass"),
    ],
    ids=["otb", "vot", "vot-lt", "mixed"],
)
def test_the_protocol_of_a_dataset(sequences, protocol):
    assert implied_protocol(sequences) == protocol
