"""What went wrong while the process went on: every fault counted and named."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

LOG = logging.getLogger("siamtrt.service")
LONGEST_DETAIL = 300  # characters
MOST_FAULTS = 64  # different ones; more would be a mistake that eats memory
LOG_S = (1.0, 60.0)  # between two lines of each, first and at most: a fault that lasts must not fill a disk


@dataclass(frozen=True)
class Fault:
    """One kind of fault of one thing: how often it happened, and the last time's description and time.

    Attributes:
        of: the output or listener, by name; empty where there is one alone.
        time_s: seconds since 1970.
    """

    kind: str
    of: str
    count: int
    detail: str
    time_s: float

    @property
    def told(self) -> str:
        """`detail` with what it is of."""
        return f"{self.of}: {self.detail}" if self.of else self.detail

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"count": self.count, "last": self.detail, "time": round(self.time_s, 3)}


class Faults:
    """Counts faults by kind and what they are of; may be told from any thread, and never fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], Fault] = {}
        self._log_due: dict[tuple[str, str], tuple[float, float]] = {}  # time.monotonic(), and the pause before it

    def __call__(self, kind: str, detail: object = "", of: str = "") -> None:
        """Count one."""
        text, key = _one_line(detail), (kind, _one_line(of))
        now = time.monotonic()
        with self._lock:
            if key not in self._last and len(self._last) >= MOST_FAULTS:
                key, text = ("other", ""), ": ".join(filter(None, (*key, text)))[:LONGEST_DETAIL]
            count = self._last[key].count + 1 if key in self._last else 1
            self._last[key] = fault = Fault(*key, count, text, time.time())
            due_s, pause_s = self._log_due.get(key, (now, 0.0))
            due = now >= due_s
            if due:
                pause_s = min(2 * pause_s, LOG_S[1]) if now < due_s + pause_s else LOG_S[0]
                self._log_due[key] = now + pause_s, pause_s
        if due:
            LOG.warning("%s (%d): %s", fault.kind, count, fault.told)

    def seen(self) -> list[Fault]:
        """All that happened, in the order of their first times."""
        with self._lock:
            return list(self._last.values())

    def counts(self) -> Counter[str]:
        """How often each kind happened."""
        counts: Counter[str] = Counter()
        for fault in self.seen():
            counts[fault.kind] += fault.count
        return counts

    def as_json(self) -> dict[str, Any]:
        """By kind: count, last detail and its time; where it is of several, the same by name under "of"."""
        kinds: dict[str, list[Fault]] = {}
        for fault in self.seen():
            kinds.setdefault(fault.kind, []).append(fault)
        return {kind: _summary(faults) for kind, faults in kinds.items()}


def _summary(faults: list[Fault]) -> dict[str, Any]:
    last = max(faults, key=lambda fault: fault.time_s)
    named = {fault.of: fault.as_json() for fault in faults if fault.of}
    count = sum(fault.count for fault in faults)
    return {**last.as_json(), "count": count, "last": last.told, **({"of": named} if named else {})}


def _one_line(detail: object) -> str:
    """Printable text: what a device, a peer or a file name put into it must not reach a terminal as commands."""
    try:
        text = " ".join(str(detail).split())[:LONGEST_DETAIL]
    except Exception as error:  # an exception of a library whose own text fails
        text = f"{type(detail).__name__} without a text ({type(error).__name__})"
    return "".join(letter if letter.isprintable() else "?" for letter in text)
