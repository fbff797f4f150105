"""What the head should answer for one search crop: a label and an offset for every anchor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siamtrt.boxes import iou
from siamtrt.errors import BoxError

IGNORED, BACKGROUND, TARGET = -1, 0, 1


@dataclass(frozen=True)
class Sampling:
    """Which anchors train the head (SiamRPN, sec. 3.3).

    Anchors of IoU `high` or more may be positives, of `low` or less negatives; at most `positives` of the former
    and at most `samples` in all are used of one pair.
    """

    high: float = 0.6
    low: float = 0.3
    positives: int = 16
    samples: int = 64


def corner_boxes(boxes_cxcywh: np.ndarray) -> np.ndarray:
    """(..., 4) centre x, centre y, w, h -> (..., 4) x, y, w, h with the top-left corner."""
    centres, sides = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return np.concatenate([centres - sides / 2, sides], axis=-1)


def encode_offsets(anchors: np.ndarray, box_cxcywh: np.ndarray) -> np.ndarray:
    """Offsets that turn each anchor into the box (SiamRPN, eq. 3, with the signs of the logarithms that eq. 12 undoes).

    Args:
        anchors: (P, 4) cx, cy, w, h in search-crop pixels.
        box_cxcywh: (4,) in the same pixels.

    Returns:
        (4, P) float32: dx / anchor w, dy / anchor h, log of the ratio of widths, and of heights.
    """
    shift = (box_cxcywh[:2] - anchors[:, :2]) / anchors[:, 2:]
    growth = np.log(box_cxcywh[2:] / anchors[:, 2:])
    return np.concatenate([shift, growth], axis=1).T.astype(np.float32)


def assign_anchors(
    anchors: np.ndarray, box_cxcywh: np.ndarray, rng: np.random.Generator, *, matches: bool = True,
    sampling: Sampling | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Labels and offsets of one pair, for the anchors in `anchor_grid`'s order.

    Args:
        anchors: (P, 4) cx, cy, w, h relative to the crop's centre, in search-crop pixels.
        box_cxcywh: (4,) of the object in the crop, relative to the crop's centre.
        rng: chooses among the candidates.
        matches: False where the template shows another object; what would be positive then is background.
        sampling: thresholds and counts; the paper's by default.

    Returns:
        (P,) int64 labels, TARGET, BACKGROUND or IGNORED, and (4, P) float32 offsets.

    Raises:
        BoxError: the box is not finite or has no extent.
    """
    box = np.asarray(box_cxcywh, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or box[2:].min() <= 0:
        raise BoxError(
            "no target to assign anchors to", received=box.tolist(), expected="finite cx,cy,w,h with w > 0 and h > 0",
            fix="leave this pair out",
        )
    rules = sampling or Sampling()
    overlap = iou(corner_boxes(anchors.astype(np.float64)), corner_boxes(box))
    labels = np.full(len(anchors), IGNORED, np.int64)
    chosen = _choose(rng, overlap >= rules.high, rules.positives)
    labels[chosen] = TARGET if matches else BACKGROUND
    labels[_choose(rng, overlap <= rules.low, rules.samples - len(chosen))] = BACKGROUND
    return labels, encode_offsets(anchors, box)


def _choose(rng: np.random.Generator, candidates: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most `most` of the (P,) bool candidates."""
    indices = np.flatnonzero(candidates)
    return indices if len(indices) <= most else rng.choice(indices, most, replace=False)
