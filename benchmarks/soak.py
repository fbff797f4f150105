"""Does a long run stay as it began? `python -m siamtrt.benchmarks.soak VIDEO --init x,y,w,h`.

The service's own loop, in this process, tracks the video's frames to and fro without an end, as fast as it can, and
writes every result to a rotated file of JSON lines and to a UDP port that someone reads; where aiohttp is installed its
HTTP server is read once a second. The memory of the process, its file descriptors and threads are looked at as it goes.
"""

from __future__ import annotations

import gc
import itertools
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import psutil
from tqdm import tqdm

from siamtrt.boxes import parse_box
from siamtrt.default_tracker import default_bundle
from siamtrt.runtime.live import open_feed
from siamtrt.runtime.sources import open_source
from siamtrt.runtime.watched import WatchedTracker
from siamtrt.service.faults import Faults
from siamtrt.service.jsonl import JsonlConfig, JsonlOutput
from siamtrt.service.loop import TrackingLoop
from siamtrt.service.udp import UdpConfig, UdpOutput
from siamtrt.service.updates import Update
from siamtrt.service.worker import OutputListener

SETTLED = 1_000  # updates after which memory may no longer grow
LOOK_EVERY = 500  # updates between two looks at the process
MOST_FRAMES = 200  # of the video, held in memory
GROWTH_BAR_MB, SLOWER_BAR = 2.0, 1.2


@dataclass(frozen=True)
class Soak:
    """What a run showed.

    Attributes:
        growth_mb: resident memory at the end less that after `SETTLED` updates, each the median of ten looks, in 1e6 bytes.
        descriptors, threads: smallest and largest number seen after `SETTLED` updates.
        p99_first_ms, p99_last_ms: latency from a frame to its result, in the first and last tenth.
        statuses: updates by the target's status.
        faults: by kind.
    """

    updates: int
    growth_mb: float
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    p99_first_ms: float
    p99_last_ms: float
    statuses: dict[str, int]
    faults: dict[str, int]

    @property
    def misses(self) -> list[str]:
        """The bars it missed."""
        low, high = self.descriptors
        return [
            what for what, fine in {
                f"memory grew by more than {GROWTH_BAR_MB:g} MB": self.growth_mb <= GROWTH_BAR_MB,
                "the number of file descriptors changed": low == high,
                f"p99 of the last tenth above {SLOWER_BAR:g} of the first": self.p99_last_ms
                <= SLOWER_BAR * self.p99_first_ms,
            }.items() if not fine
        ]  # fmt: skip


class Watch:
    """A listener that keeps the latencies and looks at the process now and then, in memory set aside before."""

    name = "soak"

    def __init__(self, updates: int, stop: threading.Event) -> None:
        self.latencies_ms = np.zeros(updates, np.float32)
        self.looks = np.zeros((updates // LOOK_EVERY + 1, 3), np.int64)  # bytes, descriptors, threads
        self.statuses: dict[str, int] = {}
        self.seen = 0
        self._process, self._stop = psutil.Process(), stop
        self._bar = tqdm(total=updates, unit="update", disable=None)

    def take(self, update: Update, frame: np.ndarray) -> None:
        """See `Listener`."""
        if self.seen >= len(self.latencies_ms):
            self._stop.set()
            return
        self.latencies_ms[self.seen] = update.latency_ms
        self.statuses[update.status] = self.statuses.get(update.status, 0) + 1
        if self.seen % LOOK_EVERY == 0:
            look = self._process.memory_info().rss, self._process.num_fds(), self._process.num_threads()
            self.looks[self.seen // LOOK_EVERY] = look
            self._bar.update(LOOK_EVERY)
        self.seen += 1

    def close(self) -> None:
        """See `Listener`."""
        self._bar.close()

    def ended(self, timeout_s: float) -> bool:
        """See `Listener`."""
        return True
