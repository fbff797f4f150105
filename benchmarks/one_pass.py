"""Scores of trackers that saw every frame once, as the toolkits of their datasets compute them.

Frames in which the target is absent do not count, but for two datasets. LaSOT's toolkit removes them and still
divides by all frames, so that they are lost to every score. UAV123's, which is OTB's, gives them an overlap and a
distance of -1: lost to success, and won for precision. (What a tracker says in them matters to neither.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from siamtrt.benchmarks.metrics import got_overlaps, normalised_precision, precision, success_auc, success_rate
from siamtrt.errors import SourceError
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.sources import list_images

COLUMNS = ("success AUC", "precision at 20 px", "normalised precision")
GOT_COLUMNS = ("AO", "SR0.5", "SR0.75")
GOT_LAYOUT = "GOT-10k"
Row = tuple[float, ...]

# Layout -> what a frame without the target scores, by column.
ABSENT_SCORES: dict[str, tuple[float, float, float]] = {
    "LaSOT": (0.0, 0.0, 0.0),
    **dict.fromkeys(("UAV123", "UAV20L", "UAV123_10fps"), (0.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class Truth:
    """A sequence's (F, 4) boxes in pixels, NaN where the target is absent.

    Attributes:
        layout: see `Sequence.layout`.
        frame_size: width and height in pixels; GOT-10k only.
    """

    boxes_xywh: np.ndarray
    layout: str = ""
    frame_size: tuple[int, int] | None = None


def truths_of(sequences: Iterable[Sequence]) -> dict[str, Truth]:
    """By name; of GOT-10k's sequences the first image is read for its size.

    Raises:
        SourceError: it cannot be read.
    """
    return {
        sequence.name: Truth(
            sequence.truth_xywh, sequence.layout, _frame_size(sequence) if sequence.layout == GOT_LAYOUT else None
        )
        for sequence in sequences
    }


def _frame_size(sequence: Sequence) -> tuple[int, int]:
    path = list_images(sequence.frames)[0]
    image = cv2.imread(str(path))
    if image is None:
        raise SourceError(
            "unreadable image", received=str(path), expected="a picture OpenCV can decode", fix="remove or replace it"
        )
    return image.shape[1], image.shape[0]


def columns_of(truths: Mapping[str, Truth]) -> tuple[str, ...]:
    """Names of the scores: GOT-10k's own where all sequences are of it."""
    return COLUMNS + (GOT_COLUMNS if _all_got(truths) else ())


def _all_got(truths: Mapping[str, Truth]) -> bool:
    return all(truth.frame_size for truth in truths.values())


def one_pass_scores(tracked: Mapping[str, np.ndarray], truths: Mapping[str, Truth]) -> tuple[Row, dict[str, Row]]:
    """A tracker's scores, and the same by sequence; see `columns_of`.

    The first three are means over sequences, AO and SR over the frames of all of them.

    Args:
        tracked: (F, 4) boxes in pixels by sequence.
    """
    rows = {name: _scores(tracked[name], truth) for name, truth in truths.items()}
    means: Row = tuple(np.nanmean(list(rows.values()), axis=0).tolist())
    if not _all_got(truths):
        return means, rows
    overlaps = {
        name: got_overlaps(tracked[name], truth.boxes_xywh, truth.frame_size or (0, 0))
        for name, truth in truths.items()
    }
    pooled = np.concatenate(list(overlaps.values()))
    return means + _got_scores(pooled), {name: row + _got_scores(overlaps[name]) for name, row in rows.items()}


def _scores(boxes: np.ndarray, truth: Truth) -> Row:
    scores = [measure(boxes, truth.boxes_xywh) for measure in (success_auc, precision, normalised_precision)]
    absent_scores = ABSENT_SCORES.get(truth.layout)
    if absent_scores is None:
        return tuple(scores)
    seen = float(np.isfinite(truth.boxes_xywh).all(axis=1).mean())
    return tuple(seen * score + (1 - seen) * lost for score, lost in zip(scores, absent_scores, strict=True))


def _got_scores(overlaps: np.ndarray) -> Row:
    mean = float(overlaps.mean()) if overlaps.size else float("nan")
    return mean, success_rate(overlaps, 0.5), success_rate(overlaps, 0.75)
