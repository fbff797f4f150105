"""What the layouts of all datasets share: a folder's names, its images, the check of frames against lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from siamtrt.errors import SourceError
from siamtrt.runtime.sequence import Sequence, mismatch
from siamtrt.runtime.sources import list_images


@dataclass(frozen=True)
class Folder:
    """A folder and the names in it."""

    path: Path
    folders: frozenset[str]
    files: tuple[str, ...]


def name_of(path: Path) -> str:
    """A folder's own name, also where it is given as `.`."""
    return path.resolve().name


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, in order.

    Raises:
        SourceError: no such folder.
    """
    if not folder.is_dir():
        raise SourceError(
            "no such source", received=str(folder), expected="a folder of images", fix="check that it was unpacked"
        )
    return list_images(folder)


def checked(sequence: Sequence, images: list[Path] | tuple[Path, ...]) -> Sequence:
    """The sequence, if its images are as many as its lines or only its first box is known.

    Raises:
        SourceError: they are not.
    """
    if len(images) != len(sequence.truth_xywh) and not sequence.init_only:
        raise mismatch(sequence, f"{len(images)} images")
    return sequence
