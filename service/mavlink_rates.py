"""How often: the stream of statuses, and the most that is taken from a peer."""

from __future__ import annotations

import math

from siamtrt.service.updates import Update

DEFAULT_INTERVAL_S = 0.2  # of the statuses, where a ground station leaves it to the camera
QUIET_S = 1.0  # between statuses while no frames come


class StatusStream:
    """When the next status is due: at the interval asked for, once a frame at most. Times are `time.monotonic()`."""

    def __init__(self) -> None:
        self.interval_s: float | None = None  # None: nobody asked
        self._due_s = math.inf
        self._sent_s = -math.inf
        self._sent: Update | None = None

    def ask(self, interval_s: float | None, now_s: float) -> None:
        """Begin, at once, or end with None."""
        self.interval_s = interval_s
        self._due_s = math.inf if interval_s is None else now_s

    def due_s(self, newest: Update | None) -> float:
        """When to send the next; infinity for never."""
        return self._due_s if newest is not self._sent else max(self._due_s, self._sent_s + QUIET_S)

    def sent(self, newest: Update | None, now_s: float) -> None:
        """One was sent."""
        if self.interval_s is not None:
            self._due_s = now_s + self.interval_s
        self._sent, self._sent_s = newest, now_s


class Budget:
    """So much a second on average, and what two seconds bring at once.

    Args:
        per_s: what comes in.
        now_s: `time.monotonic()`.
    """

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s, self._left, self._at_s = per_s, 2 * per_s, now_s

    def spend(self, amount: float, now_s: float) -> bool:
        """Take from it, if there is as much."""
        self._refill(now_s)
        if amount > self._left:
            return False
        self._left -= amount
        return True

    def lacks_s(self, amount: float, now_s: float) -> float:
        """How long until there is as much; 0 where there is."""
        self._refill(now_s)
        return max((amount - self._left) / self._per_s, 0.0)

    def _refill(self, now_s: float) -> None:
        self._left = min(self._left + self._per_s * (now_s - self._at_s), 2 * self._per_s)
        self._at_s = now_s
