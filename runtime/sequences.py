"""Sequences with ground truth below a folder, beside a video, or from a source and one box."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from siamtrt.boxes import parse_box
from siamtrt.errors import BoxError, SourceError
from siamtrt.runtime.layouts import LAYOUTS, sequences_below, videos
from siamtrt.runtime.sequence import Sequence, mismatch
from siamtrt.runtime.truth_files import read_boxes

__all__ = ["Sequence", "find_sequences", "open_sequences", "read_boxes"]


def find_sequences(root: Path | str) -> list[Sequence]:
    """Every sequence below a folder, or the folder itself, sorted by name.

    Raises:
        SourceError: the folder has none, a ground truth cannot be read, or one has not a line for every image.
    """
    found = sequences_below(Path(root))
    if not found:
        raise SourceError("no sequences", received=str(root), expected=LAYOUTS, fix="check the path")
    for sequence in found:
        if sequence.init_only:
            raise mismatch(sequence, "more than one frame")
    return found


def open_sequences(specs: Iterable[str | Path]) -> list[Sequence]:
    """The sequences that a list of sources names, in its order; those of one folder sorted by name.

    A source is a folder with sequences below it, or itself one; a video with its .txt beside it; or, unless a file has
    that whole name, a video or folder of images with the first box appended, `flight.mp4:120,80,64,48`. This gives a
    sequence that is `init_only`, as does a ground truth of one line (GOT-10k's test split).

    Raises:
        SourceError: no source, none of that name, one twice, one without boxes, an unreadable box or ground truth,
            or one that has not a line for every image.
    """
    sequences: list[Sequence] = []
    seen: set[Path] = set()
    for spec in specs:
        found = _named(str(spec))
        for sequence in found:
            if sequence.frames.resolve() in seen:
                raise SourceError(
                    "a sequence twice", received=str(sequence.frames), expected="every sequence once",
                    fix="leave out the source that is part of another",
                )
        seen.update(sequence.frames.resolve() for sequence in found)  # one may hold several targets
        sequences += found
    if not sequences:
        raise SourceError("no sequences", received="an empty list", expected="at least one source", fix="name a source")
    return sequences


def _named(spec: str) -> list[Sequence]:
    path = Path(spec)
    if path.is_dir():
        found = sequences_below(path)
    elif path.is_file():
        found = videos([path])
    else:
        return [_with_first_box(spec)]
    if not found:
        raise SourceError(
            "source without boxes", received=spec, expected=LAYOUTS,
            fix=f"append the target's box in the first frame: {spec}:120,80,64,48",
        )
    return found


def _with_first_box(spec: str) -> Sequence:
    name, separator, box = spec.rpartition(":")
    path = Path(name)
    if not separator or not path.exists():
        raise SourceError(
            "no such source", received=spec, expected=f"{LAYOUTS}, or a video or folder with :x,y,w,h",
            fix="check the path",
        )
    try:
        truth = np.array([parse_box(box)])
    except BoxError as error:
        raise SourceError(
            "unreadable first box", received=spec, expected="x,y,w,h in pixels after the last colon",
            fix=f"write {name}:120,80,64,48",
        ) from error
    return Sequence(path.resolve().stem if path.is_file() else path.resolve().name, path, truth)
