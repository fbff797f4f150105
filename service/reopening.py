"""Something that is open as long as it works, and is opened again after it failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar

RETRY_S = 1.0  # between two tries; results that come meanwhile fail without one


class Closable(Protocol):
    """A file or a socket."""

    def close(self) -> object: ...


Handle = TypeVar("Handle", bound=Closable)


class Reopening(Generic[Handle]):
    """Opens at the first use, and again after an error of the operating system, once a second at most.

    Args:
        open_handle: raises OSError where it fails.
    """

    def __init__(self, open_handle: Callable[[], Handle]) -> None:
        self._open = open_handle
        self._handle: Handle | None = None
        self._failure: tuple[object, ...] = ()
        self._retry_s = 0.0

    @contextmanager
    def use(self) -> Iterator[Handle]:
        """The open handle; an OSError in the block closes it.

        Raises:
            OSError: it does not open, or did not less than `RETRY_S` ago.
        """
        try:
            if self._handle is None:
                self._handle = self._opened()
            yield self._handle
        except OSError as error:
            self.close()
            if time.monotonic() >= self._retry_s:
                self._failure, self._retry_s = error.args, time.monotonic() + RETRY_S
            raise

    def close(self) -> None:
        """Close it; the next use opens it again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):  # what it could not write was told when it was written
                handle.close()

    def _opened(self) -> Handle:
        if time.monotonic() < self._retry_s:
            raise OSError(*self._failure)
        return self._open()
