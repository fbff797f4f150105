"""A view of a tracking loop to look at: a moving scene without end, and a tracker that stays where it is told."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np

from siamtrt.runtime.live import open_feed
from siamtrt.runtime.tracker import StageTimes, TrackResult
from siamtrt.service.faults import Faults
from siamtrt.service.http_api import make_app
from siamtrt.service.http_guard import Access
from siamtrt.service.http_server import HttpServer
from siamtrt.service.loop import TrackingLoop
from siamtrt.service.metrics import Metrics
from siamtrt.service.view import View, add_view

SIZE = (640, 360)
BOX = (120.0, 90.0, 160.0, 120.0)
SIDE, PEAK = 13, (4, 9)  # of the response map; row and column of its peak


class Still:
    """A tracker whose target never moves, and whose status and polygon are what a test says."""

    manifest = SimpleNamespace(model="still <b>life</b>")
    backend = "nothing"

    def __init__(self):
        self.status, self.polygon, self.inits, self.box = "locked", None, [], None

    @property
    def state(self):
        return SimpleNamespace(box_xywh=self.box)

    @property
    def response(self):
        rows, columns = np.indices((SIDE, SIDE))
        return np.exp(-((rows - PEAK[0]) ** 2 + (columns - PEAK[1]) ** 2) / 4).astype(np.float32)

    def init(self, frame, box_xywh):
        self.inits.append(tuple(box_xywh))
        self.box = tuple(box_xywh)

    def update(self, frame):
        score = 0.75 if self.status == "locked" else 0.25
        ok, times = self.status == "locked", StageTimes(1, 4, 2, 0, 7)
        return TrackResult(ok, self.box, score, self.status, times, self.polygon)

    def close(self):
        pass


class Scene:
    """Spots of `grain` pixels that move; with a grain of 1 their pictures are large files."""

    def __init__(self, size=SIZE, grain=8):
        self.width, height = size
        rng = np.random.default_rng(1)
        spots = rng.integers(0, 256, (height // grain, 2 * self.width // grain, 3), dtype=np.uint8)
        self._wide = cv2.resize(spots, (2 * self.width, height))

    def frame(self, index: int) -> np.ndarray:
        shift = 7 * index % self.width
        return self._wide[:, shift : shift + self.width]

    def frames(self) -> Iterator[np.ndarray]:
        """Without end, 40 a second, as a camera gives them."""
        for index in itertools.count():
            time.sleep(1 / 40)
            yield self.frame(index)


def silence() -> Iterator[np.ndarray]:
    """A camera that gives nothing."""
    time.sleep(2)
    yield from ()


class Running(NamedTuple):
    """A loop under way, and what shows it."""

    loop: TrackingLoop
    tracker: Still
    view: View
    faults: Faults

    @contextmanager
    def served(self, port=0) -> Iterator[str]:
        """The page's address while a server of its own shows it."""
        app = make_app(self.loop, self.faults, Access(), Metrics(self.loop, self.faults))
        add_view(app, self.view)
        server = HttpServer(app, ("127.0.0.1", port), self.faults)
        server.start()
        try:
            yield f"{server.address}/view/"
        finally:
            server.close()
            assert server.ended(1)


@contextmanager
def running_view(frames=None, target=BOX) -> Iterator[Running]:
    """A loop in a thread."""
    faults, tracker = Faults(), Still()
    loop = TrackingLoop(tracker, open_feed(frames or Scene().frames(), realtime=True, on_fault=faults), faults)
    loop.track(target, patience_s=math.inf)
    view = View(loop, faults)
    loop.listen(view)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        yield Running(loop, tracker, view, faults)
    finally:
        loop.stop()
        thread.join(2)
        assert not thread.is_alive()
