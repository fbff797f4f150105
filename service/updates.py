"""What a frame came to, as it is told to whoever listens."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.runtime.state import Polygon, Status
from siamtrt.runtime.tracker import StageTimes

Condition = Status | Literal["idle"]  # idle: frames come, and there is no target


@dataclass(frozen=True)
class Update:
    """One frame's result.

    Attributes:
        number: of the frame since the source was opened, from 0; frames that were never looked at leave gaps.
        time_s: when the frame was captured, seconds since 1970.
        frame_size: (width, height) in pixels.
        status: of the target; "idle" without one.
        box_xywh: in pixels of this frame, the last good one while the target is lost; None while idle.
        score: confidence in [0, 1]; None while idle.
        latency_ms: from capture to this result.
        gap_s: how long the stream was away before this frame, 0 where it was not.
        times: of the tracker's stages; None where it did not run.
        polygon_xy: corners of the rotated box in pixels of this frame, one after the other around it, the last good
            ones while the target is lost; None from trackers that give none.
    """

    number: int
    time_s: float
    frame_size: tuple[int, int]
    status: Condition
    box_xywh: BoxXywh | None = None
    score: float | None = None
    latency_ms: float = 0.0
    gap_s: float = 0.0
    times: StageTimes | None = None
    polygon_xy: Polygon | None = None

    def as_json(self) -> dict[str, Any]:
        """What the outputs write: plain numbers, JSON's `null` for what is unknown or not finite.

        "polygon_xy" is there only where there is one, finite at all its corners.
        """
        box = None if self.box_xywh is None else [_rounded(value, 3) for value in self.box_xywh]
        corners = [[_rounded(value, 3) for value in corner] for corner in self.polygon_xy or ()]
        finite = corners and not any(None in corner for corner in corners)
        return {
            "frame": self.number, "time": _rounded(self.time_s, 6), "size": list(self.frame_size),
            "status": self.status, "box_xywh": box, "score": _rounded(self.score, 4),
            "latency_ms": _rounded(self.latency_ms, 3), "gap_s": _rounded(self.gap_s, 3),
            **({"polygon_xy": corners} if finite else {}),
        }  # fmt: skip

    def encoded(self) -> bytes:
        """`as_json` in one line of ASCII, some 170 bytes, 250 with a polygon, without a line's end."""
        return json.dumps(self.as_json(), separators=(",", ":"), allow_nan=False).encode("ascii")


def _rounded(value: float | None, digits: int) -> float | None:
    """A plain float; None for NaN and infinity, which JSON has no word for."""
    return round(float(value), digits) if value is not None and math.isfinite(value) else None


class Listener:
    """Hears of every frame in the loop's own thread: it must return at once, and must not change the frame."""

    name: str

    def take(self, update: Update, frame: np.ndarray) -> None:
        """Note a result and the (H, W, 3) uint8 BGR frame it is of."""

    def close(self) -> None:
        """Begin to end: whatever waits is still written. Returns at once."""

    def ended(self, timeout_s: float) -> bool:
        """Wait for the end; False where it took longer."""
        return True
