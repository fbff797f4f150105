"""Feeds: what a tracking loop reads its frames from, never blocked by a device and never behind it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sized
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from siamtrt.runtime.capture import Capture, Captured, OnFault
from siamtrt.runtime.capture_rules import Rules
from siamtrt.runtime.origins import Origin, origin_of
from siamtrt.runtime.streams import EndOfSource, IterableStream

__all__ = ["Captured", "EndOfSource", "Feed", "FileFeed", "LiveFeed", "OnFault", "ignore", "open_feed"]

LIVE = Rules(newest_only=True, reconnect=True, stall_s=5.0)


class Feed(Protocol):
    """What a tracking loop reads from.

    Attributes:
        name: for messages, without credentials.
        live: frames come in their own time, and only the newest is kept.
        fps: frames a second, as the source says.
    """

    name: str
    live: bool
    fps: float

    def newest(self, timeout_s: float) -> Captured | None:
        """The next frame not yet given out; waits at most so long, then None.

        Raises:
            EndOfSource: a finite source is over, or the feed was closed.
            SourceError: a finite source failed.
        """

    def counts(self) -> dict[str, float]:
        """Of frames, `captured` and `dropped`; `reconnects`; `gap_seconds`, those of a gap that lasts included."""

    def close(self) -> None:
        """Stop reading; returns within 1 s, whatever the device does."""


def ignore(kind: str, detail: str) -> None:
    """What is told of faults where nobody wants to know."""


class _ThreadedFeed:
    """A feed read by a capture thread, which ends with the feed."""

    live: bool

    def __init__(self, origin: Origin, rules: Rules, on_fault: OnFault) -> None:
        self.name = origin.name
        self._capture = Capture(origin, rules, on_fault)
        self.fps = self._capture.fps
        # The threads know the capture, not the feed: one that nobody holds any more is closed, and so is every feed
        # before the interpreter goes, which must not find a thread inside OpenCV.
        self._closing = weakref.finalize(self, self._capture.close)

    def newest(self, timeout_s: float) -> Captured | None:
        """See `Feed`."""
        return self._capture.newest(timeout_s)

    def counts(self) -> dict[str, float]:
        """See `Feed`."""
        return self._capture.counts()

    def close(self) -> None:
        """See `Feed`."""
        self._closing()


class LiveFeed(_ThreadedFeed):
    """The newest frame of a camera, a stream of the network, or an iterable that gives frames in its own time.

    A stream that is lost, or gives no frame for 5 s, is opened again, after pauses from 0.1 s doubling to 5 s. That it
    gives none is noticed while someone waits for a frame.

    Args:
        on_fault: told of every fault, its kind and details, from a capture thread: `stream_lost`, `stream_stalled`,
            `reconnect_failed`, `frame_unusable`, `frame_corrupt`.
        rules: other patience and pauses.

    Raises:
        SourceError: it does not open.
    """

    live = True

    def __init__(self, origin: Origin, on_fault: OnFault = ignore, *, rules: Rules = LIVE) -> None:
        super().__init__(origin, rules, on_fault)


class FileFeed(_ThreadedFeed):
    """A finite source, frame by frame as fast as they are taken, none dropped.

    Args:
        loop: begin again at the end.
        realtime: play at its frame rate as a camera would, frames not taken in time dropped.
        on_fault: told of every fault: `frame_unusable` and, where the source failed, `stream_lost`.

    Raises:
        SourceError: it does not open.
    """

    def __init__(
        self, origin: Origin, on_fault: OnFault = ignore, *, loop: bool = False, realtime: bool = False
    ) -> None:
        self.live = realtime
        super().__init__(origin, Rules(newest_only=realtime, loop=loop, in_real_time=realtime), on_fault)


def open_feed(
    source: str | Path | Iterable[np.ndarray], *, loop: bool = False, realtime: bool = False, on_fault: OnFault = ignore
) -> Feed:
    """Open a source as a feed: the texts that `open_source` takes, or any iterable of frames.

    Cameras, URLs and pipelines are live and have no end: whatever ends there, even a video behind a URL, is opened
    again. Files, folders and iterables are finite: no frame is dropped unless they are played in real time. An iterator
    without a length then sets its own pace, as a camera library's generator does; lists play at 30 frames a second.

    Raises:
        SourceError: it does not open.
    """
    origin = origin_of(source) if isinstance(source, (str, Path)) else _iterable_origin(source)
    if origin.live or (realtime and origin.own_pace):
        return LiveFeed(origin, on_fault, rules=replace(LIVE, loop=loop))
    return FileFeed(origin, on_fault, loop=loop, realtime=realtime)


def _iterable_origin(frames: Iterable[np.ndarray]) -> Origin:
    name = f"frames of a Python {type(frames).__name__}"
    return Origin(name, lambda: IterableStream(frames), own_pace=not isinstance(frames, Sized))
