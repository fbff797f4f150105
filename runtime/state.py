"""What is known of a target, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from siamtrt.boxes import BoxXywh

Status = Literal["locked", "uncertain", "lost", "invalid"]
Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class TargetState:
    """Centre and size in frame pixels, confidence in [0, 1], and whatever else a strategy carries to the next frame.

    `status` is "uncertain" where a `WatchedTracker` doubts the box, "lost" while it or a long-term tracker searches for
    the target, and "invalid" when the network's outputs were not finite; in the last two centre and size are the last
    good ones.

    Attributes:
        angle_rad: rotation of the target since the first frame, positive from x to y (clockwise on the screen).
        search: the graph that sees the next frame.
        first_wh: size in the first frame.
        position_rc: row and column of the response map that was chosen.
        polygon: corners of the rotated box in frame pixels, where a mask gives one.
        distractors: boxes of this frame that resemble the target.
        memory: tensors that take the place of the template's of the same name.
    """

    center_xy: tuple[float, float]
    size_wh: tuple[float, float]
    score: float = 1.0
    status: Status = "locked"
    angle_rad: float = 0.0
    search: str = "search"
    first_wh: tuple[float, float] | None = None
    position_rc: tuple[int, int] = (0, 0)
    polygon: Polygon | None = None
    distractors: tuple[BoxXywh, ...] = ()
    memory: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def box_xywh(self) -> BoxXywh:
        """Top-left corner, width and height in pixels, of the box before rotation."""
        (cx, cy), (width, height) = self.center_xy, self.size_wh
        return cx - width / 2, cy - height / 2, width, height


def state_from_box(box_xywh: BoxXywh) -> TargetState:
    """State after initialisation; the centre is that of the pixels covered, (w - 1) / 2 from the corner."""
    x, y, width, height = box_xywh
    return TargetState((x + (width - 1) / 2, y + (height - 1) / 2), (width, height), first_wh=(width, height))


def clip(value: float, low: float, high: float) -> float:
    """Into [low, high]; `low` wins where a frame is smaller than the smallest target."""
    return max(low, min(value, high))


def clipped(
    center_xy: tuple[float, float], size_wh: tuple[float, float], frame_size: tuple[int, int], min_side: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centre inside the frame, sides between the smallest allowed and the frame's."""
    (cx, cy), (width, height), (frame_width, frame_height) = center_xy, size_wh, frame_size
    return (
        (clip(cx, 0, frame_width), clip(cy, 0, frame_height)),
        (clip(width, min_side, frame_width), clip(height, min_side, frame_height)),
    )
