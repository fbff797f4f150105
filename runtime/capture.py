"""Capture threads: they fill one slot with frames, and are replaced where a stream is lost or hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace

import numpy as np

from siamtrt.errors import FrameError, SourceError
from siamtrt.runtime.capture_rules import Rules
from siamtrt.runtime.crop import check_frame
from siamtrt.runtime.origins import Origin
from siamtrt.runtime.streams import CorruptFrameError, EndOfSource, Stream, StreamLostError
from siamtrt.runtime.urls import redacted

OnFault = Callable[[str, str], None]
CLOSE_S = 0.8  # waited for a thread at the end
MOST_HANGING = 4  # threads that may hang in a driver; at as many no further one is begun
UNUSABLE_PAUSE_S = 0.002  # after a frame that is none: a source of nothing else must not take a core


@dataclass(frozen=True)
class Captured:
    """A frame as it came from its source.

    Attributes:
        frame: (H, W, 3) uint8 BGR; nobody changes it afterwards.
        number: of the frames captured so far, from 0, dropped ones included.
        at_s: time.monotonic() when it was captured.
        gap_s: how long the stream was away before this frame, 0 where it was not.
    """

    frame: np.ndarray
    number: int
    at_s: float
    gap_s: float = 0.0


class Capture:
    """One source's threads, and the frame not yet given out.

    One thread reads at a time. One that hangs in a driver is left alone, and whatever it still brings is thrown away.

    Args:
        on_fault: told the kind of every fault and its details, from a capture thread.

    Raises:
        SourceError: the source does not open.
    """

    def __init__(self, origin: Origin, rules: Rules, on_fault: OnFault) -> None:
        self.fps = 0.0
        self._origin, self._rules, self._on_fault = origin, rules, on_fault
        self._changed = threading.Condition()
        self._slot: Captured | None = None
        self._failure: SourceError | None = None
        self._ended_s: float | None = None
        self._opened = False
        self._captured = self._dropped = self._reconnects = 0
        self._gap_s = 0.0
        self._last_s = time.monotonic()  # of the last frame, or of the beginning
        self._lost_s: float | None = None  # since when the stream is away
        self._deadline_s = float("inf")
        self._pauses = rules.pauses()
        self._hanging: list[threading.Thread] = []
        self._worker = self._begin()
        try:
            self._require_open()
        except BaseException:  # Ctrl-C as well
            self.close()
            raise

    def newest(self, timeout_s: float) -> Captured | None:
        """The frame not yet given out; waits for it, at most so long, else None.

        Raises:
            EndOfSource: a finite source is over, or this was closed.
            SourceError: a source that cannot be opened again failed.
        """
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while self._slot is None:
                if self._failure is not None:
                    raise self._failure.with_traceback(None)
                self._replace_hanging()
                now_s = time.monotonic()
                if now_s >= until_s:
                    return None
                self._changed.wait(max(min(until_s, self._deadline_s) - now_s, 1e-3))
            captured, self._slot = self._slot, None
            self._changed.notify_all()
        if self._rules.newest_only:
            return captured
        return replace(captured, at_s=time.monotonic())  # it was read ahead, and waited for the reader

    def counts(self) -> dict[str, float]:
        """Frames captured and dropped, times the stream came back, and seconds it was away, up to now."""
        with self._changed:
            away_s = 0.0 if self._lost_s is None else (self._ended_s or time.monotonic()) - self._lost_s
            return {"captured": self._captured, "dropped": self._dropped, "reconnects": self._reconnects,
                    "gap_seconds": self._gap_s + away_s}  # fmt: skip

    def close(self) -> None:
        """Stop; returns within a second, even where a driver hangs."""
        with self._changed:
            self._fail(EndOfSource("the feed is closed", received="a read after close", expected="an open feed",
                                   fix="open the source again"))  # fmt: skip
            self._slot = None
        if self._worker.is_alive() and self._worker is not threading.current_thread():
            self._worker.join(CLOSE_S)

    def _require_open(self) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._opened or self._failure, self._rules.open_s):
                raise SourceError(
                    "the source does not open", received=f"no answer from {self._origin.name}",
                    expected=f"an answer within {self._rules.open_s:.0f} s", fix="check device, driver and network",
                )
            if not self._opened and self._failure:
                raise self._failure

    def _replace_hanging(self) -> None:
        """Begin another thread where the present one hangs; the lock is held."""
        if time.monotonic() < self._deadline_s or self._failure is not None:
            return
        self._deadline_s = time.monotonic() + self._rules.stall_s
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) < MOST_HANGING:  # else wait for one to come back: a further one would hang as well
            self._hanging.append(self._worker)
            self._lost_s = self._last_s if self._lost_s is None else self._lost_s
            with suppress(RuntimeError):  # no further thread to be had: the reader goes on, and tries again later
                self._begin(("stream_stalled", f"no frame for {time.monotonic() - self._last_s:.1f} s"))

    def _fail(self, failure: SourceError) -> None:
        if self._failure is None:
            self._failure, self._ended_s = failure, time.monotonic()
            self._changed.notify_all()

    # What follows runs in the capture threads.

    def _begin(self, *faults: tuple[str, str]) -> threading.Thread:
        name = f"capture {self._origin.name}"
        self._worker = threading.Thread(target=self._work, args=faults, name=name, daemon=True)
        self._worker.start()
        return self._worker

    def _wanted(self) -> bool:
        return self._failure is None and self._worker is threading.current_thread()

    def _wait(self, seconds: float) -> bool:
        """Wait; returns whether this thread is wanted, and returns early where it is not."""
        with self._changed:
            return not self._changed.wait_for(lambda: not self._wanted(), seconds)

    def _work(self, *faults: tuple[str, str]) -> None:
        for fault in faults:
            self._tell(*fault)
        wanted = True
        while wanted and self._wait(0.0):
            before = self._captured
            try:
                self._expect(self._rules.open_s)
                with closing(self._origin.open()) as stream:
                    self._pump(stream)
            except EndOfSource as end:
                wanted = self._rules.loop and self._captured > before
                if not wanted:
                    self._finish(end)
            except BaseException as error:  # also what only ends a thread: the reader would wait for ever
                wanted = self._lose(error)

    def _pump(self, stream: Stream) -> None:
        """Read until this thread is no longer wanted; what the stream raises goes up."""
        with self._changed:
            if not self._wanted():
                return
            self._opened, self.fps = True, stream.fps
            self._changed.notify_all()
        self._expect(max(self._rules.open_s, self._rules.stall_s))  # a picture waits for a key frame: seconds
        due_s = time.monotonic()
        while self._wait_for_turn(due_s):
            try:
                frame = stream.read()
            except CorruptFrameError as error:
                self._offer(None, "frame_corrupt", str(error))
            else:
                self._offer(*_checked(frame))
            now_s = time.monotonic()
            due_s = max(due_s + 1 / stream.fps, now_s - 1.0)  # a player that slept catches up on one second at most

    def _wait_for_turn(self, due_s: float) -> bool:
        """Wait for a frame's time or the reader; returns whether this thread is wanted."""
        if self._rules.in_real_time:
            return self._wait(due_s - time.monotonic())
        with self._changed:
            if not self._rules.newest_only:
                self._changed.wait_for(lambda: self._slot is None or not self._wanted())
            return self._wanted()

    def _offer(self, frame: np.ndarray | None, fault: str, detail: str) -> None:
        """Put a frame into the slot, or count one that is none and name the fault."""
        with self._changed:
            if not self._wanted():
                return
            now_s = time.monotonic()
            number = self._captured
            self._captured += 1
            self._deadline_s = now_s + self._rules.stall_s
            if frame is None:
                self._dropped += 1
            else:
                self._slot = Captured(frame, number, now_s, self._gap_before(now_s))
                self._last_s = now_s
                self._changed.notify_all()
        if frame is None:
            self._tell(fault, detail)
            self._wait(UNUSABLE_PAUSE_S)

    def _gap_before(self, now_s: float) -> float:
        """The gap that ends with a frame, its own or that of the frame whose place it takes; the lock is held."""
        gap_s = 0.0
        if self._lost_s is not None:
            gap_s = now_s - self._lost_s
            self._gap_s += gap_s
            self._reconnects += 1
            self._lost_s, self._pauses = None, self._rules.pauses()
        if self._slot is not None:
            self._dropped += 1
            gap_s += self._slot.gap_s
        return gap_s

    def _lose(self, error: BaseException) -> bool:
        """Name a loss and wait before the next attempt; returns whether to make one."""
        with self._changed:
            if not self._wanted():
                return False
            again = self._opened and self._rules.reconnect
            news = self._lost_s is None
            if again and news:
                self._lost_s = self._last_s
            pause_s = next(self._pauses)
            self._deadline_s = float("inf")
        failure = error if isinstance(error, SourceError) else _failed(self._origin.name, error)
        detail = str(error) if isinstance(error, StreamLostError) else f"{failure.what}: {failure.received}"
        if self._opened:
            self._tell("stream_lost" if news else "reconnect_failed", detail)
        if not again:
            self._finish(failure)
            return False
        return self._wait(pause_s)

    def _expect(self, seconds: float) -> None:
        """Set the time after which this thread counts as hanging."""
        with self._changed:
            if self._wanted():
                self._deadline_s = time.monotonic() + seconds

    def _finish(self, failure: SourceError) -> None:
        with self._changed:
            if self._wanted():
                self._deadline_s = float("inf")
                self._fail(failure)

    def _tell(self, kind: str, detail: str) -> None:
        with suppress(Exception):  # a fault of whoever is told must not end the capture
            self._on_fault(kind, redacted(" ".join(detail.split())))


def _checked(frame: np.ndarray | None) -> tuple[np.ndarray | None, str, str]:
    """The frame, or None with the fault and its details."""
    try:
        check_frame(frame)  # type: ignore[arg-type]
    except FrameError as error:
        return None, "frame_unusable", f"received {error.received}"
    return frame, "", ""


def _failed(name: str, error: BaseException) -> SourceError:
    return SourceError("the source failed", received=redacted(f"{type(error).__name__} from {name}: {error}"),
                       expected="a further frame", fix="check the source")  # fmt: skip
