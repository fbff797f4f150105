"""Tracking loops that a test drives frame by frame, with a tracker that does what it is told."""

from __future__ import annotations

import math
import queue
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from siamtrt.runtime.live import Captured, EndOfSource
from siamtrt.runtime.tracker import StageTimes, TrackResult
from siamtrt.service.faults import Faults
from siamtrt.service.loop import TrackingLoop

SIZE = (64, 48)
BOX = (10.0, 12.0, 20.0, 16.0)


def frame_of(size=SIZE, value=0):
    return np.full((size[1], size[0], 3), value, np.uint8)


class QuickTracker:
    """The target moves a pixel to the right with every update.

    Attributes:
        failing: what `init` and `update` raise.
        status, polygon: of every result.
        frames: those it saw.
    """

    backend = "nothing"
    response = None

    def __init__(self, model="quick"):
        self.manifest = SimpleNamespace(model=model)
        self.failing, self.frames, self.box, self.closed = None, [], None, 0
        self.status, self.polygon = "locked", None

    def init(self, frame, box_xywh):
        self._see(frame)
        self.box = tuple(box_xywh)

    def update(self, frame):
        self._see(frame)
        x, y, w, h = self.box
        self.box = (x + 1, y, w, h)
        ok = self.status == "locked"
        return TrackResult(ok, self.box, 0.75, self.status, StageTimes(1, 4, 2, 0, 7), self.polygon)

    def close(self):
        self.closed += 1

    def _see(self, frame):
        if self.failing:
            raise self.failing
        self.frames.append(frame)


class HandFeed:
    """Gives the frames that a test puts in, each when it is asked for.

    Attributes:
        hanging: seconds that `close` takes.
    """

    name, live, fps = "by hand", True, 30.0

    def __init__(self):
        self.waiting, self.given, self.closed, self.hanging = queue.Queue(), 0, 0, 0.0

    def put(self, frame, gap_s=0.0):
        self.waiting.put((frame, gap_s))

    def end(self, error=None):
        self.waiting.put((error or EndOfSource("over", received="the end", expected="more", fix="nothing"), None))

    def newest(self, timeout_s):
        try:
            frame, gap_s = self.waiting.get(timeout=min(timeout_s, 0.02))
        except queue.Empty:
            return None
        if isinstance(frame, Exception):
            raise frame
        self.given += 1
        return Captured(frame, self.given - 1, time.monotonic(), gap_s)

    def counts(self):
        return {"captured": self.given, "dropped": 3, "reconnects": 2, "gap_seconds": 1.5}

    def close(self):
        time.sleep(self.hanging)
        self.closed += 1


class Told:
    """A listener that keeps what it is told; `failing` is raised by every method."""

    name = "told"

    def __init__(self, failing=None, hanging_s=0.0):
        self.updates, self.failing, self.hanging_s, self.closed = queue.Queue(), failing, hanging_s, 0

    def take(self, update, frame):
        self._fail()
        self.updates.put(update)

    def close(self):
        self.closed += 1
        self._fail()

    def ended(self, timeout_s):
        self._fail()
        time.sleep(min(self.hanging_s, timeout_s))
        return True

    def next(self):
        return self.updates.get(timeout=5)

    def _fail(self):
        if self.failing:
            raise self.failing


class Driven:
    """A loop in a thread and all that belongs to it."""

    def __init__(self, tracker=None, feed=None, target=None):
        self.faults, self.told = Faults(), Told()
        self.tracker, self.feed = tracker or QuickTracker(), feed or HandFeed()
        self.loop = TrackingLoop(self.tracker, self.feed, self.faults)
        self.loop.listen(self.told)
        if target is not None:
            self.loop.track(target, patience_s=math.inf)
        self.thread = threading.Thread(target=self.loop.run, daemon=True)

    def step(self, frame=None, gap_s=0.0):
        """The result of one more frame."""
        self.feed.put(frame_of() if frame is None else frame, gap_s)
        return self.told.next()

    def counts(self):
        return dict(self.faults.counts())


@contextmanager
def driven(tracker=None, feed=None, target=None):
    """A loop that runs until the block is left."""
    run = Driven(tracker, feed, target)
    run.thread.start()
    try:
        yield run
    finally:
        run.loop.stop()
        run.thread.join(5)
        assert not run.thread.is_alive()
