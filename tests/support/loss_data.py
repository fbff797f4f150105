"""What `LossDetection` is fitted to: evidence with known weights, and annotated videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from siamtrt.runtime.evidence import Evidence
from siamtrt.training.loss_evidence import Sample


def evidence_of(terms: Sequence[float]) -> Evidence:
    """Evidence with these terms: the score's log-odds, the psr's logarithm, the lead on the second peak, similarity."""
    score, psr, second, similarity = terms
    return Evidence(1 / (1 + np.exp(-score)), np.exp(psr), 1 / (1 + np.exp(second - score)), similarity)


def known_samples(
    count: int, weights: Sequence[float] = (0.4, 1.5, 0.8, 6.0), similarity: float = 0.6
) -> list[Sample]:
    """Boxes that hold their target with the chance that the weights say; 10 videos, in which that is no different."""
    rng = np.random.default_rng(0)
    terms = rng.normal((1, 1, 1, 0.6), (2, 0.6, 1.5, 0.25), (count, 4))
    odds = terms @ weights - weights[3] * similarity
    held = rng.random(count) < 1 / (1 + np.exp(-odds))
    return [Sample(evidence_of(row), bool(there), f"video {n % 10}")
            for n, (row, there) in enumerate(zip(terms, held, strict=True))]  # fmt: skip


def write_videos(folder: Path, count: int = 5, frames: int = 10) -> Path:
    """Patches that slide over textures, and their annotations.json; returns the folder."""
    rng, videos = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for video in range(count):
        coarse = rng.integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
        background, patch = cv2.resize(coarse[0], (128, 96)), cv2.resize(coarse[1], (24, 30))
        listed = []
        for number in range(frames):
            picture, x = background.copy(), 20 + 4 * number
            picture[30:60, x : x + 24] = patch
            name = f"{video}_{number}.png"
            cv2.imwrite(str(folder / name), picture)
            listed.append({"image": name, "box": [x, 30, 24, 30]})
        videos.append({"name": f"video {video}", "frames": listed})
    (folder / "annotations.json").write_text(json.dumps({"videos": videos}), encoding="utf-8")
    return folder


def save_frames(frames: Sequence[np.ndarray], folder: Path) -> tuple[list[str], str]:
    """Files of the frames, and one of noise in another size."""
    names = [str(folder / f"{number}.png") for number in range(len(frames))]
    for name, frame in zip(names, frames, strict=True):
        cv2.imwrite(name, frame)
    noise = np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    cv2.imwrite(other := str(folder / "other.png"), cv2.resize(noise, (480, 270)))
    return names, other
