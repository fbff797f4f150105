"""Small VOT datasets as folders: `list.txt`, and sequences with polygons or rectangles, images and tags.

And a tracker whose boxes are known to stay near the one it was given, whatever the frames show.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from toy import save_toy, set_weight, toy_models, weight_of

DRIFT = 1.5  # pixels to the left a frame, of a box of 40 pixels


def save_drifting(bundle: Path) -> Path:
    """A tracker that moves a square box slowly to the left and keeps its size; its scores depend on the frames."""
    models = toy_models()
    set_weight(models["search"], "loc_weight", np.zeros_like(weight_of(models["search"], "loc_weight")))
    # A square fills half of the crop of 32: 8 pixels from its middle to each side.
    sides = np.array([8 + DRIFT * 16 / 40, 8, 8 - DRIFT * 16 / 40, 8], np.float32)
    set_weight(models["search"], "loc_bias", np.log(sides))
    save_toy(models, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["tracking"]["window_influence"] = 0.999  # the middle of the map, whatever the frame shows
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def write_pictures(folder: Path, frames: np.ndarray) -> None:
    """Numbered images from 1, lossless under VOT's names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=1):
        _, data = cv2.imencode(".png", frame)
        (folder / f"{number:08d}.jpg").write_bytes(data.tobytes())


def write_vot_sequence(
    folder: Path, frames: np.ndarray, lines: list[str], images: str = "color", **tags: list[int]
) -> Path:
    """One sequence; `lines` of its truth as they are, images in `images` or, where that is empty, beside the truth."""
    write_pictures(folder / images, frames)
    (folder / "groundtruth.txt").write_text("".join(f"{line}\n" for line in lines))
    for name, values in tags.items():
        (folder / f"{name}.tag").write_text("".join(f"{value}\n" for value in values))
    return folder


def write_list(root: Path, *names: str) -> Path:
    """The dataset's `list.txt`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "list.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def polygon_line(x: float, y: float, w: float, h: float) -> str:
    """An upright rectangle as VOT's polygons write it: lower left corner first, then against the clock."""
    corners = (x, y + h, x, y, x + w, y, x + w, y + h)
    return ",".join(f"{value:g}" for value in corners)
