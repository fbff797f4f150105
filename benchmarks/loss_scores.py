"""How well a tracker knows that its target is gone: scores of statuses and boxes against a truth with gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from siamtrt.benchmarks.metrics import success_auc
from siamtrt.boxes import iou

WITHIN_LOST = 10  # frames of an absence in which LOST has to come
WITHIN_LOCKED = 30  # frames after a return in which LOCKED has to come
ON_TARGET = 0.3  # IoU


@dataclass(frozen=True)
class WatchedRun:
    """One run: (F,) statuses, (F, 4) boxes and truth in xywh pixels, NaN where the target is absent.

    `plain_xywh` are the boxes of the plain tracker, where it ran beside.
    """

    name: str
    statuses: tuple[str, ...]
    boxes_xywh: np.ndarray
    truth_xywh: np.ndarray
    plain_xywh: np.ndarray | None = None

    @property
    def visible(self) -> np.ndarray:
        """(F,) whether the target is there."""
        return np.isfinite(self.truth_xywh).all(axis=1)

    @property
    def lost(self) -> np.ndarray:
        """(F,) whether the status is LOST."""
        return np.array(self.statuses) == "lost"


@dataclass(frozen=True)
class Absence:
    """One disappearance: from frame `start` on, until frame `stop` shows the target again.

    Attributes:
        lost_after: frames until LOST, from 0; None if not while it was absent.
        locked_after: frames from the return to LOCKED on the target, from 0; None if not before it disappears again.
        followed: whether the box was on the target in the last frame before.
        lost_share: of the frames without the target, those with LOST.
    """

    name: str
    start: int
    stop: int
    lost_after: int | None
    locked_after: int | None
    followed: bool
    lost_share: float

    @property
    def noticed(self) -> bool:
        """LOST came in time."""
        return self.lost_after is not None and self.lost_after < WITHIN_LOST

    @property
    def regained(self) -> bool:
        """LOCKED came back in time."""
        return self.locked_after is not None and self.locked_after < WITHIN_LOCKED


@dataclass(frozen=True)
class FalseLosses:
    """LOST while the target is visible.

    Attributes:
        visible: frames with the target.
        lost: of them with LOST.
        needless: of these, those in which the plain tracker has the target.
    """

    visible: int
    lost: int
    needless: int


def absences_of(run: WatchedRun) -> list[Absence]:
    """Every disappearance that the target returns from."""
    visible, on_target = run.visible, overlaps_of(run.boxes_xywh, run) > ON_TARGET
    locked = on_target & (np.array(run.statuses) == "locked")
    edges = (np.flatnonzero(np.diff(visible)) + 1).tolist()
    starts = [edge for edge in edges if not visible[edge]]
    stops = [*edges, len(visible), len(visible)]
    found = []
    for start in starts:
        stop, end = (stops[edges.index(start) + later] for later in (1, 2))
        if stop == len(visible):
            continue
        gone = run.lost[start:stop]
        found.append(Absence(
            run.name, start, stop, _first(gone), _first(locked[stop:end]), bool(on_target[start - 1]),
            float(gone.mean()),
        ))  # fmt: skip
    return found


def _first(flags: np.ndarray) -> int | None:
    return int(flags.argmax()) if flags.any() else None


def overlaps_of(boxes_xywh: np.ndarray, run: WatchedRun) -> np.ndarray:
    """(F,) IoU of boxes and the run's truth; 0 without the target."""
    return np.nan_to_num(iou(boxes_xywh, run.truth_xywh))


def false_losses(runs: Iterable[WatchedRun]) -> FalseLosses:
    """Counted over the frames of all runs, but the first of each, which was given."""
    visible = lost = needless = 0
    for run in runs:
        seen, gone = run.visible[1:], run.lost[1:]
        kept = overlaps_of(run.boxes_xywh if run.plain_xywh is None else run.plain_xywh, run)[1:] > ON_TARGET
        visible += int(seen.sum())
        lost += int((seen & gone).sum())
        needless += int((seen & gone & kept).sum())
    return FalseLosses(visible, lost, needless)


@dataclass(frozen=True)
class Measured:
    """Every run of a watched tracker, and what a plain one did beside it.

    Attributes:
        model: the tracker's preset.
        sequences: runs over whole sequences.
        cuts: runs over the cuts, by how the target comes back.
        cut_starts: the first frame after each cut.
        times_ms: (U, 2) milliseconds of each update of both in the sequences, watched first.
    """

    model: str
    sequences: tuple[WatchedRun, ...]
    cuts: Mapping[str, tuple[WatchedRun, ...]]
    cut_starts: tuple[int, ...]
    times_ms: np.ndarray

    @property
    def aucs(self) -> tuple[float, float]:
        """Mean success AUC over the sequences, watched and not."""
        plain = [run.boxes_xywh if run.plain_xywh is None else run.plain_xywh for run in self.sequences]
        pairs = [
            (success_auc(run.boxes_xywh, run.truth_xywh), success_auc(other, run.truth_xywh))
            for run, other in zip(self.sequences, plain, strict=True)
        ]
        ours, others = np.mean(pairs, axis=0).tolist()
        return ours, others

    @property
    def cut_absences(self) -> dict[str, list[Absence]]:
        """The disappearances that the cuts made, by how the target comes back."""
        return {
            back: [
                absence
                for run, start in zip(runs, self.cut_starts, strict=True)
                for absence in absences_of(run)
                if absence.start == start
            ]
            for back, runs in self.cuts.items()
        }

    def times_ratio(self, lost: bool) -> float:
        """Median time of a watched update by that of a plain one in the same frames, of a lost target's or others."""
        before = np.concatenate([run.lost[:-1] for run in self.sequences]) == lost
        return float(np.divide(*np.median(self.times_ms[before], axis=0))) if before.any() else float("nan")
