"""Bounding boxes: `xywh` pixels, top-left origin, floats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from siamtrt.errors import BoxError

BoxXywh = tuple[float, float, float, float]

SMALLEST_SIDE = 1e-3  # pixels; the crop's geometry underflows far below it
LARGEST_SIDE = 2.0  # frame sides; a search crop of more takes gigabytes and shows mostly padding


def parse_box(text: str) -> BoxXywh:
    """Parse `x,y,w,h` as the command line gives it.

    Raises:
        BoxError: not four numbers.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise BoxError("unreadable box", received=repr(text), expected="x,y,w,h", fix="write --init 120,80,64,48")
    return values[0], values[1], values[2], values[3]


def check_box(box_xywh: Sequence[float], frame_size: tuple[int, int]) -> BoxXywh:
    """Validate a target box against a frame of `(width, height)` pixels.

    Returns the box as four floats.

    Raises:
        BoxError: not four finite numbers, a side that is not positive or beyond
            twice the frame, or no overlap with the frame.
    """
    width, height = frame_size
    expected = f"finite x,y,w,h with w > 0 and h > 0, overlapping the {width}x{height} frame"
    try:
        values = np.asarray(box_xywh, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.empty(0)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise BoxError("bad target box", received=_shown(box_xywh), expected=expected, fix="give four pixel values")
    x, y, w, h = values.tolist()
    if min(w, h) < SMALLEST_SIDE:
        raise BoxError("empty target box", received=_shown(box_xywh), expected=expected, fix="give width and height")
    if w > LARGEST_SIDE * width or h > LARGEST_SIDE * height:
        raise BoxError(
            "target box too large", received=_shown(box_xywh), expected=f"{expected}, and at most twice as large",
            fix="check the order x,y,w,h: width and height, not the lower right corner",
        )
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise BoxError(
            "target box outside the frame", received=_shown(box_xywh), expected=expected,
            fix="check the order x,y,w,h (top-left corner first) and the frame's size",
        )
    return x, y, w, h


def _shown(box: object) -> str:
    if isinstance(box, (tuple, list, np.ndarray)):
        values = np.ravel(box).tolist() if isinstance(box, np.ndarray) else list(box)
        return ",".join(f"{v:g}" if isinstance(v, (float, np.number)) else repr(v) for v in values[:8])
    return repr(box)


def iou(a_xywh: np.ndarray, b_xywh: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, row by row.

    Args:
        a_xywh, b_xywh: (..., 4) arrays that broadcast; unchanged.

    Returns:
        (...) array in [0, 1]; NaN where either box has a NaN, 0 where both are empty.
    """
    a, b = np.asarray(a_xywh, np.float64), np.asarray(b_xywh, np.float64)
    lower = np.maximum(a[..., :2], b[..., :2])
    upper = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    overlap = np.prod(np.clip(upper - lower, 0.0, None), axis=-1)
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - overlap
    with np.errstate(invalid="ignore"):
        return np.where(union == 0, 0.0, np.minimum(overlap / union, 1.0))  # x + w - x may exceed w by a rounding
