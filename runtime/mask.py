"""From SiamMask's logits to the target's mask and rotated box in the frame."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.runtime.session import Session
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import MaskDecoding


class FrameMask(NamedTuple):
    """Probabilities in the part of a frame that the mask reaches: (h, w) float32 from pixel `left`, `top` on."""

    values: np.ndarray
    left: int
    top: int

    def in_frame(self, frame_size: tuple[int, int], outside: float = 0.0) -> np.ndarray:
        """(H, W) float32 for a frame of `(width, height)`; `outside` where the mask does not reach."""
        whole = np.full(frame_size[::-1], outside, np.float32)
        height, width = self.values.shape
        whole[self.top : self.top + height, self.left : self.left + width] = self.values
        return whole


def mask_corner(
    position: tuple[int, int], crop_center_xy: tuple[float, float], crop_side: int, decoding: MaskDecoding
) -> tuple[float, float]:
    """x and y in frame pixels where the mask of a position begins, the top left of a template-sized window.

    Args:
        position: row and column in the response map.
        crop_center_xy, crop_side: of the search crop, in frame pixels.
    """
    step = decoding.stride * crop_side / decoding.search_size
    low = -crop_side / 2 - decoding.base_size / 2 * step
    row, column = position
    return crop_center_xy[0] + low + column * step, crop_center_xy[1] + low + row * step


def mask_in_frame(
    logits: np.ndarray, position: tuple[int, int], crop_center_xy: tuple[float, float], crop_side: int,
    frame_size: tuple[int, int], decoding: MaskDecoding,
) -> FrameMask:  # fmt: skip
    """Turn logits into probabilities and warp them back to where the search crop was cut, bilinearly.

    Only what the mask can reach is computed: a frame is many times larger than a target.

    Args:
        logits: mask_size * mask_size numbers, row by row.
        position: row and column in the response map that they belong to.
        crop_center_xy, crop_side: of the search crop, in frame pixels.
        frame_size: (width, height) in pixels.

    Returns:
        The mask; (0, 0) values where it lies outside the frame.
    """
    side = decoding.mask_size
    probabilities = 0.5 + 0.5 * np.tanh(0.5 * logits.reshape(side, side).astype(np.float32))  # the sigmoid, no overflow
    zoom = crop_side / decoding.search_size * decoding.template_size / side  # frame pixels a mask pixel
    spans = [
        _Span.of(corner, zoom, side, length)
        for corner, length in zip(mask_corner(position, crop_center_xy, crop_side, decoding), frame_size, strict=True)
    ]
    x, y = spans
    if x.first >= x.end or y.first >= y.end:
        return FrameMask(np.empty((0, 0), np.float32), 0, 0)
    matrix = np.array([[x.scale, 0, x.shift - x.first], [0, y.scale, y.shift - y.first]])
    values = cv2.warpAffine(
        probabilities, matrix, (x.end - x.first, y.end - y.first), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(decoding.outside,),
    )  # fmt: skip
    return FrameMask(values, x.first, y.first)


class _Span(NamedTuple):
    """One axis of the warp: frame = scale * mask + shift, which reaches the frame's pixels first to end - 1."""

    scale: float
    shift: float
    first: int
    end: int

    @classmethod
    def of(cls, corner: float, zoom: float, side: int, length: int) -> _Span:
        # The references put the frame's `length` pixels on `length - 1` steps: less than a pixel at the far edge.
        shrink = (length - 1) / length
        scale, shift = shrink * zoom, shrink * corner
        first, end = math.floor(shift - scale), math.ceil(shift + scale * side) + 1
        return cls(scale, shift, max(first, 0), min(end, length))


def rotated_box(mask: FrameMask, box_xywh: BoxXywh, decoding: MaskDecoding) -> np.ndarray:
    """Smallest rotated rectangle around the mask's largest part (SiamMask, sec. 3.2, "MBR").

    Args:
        box_xywh: what to return where the mask encloses too little.

    Returns:
        (4, 2) float64: x, y of the corners in frame pixels, one after the other around the box.
    """
    if mask.values.size:
        binary = (mask.values > decoding.threshold).astype(np.uint8)
        contours = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        largest = max(contours, key=cv2.contourArea, default=None)
        if largest is not None and cv2.contourArea(largest) > decoding.min_area:
            return cv2.boxPoints(cv2.minAreaRect(largest)) + np.array([mask.left, mask.top], np.float64)
    x, y, width, height = box_xywh
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)


class Refiner:
    """Runs the graph `refine` where a proposal was chosen.

    Args:
        decoding: from the manifest.
        session: of the graph: outputs of the search graph and "position", int64 (row, column) -> "mask".
    """

    def __init__(self, decoding: MaskDecoding, session: Session) -> None:
        self._decoding, self._session = decoding, session

    def refined(
        self, maps: Mapping[str, np.ndarray], crop_center_xy: tuple[float, float], crop_side: int, state: TargetState,
        frame_size: tuple[int, int],
    ) -> TargetState:  # fmt: skip
        """`state` with the rotated box of the mask.

        Args:
            maps: outputs of the search graph on this frame.
            crop_center_xy, crop_side: of the search crop, in frame pixels.
        """
        known = {**maps, "position": np.array(state.position_rc, np.int64)}
        logits = self._session.run({tensor.name: known[tensor.name] for tensor in self._session.inputs})["mask"]
        mask = mask_in_frame(logits, state.position_rc, crop_center_xy, crop_side, frame_size, self._decoding)
        corners = rotated_box(mask, state.box_xywh, self._decoding)
        return dataclasses.replace(state, polygon=tuple((float(x), float(y)) for x, y in corners))
