"""Log lines that never hold up whoever writes them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from siamtrt.service.faults import Faults
from siamtrt.service.worker import Worker

LAST_LINES_S = 0.1  # for what waits at the end


class _Behind(logging.Handler):
    """Hands lines to a thread: a terminal or a pipe that nobody reads blocks that one alone."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("siamtrt: %(levelname)s %(message)s"))
        self.worker: Worker[str] = Worker("log", _write, faults)

    def emit(self, record: logging.LogRecord) -> None:
        self.worker.put(self.format(record))


def _write(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def logging_to_stderr(faults: Faults) -> Iterator[None]:
    """The program's log on standard error: ours from INFO on, the libraries' from WARNING on."""
    root, ours = logging.getLogger(), logging.getLogger("siamtrt")
    handler, level = _Behind(faults), ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        handler.worker.close()
        handler.worker.ended(LAST_LINES_S)
        root.removeHandler(handler)  # not before: without it `logging` itself writes, and waits for whoever reads
        ours.setLevel(level)
