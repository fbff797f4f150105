"""A tracker slower than its camera must not fall behind it: `python -m siamtrt.benchmarks.slow_consumer`.

A source of 60 frames a second, the default tracker held down to 10 updates a second, a minute of it: 99 of 100 results
may not come later than two frame times of the tracker after their frame was captured. Beside it the same source behind
a queue that keeps every frame, as a buffered camera read too slowly is: there the time grows with the age of the run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count

import click
import cv2
import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.runtime.live import open_feed
from siamtrt.runtime.tracker import Tracker

MOST_FRAME_TIMES = 2.0
SIZE, SIDE, STEPS = (640, 360), 48, 60  # of the frames, of the target in them, and how many there are; pixels
QUEUE_SECONDS = 10.0  # of the contrast: long enough to see it grow
PATIENCE_S = 1.0

Update = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Lag:
    """What a run showed.

    Attributes:
        latency_ms: (N,) from a frame's capture to its result, in the order of the results.
        frame_ms: the tracker's frame time.
        captured, dropped: frames of the source.
    """

    latency_ms: np.ndarray
    frame_ms: float
    captured: int
    dropped: int

    @property
    def holds(self) -> bool:
        """Whether p99 is within the bar."""
        return float(np.percentile(self.latency_ms, 99)) <= MOST_FRAME_TIMES * self.frame_ms

    def line(self, name: str) -> str:
        """One line for people."""
        p50, p99 = np.percentile(self.latency_ms, [50, 99])
        return (
            f"{name}: {len(self.latency_ms)} results, capture to result p50 {p50:.0f} ms ({p50 / self.frame_ms:.2f} "
            f"tracker frame times), p99 {p99:.0f} ms ({p99 / self.frame_ms:.2f}), last {self.latency_ms[-1]:.0f} ms; "
            f"{self.captured} frames captured, {self.dropped} dropped"
        )


def moving_square() -> tuple[list[np.ndarray], BoxXywh]:
    """Frames of a textured square that moves over a texture, and its box in the first."""
    rng = np.random.default_rng(0)
    background = cv2.resize(rng.integers(0, 256, (18, 32, 3), np.uint8), SIZE)
    square = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    frames = [background.copy() for _ in range(STEPS)]
    for step, frame in enumerate(frames):
        x, y = 100 + 4 * step, 80 + 2 * step
        frame[y : y + SIDE, x : x + SIDE] = square
    return frames, (100.0, 80.0, float(SIDE), float(SIDE))


def paced(frames: Sequence[np.ndarray], fps: float) -> Iterator[np.ndarray]:
    """Frames to and fro without an end, as many a second."""
    there_and_back = [*frames, *reversed(frames[1:-1])]
    due_s = time.monotonic()
    for number in count():
        time.sleep(max(due_s - time.monotonic(), 0.0))
        yield there_and_back[number % len(there_and_back)]
        due_s += 1 / fps


def lag_of_feed(update: Update, frames: Iterator[np.ndarray], seconds: float, tracker_fps: float) -> Lag:
    """Latencies of a live feed's reader that makes so many updates a second."""
    latency_ms = []
    with closing(open_feed(frames, realtime=True)) as feed:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if captured := feed.newest(PATIENCE_S):
                _throttled(update, captured.frame, tracker_fps)
                latency_ms.append(1e3 * (time.monotonic() - captured.at_s))
        counts = feed.counts()
    return Lag(np.array(latency_ms), 1e3 / tracker_fps, int(counts["captured"]), int(counts["dropped"]))


def lag_of_queue(update: Update, frames: Iterator[np.ndarray], seconds: float, tracker_fps: float) -> Lag:
    """The same behind a queue without a limit."""
    waiting: queue.Queue[tuple[np.ndarray, float]] = queue.Queue()
    stop = threading.Event()

    def fill() -> None:
        for frame in frames:
            if stop.is_set():
                return
            waiting.put((frame, time.monotonic()))

    filler = threading.Thread(target=fill)
    filler.start()
    latency_ms = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        frame, at_s = waiting.get()
        _throttled(update, frame, tracker_fps)
        latency_ms.append(1e3 * (time.monotonic() - at_s))
    stop.set()
    filler.join()
    return Lag(np.array(latency_ms), 1e3 / tracker_fps, len(latency_ms) + waiting.qsize(), 0)


def _throttled(update: Update, frame: np.ndarray, tracker_fps: float) -> None:
    """Update, and let the result out one frame time after the update began, as a slower machine would."""
    due_s = time.monotonic() + 1 / tracker_fps
    update(frame)
    time.sleep(max(due_s - time.monotonic(), 0.0))


@click.command()
@click.option("--seconds", type=click.FloatRange(0.5), default=60.0, show_default=True)
@click.option("--source-fps", type=click.FloatRange(1, 1000), default=60.0, show_default=True)
@click.option("--tracker-fps", type=click.FloatRange(1, 1000), default=10.0, show_default=True)
def main(seconds: float, source_fps: float, tracker_fps: float) -> None:
    """Measure the latency of the default tracker on a source that is faster than it; exit code 1 above the bar."""
    frames, box = moving_square()
    with Tracker.load(threads=1) as tracker:
        tracker.init(frames[0], box)
        newest = lag_of_feed(tracker.update, paced(frames, source_fps), seconds, tracker_fps)
        click.echo(newest.line("newest frame only"))
        every = lag_of_queue(tracker.update, paced(frames, source_fps), min(seconds, QUEUE_SECONDS), tracker_fps)
        click.echo(every.line("for contrast, a queue of every frame"))
    if not newest.holds:
        raise click.ClickException(f"p99 above {MOST_FRAME_TIMES:g} frame times of the tracker")


if __name__ == "__main__":
    main()
