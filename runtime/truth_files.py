"""Ground truth as the datasets write it: text, one line a frame."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from siamtrt.errors import SourceError


def read_boxes(path: Path) -> np.ndarray:
    """(F, 4) boxes from one `x,y,w,h` line a frame; commas, tabs and spaces separate.

    Raises:
        SourceError: no line, or one that is not four numbers.
    """
    rows = [split_line(line) for line in read_lines(path)]
    try:
        return np.array([[float(value) for value in row] for row in rows]).reshape(len(rows), 4)
    except ValueError as error:
        raise unreadable(path, str(error), "four numbers a line: x,y,w,h") from error


def read_regions(path: Path) -> tuple[tuple[float, ...], ...]:
    """The numbers of each line: `x,y,w,h`, or x and y of three and more corners; none where one of them is NaN.

    Raises:
        SourceError: no line, or one that is neither.
    """
    regions = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            region = tuple(float(value) for value in split_line(line))
        except ValueError:
            region = ()
        if len(region) < 4 or len(region) % 2 or any(map(math.isinf, region)):
            expected = "x,y,w,h, or x,y of three and more corners a line; masks, of VOT2020 and later, are not read"
            raise unreadable(path, f"line {number} {line[:60]!r}", expected)
        regions.append(() if any(map(math.isnan, region)) else region)
    return tuple(regions)


def read_flags(path: Path, count: int) -> np.ndarray:
    """(F,) booleans from 0 or 1, one a line or, as LaSOT has them, separated by commas on one line.

    Raises:
        SourceError: not as many, or something else.
    """
    lines = read_lines(path)
    values = re.split(r"[,\s]+", lines[0].strip(",")) if len(lines) == 1 else lines
    if len(values) != count or not {*values} <= {"0", "1"}:
        raise unreadable(path, f"{len(values)} lines of {sorted({*values})[:4]}", f"{count} lines of 0 or 1")
    return np.array(values) == "1"


def read_table(path: Path, columns: int, expected: str) -> np.ndarray:
    """(F, columns) numbers; commas, tabs and spaces separate, what stands behind the columns is left out.

    Raises:
        SourceError: no line, or one with fewer numbers.
    """
    rows = [split_line(line)[:columns] for line in read_lines(path)]
    try:
        return np.array([[float(value) for value in row] for row in rows]).reshape(len(rows), columns)
    except ValueError as error:
        raise unreadable(path, str(error), expected) from error


def split_line(line: str) -> list[str]:
    """What commas, tabs and spaces separate."""
    return re.split(r"[,\s]+", line)


def read_lines(path: Path) -> list[str]:
    """A file's lines, stripped, without empty ones.

    Raises:
        SourceError: it cannot be read, or has none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise unreadable(path, str(error), "a text file") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise unreadable(path, "no line", "a line a frame")
    return lines


def unreadable(path: Path, received: str, expected: str) -> SourceError:
    """The error of a file that is not what its name says."""
    return SourceError(
        "unreadable ground truth", received=f"{path}: {received}", expected=expected, fix="correct the file"
    )
