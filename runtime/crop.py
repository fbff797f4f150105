"""From a frame to a network input: the one crop shared by tracker, calibration and benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from siamtrt.errors import FrameError

Fill = tuple[int, int, int]
LARGEST_SQUARE = 4096  # frame pixels to pad a square to, 50 MB; a wide search of a large target asks for gigabytes


def check_frame(frame: np.ndarray) -> tuple[int, int]:
    """Validate a frame and return its `(width, height)`.

    Raises:
        FrameError: not a non-empty (H, W, 3) uint8 array.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        shown = f"{frame.dtype} array of shape {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise FrameError(
            "unusable frame", received=shown, expected="(H, W, 3) uint8 BGR",
            fix="convert first, e.g. cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) or (frame * 255).astype('uint8')",
        )
    if frame.size == 0:
        raise FrameError("empty frame", received=f"shape {frame.shape}", expected="at least 1x1 pixels",
                         fix="check that the source delivered a picture")  # fmt: skip
    return frame.shape[1], frame.shape[0]


def mean_colour(frame: np.ndarray) -> Fill:
    """Mean of each channel, truncated to an integer: the colour that pads crops (SiamFC, sec. 2.2)."""
    blue, green, red, _ = cv2.mean(frame)
    return int(blue), int(green), int(red)


def context_side(size_wh: tuple[float, float], context_amount: float) -> float:
    """Side in pixels of the square that holds a target and its context (SiamRPN, eq. 15).

    sqrt((w + 2p)(h + 2p)) with 2p = context_amount * (w + h).
    """
    width, height = size_wh
    margin = context_amount * (width + height)
    return math.sqrt((width + margin) * (height + margin))


def subwindow(
    frame: np.ndarray, center_xy: tuple[float, float], side: int, out_size: int, fill: Fill,
    out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Cut a square around a centre and resize it; what lies outside the frame has the fill colour.

    The square starts on a whole pixel and is resized bilinearly, as the reference trackers cut it. Only
    the square is padded, never the frame, and one above 4096 pixels not at all: it is sampled in one step.

    Args:
        frame: (H, W, 3) uint8.
        center_xy: centre in pixels.
        side: side of the square in whole pixels, at least 1.
        out_size: side of the result.
        fill: colour outside the frame.
        out: (out_size, out_size, 3) uint8 to write into, saving an allocation where a resize happens.

    Returns:
        (out_size, out_size, 3) uint8: `out`, a new array, or a view of `frame` where nothing had to change.
    """
    height, width = frame.shape[:2]
    half = (side + 1) / 2
    left, top = (math.floor(center - half + 0.5) for center in center_xy)
    right, bottom = left + side, top + side
    x0, x1 = min(max(left, 0), width), min(max(right, 0), width)
    y0, y1 = min(max(top, 0), height), min(max(bottom, 0), height)
    if x0 >= x1 or y0 >= y1:
        return np.full((out_size, out_size, 3), fill, np.uint8)
    if side > LARGEST_SQUARE:
        return rotated_subwindow(frame, center_xy, side, out_size, fill, 0.0)
    patch = frame[y0:y1, x0:x1]
    if (x1 - x0, y1 - y0) != (side, side):
        patch = cv2.copyMakeBorder(patch, y0 - top, bottom - y1, x0 - left, right - x1, cv2.BORDER_CONSTANT, value=fill)
    return patch if side == out_size else cv2.resize(patch, (out_size, out_size), dst=out)


def rotated_subwindow(
    frame: np.ndarray, center_xy: tuple[float, float], side: int, out_size: int, fill: Fill, angle_rad: float
) -> np.ndarray:
    """What `subwindow` would cut from the frame turned back by an angle, positive from x to y, around the centre.

    Bilinear, in one step. `subwindow`'s square is up to 1.5 pixels from the centre; this one, before it is turned, is
    the same, so that a target keeps its place in the crop when an upright crop gives way to a turned one.

    Returns:
        (out_size, out_size, 3) uint8.
    """
    scale = side / out_size
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    turned = np.array([[cosine, -sine], [sine, cosine]])
    corner = [math.floor(center - side / 2) - center + (scale - 1) / 2 for center in center_xy]
    from_crop = np.column_stack([scale * turned, center_xy + turned @ corner])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame, from_crop, (out_size, out_size), flags=flags, borderValue=fill)


class CropBuffer:
    """A network input that is cut from frames again and again without allocating.

    Args:
        size: side of the crops in pixels.
        count: crops in the batch.
        channel_order: "bgr", as frames are, or "rgb".

    Attributes:
        tensor: (count, 3, size, size) float32 in 0..255, planes in channel order; overwritten by `cut`.
    """

    def __init__(self, size: int, count: int = 1, channel_order: Literal["bgr", "rgb"] = "bgr") -> None:
        self.tensor = np.empty((count, 3, size, size), np.float32)
        self._pixels = np.empty((size, size, 3), np.uint8)
        self._planes = np.empty((3, size, size), np.uint8)
        self._plane_list = list(self._planes)[:: 1 if channel_order == "bgr" else -1]

    def cut(
        self, frame: np.ndarray, center_xy: tuple[float, float], side: int, fill: Fill, index: int = 0,
        angle_rad: float = 0.0,
    ) -> np.ndarray:  # fmt: skip
        """`subwindow` of a frame, `rotated_subwindow` where there is an angle, as `tensor[index]`; returns `tensor`."""
        size = self._pixels.shape[0]
        if angle_rad:
            crop = rotated_subwindow(frame, center_xy, side, size, fill, angle_rad)
        else:
            crop = subwindow(frame, center_xy, side, size, fill, self._pixels)
        cv2.split(crop, self._plane_list)
        np.copyto(self.tensor[index], self._planes)
        return self.tensor

    def cut_views(
        self, frame: np.ndarray, center_xy: tuple[float, float], views: Sequence[tuple[int, float]], fill: Fill
    ) -> np.ndarray:
        """`cut` each (side, angle) around a centre, one after another; returns `tensor`."""
        for index, (side, angle_rad) in enumerate(views):
            self.cut(frame, center_xy, side, fill, index, angle_rad)
        return self.tensor
