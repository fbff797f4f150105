"""Results as lines of JSON, in a file that never grows without bound, in a pipe, or on standard output."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from siamtrt.errors import ServiceError
from siamtrt.service.reopening import Reopening
from siamtrt.service.updates import Update

STDOUT = "-"
LONGEST_TAIL = 1 << 20  # bytes without a line's end that a power cut may leave; one result has some 170
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENXIO, errno.EIO, errno.ESTALE}  # the rest: a mistake


@dataclass(frozen=True)
class JsonlConfig:
    """A file of results, one line each.

    Attributes:
        path: of the file, a named pipe or a device; "-" is standard output.
        rotate_mb: a file of so many megabytes (10^6 bytes) is renamed to `path.1`, `path.1` to `path.2`, ...
        keep: renamed files that are kept.
    """

    path: str
    rotate_mb: float = 64.0
    keep: int = 4

    def __post_init__(self) -> None:
        if not self.path or "\0" in self.path or not 0 < self.rotate_mb < float("inf") or self.keep < 1:
            raise ServiceError(
                "unusable settings of the JSON Lines output", received=self,
                expected="a path, rotate_mb above 0 and keep of at least 1", fix="correct the setting",
            )


class JsonlOutput:
    """Appends a line a result, each in one write, so that a reader sees whole lines.

    What a full disk or a power cut left half-written is cut off again; a file that was moved or removed is made anew.

    Raises:
        ServiceError: the place cannot be written to. A full disk or a pipe without a reader is no such mistake:
            it is tried again as long as results come.
    """

    def __init__(self, config: JsonlConfig) -> None:
        self.name = f"jsonl {config.path}"
        self._path, self._keep, self._limit = Path(config.path), config.keep, config.rotate_mb * 1e6
        self._to_stdout = config.path == STDOUT
        self._file = Reopening(_open_stdout if self._to_stdout else self._open)
        try:
            with self._file.use():
                pass
        except OSError as error:
            if error.errno not in PASSING:
                raise _unwritable(config.path, error) from error

    def send(self, update: Update) -> None:
        """Append a line.

        Raises:
            OSError: it could not be written; nothing of it is in the file.
        """
        with self._file.use() as file:
            over = self._is_over(file)
        if over:
            self._file.close()
        with self._file.use() as file:
            _write_line(file.fileno(), update.encoded() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _is_over(self, file: FileIO) -> bool:
        """Whether the next line belongs into another file: this one is full, or was moved or removed."""
        if self._to_stdout:
            return False
        try:
            held, named = os.fstat(file.fileno()), self._path.stat()
        except FileNotFoundError:
            return True
        return held.st_size >= self._limit or not os.path.samestat(held, named)

    def _open(self) -> FileIO:
        with suppress(FileNotFoundError):
            found = self._path.stat()
            if stat.S_ISREG(found.st_mode) and (not _mended(self._path, found.st_size) or self._is_full()):
                self._rotate()
        # Without O_NONBLOCK a pipe without a reader would block here, and with it lines would be lost while one reads.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK
        file = FileIO(os.open(self._path, flags, 0o644), "w")
        os.set_blocking(file.fileno(), True)
        return file

    def _is_full(self) -> bool:
        return self._path.stat().st_size >= self._limit

    def _rotate(self) -> None:
        path = self._path.resolve()  # where a link points, or the link alone would be renamed
        places = [path, *(Path(f"{path}.{number}") for number in range(1, self._keep + 1))]
        for old, new in reversed([*itertools.pairwise(places)]):
            with suppress(FileNotFoundError):
                old.replace(new)


def _open_stdout() -> FileIO:
    if sys.__stdout__ is None:
        raise OSError(errno.EBADF, "standard output is closed")
    return FileIO(1, "w", closefd=False)


def _mended(path: Path, size: int) -> bool:
    """Cut off a half-written line; False where a file ends in something else, which is to be left alone."""
    with path.open("rb+") as file:
        start = max(size - LONGEST_TAIL, 0)
        file.seek(start)
        tail = file.read(LONGEST_TAIL)
        whole = tail.rfind(b"\n") + 1
        if whole == len(tail):
            return True
        ours = tail[whole : whole + 1] in b"{\0"  # some file systems leave zeros for what was not written yet
        if ours and (whole or not start):
            file.truncate(start + whole)
            return True
    return False


def _write_line(handle: int, line: bytes) -> None:
    """Write all of it or none."""
    done = 0
    try:
        while done < len(line):
            done += os.write(handle, line[done:])
    except OSError:
        if done:
            with suppress(OSError):  # no file, or one that is mended when it is opened again
                os.ftruncate(handle, end := os.fstat(handle).st_size - done)
                os.lseek(handle, end, os.SEEK_SET)  # a shell's `>` does not append
        raise


def _unwritable(path: str, error: OSError) -> ServiceError:
    return ServiceError(
        "the JSON Lines output cannot be written", received=f"{path} ({error.strerror or error})",
        expected="a file in a directory you may write", fix="create the directory, or choose another path",
    )
