"""Scores of trackers that saw every frame once, as the toolkits of their datasets compute them.

Frames in which the target is absent do not count, but for two datasets. LaSOT's toolkit removes them and still
divides by all frames, so that they are lost to every score. UAV123's, which is OTB's, gives them an overlap and a
distance of -1: lost to success, and won for precision. (What a tracker says in them matters to neither.) Both, and
OTB's itself, do the same with a truth that is not wholly positive: x or y of 0 where pixels count from 1, or 0,0,0,0;
ten of OTB-2015's 59,040 frames. The first frame's box is the given one, whatever a file says (calcSeqErrRobust.m).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamtrt.benchmarks.attributes import attributes_of
from siamtrt.benchmarks.metrics import got_overlaps, normalised_precision, precision, success_auc, success_rate
from siamtrt.runtime.sequence import Sequence

COLUMNS = ("success AUC", "precision at 20 px", "normalised precision")
GOT_COLUMNS = ("AO", "SR0.5", "SR0.75")
GOT_LAYOUT = "GOT-10k"
MEASURES = (success_auc, precision, normalised_precision)  # of COLUMNS
Row = tuple[float, ...]

# Layout -> what a frame without the target scores, by column.
ABSENT_SCORES: dict[str, tuple[float, float, float]] = {
    "LaSOT": (0.0, 0.0, 0.0),
    **dict.fromkeys(("UAV123", "UAV20L", "UAV123_10fps"), (0.0, 1.0, 1.0)),
}

POSITIVE_LAYOUTS = ("OTB", *ABSENT_SCORES)  # whose toolkits take a truth that is not wholly positive for an absent one
NOT_POSITIVE_SCORES = (0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Truth:
    """A sequence's (F, 4) boxes in pixels, NaN where the target is absent.

    Attributes:
        layout: see `Sequence.layout`.
        frame_size: width and height in pixels; GOT-10k only.
        attributes: what makes the sequence hard; see `siamtrt.benchmarks.attributes`.
    """

    boxes_xywh: np.ndarray
    layout: str = ""
    frame_size: tuple[int, int] | None = None
    attributes: tuple[str, ...] = ()


def truths_of(sequences: Iterable[Sequence]) -> dict[str, Truth]:
    """By name, with attributes where the dataset has them; of GOT-10k's sequences the first image is read for its size.

    Raises:
        SourceError: one of these cannot be read.
    """
    return {sequence.name: _truth(sequence) for sequence in sequences}


def _truth(sequence: Sequence) -> Truth:
    size = sequence.frame_size if sequence.layout == GOT_LAYOUT else None
    return Truth(sequence.truth_xywh, sequence.layout, size, attributes_of(sequence))


def columns_of(truths: Mapping[str, Truth]) -> tuple[str, ...]:
    """Names of the scores: GOT-10k's own where all sequences are of it."""
    return COLUMNS + (GOT_COLUMNS if _all_got(truths) else ())


def _all_got(truths: Mapping[str, Truth]) -> bool:
    return all(truth.frame_size for truth in truths.values())


def one_pass_scores(tracked: Mapping[str, np.ndarray], truths: Mapping[str, Truth]) -> tuple[Row, dict[str, Row]]:
    """A tracker's scores, and the same by sequence; see `columns_of`.

    The first three are means over sequences, AO and SR over the frames of all of them.

    Args:
        tracked: (F, 4) boxes in pixels by sequence; (R, F, 4) of several runs, whose frames count alike.
    """
    runs = {name: with_given_box(tracked[name], truth) for name, truth in truths.items()}
    rows: dict[str, Row] = {name: tuple(map(float, weighed(runs[name], truth))) for name, truth in truths.items()}
    means: Row = tuple(np.nanmean(list(rows.values()), axis=0).tolist())
    if not _all_got(truths):
        return means, rows
    overlaps = {
        name: np.concatenate([got_overlaps(run, truth.boxes_xywh, truth.frame_size or (0, 0)) for run in runs[name]])
        for name, truth in truths.items()
    }
    pooled = np.concatenate(list(overlaps.values()))
    return means + _got_scores(pooled), {name: row + _got_scores(overlaps[name]) for name, row in rows.items()}


def with_given_box(tracked_xywh: np.ndarray, truth: Truth) -> np.ndarray:
    """(F, 4) boxes, or (R, F, 4) of several runs, as (R, F, 4) that begin with the given box."""
    runs = np.array(tracked_xywh, np.float64).reshape(-1, *truth.boxes_xywh.shape)
    if np.isfinite(truth.boxes_xywh[0]).all():
        runs[:, 0] = truth.boxes_xywh[0]
    return runs


def weighed(
    runs: np.ndarray, truth: Truth, measures: Several[Callable[[np.ndarray, np.ndarray], Any]] = MEASURES
) -> list[Any]:
    """Each measure's mean over (R, F, 4) runs, frames without a usable truth counted as the dataset's toolkit does.

    Args:
        measures: of boxes and truth, both (N, 4), numbers or curves; for each of the first `COLUMNS`.
    """
    known = np.isfinite(truth.boxes_xywh).all(axis=1)
    ignored = known & (truth.boxes_xywh <= 0).any(axis=1) & (truth.layout in POSITIVE_LAYOUTS)
    scored = known & ~ignored
    lost = ABSENT_SCORES.get(truth.layout)
    counts = [float(scored.sum()), float(ignored.sum()), float((~known).sum()) if lost else 0.0]
    found = []
    for column, measure in enumerate(measures):
        mean = np.mean([measure(run[scored], truth.boxes_xywh[scored]) for run in runs], axis=0)
        parts = zip(counts, (mean, NOT_POSITIVE_SCORES[column], lost[column] if lost else 0.0), strict=True)
        found.append(sum(count / sum(counts) * score for count, score in parts if count) if any(counts) else mean)
    return found


def _got_scores(overlaps: np.ndarray) -> Row:
    mean = float(overlaps.mean()) if overlaps.size else float("nan")
    return mean, success_rate(overlaps, 0.5), success_rate(overlaps, 0.75)
