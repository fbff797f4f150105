"""Results of frames for the outputs of the service, and what tests of threads need."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from siamtrt.service.updates import Update

FRAME = np.zeros((48, 64, 3), np.uint8)


def update_of(number: int, **fields: Any) -> Update:
    """A locked target's result."""
    target = {"status": "locked", "box_xywh": (10.5, 20.25, 30.0, 40.125), "score": 0.875, "latency_ms": 12.3456}
    return Update(number, **{"time_s": 1.7e9 + number, "frame_size": (64, 48), **target, **fields})


def wait_for(condition: Callable[[], object], timeout_s: float = 5.0) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
