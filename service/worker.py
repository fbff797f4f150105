"""A thread for work that may be slow, so that the tracking loop never waits for it."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from siamtrt.service.faults import Faults
from siamtrt.service.updates import Listener, Update

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Handles items in a thread of its own, in order; of those that wait it keeps the newest.

    Args:
        name: for faults.
        handle: one item; what it raises is counted as "output_failed".
        faults: told of failures and, as "output_behind", of items dropped because the worker was too slow.
        end: called in that thread after the last item.
        depth: items that may wait.
    """

    def __init__(
        self, name: str, handle: Callable[[Item], None], faults: Faults, end: Callable[[], None] = lambda: None,
        depth: int = 256,
    ) -> None:  # fmt: skip
        self.name = name
        self._handle, self._faults, self._end, self._depth = handle, faults, end, depth
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"siamtrt {name}", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand an item over; returns at once. After `close` it is left out."""
        with self._changed:
            if self._closing:
                return
            dropped = len(self._items) >= self._depth
            if dropped:
                self._items.popleft()
            self._items.append(item)
            self._changed.notify()
        if dropped:
            self._faults("output_behind", f"an item dropped, {self._depth} wait", self.name)

    def close(self) -> None:
        """Take no more items; the thread ends when it has handled those that wait. Returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def ended(self, timeout_s: float) -> bool:
        """Wait for the thread's end after `close`; False where it took longer, which is counted as "output_hangs"."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._faults("output_hangs", "did not end in time; what waited for it is lost", self.name)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            self._guarded(partial(self._handle, item[0]))
        self._guarded(self._end)

    def _next(self) -> tuple[Item] | None:
        """The oldest item that waits, in a tuple; None at the end."""
        with self._changed:
            while not self._items and not self._closing:
                self._changed.wait()
            return (self._items.popleft(),) if self._items else None

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (Exception, SystemExit) as error:  # whatever a library raises, the next item has its chance
            told = "".join(traceback.format_exception_only(error))  # also of an exception whose own text fails
            self._faults("output_failed", told, self.name)


class Output(Protocol):
    """Where results go. `send` and `close` may be slow or raise: they have a thread of their own."""

    name: str

    def send(self, update: Update) -> None:
        """Pass one result on."""
        ...

    def close(self) -> None:
        """Flush and end."""
        ...


class OutputListener(Listener):
    """Hands results to an output's own thread.

    Args:
        output: closed with the listener.
        faults: told of every failure.
    """

    def __init__(self, output: Output, faults: Faults) -> None:
        self.name = output.name
        self._worker: Worker[Update] = Worker(output.name, output.send, faults, output.close)

    def take(self, update: Update, frame: np.ndarray) -> None:
        """See `Listener`."""
        self._worker.put(update)

    def close(self) -> None:
        """See `Listener`."""
        self._worker.close()

    def ended(self, timeout_s: float) -> bool:
        """See `Listener`."""
        return self._worker.ended(timeout_s)
