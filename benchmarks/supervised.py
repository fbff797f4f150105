"""Runs of VOT: supervised, with the target given again after each loss; in real time; and long-term.

Sources: Kristan et al., "A novel performance evaluation methodology for single-target trackers", TPAMI 2016, section 4
(a tracker whose region no longer overlaps the truth is given the target again, five frames later), and Kristan et al.,
"The Visual Object Tracking VOT2017 challenge results", ICCVW 2017 (real time: frames come at a fixed rate, and the
last region counts while the tracker is busy).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from siamtrt.benchmarks.overlap import overlaps, surely_meet
from siamtrt.benchmarks.regions import FAILED, INITIALISED, SKIPPED, Region, Trajectory, corners_of
from siamtrt.runtime.crop import check_frame
from siamtrt.runtime.track import tracked_frames
from siamtrt.runtime.tracker import Tracker, TrackResult

GAP = 5  # frames from a failure to the next initialisation
SLACK = 1e-9  # of a frame: a tracker that takes whole frames, but for rounding, is there for the next


class Follower(Protocol):
    """What a supervised run asks of a tracker."""

    def init(self, frame: np.ndarray, box_xywh: Sequence[float]) -> None:
        """Take the target."""

    def update(self, frame: np.ndarray) -> tuple[Region, float]:
        """The region in the next frame, and what it took, in milliseconds; 0 where nothing was computed."""


class Patient:
    """Frames wait for the tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def init(self, frame: np.ndarray, box_xywh: Sequence[float]) -> None:
        """See `Follower`."""
        self._tracker.init(frame, box_xywh)

    def update(self, frame: np.ndarray) -> tuple[Region, float]:
        """See `Follower`."""
        result = self._tracker.update(frame)
        return region_of(result), result.times.total_ms


class RealTime:
    """Frames come at a fixed rate; those that come while an update goes on are skipped and keep the last region.

    The frame that an update was made on has the update's region, however late, as in the Python `vot-toolkit`; that
    lets a tracker be late by a whole frame before it skips one, and forgives a few late answers, which is meant for
    a tracker's start. Here neither is, and an initialisation, which VOT waits for, takes no time.

    Args:
        fps: frames a second.
        latency_ms: what every update takes; None for what it takes here.
    """

    def __init__(self, follower: Follower, fps: float, latency_ms: float | None) -> None:
        self._follower, self._fps, self._latency_ms = follower, fps, latency_ms
        self._region: Region = ()
        self._to_skip = 0

    def init(self, frame: np.ndarray, box_xywh: Sequence[float]) -> None:
        """See `Follower`."""
        self._follower.init(frame, box_xywh)
        self._to_skip = 0

    def update(self, frame: np.ndarray) -> tuple[Region, float]:
        """See `Follower`."""
        if self._to_skip:
            self._to_skip -= 1
            return self._region, 0.0
        self._region, measured_ms = self._follower.update(frame)
        spent_ms = measured_ms if self._latency_ms is None else self._latency_ms
        self._to_skip = max(0, math.ceil(spent_ms * self._fps / 1e3 - SLACK) - 1)
        return self._region, spent_ms


@dataclass(frozen=True)
class VotRun:
    """One run over F frames.

    Attributes:
        update_ms: (F,) 0 where nothing was computed, and for initialisations.
        confidences: (F,) NaN for the first frame; long-term only.
    """

    trajectory: Trajectory
    update_ms: np.ndarray
    confidences: np.ndarray | None = None


def supervised_run(
    follower: Follower, frames: Iterable[np.ndarray], boxes_xywh: np.ndarray, truth: np.ndarray
) -> VotRun:
    """Follow a target, which is given in the first frame and `GAP` frames after each loss.

    Args:
        boxes_xywh: (F, 4) the target as it is given.
        truth: (F, V, 2) corners in pixels, none of them NaN; overlap is counted inside the frame.

    Raises:
        SourceError, FrameError, BoxError: see `FrameSource` and `Tracker`.
    """
    regions: list[Region] = []
    times: list[float] = []
    start = 0
    for index, frame in enumerate(frames):
        region: Region = (SKIPPED,)
        spent_ms = 0.0
        if index == start:
            follower.init(frame, boxes_xywh[index].tolist())
            region = (INITIALISED,)
        elif index > start:
            region, spent_ms = follower.update(frame)
            if not _meets(region, truth[index : index + 1], check_frame(frame)):
                region, start = (FAILED,), index + GAP
        regions.append(region)
        times.append(spent_ms)
    return VotRun(Trajectory(tuple(regions)), np.array(times))


def _meets(region: Region, truth: np.ndarray, frame_size: tuple[int, int]) -> bool:
    corners = corners_of([region])
    return surely_meet(corners[0], truth[0], frame_size) or overlaps(corners, truth, frame_size)[0] > 0


def long_term_run(tracker: Tracker, frames: Iterable[np.ndarray], box_xywh: Sequence[float]) -> VotRun:
    """Follow a target that is given once, and say how sure each region is.

    A tracker's confidence is its score; while a watched target is lost, that is the score of a place elsewhere, and the
    confidence in the region, which stays, is 0.

    Raises:
        SourceError, FrameError, BoxError: see `FrameSource` and `Tracker`.
    """
    regions: list[Region] = []
    times, confidences = [], []
    for frame in tracked_frames(tracker, frames, lambda _: box_xywh):
        result = frame.result
        regions.append(region_of(result) if result else (INITIALISED,))
        times.append(result.times.total_ms if result else 0.0)
        confidences.append(_confidence(result) if result else math.nan)
    return VotRun(Trajectory(tuple(regions)), np.array(times), np.array(confidences))


def _confidence(result: TrackResult) -> float:
    """Long-term trackers, which have no evidence, keep their score while lost, as pysot's does."""
    return 0.0 if result.evidence and result.status == "lost" else result.score


def region_of(result: TrackResult) -> Region:
    """The polygon of a result that has one, else its box."""
    if result.polygon is not None:
        return tuple(value for corner in result.polygon for value in corner)
    return result.box_xywh
