"""How a source is read: what becomes of late frames, and when one that is lost or hangs is opened again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


def back_off(first_s: float = 0.1, most_s: float = 5.0, jitter: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait before each attempt: doubling up to the most, each up to a tenth longer at random."""
    pause_s = first_s
    while True:
        yield pause_s * (1 + 0.1 * jitter())
        pause_s = min(2 * pause_s, most_s)


@dataclass(frozen=True)
class Rules:
    """How a source is read.

    Attributes:
        newest_only: a frame that was not taken in time gives way to the next; else reading waits for the reader.
        reconnect: a stream that was lost is opened again.
        loop: a source that is over begins again.
        in_real_time: slowed down to the stream's frame rate.
        stall_s: without a frame for so long, a stream counts as hanging.
        open_s: the same while it is being opened.
        pauses: makes the waits between attempts; made anew once frames come again.
    """

    newest_only: bool
    reconnect: bool = False
    loop: bool = False
    in_real_time: bool = False
    stall_s: float = float("inf")
    open_s: float = 15.0  # a URL takes up to 5 s to answer and 7 s to show what it holds
    pauses: Callable[[], Iterator[float]] = back_off
