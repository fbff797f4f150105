"""The registry as a table: what each tracker is, what it costs, and how it was verified."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from siamtrt.models.preset import Preset
from siamtrt.models.presets import PRESETS


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
        module = preset.build().eval()
        z, x = (torch.empty(1, 3, size, size) for size in (crop.template_size, crop.search_size))
        with FlopCounterMode(display=False) as template:
            kernels = module.template(z)  # type: ignore[operator]
        with FlopCounterMode(display=False) as search:
            module.search(x, *kernels)  # type: ignore[operator]
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return ModelRow(preset, parameters / 1e6, template.get_total_flops() / 2e9, search.get_total_flops() / 2e9)


def as_table(rows: list[ModelRow]) -> str:
    """Markdown, one tracker a line."""
    lines = [
        "| tracker | paper | crops px | parameters M | template GMAC | search GMAC | verified |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        preset, crop = row.preset, row.preset.preprocessing
        lines.append(
            f"| {preset.name} | {preset.paper} | {crop.template_size} / {crop.search_size} | {row.parameters_m:.1f} | "
            f"{row.template_gmacs:.2f} | {row.search_gmacs:.2f} | {preset.verified} |"
        )
    return "\n".join(lines)
