"""Sequences tracked by processes of their own, one thread each, which end when their parent does."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import numpy as np

from siamtrt import errors
from siamtrt.backends import Backend
from siamtrt.benchmarks.tasks import Task, run_sequence
from siamtrt.errors import SiamtrtError
from siamtrt.runtime.tracker import Tracker
from siamtrt.runtime.watched import WatchedTracker

THREADS = 1  # of a tracker, at any number of workers: sums in another order would give other boxes
END_S = 5.0  # after which a worker that was told to stop is killed


@dataclass(frozen=True)
class Failure:
    """An exception in a form that survives being sent: `parts` are a `SiamtrtError`'s, else the text is a traceback."""

    kind: str
    text: str
    parts: tuple[str, str, str, str] | None = None


def open_tracker(bundle: Path, backend: Backend, watch: bool) -> Tracker:
    """A bundle's tracker as it is evaluated.

    Args:
        watch: see `WatchedTracker`.

    Raises:
        SiamtrtError: it cannot be opened.
    """
    kind = WatchedTracker if watch else Tracker
    return kind.load(bundle, backend, threads=THREADS)


class TrackerCache:
    """Keeps the last task's tracker open for the next."""

    def __init__(self) -> None:
        self._key: tuple[Path, Backend, bool] | None = None
        self._tracker: Tracker | None = None

    def get(self, bundle: Path, backend: Backend, watch: bool) -> Tracker:
        """See `open_tracker`."""
        if self._key != (bundle, backend, watch) or self._tracker is None:
            self.close()
            self._tracker = open_tracker(bundle, backend, watch)
            self._key = bundle, backend, watch
        return self._tracker

    def close(self) -> None:
        """Free it."""
        if self._tracker is not None:
            self._tracker.close()
        self._tracker = None


def run_tasks(tasks: Sequence[Task], workers: int) -> Iterator[Task]:
    """Do every task and yield it when its files are there, in the order in which they are done.

    With one worker this process does it. The files are the same at any number.

    Raises:
        SiamtrtError: what stopped a sequence, with its name; what the others are doing is dropped.
        RuntimeError: an error that is none of the user's, with its traceback.
    """
    if min(workers, len(tasks)) <= 1:
        cache = TrackerCache()
        try:
            for task in tasks:
                if failure := _attempt(task, cache):
                    raise rebuilt(failure, task)
                yield task
        finally:
            cache.close()
        return
    with _pool(min(workers, len(tasks))) as connections:
        yield from _dispatched(deque(tasks), connections)


def _attempt(task: Task, cache: TrackerCache, parent: int | None = None) -> Failure | None:
    """Do a task; an orphan stops in the middle of it, and leaves its sequence to the next evaluation."""
    try:
        tracker, source = cache.get(task.bundle, task.backend, task.watch), task.sequence.open()
        watched = dataclasses.replace(source, frames=_watched(source.frames, parent))
        run_sequence(task, tracker, watched)
    except Exception as error:
        return failure_of(error)
    return None


def failure_of(error: Exception) -> Failure:
    """An exception that is being handled, to be sent."""
    if isinstance(error, SiamtrtError):
        parts = error.what, str(error.received), str(error.expected), error.fix
        return Failure(type(error).__name__, str(error), parts)
    return Failure("", traceback.format_exc())


def _watched(frames: Iterator[np.ndarray], parent: int | None) -> Iterator[np.ndarray]:
    for frame in frames:
        if parent is not None and os.getppid() != parent:
            raise SystemExit
        yield frame


def rebuilt(failure: Failure, task: Task) -> Exception:
    """The exception again, with the names of tracker and sequence."""
    where = f"{task.tracker} on {task.sequence.name}"
    if failure.parts is None:
        return RuntimeError(f"{where}: {failure.text}")
    what, received, expected, fix = failure.parts
    kind = getattr(errors, failure.kind, SiamtrtError)
    return cast(Exception, kind(f"{where}: {what}", received=received, expected=expected, fix=fix))


@contextmanager
def _pool(count: int) -> Iterator[list[Connection]]:
    """Processes, each at the other end of a connection; all are gone afterwards."""
    context = multiprocessing.get_context("spawn")  # ONNX Runtime's and OpenCV's threads do not survive a fork
    processes, connections = [], []
    with ExitStack() as stack:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
            process.start()
            theirs.close()
            stack.callback(_end, process)
            processes.append(process)
            connections.append(stack.enter_context(cast(Any, ours)))
        try:
            yield cast("list[Connection]", connections)
        except BaseException:
            for process in processes:
                process.terminate()
            raise


def _end(process: Any) -> None:
    """Wait for a process, whose connection is closed by now."""
    process.join(END_S)
    if process.is_alive():
        process.kill()
        process.join()


def _dispatched(waiting: deque[Task], connections: list[Connection]) -> Iterator[Task]:
    busy: dict[Connection, Task] = {}
    idle = list(connections)
    while waiting or busy:
        while waiting and idle:
            connection = idle.pop()
            busy[connection] = waiting.popleft()
            connection.send(busy[connection])
        for ready in cast("list[Connection]", wait(list(busy))):
            task = busy.pop(ready)
            try:
                failure = ready.recv()
            except (EOFError, OSError):
                raise _died(task) from None
            if failure:
                raise rebuilt(failure, task)
            idle.append(ready)
            yield task


def _died(task: Task) -> SiamtrtError:
    return SiamtrtError(
        f"{task.tracker} on {task.sequence.name}: its worker died", received="no answer", expected="its boxes",
        fix="check free memory, or use fewer --workers; what is done is kept",
    )


def _work(connection: Connection, parent: int) -> None:
    """Do tasks until the connection closes.

    Ctrl-C reaches the whole group of processes; only the parent, which then ends this one, heeds it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    import cv2

    cv2.setNumThreads(THREADS)
    cache = TrackerCache()
    with suppress(EOFError, OSError):
        while True:
            connection.send(_attempt(connection.recv(), cache, parent))


def _leave(number: int, frame: object) -> None:
    """End by an exception, so that no file is left half-written."""
    raise SystemExit
