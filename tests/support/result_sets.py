"""A small VOT dataset with two trackers' results, and the same for boxes, written as other toolkits write them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

SIZES = {"ball": 6, "car": 4}  # frames of each sequence
BOX = "10,10,9,9"
RUNS = {
    "steady": {name: ["1", *[BOX] * (frames - 1)] for name, frames in SIZES.items()},
    "lossy": {"ball": ["1", "15,10,9,9", "2", "0", "0", "0"], "car": ["1", *["15,10,9,9"] * 3]},
}


def write_description(path: Path, **changes: object) -> Path:
    """VOT's description of `SIZES`; changes go into the sequence `car`, None removes an entry."""
    square = [10, 10, 19, 10, 19, 19, 10, 19]
    content = {
        name: {
            "video_dir": name, "init_rect": square, "gt_rect": [square] * (frames - 1) + [[10, 10, 9, 9]],
            "img_names": [f"{name}/{i}.jpg" for i in range(frames)], "width": 100, "height": 80,
            "occlusion": [1] + [0] * (frames - 1), "camera_motion": [],
        }
        for name, frames in SIZES.items()
    }  # fmt: skip
    content["car"] = {key: value for key, value in (content["car"] | changes).items() if value is not None}
    path.write_text(json.dumps(content))
    return path


def write_runs(root: Path) -> Path:
    """`RUNS` in the supervised layout."""
    for tracker, runs in RUNS.items():
        for sequence, lines in runs.items():
            folder = root / tracker / "baseline" / sequence
            folder.mkdir(parents=True)
            (folder / f"{sequence}_001.txt").write_text("\n".join(lines) + "\n")
            (folder / f"{sequence}_time.txt").write_text("0.1\n")
    return root


def write_boxes(root: Path, tracker: str = "steady") -> Path:
    """One result line a frame for each of `SIZES`."""
    (root / tracker).mkdir(parents=True)
    for name, frames in SIZES.items():
        (root / tracker / f"{name}.txt").write_text(f"{BOX}\n" * frames)
    return root


def zipped(root: Path, path: Path) -> Path:
    """A .zip of a folder's files, below a folder of their own."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*.txt")):
            archive.write(file, f"packed/{file.relative_to(root)}")
    return path
