"""One-pass evaluation metrics (OTB: Wu et al., TPAMI 2015)."""

from __future__ import annotations

import numpy as np

from siamtrt.boxes import iou

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
PRECISION_PIXELS = 20.0


def success_auc(tracked_xywh: np.ndarray, truth_xywh: np.ndarray) -> float:
    """Area under the success curve: its mean over 21 thresholds.

    Arguments as in `success_curve`; in [0, 1], NaN where no frame counts.
    """
    return float(success_curve(tracked_xywh, truth_xywh).mean())


def success_curve(tracked_xywh: np.ndarray, truth_xywh: np.ndarray) -> np.ndarray:
    """Share of frames whose IoU exceeds each of `SUCCESS_THRESHOLDS`.

    Args:
        tracked_xywh, truth_xywh: (F, 4) boxes in pixels; frames whose truth is NaN (absent target) do not count.

    Returns:
        (21,) in [0, 1]; NaN where no frame counts.
    """
    overlap = iou(*_present(tracked_xywh, truth_xywh))
    if overlap.size == 0:
        return np.full(SUCCESS_THRESHOLDS.shape, np.nan)
    return (overlap[:, None] > SUCCESS_THRESHOLDS).mean(axis=0)


def precision(tracked_xywh: np.ndarray, truth_xywh: np.ndarray, pixels: float = PRECISION_PIXELS) -> float:
    """Share of frames whose centres are at most `pixels` apart; arguments as in `success_auc`."""
    tracked, truth = _present(tracked_xywh, truth_xywh)
    if len(truth) == 0:
        return float("nan")
    centres = [boxes[:, :2] + boxes[:, 2:] / 2 for boxes in (tracked, truth)]
    return float((np.linalg.norm(centres[0] - centres[1], axis=1) <= pixels).mean())


def _present(tracked_xywh: np.ndarray, truth_xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tracked, truth = np.asarray(tracked_xywh, np.float64), np.asarray(truth_xywh, np.float64)
    if tracked.shape != truth.shape or truth.ndim != 2 or truth.shape[1] != 4:
        raise ValueError(f"boxes of shape {tracked.shape} and {truth.shape}; expected two (F, 4) arrays")
    visible = np.isfinite(truth).all(axis=1)
    return tracked[visible], truth[visible]
