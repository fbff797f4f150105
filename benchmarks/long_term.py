"""Long-term precision, recall and F-score: regions count from a confidence on, and the best such threshold is taken.

Source: Lukezic et al., "Now you see me: evaluating performance in long-term visual tracking", 2018, section 3. With a
threshold, precision is the mean overlap of the frames whose confidence reaches it, 0 in those without the target, and
recall the sum of the same by the frames with the target; both are means over sequences. What the paper leaves open, the
thresholds and the frames without a region, is decided as in the Python `vot-toolkit` (`longterm.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from siamtrt.benchmarks.overlap import overlaps
from siamtrt.benchmarks.regions import Trajectory, corners_of

RESOLUTION = 100  # thresholds, the two infinite ones among them


@dataclass(frozen=True)
class LongTermRun:
    """One run over one sequence of F frames.

    Attributes:
        overlaps: (F,) in [0, 1]; 0 without a region or without the target.
        confidences: (F,) any scale, higher is surer; a frame with NaN never counts.
        present: frames with the target.
    """

    overlaps: np.ndarray
    confidences: np.ndarray
    present: int


@dataclass(frozen=True)
class LongTermScores:
    """A tracker's scores over all sequences, each in [0, 1], higher is better, at the threshold of the best F-score.

    Attributes:
        threshold: confidence from which regions count; infinite where none or all do.
        curve: (T, 2) precision and recall at each threshold, from the highest on.
    """

    f_score: float
    precision: float
    recall: float
    threshold: float
    curve: np.ndarray


def long_term_run_of(
    trajectory: Trajectory, confidences: np.ndarray, truth: np.ndarray, frame_size: tuple[int, int]
) -> LongTermRun:
    """Compare a trajectory with (F, V, 2) corners of the ground truth, NaN where the target is absent."""
    shared = np.nan_to_num(overlaps(corners_of(trajectory.regions), truth, frame_size))
    return LongTermRun(shared, confidences, int(np.isfinite(truth).all(axis=(1, 2)).sum()))


def score_long_term(runs: Mapping[str, Sequence[LongTermRun]]) -> LongTermScores:
    """Every score of a tracker; for each sequence its repetitions, at least one."""
    thresholds = thresholds_of(np.concatenate([run.confidences for repeated in runs.values() for run in repeated]))
    curves = [np.mean([precision_recall(run, thresholds) for run in repeated], axis=0) for repeated in runs.values()]
    curve = np.mean(curves, axis=0)
    precision, recall = curve.T
    either = precision + recall
    f_scores = np.divide(2 * precision * recall, either, out=np.zeros_like(either), where=either > 0)
    best = int(f_scores.argmax())
    return LongTermScores(
        float(f_scores[best]), float(precision[best]), float(recall[best]), float(thresholds[best]), curve
    )


def thresholds_of(confidences: np.ndarray, resolution: int = RESOLUTION) -> np.ndarray:
    """At most `resolution` thresholds from high to low, between infinities, with about as many frames between each."""
    known = np.sort(confidences[~np.isnan(confidences)])[::-1]
    inner = resolution - 2
    if len(known) > inner:
        step = len(known) // inner
        known = known[np.linspace(step, len(known) - step, inner).round().astype(int)]
    return np.array([math.inf, *known.tolist(), -math.inf])


def precision_recall(run: LongTermRun, thresholds: np.ndarray) -> np.ndarray:
    """(T, 2) precision and recall of one run at each threshold; where no frame counts, 1 and 0."""
    known = ~np.isnan(run.confidences)
    order = np.argsort(-run.confidences[known], kind="stable")
    sums = np.concatenate([[0.0], run.overlaps[known][order].cumsum()])
    counts = np.searchsorted(-run.confidences[known][order], -thresholds, side="right")
    precision = np.where(counts > 0, sums[counts] / np.maximum(counts, 1), 1.0)
    return np.stack([precision, sums[counts] / max(run.present, 1)], axis=1)
