"""Checkpoints with seeded random weights: shapes, speed and the whole pipeline do not depend on what they are."""

from __future__ import annotations

from pathlib import Path

import torch

from siamtrt.models.checkpoints import authors_names
from siamtrt.models.presets import get_preset


def save_seeded(name: str, path: Path, seed: int = 0) -> Path:
    """Save a preset's network as its constructor initialises it, under its authors' parameter names.

    Raises:
        SiamtrtError: no such preset.
    """
    preset = get_preset(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(authors_names(preset.build().state_dict(), preset), path)
    return path
