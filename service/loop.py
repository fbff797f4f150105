"""The tracking loop: newest frame in, result out to every listener, commands in between; it never waits for them."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from siamtrt.boxes import BoxXywh, check_box
from siamtrt.errors import SiamtrtError
from siamtrt.runtime.crop import check_frame
from siamtrt.runtime.live import Captured, EndOfSource, Feed
from siamtrt.runtime.tracker import Tracker
from siamtrt.service.commands import PATIENCE_S, CommandError, Commands
from siamtrt.service.faults import Faults
from siamtrt.service.frame_sizes import in_pixels, of_size, scaled, scaled_points
from siamtrt.service.updates import Listener, Update

POLL_S = 0.1  # how long a frame is waited for before commands and the stop are looked at again
END_S = 0.5  # for all listeners together, of the second that a stop may take
Unit = Literal["pixels", "share"]


@dataclass(frozen=True)
class Snapshot:
    """What the loop is at: tracker, source, last result, and counts since the start."""

    model: str
    backend: str
    source: str
    last: Update | None
    last_s: float
    updates: int
    started_s: float
    feed_counts: dict[str, float]

    @property
    def silent_s(self) -> float:
        """Seconds since the last frame was dealt with, or since the start."""
        return time.monotonic() - self.last_s

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_s


class TrackingLoop:
    """Tracks the target of a live source until it is stopped or the source ends.

    `run` is the loop; every other method may be called from any thread. What fails is counted and the loop goes on.

    Args:
        tracker: open; closed at the end, as is one it was switched to.
        feed: where frames come from; closed at the end.
        faults: told of everything that fails.
    """

    def __init__(self, tracker: Tracker, feed: Feed, faults: Faults) -> None:
        self._tracker, self._feed, self._faults = tracker, feed, faults
        self._listeners: tuple[Listener, ...] = ()
        self._commands = Commands()
        self._stopped = False
        self._switching = threading.Lock()
        self._target_size: tuple[int, int] | None = None  # of the frame the target was taken from
        self._target_xywh: BoxXywh | None = None  # where it was last, in such a frame
        self._frame_size: tuple[int, int] | None = None
        self._last: Update | None = None
        self._started_s = self._last_s = time.monotonic()
        self._updates = 0

    def listen(self, listener: Listener) -> None:
        """Tell a listener of every frame from now on; it is closed at the end."""
        self._listeners = (*self._listeners, listener)

    def track(
        self, box_xywh: Sequence[float], unit: Unit = "pixels", patience_s: float = PATIENCE_S
    ) -> Future[BoxXywh]:
        """Take a target from the next frame, in the place of the present one.

        Args:
            box_xywh: in pixels of the frame, or in shares of its width and height (0 to 1).
            patience_s: how long that frame may take to come.

        Returns:
            The future box in pixels. It raises BoxError, FrameError for an unusable box or frame, and an earlier
            target is then kept; CommandError without a frame.
        """
        return self._commands.ask(
            lambda frame: self._init(frame, box_xywh, unit), needs_frame=True, patience_s=patience_s
        )

    def drop(self) -> Future[None]:
        """Forget the target; frames go on."""
        return self._commands.ask(lambda _: self._forget(), needs_frame=False)

    def switch(self, open_tracker: Callable[[], Tracker]) -> Future[None]:
        """Go on with another tracker, which takes the target at its present place.

        It is opened in the caller's thread, so that frames go on meanwhile.

        Returns:
            The future end of it. It raises CommandError without a frame or while the target is lost, and whatever the
            tracker says to a target that it has no use for; the present tracker is then kept.

        Raises:
            SiamtrtError: the tracker does not open.
            CommandError: another switch is under way, or the loop has ended.
        """
        if not self._switching.acquire(blocking=False):
            raise _switching()
        try:
            return self._switch(open_tracker())
        finally:
            self._switching.release()

    def _switch(self, tracker: Tracker) -> Future[None]:
        try:
            future = self._commands.ask(lambda frame: self._take_over(tracker, frame), needs_frame=True)
        except CommandError:
            tracker.close()
            raise
        future.add_done_callback(lambda done: self._close(tracker) if done.cancelled() or done.exception() else None)
        return future

    def stop(self) -> None:
        """End the loop after the present frame; may be called by a signal's handler."""
        self._stopped = True

    def snapshot(self) -> Snapshot:
        """What it is at."""
        return Snapshot(
            self._tracker.manifest.model, self._tracker.backend, self._feed.name, self._last, self._last_s,
            self._updates, self._started_s, self._feed.counts(),
        )  # fmt: skip

    def response(self) -> np.ndarray | None:
        """The response map of the last update, (S, S) float32 in [0, 1], None without one; for listeners' `take`."""
        return None if self._target_size is None else self._tracker.response

    def run(self, alive: Callable[[], object] = lambda: None) -> None:
        """Track until `stop` or the end of the source.

        Args:
            alive: called after every frame, or after `POLL_S` without one.

        Raises:
            SourceError: the source has no further frame to give, though it did not end.
        """
        try:
            while not self._stopped:
                self._turn(self._feed.newest(POLL_S))
                alive()
        except EndOfSource:
            return
        finally:
            self._end()

    def _end(self) -> None:
        self._commands.end()
        deadline = time.monotonic() + END_S
        for listener in self._listeners:
            self._guarded(listener.name, listener.close)
        closing = threading.Thread(target=self._feed.close, name="siamtrt feed's end", daemon=True)
        closing.start()  # a device that hangs is waited for while the listeners are
        for listener in self._listeners:
            self._guarded(listener.name, partial(listener.ended, max(deadline - time.monotonic(), 0.0)))
        closing.join(max(deadline - time.monotonic(), 0.0))
        self._close(self._tracker)

    def _close(self, tracker: Tracker) -> None:
        try:
            tracker.close()
        except Exception as error:  # a driver's
            self._faults("tracker_failed", f"{type(error).__name__}: {error}")

    def _guarded(self, name: str, call: Callable[[], object]) -> None:
        """Call a listener; its mistake is neither the others' nor the loop's."""
        try:
            call()
        except Exception as error:
            self._faults("listener_failed", f"{type(error).__name__}: {error}", name)

    def _turn(self, captured: Captured | None) -> None:
        if captured is None:
            self._commands.obey(None)
            return
        frame = captured.frame
        try:
            size = check_frame(frame)
        except SiamtrtError as error:
            self._faults("frame_unusable", error)
            self._commands.obey(None)
            return
        if self._frame_size not in (None, size):
            self._faults("frame_size_changed", "{}x{} to {}x{}".format(*(self._frame_size or size), *size))
        if captured.gap_s:
            self._faults("gap", f"{captured.gap_s:.2f} s without frames")
        self._frame_size = size
        self._commands.obey(frame)
        self._tell(self._update(captured, size), frame)

    def _update(self, captured: Captured, size: tuple[int, int]) -> Update:
        time_s = time.time() - (time.monotonic() - captured.at_s)
        update = Update(captured.number, time_s, size, "idle", gap_s=captured.gap_s)
        if self._target_size is not None and self._target_xywh is not None:
            update = self._tracked(captured.frame, update, self._target_size, self._target_xywh)
        return dataclasses.replace(update, latency_ms=1e3 * (time.monotonic() - captured.at_s))

    def _tracked(
        self, frame: np.ndarray, update: Update, target_size: tuple[int, int], last_xywh: BoxXywh
    ) -> Update:
        """`update` with where the target is; "invalid", where it last was, if the tracker fails."""
        try:
            result = self._tracker.update(of_size(frame, target_size))
        except Exception as error:  # a driver's or a library's: the next frame may do
            self._faults("tracker_failed", f"{type(error).__name__}: {error}")
            box = scaled(last_xywh, target_size, update.frame_size)
            return dataclasses.replace(update, status="invalid", box_xywh=box, score=0.0)
        self._updates += 1
        self._target_xywh = result.box_xywh
        box = scaled(result.box_xywh, target_size, update.frame_size)
        corners = result.polygon and scaled_points(result.polygon, target_size, update.frame_size)
        return dataclasses.replace(
            update, status=result.status, box_xywh=box, score=result.score, times=result.times, polygon_xy=corners
        )

    def _tell(self, update: Update, frame: np.ndarray) -> None:
        self._last, self._last_s = update, time.monotonic()
        for listener in self._listeners:
            self._guarded(listener.name, partial(listener.take, update, frame))

    def _init(self, frame: np.ndarray | None, box_xywh: Sequence[float], unit: Unit) -> BoxXywh:
        assert frame is not None
        size = check_frame(frame)
        box = check_box(in_pixels(box_xywh, size) if unit == "share" else box_xywh, size)
        self._tracker.init(frame, box)
        self._target_size, self._target_xywh = size, box
        return box

    def _forget(self) -> None:
        self._target_size = self._target_xywh = None

    def _present_box(self, frame: np.ndarray, target_size: tuple[int, int], last_xywh: BoxXywh) -> BoxXywh:
        """Where the target is in this frame: the box of the one before is off by a frame's motion.

        Raises:
            CommandError: it is lost, and what is in its last place is something else.
        """
        try:
            result = self._tracker.update(of_size(frame, target_size))
        except Exception as error:
            self._faults("tracker_failed", f"{type(error).__name__}: {error}")
            return last_xywh
        if result.status == "lost":
            raise _nowhere()
        return result.box_xywh

    def _take_over(self, tracker: Tracker, frame: np.ndarray | None) -> None:
        assert frame is not None
        size = check_frame(frame)
        if self._target_size is not None and self._target_xywh is not None:
            box = scaled(self._present_box(frame, self._target_size, self._target_xywh), self._target_size, size)
            tracker.init(frame, box)
            self._target_size, self._target_xywh = size, box
        self._tracker, old = tracker, self._tracker
        self._close(old)


def _switching() -> CommandError:
    return CommandError(
        "another switch is under way", received="a second one", expected="one at a time", fix="wait for its answer"
    )


def _nowhere() -> CommandError:
    return CommandError(
        "no place to take the target from", received="a target that is lost", expected="one that is seen, or none",
        fix="stop, switch, and start anew, or switch when it was found again",
    )
