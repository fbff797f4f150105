"""A training that takes seconds: rendered pictures, their boxes, and a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

STILLS, FRAMES, SIZE = 6, 4, (96, 128)
PLAIN: dict[str, Any] = {
    "model": "siamrpn_mobilev2_small", "output": "out", "batch": 2, "optimiser": "adamw", "average": 0.9,
    "data": [{"path": "boxes.json", "format": "stills"}, {"path": "boxes.json", "format": "videos"}],
    "pairs": {"shift": 48.0}, "frozen": ["backbone.features.0."], "held_back": 0.0,
    "schedule": {"steps": 12, "rate": 1e-3, "final_rate": 1e-4, "warm_up": 3, "backbone_from": 5},
    "check_every": 6, "check_pairs": 4, "save_every": 1,
}  # fmt: skip


def write_training(folder: Path, **fields: Any) -> Path:
    """Write pictures, annotations and a config with these fields in place of `PLAIN`'s; returns the config."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    stills = [{"image": _picture(folder / f"still{i}.png", rng, (20 + 5 * i, 30)), "boxes": [[20 + 5 * i, 30, 24, 30]]}
              for i in range(STILLS)]  # fmt: skip
    frames = [{"image": _picture(folder / f"frame{i}.png", rng, (40 + 3 * i, 25)), "box": [40 + 3 * i, 25, 24, 30]}
              for i in range(FRAMES)]  # fmt: skip
    (folder / "boxes.json").write_text(
        json.dumps({"images": stills, "videos": [{"name": "slide", "frames": frames}]}), encoding="utf-8"
    )
    return write_config(folder / "config.yaml", **fields)


def write_config(path: Path, **fields: Any) -> Path:
    """A config beside the pictures; JSON is YAML."""
    path.write_text(json.dumps({**PLAIN, **fields}), encoding="utf-8")
    return path


def _picture(path: Path, rng: np.random.Generator, corner_xy: tuple[int, int]) -> str:
    """A textured patch of 24x30 pixels before a texture; returns the file's name."""
    picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), SIZE[::-1])
    x, y = corner_xy
    picture[y : y + 30, x : x + 24] = cv2.resize(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8), (24, 30))
    cv2.imwrite(str(path), picture)
    return path.name
