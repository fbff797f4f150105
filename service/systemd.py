"""What systemd is told by the process it started: that it is ready, alive, and about to end (sd_notify(3))."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping

from siamtrt.service.updates import Listener


class Systemd(Listener):
    """The service manager, a listener of the loop; says nothing where none asks for it.

    Args:
        environment: NOTIFY_SOCKET says where it listens, WATCHDOG_USEC after how many microseconds of silence it
            restarts the process, and WATCHDOG_PID which process, if one inherited all this from another.
    """

    name = "systemd"

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        place = environment.get("NOTIFY_SOCKET", "")
        self._place = f"\0{place[1:]}" if place.startswith("@") else place
        self._period_s = _watchdog_s(environment) / 2
        self._due_s = -math.inf

    def ready(self) -> None:
        """The service has started."""
        self._tell("READY=1")

    def alive(self) -> None:
        """The tracking loop has come round; told at most twice in the time that the watchdog waits."""
        now = time.monotonic()
        if now >= self._due_s and self._period_s < math.inf and self._tell("WATCHDOG=1"):
            self._due_s = now + self._period_s

    def close(self) -> None:
        """See `Listener`: the service begins to end."""
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> bool:
        """Whether it was told; it is not waited for."""
        if not self._place:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.setblocking(False)
                link.sendto(state.encode(), self._place)
        except OSError:
            return False
        return True


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """How long this process may be silent; infinity without a watchdog."""
    try:
        seconds = int(environment["WATCHDOG_USEC"]) / 1e6
        ours = int(environment.get("WATCHDOG_PID") or os.getpid()) == os.getpid()
    except (KeyError, ValueError):
        return math.inf
    return seconds if ours and seconds > 0 else math.inf
