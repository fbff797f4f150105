"""Folders before and after, and those of small datasets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, hidden ones too, with a file's bytes."""
    paths = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in paths}


def untimed(results: Path) -> dict[str, bytes | None]:
    """The same of an evaluation's results, without times and scores."""
    return {path: data for path, data in snapshot(results).items() if "times" not in path and "scores" not in path}


def write_sequence(folder: Path, frames: Iterable[np.ndarray], boxes: Iterable[Sequence[float]]) -> None:
    """A sequence in OTB's layout."""
    (folder / "img").mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        cv2.imwrite(str(folder / "img" / f"{number:04d}.png"), frame)
    (folder / "groundtruth_rect.txt").write_text("\n".join(",".join(map(str, box)) for box in boxes) + "\n")
