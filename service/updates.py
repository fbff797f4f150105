"""What a frame came to, as it is told to whoever listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.runtime.state import Status
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

    def as_json(self) -> dict[str, Any]:
        """What the outputs write: plain numbers, JSON's `null` for what is unknown."""
        box = None if self.box_xywh is None else [round(value, 3) for value in self.box_xywh]
        return {
            "frame": self.number, "time": round(self.time_s, 6), "size": list(self.frame_size), "status": self.status,
            "box_xywh": box, "score": None if self.score is None else round(self.score, 4),
            "latency_ms": round(self.latency_ms, 3), "gap_s": round(self.gap_s, 3),
        }  # fmt: skip


class Listener(Protocol):
    """Hears of every frame in the loop's own thread: it must return at once, and must not change the frame."""

    name: str

    def take(self, update: Update, frame: np.ndarray) -> None:
        """Note a result and the (H, W, 3) uint8 BGR frame it is of."""
        ...

    def close(self) -> None:
        """Begin to end: whatever waits is still written. Returns at once."""
        ...

    def ended(self, timeout_s: float) -> bool:
        """Wait for the end; False where it took longer."""
        ...
