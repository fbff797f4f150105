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
    """One graph: names of inputs and outputs in order, shapes of its crops, and how many targets it takes."""

    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    crops: Mapping[str, tuple[int, int, int, int]]
    batch: int = 1

    @property
    def method(self) -> str:
        """The network's method behind the graph."""
        return method_of(self.graph)


def graph_calls(network: SiameseNetwork, preset: Preset, batch: int = 1) -> list[Call]:
    """The graphs of a tracker, each after those it takes tensors from; `search` for `batch` targets."""
    crop, strategies = preset.preprocessing, preset.strategies
    template_crop = (1, 3, crop.template_size, crop.template_size)
    with torch.no_grad():
        kernels = network.template(torch.zeros(template_crop), *network.template_inputs().values())
    names = tuple(f"kernel{index}" for index in range(len(kernels)))
    calls = [Call("template", ("z", *network.template_inputs()), names, {"z": template_crop})]
    for size in (crop.search_size, *strategies.search_sizes):
        graph = "search" if size == crop.search_size else wide_graph(size)
        crops = {"x": (batch * search_batch(preset.decoding), 3, size, size)}
        calls.append(Call(graph, ("x", *names, *network.search_inputs()), network.outputs, crops, batch))
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


def repeated(tensor: Tensor, count: int) -> Tensor:
    """The tensor of several targets, all the same."""
    return torch.cat([tensor] * count)


def run_calls(
    calls: Sequence[Call],
    examples: Mapping[str, Value],
    crop: Callable[[str, tuple[int, int, int, int]], Value],
    run: Callable[[Call, dict[str, Value]], Sequence[Value]],
    stack: Callable[[Value, int], Value],
) -> dict[str, dict[str, Value]]:
    """Run every graph, each fed by those before it.

    Args:
        examples: see `example_inputs`.
        crop: makes the crop of a name and shape.
        run: computes one graph's outputs from its named inputs.
        stack: makes of a template's tensor those of several targets.

    Returns:
        `{graph: {output: value}}`.
    """
    known = dict(examples)
    results: dict[str, dict[str, Value]] = {}
    for call in calls:
        feeds = {name: crop(name, call.crops[name]) if name in CROPS else known[name] for name in call.inputs}
        if call.batch > 1:
            feeds |= {name: stack(value, call.batch) for name, value in feeds.items() if name in results["template"]}
        results[call.graph] = dict(zip(call.outputs, run(call, feeds), strict=True))
        if call.graph in ("template", "search"):
            known.update(results[call.graph])
    return results
