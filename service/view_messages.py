"""What the viewer's page is sent: a text of numbers, the last frames' curves, the response map and a JPEG, in one."""

from __future__ import annotations

import json
import struct
import threading
import time
from typing import Any

import cv2
import numpy as np

from siamtrt.service.faults import Faults
from siamtrt.service.loop import Snapshot
from siamtrt.service.updates import Update

FRAMES = 300  # remembered for curves and percentiles
WIDEST = 960  # pixels of the picture sent
QUALITY = 80  # of the JPEG
COLUMNS = ("score", "capture to result", "update", "crop", "network", "decoding", "watch, masks, templates")


class History:
    """Score and times of the last `FRAMES` frames; added to by one thread, read by others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = np.full((FRAMES, len(COLUMNS)), np.nan, np.float32)
        self._count = 0

    def add(self, update: Update) -> None:
        """Note a frame's."""
        score = np.nan if update.score is None else update.score
        crop, network, decode, extra, total = update.times or (np.nan,) * 5
        with self._lock:
            self._rows[self._count % FRAMES] = score, update.latency_ms, total, crop, network, decode, extra
            self._count += 1

    def rows(self) -> np.ndarray:
        """(N, 7) float32, the oldest frame first, columns as in `COLUMNS`, times in ms; NaN where there was none."""
        with self._lock:
            start = self._count % FRAMES if self._count > FRAMES else 0
            return np.roll(self._rows, -start, axis=0)[: self._count]


def jpeg_of(frame: np.ndarray) -> bytes:
    """A frame, (H, W, 3) uint8 BGR, at most `WIDEST` pixels wide."""
    height, width = frame.shape[:2]
    if width > WIDEST:
        frame = cv2.resize(frame, (WIDEST, max(1, round(height * WIDEST / width))), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def message(
    snapshot: Snapshot, update: Update | None, rows: np.ndarray, faults: Faults,
    response: np.ndarray | None = None, jpeg: bytes = b"",
) -> bytes:  # fmt: skip
    """One message to a page: uint32 length of the text, text (JSON), rows of (score, capture to result) as float32,
    response map as bytes, JPEG; numbers little-endian.

    Args:
        update: of the picture, or the last one where there is none.
        rows: of `History`.
        response: (S, S) in [0, 1].
    """
    values = np.empty((0, 0)) if response is None else np.clip(255 * np.nan_to_num(response), 0, 255).round()
    text = json.dumps({
        "model": snapshot.model, "backend": snapshot.backend, "source": snapshot.source,
        "update": update and update.as_json(), "history": len(rows), "response": len(values),
        "stages": [[name, *_percentiles(rows[:, column])] for column, name in enumerate(COLUMNS) if column],
        "counts": _counts(snapshot), "faults": _faults(faults),
    }).encode()  # fmt: skip
    curves = rows[:, :2].astype("<f4").tobytes()
    return struct.pack("<I", len(text)) + text + curves + values.astype(np.uint8).tobytes() + jpeg


def _percentiles(values: np.ndarray) -> list[float | None]:
    """p50 and p99 of the finite ones, in ms."""
    finite = np.sort(values[np.isfinite(values)])
    if not len(finite):
        return [None, None]
    return [round(float(finite[round(share * (len(finite) - 1))]), 3) for share in (0.5, 0.99)]


def _counts(snapshot: Snapshot) -> list[list[str]]:
    feed = snapshot.feed_counts.items()
    counts = [[name.replace("_", " "), f"{value:.1f}".removesuffix(".0")] for name, value in feed]
    return [
        *counts, ["tracked", str(snapshot.updates)], ["last frame", f"{snapshot.silent_s:.1f} s ago"],
        ["running", f"{snapshot.uptime_s:.0f} s"],
    ]  # fmt: skip


def _faults(faults: Faults) -> list[dict[str, Any]]:
    now = time.time()
    return [
        {"kind": fault.kind, "count": fault.count, "detail": fault.told, "age_s": round(now - fault.time_s)}
        for fault in faults.seen()
    ]
