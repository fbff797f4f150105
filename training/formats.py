"""The forms of annotations that training reads, one function each.

Names in them are relative to a folder and never lead out of it. An object that is absent, has no extent or is a crowd
is left out; which of the others are worth training on, `pairs.min_side` and `pairs.max_share` of the config say.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.errors import TrainingError
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.sequences import find_sequences
from siamtrt.runtime.sources import list_images
from siamtrt.training.tracks import Track, as_boxes, as_text, file_in, have_extent, read_json, reading

CROP_FOLDER = re.compile(r"crop([1-9]\d{2,3})")
CROP_CONTEXT, CROP_EXEMPLAR = 0.5, 127  # of pysot's par_crop.py: the target with its context is 127 pixels wide
GOT_META, GOT_CATEGORY = "meta_info.ini", "object_class: "


def stills_of(path: Path) -> list[Track]:
    """The still images of a file: `{"images": [{"image": NAME, "boxes": [[x, y, w, h], ...], "size": [w, h]}, ...]}`.

    Args:
        path: the file; the images' names are relative to it. `size` may be left out.

    Raises:
        TrainingError: unreadable, of another form, or a box without extent.
    """
    content, tracks = read_json(path), []
    with reading(path):
        for entry in content["images"]:
            image, boxes = file_in(path.parent, entry["image"]), _sound_boxes(entry["boxes"])
            size = _size(*entry["size"]) if "size" in entry else None
            tracks += [Track((image,), box[None], entry["image"], size_wh=size) for box in boxes]
    return tracks


def videos_of(path: Path) -> list[Track]:
    """The videos of such a file: `{"videos": [{"name": NAME, "frames": [{"image": NAME, "box": [...]}, ...]}, ...]}`.

    Raises:
        TrainingError: unreadable, of another form, or a box without extent.
    """
    content, tracks = read_json(path), []
    with reading(path):
        for video in content["videos"]:
            frames = video["frames"]
            images = tuple(file_in(path.parent, frame["image"]) for frame in frames)
            if images:
                boxes = _sound_boxes([frame["box"] for frame in frames])
                tracks.append(Track(images, boxes, as_text(video["name"])))
    return tracks


def _sound_boxes(rows: list[Any]) -> np.ndarray:
    boxes = as_boxes(rows)
    sound = have_extent(boxes)
    if not sound.all():
        raise ValueError(f"box {boxes[~sound][0].tolist()} has no extent")
    return boxes


def _size(width: Any, height: Any) -> tuple[int, int]:
    if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
        raise ValueError(f"image size {width!r:.20} x {height!r:.20}")
    return width, height


def coco_of(path: Path) -> list[Track]:
    """COCO's instances, or what tools export as such: every box with the name of its category.

    Args:
        path: the JSON file. Images are looked for beside it, in `images/` and in a folder of its own name beside it,
            then in the same places one folder up: `annotations/instances_train2017.json` finds `train2017/`.

    Raises:
        TrainingError: unreadable, of another form, or the first image is in none of these places.
    """
    content, tracks = read_json(path, _without_mask), []
    with reading(path):
        images = {row["id"]: row for row in content["images"]}
        categories = {row["id"]: as_text(row["name"]) for row in content["categories"]}
        rows = [row for row in content["annotations"] if not row.get("iscrowd")]
        boxes = as_boxes([row["bbox"] for row in rows])
        kept = np.flatnonzero(have_extent(boxes))
        folder = _image_folder(path, as_text(images[rows[kept[0]]["image_id"]]["file_name"])) if len(kept) else path
        files: dict[Any, tuple[str]] = {}  # a string an image, not one an object
        for index in kept:
            number, category = rows[index]["image_id"], categories[rows[index]["category_id"]]
            image = images[number]
            if number not in files:
                files[number] = (file_in(folder, image["file_name"]),)
            size = _size(image["width"], image["height"]) if "width" in image else None
            tracks.append(Track(files[number], boxes[index : index + 1], image["file_name"], category, size))
    return tracks


def _without_mask(row: dict[str, Any]) -> dict[str, Any]:
    """Outlines would take twice the memory of everything else while the file is read."""
    row.pop("segmentation", None)
    return row


def _image_folder(path: Path, first: str) -> Path:
    split = path.stem.removeprefix("instances_")
    places = [base / below for base in (path.parent, path.parent.parent) for below in ("", "images", split)]
    for place in places:
        if Path(file_in(place, first)).is_file():
            return place
    raise TrainingError(
        "no images of these annotations", received=f"{path}, whose first image is {first}",
        expected=f"it in {', '.join(map(str, places))}", fix="unpack the images into one of these folders",
    )


def sequences_of(path: Path) -> list[Track]:
    """Every annotated sequence below a folder, of whichever data set `siamtrt eval` reads: GOT-10k, LaSOT, OTB, ...

    Frames in which the target is absent are left out. GOT-10k and LaSOT name categories.

    Raises:
        SourceError: no sequence, one that cannot be read, or only its first box is known, as in GOT-10k's test split.
        TrainingError: a sequence is one file of video.
    """
    base = Path(os.path.abspath(path)).parent  # noqa: PTH100 - a link's own name, not that of what it names
    tracks = []
    for sequence in find_sequences(path):
        if sequence.frames.is_file():
            raise TrainingError(
                "a video in one file", received=str(sequence.frames), expected="a folder of images",
                fix="unpack it first, e.g. ffmpeg -i IN -q:v 2 OUT/img/%06d.jpg, with OUT/groundtruth_rect.txt",
            )
        images, boxes = sequence.images or list_images(sequence.frames), sequence.truth_xywh
        kept = np.flatnonzero(have_extent(boxes))
        if len(kept):
            group = os.path.relpath(sequence.frames, base)  # several targets of one video are one group
            names = tuple(str(images[index]) for index in kept)
            tracks.append(Track(names, boxes[kept], group, _category(sequence)))
    return tracks


def _category(sequence: Sequence) -> str | None:
    if sequence.layout == "LaSOT":  # airplane-1
        return sequence.name.rpartition("-")[0] or None
    meta = sequence.frames / GOT_META
    if sequence.layout != "GOT-10k" or not meta.is_file():
        return None
    lines = meta.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.removeprefix(GOT_CATEGORY).strip() for line in lines if line.startswith(GOT_CATEGORY)), None)


def crops_of(path: Path) -> list[Track]:
    """Crops as pysot prepares them of VID, YouTube-BB, COCO and DET: `{VIDEO: {TRACK: {FRAME: [x1, y1, x2, y2]}}}`.

    Object TRACK of FRAME is in the middle of `crop511/VIDEO/FRAME.TRACK.x.jpg` beside the file, scaled so that the
    square that holds it and its context (`context_side`) is 127 * 510 / 511 pixels wide. The boxes are in pixels of the
    frame it was cut from, of which only the sides matter; pysot also takes `[w, h]`. Boxes in a Track are the crop's,
    as are the lengths that `pairs.min_side` and `pairs.max_share` speak of.

    Raises:
        TrainingError: unreadable, of another form, no folder `crop<SIZE>`, or boxes that are shares of the frame, as
            pysot's script writes YouTube-BB's: their aspect ratio is lost, and pysot learns a wrong one from them.
    """
    content, tracks = read_json(path), []
    folder, size = _crop_folder(path)
    largest = 0.0
    with reading(path):
        for video, objects in content.items():
            for number, by_frame in objects.items():
                frames = sorted((frame for frame in by_frame if frame.isascii() and frame.isdecimal()), key=int)
                sides = np.array([_sides(by_frame[frame]) for frame in frames], np.float64).reshape(len(frames), 2)
                boxes = _boxes_in_crops(sides, size)
                kept = np.flatnonzero(have_extent(boxes))
                if not len(kept):
                    continue
                largest = max(largest, sides[kept].max())
                file_in(folder, f"{video}/{number}")
                images = tuple(f"{folder}/{video}/{frames[index]}.{number}.x.jpg" for index in kept)
                tracks.append(Track(images, boxes[kept], video, size_wh=(size, size)))
    if tracks and largest <= 1:
        raise TrainingError(
            "boxes that are shares of the frame", received=f"{path}, no side above {largest:g}", expected="pixels",
            fix="multiply x by the frame's width and y by its height in the annotations",
        )
    return tracks


def _crop_folder(path: Path) -> tuple[Path, int]:
    """The folder of crops beside a file, and their side in pixels."""
    found = [(place, match) for place in path.parent.iterdir() if (match := CROP_FOLDER.fullmatch(place.name))]
    if len(found) != 1:
        names = ", ".join(sorted(place.name for place, _ in found)) or "none"
        raise TrainingError(
            "no folder of crops", received=f"{names} beside {path}", expected="one, crop511 or of another size",
            fix="put the annotations beside the folder that pysot's par_crop.py wrote",
        )
    return found[0][0], int(found[0][1][1])


def _sides(box: list[float]) -> tuple[float, float]:
    if len(box) == 2:
        return box[0], box[1]
    left, top, right, bottom = box
    return right - left, bottom - top


def _boxes_in_crops(sides_wh: np.ndarray, size: int) -> np.ndarray:
    """(F, 4) boxes in crops of (F, 2) sides in the frames; NaN where there is no extent."""
    sound = (np.isfinite(sides_wh) & (sides_wh > 0)).all(axis=1, keepdims=True)
    sides = np.where(sound, sides_wh, np.nan)
    context = CROP_CONTEXT * sides.sum(axis=1, keepdims=True)
    zoom = CROP_EXEMPLAR / np.sqrt((sides + context).prod(axis=1, keepdims=True)) * (size - 1) / size
    return np.hstack([(size - sides * zoom) / 2, sides * zoom])
