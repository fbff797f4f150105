"""Checkpoints with seeded random weights: shapes, speed and the whole pipeline do not depend on what they are."""

from __future__ import annotations

from pathlib import Path

import torch

from siamtrt.models.checkpoints import authors_names
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.preset import Preset
from siamtrt.models.presets import get_preset


def seeded_network(preset: Preset, seed: int = 0) -> SiameseNetwork:
    """A preset's network in evaluation mode, as its constructor initialises it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return preset.build().eval()


def save_seeded(name: str, path: Path, seed: int = 0) -> Path:
    """Save a preset's seeded network under its authors' parameter names.

    Raises:
        SiamtrtError: no such preset.
    """
    preset = get_preset(name)
    torch.save(authors_names(seeded_network(preset, seed).state_dict(), preset), path)
    return path
