"""Objects that training pairs are drawn from, and what every reader of annotations needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from siamtrt.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Track:
    """One object and its F appearances: F is 1 in a still image.

    Attributes:
        images: F files; as text, which takes a third of a Path's memory: GOT-10k has 1.4 million.
        boxes_xywh: (F, 4) pixels in them; sides are positive.
        group: the video or still image it is of. Tracks of one group share images.
        category: of the object, where the data set names one; distractors are drawn from it.
        size_wh: of the images in pixels, where the data set says it.
    """

    images: tuple[str, ...]
    boxes_xywh: np.ndarray
    group: str
    category: str | None = None
    size_wh: tuple[int, int] | None = None


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """A file's content, each object of it through the hook as soon as it is read.

    Raises:
        TrainingError: missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_hook=object_hook)
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(
            "unreadable annotations", received=f"{path} ({error})", expected="a JSON file", fix="check path and file"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong when a file's content is taken apart into an error that names the file.

    Raises:
        TrainingError: the content is of another form.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise TrainingError(
            "annotations of another form", received=f"{path}: {type(error).__name__} {error}",
            expected="the names and boxes of this form, see training/formats.py", fix="correct `format` in the config",
        ) from error  # fmt: skip


def as_boxes(rows: Sequence[Any]) -> np.ndarray:
    """(F, 4) float64 of F rows.

    Raises:
        TypeError, ValueError, OverflowError: not four numbers a row.
    """
    return np.array(rows, np.float64).reshape(len(rows), 4)


def have_extent(boxes_xywh: np.ndarray) -> np.ndarray:
    """(F,) which boxes are finite and have positive sides."""
    return np.isfinite(boxes_xywh).all(axis=1) & (boxes_xywh[:, 2:] > 0).all(axis=1)


def as_text(value: Any) -> str:
    """A name.

    Raises:
        TypeError, UnicodeEncodeError: something else, or half of a character.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} where a name belongs")
    value.encode()
    return value


def file_in(folder: Path | str, name: Any) -> str:
    """A file below a folder.

    Raises:
        TypeError, ValueError: no name, or one that leads out of the folder.
    """
    path = PurePosixPath(as_text(name))
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise ValueError(f"file {name!r:.80} leaves the folder of the data")
    return f"{folder}/{name}"
