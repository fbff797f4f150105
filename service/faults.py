"""What went wrong while the process went on: every fault counted and named."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass

LOG = logging.getLogger("siamtrt.service")
LONGEST_DETAIL = 300  # characters
MOST_KINDS = 64  # of a kind per piece of code that names one; more would be a mistake that eats memory
LOG_EVERY_S = 1.0  # of one kind: a fault 100 times a second must not fill a disk with its log


@dataclass(frozen=True)
class Fault:
    """A kind of fault: how often it happened, and the last time's description and time (seconds since 1970)."""

    kind: str
    count: int
    detail: str
    time_s: float


class Faults:
    """Counts faults by kind; may be told from any thread, and never fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, Fault] = {}
        self._logged_s: dict[str, float] = {}

    def __call__(self, kind: str, detail: object = "") -> None:
        """Count one."""
        text = _one_line(detail)
        now = time.monotonic()
        with self._lock:
            if kind not in self._last and len(self._last) >= MOST_KINDS:
                kind, text = "other", f"{kind}: {text}"[:LONGEST_DETAIL]
            count = self._last[kind].count + 1 if kind in self._last else 1
            self._last[kind] = Fault(kind, count, text, time.time())
            due = now - self._logged_s.get(kind, -LOG_EVERY_S) >= LOG_EVERY_S
            if due:
                self._logged_s[kind] = now
        if due:
            LOG.warning("%s (%d): %s", kind, count, text)

    def seen(self) -> list[Fault]:
        """Every kind that happened, in the order of its first time."""
        with self._lock:
            return list(self._last.values())

    def counts(self) -> Counter[str]:
        """How often each kind happened."""
        return Counter({fault.kind: fault.count for fault in self.seen()})


def _one_line(detail: object) -> str:
    """Printable text: what a device, a peer or a file name put into it must not reach a terminal as commands."""
    try:
        text = " ".join(str(detail).split())[:LONGEST_DETAIL]
    except Exception as error:  # an exception of a library whose own text fails
        text = f"{type(detail).__name__} without a text ({type(error).__name__})"
    return "".join(letter if letter.isprintable() else "?" for letter in text)
