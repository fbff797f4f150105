"""Sequences with ground truth: OTB's folder layout, and a video beside a text file of boxes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrt.errors import SourceError
from siamtrt.runtime.sources import FrameSource, open_source

OTB_TRUTH = "groundtruth_rect.txt"
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv")


@dataclass(frozen=True)
class Sequence:
    """One annotated sequence: (F, 4) xywh pixels, NaN rows where the target is absent."""

    name: str
    frames: Path
    truth_xywh: np.ndarray

    def open(self) -> FrameSource:
        """The frames, from the first."""
        return open_source(self.frames)


def find_sequences(root: Path | str) -> list[Sequence]:
    """Every sequence below a folder, sorted by name.

    Raises:
        SourceError: the folder has none, or a ground truth cannot be read.
    """
    root = Path(root)
    found = [Sequence(p.parent.name, p.parent / "img", read_boxes(p)) for p in root.rglob(OTB_TRUTH)]
    for suffix in VIDEO_SUFFIXES:
        for video in root.rglob(f"*{suffix}"):
            truth = video.with_suffix(".txt")
            if truth.is_file():
                found.append(Sequence(video.stem, video, read_boxes(truth)))
    if not found:
        raise SourceError(
            "no sequences", received=str(root),
            expected=f"<name>/{OTB_TRUTH} with <name>/img, or <name>.mp4 with <name>.txt",
            fix="check the path",
        )
    return sorted(found, key=lambda sequence: sequence.name)


def read_boxes(path: Path) -> np.ndarray:
    """(F, 4) boxes from one `x,y,w,h` line a frame; commas, tabs and spaces separate.

    Raises:
        SourceError: a line that is not four numbers.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    try:
        boxes = np.array([[float(value) for value in re.split(r"[,\s]+", line.strip())] for line in lines])
        return boxes.reshape(len(lines), 4)
    except ValueError as error:
        raise SourceError(
            "unreadable ground truth", received=f"{path}: {error}", expected="four numbers a line: x,y,w,h",
            fix="correct the file",
        ) from error
