"""Where the datasets keep frames and ground truth: one function a layout, found by what a folder holds.

Boxes stay as they are written. Most datasets count pixels from 1, as MATLAB does; their toolkits, got10k's and pysot's
give these numbers to trackers and to the scores alike, so nothing is subtracted here either.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from siamtrt.runtime.layout_data import OTB_RANGES, UAV_FOLDERS, uav_range
from siamtrt.runtime.layout_folder import Folder, checked, images_in, name_of
from siamtrt.runtime.layout_vot import is_vot, listed, vot_sequence
from siamtrt.runtime.sequence import Sequence, mismatch
from siamtrt.runtime.truth_files import read_boxes, read_flags, read_lines, read_table, unreadable

OTB_TRUTH, IMAGES = "groundtruth_rect.txt", "img"
OTB_TRUTHS = re.compile(r"groundtruth_rect(?:\.(\d+))?\.txt")
GOT_TRUTH = "groundtruth.txt"
LASOT_FLAGS = ("full_occlusion.txt", "out_of_view.txt")
COVERS = {str(level): "1" if level else "0" for level in range(9)}  # GOT-10k's eighths of the target in sight
ANNO, BESIDE_ANNO = "anno", ("data_seq", "frames")  # UAV123's and TrackingNet's boxes, and their images
NFS_RATES = ("30", "240")
NFS_STRIDE = 8  # lines a frame in the 30 FPS part, whose truth was written at 240
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv")
LAYOUTS = (
    f"<name>/{OTB_TRUTH} with <name>/{IMAGES}, <name>/{GOT_TRUTH} beside its images, <name>.mp4 with <name>.txt, or "
    "the folders of VOT, UAV123, LaSOT, TrackingNet, NfS, TLP or TColor128"
)


def sequences_below(root: Path) -> list[Sequence]:
    """Every sequence below a folder, or the folder itself, sorted by name.

    Raises:
        SourceError: a ground truth cannot be read, its images are missing, or are not as many as its lines; a sequence
            that VOT's list names is missing.
    """
    found: list[Sequence] = []
    for path, folders, files in os.walk(root):
        folder = Folder(Path(path), frozenset(folders), tuple(sorted(files)))
        here = [sequence for layout in PARTS for sequence in layout(folder)]
        found += here
        images = {sequence.frames for sequence in here}  # a dataset has millions; they are not looked through
        images |= {folder.path / name for name in BESIDE_ANNO if ANNO in folders}
        within = listed(folder) or folders
        folders[:] = [name for name in within if folder.path / name not in images]
    return sorted(found, key=lambda sequence: (sequence.name, sequence.frames, sequence.layout))


def videos(paths: Iterable[Path]) -> list[Sequence]:
    """The videos that have a text file beside them."""
    beside = [(path, path.with_suffix(".txt")) for path in paths]
    return [Sequence(path.stem, path, read_boxes(truth)) for path, truth in beside if path != truth and truth.is_file()]


def _videos_in(folder: Folder) -> list[Sequence]:
    return videos(folder.path / name for name in folder.files if name.endswith(VIDEO_SUFFIXES))


def _otb(folder: Folder) -> list[Sequence]:
    """OTB-2013, 50, 2015 and DTB70; TLP. A number before `.txt` is a target's, of several in the same frames."""
    matches = [match for name in folder.files if (match := OTB_TRUTHS.fullmatch(name))]
    if len(matches) > 1:  # Human4's first target has an empty file
        matches = [match for match in matches if (folder.path / match[0]).read_text(errors="replace").strip()]
    return [_otb_target(folder.path, match[0], match[1]) for match in matches]


def _otb_target(path: Path, truth: str, target: str | None) -> Sequence:
    name = name_of(path)
    if len(re.split(r"[,\s]+", read_lines(path / truth)[0])) == 6:
        return _tlp(path, truth)
    boxes, images = read_boxes(path / truth), images_in(path / IMAGES)
    first, last = OTB_RANGES.get(name.casefold(), (1, 0))
    within = [index for index, image in enumerate(images) if first <= _number(image) <= last]
    chosen: tuple[Path, ...] = ()
    if within and len(within) == last + 1 - first and len(boxes) in (len(within), len(images)):
        boxes = boxes[within] if len(boxes) == len(images) else boxes
        images = [images[index] for index in within]
        chosen = tuple(images)
    name = f"{name}-{target}" if target else name
    return checked(Sequence(name, path / IMAGES, boxes, images=chosen, layout="OTB"), images)


def _tlp(path: Path, truth: str) -> Sequence:
    """TLP: `frame,x,y,w,h,lost` a line."""
    rows = read_table(path / truth, 6, "six numbers a line: frame,x,y,w,h,lost")
    boxes = np.where(rows[:, 5:] == 1, np.nan, rows[:, 1:5])
    return checked(Sequence(name_of(path), path / IMAGES, boxes, layout="TLP"), images_in(path / IMAGES))


def _got_lasot_or_vot(folder: Folder) -> list[Sequence]:
    if GOT_TRUTH not in folder.files:
        return []
    if IMAGES in folder.folders:
        return [_lasot(folder)]
    return [vot_sequence(folder) if is_vot(folder) else _got(folder)]


def _lasot(folder: Folder) -> Sequence:
    path = folder.path
    boxes = read_boxes(path / GOT_TRUTH)
    for flags in LASOT_FLAGS:
        boxes[read_flags(path / flags, len(boxes))] = np.nan
    images = images_in(path / IMAGES)
    chosen: tuple[Path, ...] = ()
    if path.name == "monkey-17" and len(images) > len(boxes):  # its toolkit cuts the results to the truth's 2260 lines
        chosen = tuple(images[: len(boxes)])
    return checked(Sequence(name_of(path), path / IMAGES, boxes, images=chosen, layout="LaSOT"), chosen or images)


def _got(folder: Folder) -> Sequence:
    path = folder.path
    boxes = read_boxes(path / GOT_TRUTH)
    if len(boxes) > 1:
        if "absence.label" in folder.files:
            boxes[read_flags(path / "absence.label", len(boxes))] = np.nan
        if "cover.label" in folder.files:
            boxes[_hidden(path / "cover.label", len(boxes))] = np.nan
    return checked(Sequence(name_of(path), path, boxes, layout="GOT-10k"), images_in(path))


def _hidden(path: Path, count: int) -> np.ndarray:
    """(F,) whether nothing of the target is in sight."""
    lines = read_lines(path)
    if len(lines) != count or not {*lines} <= COVERS.keys():
        raise unreadable(path, f"{len(lines)} lines of {sorted({*lines})[:9]}", f"{count} lines of 0 to 8")
    return np.array([line == "0" for line in lines])


def _uav(folder: Folder) -> list[Sequence]:
    """UAV123, UAV20L, UAV123_10fps: `anno/<part>/<name>.txt` and `data_seq/<part>/<video>/`, long videos split."""
    path, part = folder.path.absolute(), folder.path.resolve().name
    root = path.parent.parent
    if part not in UAV_FOLDERS or path.parent.name != ANNO or not (root / "data_seq").is_dir():
        return []
    return [_uav_sequence(path / name, root / "data_seq" / UAV_FOLDERS[part], part) for name in _texts(folder)]


def _uav_sequence(truth: Path, videos: Path, part: str) -> Sequence:
    boxes = read_boxes(truth)
    video, first, last = uav_range(truth.stem, part) or (truth.stem, 1, len(boxes))
    within = tuple(image for image in images_in(videos / video) if first <= _number(image) <= last)
    sequence = Sequence(truth.stem, videos / video, boxes, images=within, layout=part)
    if len(within) != last + 1 - first:
        raise mismatch(sequence, f"{len(within)} of the images {first} to {last}")
    return checked(sequence, within)


def _trackingnet(folder: Folder) -> list[Sequence]:
    """TrackingNet: `<part>/anno/<name>.txt` and `<part>/frames/<name>/`; TEST has one line a video."""
    path = folder.path.absolute()
    frames = path.parent / "frames"
    if path.name != ANNO or not frames.is_dir():
        return []
    return [_numbered(path / name, frames / Path(name).stem, "TrackingNet") for name in _texts(folder)]


def _numbered(truth: Path, frames: Path, layout: str) -> Sequence:
    return checked(Sequence(truth.stem, frames, read_boxes(truth), layout=layout), images_in(frames))


def _nfs(folder: Folder) -> list[Sequence]:
    """Need for Speed: `<name>/<30 or 240>/<name>.txt` beside `<name>/`, a line `target x1 y1 x2 y2 ...`."""
    rate = folder.path.resolve().name
    names = [name for name in _texts(folder) if Path(name).stem in folder.folders] if rate in NFS_RATES else []
    return [_nfs_sequence(folder.path / name, rate) for name in names]


def _nfs_sequence(truth: Path, rate: str) -> Sequence:
    corners = read_table(truth, 5, "a line of target x1 y1 x2 y2 a frame")[:, 1:]
    frames = truth.with_suffix("")
    images = images_in(frames)
    if abs(len(corners) / max(len(images), 1) - NFS_STRIDE) < 1:
        corners = corners[::NFS_STRIDE]
    chosen: tuple[Path, ...] = ()
    if abs(len(images) - len(corners)) == 1:  # as the got10k toolkit does
        count = min(len(images), len(corners))
        corners, images = corners[:count], images[:count]
        chosen = tuple(images)
    boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return checked(Sequence(truth.stem, frames, boxes, images=chosen, layout=f"NfS{rate}"), images)


def _tcolor(folder: Folder) -> list[Sequence]:
    """Temple Color 128: `<video>/<name>_gt.txt`, `<name>_frames.txt` with `first,last`, and `img/`."""
    truths = [name for name in folder.files if name.endswith("_gt.txt") and IMAGES in folder.folders]
    return [_tcolor_sequence(folder.path, name) for name in truths]


def _tcolor_sequence(path: Path, truth: str) -> Sequence:
    boxes = read_boxes(path / truth)
    first, last = read_table(path / truth.replace("_gt.txt", "_frames.txt"), 2, "first,last")[0]
    within = tuple(image for image in images_in(path / IMAGES) if first <= _number(image) <= last)
    return checked(Sequence(name_of(path), path / IMAGES, boxes, images=within, layout="TColor128"), within)


PARTS: tuple[Callable[[Folder], list[Sequence]], ...] = (
    _otb, _got_lasot_or_vot, _uav, _trackingnet, _nfs, _tcolor, _videos_in,
)  # fmt: skip


def _texts(folder: Folder) -> list[str]:
    return [name for name in folder.files if name.endswith(".txt")]


def _number(image: Path) -> int:
    """The number a file's name ends with; -1 without."""
    digits = re.search(r"(\d+)$", image.stem)
    return int(digits[1]) if digits else -1
