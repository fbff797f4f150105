"""Sequences with ground truth: OTB's and GOT-10k's folders, a video beside a text file; and sources with one box."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrt.boxes import parse_box
from siamtrt.errors import BoxError, SourceError
from siamtrt.runtime.sources import FrameSource, open_source

OTB_TRUTH, OTB_IMAGES = "groundtruth_rect.txt", "img"
GOT_TRUTH, GOT_ABSENCE = "groundtruth.txt", "absence.label"
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv")
LAYOUTS = (
    f"<name>/{OTB_TRUTH} with <name>/{OTB_IMAGES}, <name>/{GOT_TRUTH} beside its images, or <name>.mp4 with <name>.txt"
)


@dataclass(frozen=True)
class Sequence:
    """One sequence: (F, 4) xywh pixels, NaN rows where the target is absent; (1, 4) where only the first is known."""

    name: str
    frames: Path
    truth_xywh: np.ndarray

    @property
    def init_only(self) -> bool:
        """Whether the first box is all that is known."""
        return len(self.truth_xywh) == 1

    def open(self) -> FrameSource:
        """The frames, from the first.

        Raises:
            SourceError: they cannot be opened; while reading, that they end before the ground truth or go on after it.
                Which of them a shorter ground truth means cannot be known: it may begin later, as that of OTB's David.
        """
        source = open_source(self.frames.absolute())  # a relative folder 0001 would be a camera
        return source if self.init_only else dataclasses.replace(source, frames=self._checked(source.frames))

    def _checked(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        lines, count = len(self.truth_xywh), 0
        for count, frame in enumerate(frames, start=1):
            if count > lines:
                raise _mismatch(self, f"more than {lines} frames")
            yield frame
        if count < lines:
            raise _mismatch(self, f"{count} frames")


def find_sequences(root: Path | str) -> list[Sequence]:
    """Every sequence below a folder, or the folder itself, sorted by name.

    Raises:
        SourceError: the folder has none, a ground truth cannot be read, or one has not a line for every image.
    """
    found = _below(Path(root))
    if not found:
        raise SourceError("no sequences", received=str(root), expected=LAYOUTS, fix="check the path")
    for sequence in found:
        if sequence.init_only:
            raise _mismatch(sequence, "more than one frame")
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
    sequences = [sequence for spec in specs for sequence in _named(str(spec))]
    if not sequences:
        raise SourceError("no sequences", received="an empty list", expected="at least one source", fix="name a source")
    seen: set[Path] = set()
    for sequence in sequences:
        path = sequence.frames.resolve()
        if path in seen:
            raise SourceError(
                "a sequence twice", received=str(sequence.frames), expected="every sequence once",
                fix="leave out the source that is part of another",
            )
        seen.add(path)
    return sequences


def _named(spec: str) -> list[Sequence]:
    path = Path(spec)
    if path.is_dir():
        found = _below(path)
    elif path.is_file():
        found = _videos([path])
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


def _below(root: Path) -> list[Sequence]:
    found = [_labelled_folder(truth, truth.parent / OTB_IMAGES) for truth in root.rglob(OTB_TRUTH)]
    found += [_labelled_folder(truth, truth.parent) for truth in root.rglob(GOT_TRUTH)]
    found += _videos(video for suffix in VIDEO_SUFFIXES for video in root.rglob(f"*{suffix}"))
    return sorted(found, key=lambda sequence: (sequence.name, sequence.frames))


def _videos(paths: Iterable[Path]) -> list[Sequence]:
    """The videos that have a text file beside them."""
    beside = [(path, path.with_suffix(".txt")) for path in paths]
    return [Sequence(path.stem, path, read_boxes(truth)) for path, truth in beside if path != truth and truth.is_file()]


def _labelled_folder(truth: Path, images: Path) -> Sequence:
    boxes, absence = read_boxes(truth), truth.parent / GOT_ABSENCE
    if truth.name == GOT_TRUTH and absence.is_file():
        boxes[_read_absence(absence, len(boxes))] = np.nan
    sequence = Sequence(truth.resolve().parent.name, images, boxes)
    count = open_source(images.absolute()).length
    if count != len(boxes) and not sequence.init_only:
        raise _mismatch(sequence, f"{count} images")
    return sequence


def _mismatch(sequence: Sequence, received: str) -> SourceError:
    lines = len(sequence.truth_xywh)
    return SourceError(
        f"frames and ground truth of {sequence.name} differ", received=f"{received} in {sequence.frames}",
        expected=f"{lines}, one for each line of the ground truth",
        fix="remove the frames that have no line, or add their lines; nan,nan,nan,nan where the target is absent",
    )  # fmt: skip


def read_boxes(path: Path) -> np.ndarray:
    """(F, 4) boxes from one `x,y,w,h` line a frame; commas, tabs and spaces separate.

    Raises:
        SourceError: no line, or one that is not four numbers.
    """
    rows = [re.split(r"[,\s]+", line) for line in _lines(path)]
    try:
        return np.array([[float(value) for value in row] for row in rows]).reshape(len(rows), 4)
    except ValueError as error:
        raise _unreadable(path, str(error), "four numbers a line: x,y,w,h") from error


def _read_absence(path: Path, count: int) -> np.ndarray:
    """(F,) whether the target is absent."""
    lines = _lines(path)
    if len(lines) != count or not {*lines} <= {"0", "1"}:
        raise _unreadable(path, f"{len(lines)} lines of {sorted({*lines})[:4]}", f"{count} lines of 0 or 1")
    return np.array(lines) == "1"


def _lines(path: Path) -> list[str]:
    """A file's lines, stripped, without empty ones."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise _unreadable(path, str(error), "a text file") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise _unreadable(path, "no line", "a line a frame")
    return lines


def _unreadable(path: Path, received: str, expected: str) -> SourceError:
    return SourceError(
        "unreadable ground truth", received=f"{path}: {received}", expected=expected, fix="correct the file"
    )
