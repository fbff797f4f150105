"""Which graphs a tracker has: what each calls, what goes in and what comes out, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from siamtrt.models.network import SiameseNetwork, method_of
from siamtrt.models.preset import Preset
from siamtrt.tracking import search_batch, wide_graph

Value = TypeVar("Value")
CROPS = ("z", "x")


@dataclass(frozen=True)
class Call:
    """One graph: the names of its inputs and outputs in order, and the shapes of its crops."""

    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    crops: Mapping[str, tuple[int, int, int, int]]

    @property
    def method(self) -> str:
        """The network's method behind the graph."""
        return method_of(self.graph)


def graph_calls(network: SiameseNetwork, preset: Preset) -> list[Call]:
    """The graphs of a tracker, each after those it takes tensors from."""
    crop, strategies = preset.preprocessing, preset.strategies
    template_crop = (1, 3, crop.template_size, crop.template_size)
    with torch.no_grad():
        kernels = network.template(torch.zeros(template_crop), *network.template_inputs().values())
    names = tuple(f"kernel{index}" for index in range(len(kernels)))
    calls = [Call("template", ("z", *network.template_inputs()), names, {"z": template_crop})]
    for size in (crop.search_size, *strategies.search_sizes):
        graph = "search" if size == crop.search_size else wide_graph(size)
        crops = {"x": (search_batch(preset.decoding), 3, size, size)}
        calls.append(Call(graph, ("x", *names, *network.search_inputs()), network.outputs, crops))
    one_crop = {"z": template_crop, "x": (1, 3, crop.search_size, crop.search_size)}
    for extra in network.extra_graphs():
        calls.append(Call(extra.name, extra.inputs, extra.outputs, one_crop))
    return calls


def example_inputs(network: SiameseNetwork) -> dict[str, Tensor]:
    """Values of every input that neither is a crop nor comes out of another graph."""
    examples = {**network.template_inputs(), **network.search_inputs()}
    for extra in network.extra_graphs():
        examples.update(extra.examples)
    return examples


def run_calls(
    calls: Sequence[Call],
    examples: Mapping[str, Value],
    crop: Callable[[str, tuple[int, int, int, int]], Value],
    run: Callable[[Call, dict[str, Value]], Sequence[Value]],
) -> dict[str, dict[str, Value]]:
    """Run every graph, each fed by those before it.

    Args:
        examples: see `example_inputs`.
        crop: makes the crop of a name and shape.
        run: computes one graph's outputs from its named inputs.

    Returns:
        `{graph: {output: value}}`.
    """
    known = dict(examples)
    results: dict[str, dict[str, Value]] = {}
    for call in calls:
        feeds = {name: crop(name, call.crops[name]) if name in CROPS else known[name] for name in call.inputs}
        results[call.graph] = dict(zip(call.outputs, run(call, feeds), strict=True))
        if call.graph in ("template", "search"):
            known.update(results[call.graph])
    return results
