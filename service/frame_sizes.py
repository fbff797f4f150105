"""One scene in frames of several sizes: shares, pixels, and what a stream shows after it changed its resolution."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.runtime.state import Polygon

Size = tuple[int, int]  # width and height in pixels


def in_pixels(box_xywh: Sequence[float], size: Size) -> Sequence[float]:
    """Shares of a frame's sides in pixels; what is no box is left for `check_box` to name."""
    try:
        shares = np.asarray(box_xywh, np.float64)
        return (shares * (*size, *size)).tolist() if shares.shape == (4,) else box_xywh
    except (TypeError, ValueError, OverflowError):
        return box_xywh


def of_size(frame: np.ndarray, size: Size) -> np.ndarray:
    """The frame, (H, W, 3), in another size."""
    return frame if (frame.shape[1], frame.shape[0]) == size else cv2.resize(frame, size)


def scaled(box_xywh: BoxXywh, old: Size, new: Size) -> BoxXywh:
    """A box of a frame of one size in one of another."""
    (x, y), (width, height) = scaled_points((box_xywh[:2], box_xywh[2:]), old, new)
    return x, y, width, height


def scaled_points(points_xy: Polygon, old: Size, new: Size) -> Polygon:
    """Points of a frame of one size in one of another."""
    across, down = new[0] / old[0], new[1] / old[1]
    return tuple((x * across, y * down) for x, y in points_xy)
