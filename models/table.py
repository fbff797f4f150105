"""The registry as a table: what each tracker is, what it costs, and how it was verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from siamtrt.models.preset import Preset
from siamtrt.models.presets import PRESETS
from siamtrt.tracking import search_batch


@dataclass(frozen=True)
class ModelRow:
    """One tracker's cost: parameters in millions, multiply-accumulates of each branch in billions."""

    preset: Preset
    parameters_m: float
    template_gmacs: float
    search_gmacs: float


def model_rows() -> list[ModelRow]:
    """A row a preset, computed on the network as PyTorch runs it, before the export's rewrites."""
    return [_row(preset) for preset in PRESETS.values()]


def _row(preset: Preset) -> ModelRow:
    crop = preset.preprocessing
    with torch.device("meta"), torch.no_grad():
        network = preset.build().eval().to("meta")
        z = torch.empty(1, 3, crop.template_size, crop.template_size)
        x = torch.empty(search_batch(preset.decoding), 3, crop.search_size, crop.search_size)
        with FlopCounterMode(display=False) as template:
            kernels = network.template(z, *_on_meta(network.template_inputs()))
        with FlopCounterMode(display=False) as search:
            network.search(x, *kernels, *_on_meta(network.search_inputs()))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ModelRow(preset, parameters / 1e6, template.get_total_flops() / 2e9, search.get_total_flops() / 2e9)


def _on_meta(inputs: Mapping[str, Tensor]) -> list[Tensor]:
    return [value.to("meta") for value in inputs.values()]


def as_table(rows: list[ModelRow]) -> str:
    """Markdown, one tracker a line."""
    lines = [
        "| tracker | paper | crops px | parameters M | template GMAC | search GMAC | verified by |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        preset = row.preset
        lines.append(
            f"| {preset.name} | {preset.paper} | {_crops(preset)} | {row.parameters_m:.1f} | "
            f"{row.template_gmacs:.2f} | {row.search_gmacs:.2f} | {preset.verified} |"
        )
    return "\n".join(lines)


def _crops(preset: Preset) -> str:
    """Template / search sides, with the batch and the other search sizes, e.g. "127 / 3 x 255" or "127 / 255, 831"."""
    batch, crop = search_batch(preset.decoding), preset.preprocessing
    search = f"{batch} x {crop.search_size}" if batch > 1 else str(crop.search_size)
    return f"{crop.template_size} / " + ", ".join([search, *map(str, preset.strategies.search_sizes)])
