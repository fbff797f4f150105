"""One-pass evaluation metrics: OTB's (Wu et al., TPAMI 2015), TrackingNet's and GOT-10k's."""

from __future__ import annotations

import numpy as np

from siamtrt.boxes import iou

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
PRECISION_PIXELS = 20.0
NORMALISED_THRESHOLDS = np.linspace(0, 0.5, 51)  # of the truth's sides


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
    return float(precision_curve(tracked_xywh, truth_xywh, np.array([pixels]))[0])


def precision_curve(tracked_xywh: np.ndarray, truth_xywh: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The same at each of (T,) distances: (T,) in [0, 1], NaN where no frame counts."""
    tracked, truth = _present(tracked_xywh, truth_xywh)
    if len(truth) == 0:
        return np.full(pixels.shape, np.nan)
    centres = [boxes[:, :2] + boxes[:, 2:] / 2 for boxes in (tracked, truth)]
    return (np.linalg.norm(centres[0] - centres[1], axis=1)[:, None] <= pixels).mean(axis=0)


def _present(tracked_xywh: np.ndarray, truth_xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tracked, truth = np.asarray(tracked_xywh, np.float64), np.asarray(truth_xywh, np.float64)
    if tracked.shape != truth.shape or truth.ndim != 2 or truth.shape[1] != 4:
        raise ValueError(f"boxes of shape {tracked.shape} and {truth.shape}; expected two (F, 4) arrays")
    visible = np.isfinite(truth).all(axis=1)
    return tracked[visible], truth[visible]


def normalised_precision(tracked_xywh: np.ndarray, truth_xywh: np.ndarray) -> float:
    """Area under the normalised precision curve: its mean over 51 thresholds.

    The distance of centres is divided, per axis, by the truth's width and height (Müller et al., TrackingNet, ECCV
    2018, section 5.1; thresholds and the smallest side of 1 pixel as the got10k toolkit has them for LaSOT).
    Arguments as in `success_auc`; in [0, 1], NaN where no frame counts.
    """
    tracked, truth = _present(tracked_xywh, truth_xywh)
    if len(truth) == 0:
        return float("nan")
    centres = [boxes[:, :2] + boxes[:, 2:] / 2 for boxes in (tracked, truth)]
    distance = np.linalg.norm((centres[0] - centres[1]) / np.maximum(truth[:, 2:], 1.0), axis=1)
    return float((distance[:, None] <= NORMALISED_THRESHOLDS).mean())


def got_overlaps(tracked_xywh: np.ndarray, truth_xywh: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """IoU of the frames that count for GOT-10k: all but the first in which the target is visible.

    As its toolkit does, top left corners are moved into the frame before sides are cut at its right and lower edge: a
    box that begins at -10 is moved by 10 pixels, not cut. AO is the mean of these, SR the share above a threshold,
    over the frames of all sequences together (Huang et al., GOT-10k, TPAMI 2021).

    Args:
        tracked_xywh, truth_xywh: as in `success_auc`.
        frame_size: width and height in pixels.

    Returns:
        (N,) in [0, 1].
    """
    boxes = _present(np.asarray(tracked_xywh)[1:], np.asarray(truth_xywh)[1:])
    return iou(*(_inside(part, frame_size) for part in boxes))


def _inside(boxes_xywh: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    corners = np.clip(boxes_xywh[:, :2], 0, frame_size)
    return np.hstack([corners, np.clip(boxes_xywh[:, 2:], 0, frame_size - corners)])


def success_rate(overlaps: np.ndarray, threshold: float) -> float:
    """Share of overlaps above a threshold; NaN of none."""
    return float((overlaps > threshold).mean()) if overlaps.size else float("nan")
