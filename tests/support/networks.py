"""Networks that are exported without a checkpoint's file."""

from __future__ import annotations

from pathlib import Path

from siamtrt.models.checkpoints import LoadedNetwork
from siamtrt.models.preset import Preset
from siamtrt.models.seeded import seeded_network


def seeded(preset: Preset) -> LoadedNetwork:
    """A preset's network with seeded weights, as if it had been loaded."""
    return LoadedNetwork(preset, seeded_network(preset), Path("none"), "none")
