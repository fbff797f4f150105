"""What may be asked of a running tracking loop, from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from siamtrt.errors import SiamtrtError

Answer = TypeVar("Answer")
MOST_WAITING = 16
PATIENCE_S = 2.0  # a command that needs a frame waits so long for one


class CommandError(SiamtrtError):
    """A command that cannot be carried out."""


@dataclass(frozen=True)
class Command(Generic[Answer]):
    """Work for the loop's thread between two frames.

    `work` gets the next frame, (H, W, 3) uint8 BGR, or None where `needs_frame` is False and none came.
    """

    work: Callable[[np.ndarray | None], Answer]
    needs_frame: bool
    patience_s: float
    deadline_s: float
    future: Future[Answer]

    def run(self, frame: np.ndarray | None) -> None:
        """Carry it out; what it raises is its answer. Cancelled ones are left alone."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.work(frame))
        except Exception as error:  # whoever asked has to be told, and the loop has to go on
            self.future.set_exception(error)

    def fail(self, error: CommandError) -> None:
        """Answer with an error."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Commands:
    """Commands that wait for the loop, few at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Command[Any]] = []
        self._ended = False

    def ask(
        self, work: Callable[[np.ndarray | None], Answer], *, needs_frame: bool, patience_s: float = PATIENCE_S
    ) -> Future[Answer]:
        """Hand work to the loop; its answer, or what it raised, comes through the future.

        Args:
            patience_s: how long it waits for a frame, if it needs one.

        Raises:
            CommandError: too many wait already, or the loop has ended.
        """
        command = Command(work, needs_frame, patience_s, time.monotonic() + patience_s, Future())
        with self._lock:
            if self._ended:
                raise _ended()
            if len(self._waiting) >= MOST_WAITING:
                raise CommandError(
                    "too many commands at once", received=f"one more than {MOST_WAITING} that wait",
                    expected="a command when earlier ones are done", fix="wait for each answer",
                )
            self._waiting.append(command)
        return command.future

    def obey(self, frame: np.ndarray | None) -> None:
        """Run what waits, in order, up to the second command that needs a frame: it gets the next one.

        So no number of commands keeps the loop from its frames. Without a frame those that need one wait for it, as
        long as they were asked to.
        """
        with self._lock:
            commands, self._waiting = self._waiting, []
        left: list[Command[Any]] = []
        usable = frame
        for command in commands:
            if left or (command.needs_frame and usable is None):
                left.append(command)
            else:
                command.run(usable)
                usable = None if command.needs_frame else usable
        late = [command for command in left if frame is None and time.monotonic() >= command.deadline_s]
        with self._lock:
            self._waiting[:0] = [command for command in left if command not in late]
        for command in late:
            command.fail(_no_frame(command.patience_s))

    def end(self) -> None:
        """Answer what waits, and whatever is asked later, with an error: the loop has ended."""
        with self._lock:
            self._ended = True
            commands, self._waiting = self._waiting, []
        for command in commands:
            command.fail(_ended())


def _no_frame(patience_s: float) -> CommandError:
    return CommandError(
        "no frame to take the target from", received=f"none within {patience_s:g} s", expected="a running source",
        fix="wait until the source is back",
    )


def _ended() -> CommandError:
    return CommandError(
        "the tracking loop has ended", received="a command", expected="one while it runs", fix="start the service again"
    )
