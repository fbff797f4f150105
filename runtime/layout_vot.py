"""VOT's folders: `list.txt` with the sequences' names, and for each its truth, its images and its tags.

`<name>/groundtruth.txt` holds a polygon or a rectangle a line, nan where the target is absent; images lie beside it or
in `<name>/color/`; `<name>/<tag>.tag`, until 2015 `.label`, holds a 0 or 1 a frame. VOT2015 to VOT2019 have polygons of
four corners, VOT2018-LT rectangles.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from siamtrt.errors import SourceError
from siamtrt.runtime.layout_folder import Folder, checked, images_in, name_of
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.truth_files import read_lines, read_regions, split_line, unreadable

LAYOUT = "VOT"
TRUTH, LIST, COLOUR = "groundtruth.txt", "list.txt", "color"
DESCRIPTION = "sequence"  # what the Python toolkit writes beside what it downloads
TAG, OLD_TAG = ".tag", ".label"
GOT_NAME, GOT_LABELS = "GOT-10k_", {"absence.label", "cover.label", "cut_by_image.label"}
SHOWN = 5  # names in an error


def is_vot(folder: Folder) -> bool:
    """Whether a folder is one of VOT's sequences; GOT-10k's, too, have a `groundtruth.txt` beside their images."""
    if TRUTH not in folder.files:
        return False
    if COLOUR in folder.folders or DESCRIPTION in folder.files or any(name.endswith(TAG) for name in folder.files):
        return True
    if len(split_line(read_lines(folder.path / TRUTH)[0])) > 4:
        return True
    name = name_of(folder.path)
    got = name.startswith(GOT_NAME) or GOT_LABELS & {*folder.files}
    return not got and name in _names(folder.path.resolve().parent / LIST)


def vot_sequence(folder: Folder) -> Sequence:
    """A sequence of VOT.

    Raises:
        SourceError: truth or tags cannot be read, or images are missing.
    """
    path = folder.path
    regions = read_regions(path / TRUTH)
    frames = path / COLOUR if COLOUR in folder.folders else path
    boxes = np.array([box_of_region(region) for region in regions])
    tags = {Path(name).stem: _read_tag(path / name, len(regions)) for name in folder.files if _is_tag(name)}
    sequence = Sequence(name_of(path), frames, boxes, regions=regions, tags=tags, layout=LAYOUT)
    return checked(sequence, images_in(frames))


def listed(folder: Folder) -> list[str] | None:
    """The names in the `list.txt` of a VOT dataset, whose other folders do not count; None where it is none.

    Raises:
        SourceError: a sequence of the list is missing.
    """
    names = _names(folder.path / LIST) if LIST in folder.files else []
    missing = [name for name in names if name not in folder.folders or not (folder.path / name / TRUTH).is_file()]
    here = next((name for name in names if name not in missing), None)
    if here is None or not is_vot(_folder(folder.path / here)):
        return None
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise SourceError(
            "sequences missing in the dataset", received=f"no {TRUTH} of {', '.join(missing[:SHOWN])}{more}",
            expected=f"all {len(names)} sequences that {folder.path / LIST} names",
            fix=f"unpack them, or take their names out of {LIST}",
        )  # fmt: skip
    return names


def box_of_region(region: tuple[float, ...]) -> tuple[float, float, float, float]:
    """The upright box that trackers are given: a rectangle itself, of a polygon one of its centre and area.

    It is pysot's (`get_axis_aligned_bbox` and `tools/test.py`), with which its published trackers were evaluated: the
    mean of the four corners, and the sides of the bounding box shrunk to the area that the first two sides span, plus
    a pixel. Of a polygon with more or fewer corners it is the bounding box. NaN of an empty region.
    """
    if not region:
        return math.nan, math.nan, math.nan, math.nan
    if len(region) == 4:
        x, y, w, h = region
        return x, y, w, h
    xs, ys = region[::2], region[1::2]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    if len(xs) != 4:
        return min(xs), min(ys), width + 1, height + 1
    spanned = math.hypot(xs[0] - xs[1], ys[0] - ys[1]) * math.hypot(xs[1] - xs[2], ys[1] - ys[2])
    scale = math.sqrt(spanned / (width * height)) if width * height else 0.0
    w, h = scale * width + 1, scale * height + 1
    return sum(xs) / 4 - (w - 1) / 2, sum(ys) / 4 - (h - 1) / 2, w, h


def _is_tag(name: str) -> bool:
    return name.endswith((TAG, OLD_TAG)) and name not in GOT_LABELS


def _read_tag(path: Path, frames: int) -> np.ndarray:
    """(F,) whether a tag holds; not behind its last line, as the toolkit has it."""
    try:
        values = path.read_text().split()
    except (OSError, UnicodeError) as error:
        raise unreadable(path, str(error), "a text file") from error
    if len(values) > frames or not {*values} <= {"0", "1"}:
        raise unreadable(path, f"{len(values)} lines of {sorted({*values})[:4]}", f"{frames} lines of 0 or 1")
    return np.array([*(value == "1" for value in values), *[False] * (frames - len(values))])


def _names(path: Path) -> list[str]:
    """Names a line; none where it cannot be read: other datasets have files of that name, too."""
    try:
        return [name for line in path.read_text(encoding="utf-8-sig").splitlines() if (name := line.strip())]
    except (OSError, UnicodeError):
        return []


def _folder(path: Path) -> Folder:
    names = list(path.iterdir())
    folders = frozenset(entry.name for entry in names if entry.is_dir())
    return Folder(path, folders, tuple(sorted(entry.name for entry in names if entry.name not in folders)))
