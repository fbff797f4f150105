"""Crops of many pairs in a temporary file, so that memory does not grow with their number."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import IO

import numpy as np

from siamtrt.errors import CalibrationError


class CropFile:
    """Template and search crops of `count` pairs as bytes of a temporary file.

    Crops are whole numbers in 0..255 (see `CropBuffer`), so that a byte holds them.

    Args:
        template, search: shapes of a pair's crops.
    """

    def __init__(self, count: int, template: tuple[int, ...], search: tuple[int, ...]) -> None:
        self._shapes = template, search
        self._starts = 0, int(np.prod(template))
        self._shape = count, self._starts[1] + int(np.prod(search))
        self._bytes: np.memmap | None = None
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError as error:
            raise self._full(error) from error

    def write(self, pair: int, part: int, crop: np.ndarray) -> None:
        """Store the template (part 0) or search crops (part 1) of a pair.

        Raises:
            CalibrationError: the file cannot be written; a map of it would end the process instead.
        """
        try:
            self._file.seek(pair * self._shape[1] + self._starts[part])
            self._file.write(crop.astype(np.uint8).tobytes())
        except OSError as error:
            raise self._full(error) from error

    def finish(self) -> None:
        """Map the file, whose crops are all written."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._full(error) from error
        self._bytes = np.memmap(self._file, np.uint8, "r", shape=self._shape)

    def _full(self, error: OSError) -> CalibrationError:
        return CalibrationError(
            "cannot keep the crops", received=f"{error.strerror} in the folder of temporary files",
            expected=f"{np.prod(self._shape) / 1e6:.0f} MB for {self._shape[0]} pairs",
            fix="free some, ask for fewer pairs, or set TMPDIR to a folder with more room",
        )  # fmt: skip

    def read(self, pair: int) -> list[np.ndarray]:
        """A pair's template and search crops as float32."""
        if self._bytes is None:
            raise CalibrationError(
                "pairs are closed", received=f"pair {pair} after close()", expected="open pairs",
                fix="read them before the end of the with statement",
            )  # fmt: skip
        row = np.split(self._bytes[pair], [self._starts[1]])
        return [part.reshape(shape).astype(np.float32) for part, shape in zip(row, self._shapes, strict=True)]

    def close(self) -> None:
        """Delete the file."""
        self._bytes = None
        with suppress(OSError):  # of what a full disk did not take; the file is closed all the same
            self._file.close()
