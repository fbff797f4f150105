"""One sequence for one tracker: what is done under each protocol, and whether its files are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrt.backends import Backend
from siamtrt.benchmarks.protocols import LONG_TERM, ONE_PASS, REAL_TIME, Protocol
from siamtrt.benchmarks.run_files import is_done, save_track, times_path
from siamtrt.benchmarks.supervised import Follower, Patient, RealTime, VotRun, long_term_run, supervised_run
from siamtrt.benchmarks.vot_files import truth_of
from siamtrt.benchmarks.vot_runs import save_vot_run, vot_run_is_done, vot_times_path
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.sources import FrameSource
from siamtrt.runtime.track import tracked_frames
from siamtrt.runtime.tracker import Tracker


@dataclass(frozen=True)
class Task:
    """One sequence for one tracker, and where its files go. It can be pickled, and done on any machine with the paths.

    Attributes:
        tracker: its name in the results.
        watch: see `WatchedTracker`.
    """

    bundle: Path
    backend: Backend
    sequence: Sequence
    results: Path
    tracker: str
    protocol: Protocol
    watch: bool = False


@dataclass(frozen=True)
class Track:
    """One pass over a sequence: (F, 4) boxes in pixels, the given one first, and (F - 1,) times of updates."""

    boxes_xywh: np.ndarray
    update_ms: np.ndarray


def run_sequence(task: Task, tracker: Tracker, source: FrameSource) -> None:
    """Track the frames of a task's sequence and write its files; see `track_sequence` and `save_outcome`."""
    save_outcome(task, track_sequence(task, tracker, source))


def track_sequence(task: Task, tracker: Tracker, source: FrameSource) -> Track | VotRun:
    """Track the frames of a task's sequence.

    Raises:
        SiamtrtError: see `Tracker` and `FrameSource`.
    """
    sequence, protocol = task.sequence, task.protocol
    if protocol.name == ONE_PASS:
        return _one_pass(task, tracker, source)
    if protocol.name == LONG_TERM:
        return long_term_run(tracker, source, sequence.truth_xywh[0].tolist())
    return supervised_run(_follower(tracker, task), source, sequence.truth_xywh, truth_of(sequence))


def save_outcome(task: Task, outcome: Track | VotRun) -> None:
    """Write the files of a task's sequence.

    Raises:
        SiamtrtError: a file that cannot be written.
    """
    if isinstance(outcome, Track):
        save_track(task.results, task.tracker, task.sequence, outcome.boxes_xywh, outcome.update_ms)
    else:
        save_vot_run(task.results, task.tracker, task.sequence.name, outcome, task.protocol.name)


def _one_pass(task: Task, tracker: Tracker, source: FrameSource) -> Track:
    boxes, times = [], []
    for frame in tracked_frames(tracker, source, lambda _: task.sequence.truth_xywh[0].tolist()):
        boxes.append(frame.box_xywh)
        if frame.result:
            times.append(frame.result.times.total_ms)
    return Track(np.array(boxes), np.array(times))


def _follower(tracker: Tracker, task: Task) -> Follower:
    protocol = task.protocol
    if protocol.name != REAL_TIME:
        return Patient(tracker)
    if protocol.latency_ms is None:  # the first update of a process takes longer, and is not the tracker's
        frame = next(iter(task.sequence.open()))
        tracker.init(frame, task.sequence.truth_xywh[0].tolist())
        tracker.update(frame)
    return RealTime(Patient(tracker), protocol.fps, protocol.latency_ms)


def sequence_is_done(results: Path, tracker: str, sequence: Sequence, frames: int, protocol: Protocol) -> bool:
    """Whether a sequence's files are there and whole.

    Raises:
        ResultsError: they are of another sequence.
    """
    if protocol.name == ONE_PASS:
        return is_done(results, tracker, sequence, frames)
    return vot_run_is_done(results, tracker, sequence.name, frames, protocol.name)


def times_of(results: Path, tracker: str, sequence: Sequence, protocol: Protocol) -> Path:
    """The file of a sequence's times."""
    if protocol.name == ONE_PASS:
        return times_path(results / tracker, sequence)
    return vot_times_path(results / tracker, sequence.name, protocol.name)
