"""The data sets that a config names, as objects to draw pairs from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from siamtrt.errors import TrainingError
from siamtrt.training.formats import coco_of, crops_of, sequences_of, stills_of, videos_of
from siamtrt.training.tracks import Track

Reader = Callable[[Path], list[Track]]
FORMATS: dict[str, Reader] = {
    "stills": stills_of, "videos": videos_of, "coco": coco_of, "sequences": sequences_of, "crops": crops_of,
}  # fmt: skip


def read_tracks(path: Path, form: str) -> list[Track]:
    """Every object of a data set.

    Args:
        path: a file or folder, as the form has it.
        form: one of `FORMATS`.

    Raises:
        TrainingError: no such form; nothing in it; unreadable; its first image is missing.
        SourceError: the same of the form "sequences".
    """
    if form not in FORMATS:
        raise TrainingError(
            "unknown form of training data", received=form, expected=f"one of {', '.join(FORMATS)}",
            fix="correct `format` in the config",
        )
    tracks = FORMATS[form](path)
    if not tracks:
        raise TrainingError(
            "no objects to train on", received=str(path), expected="one box or more", fix="correct `path` in the config"
        )
    if not Path(tracks[0].images[0]).is_file():
        raise TrainingError(
            "a training image is missing", received=tracks[0].images[0], expected="the files that the annotations name",
            fix="unpack the images there, or correct `path` in the config",
        )
    return tracks
