"""What every tracker's network tells the exporter: its branches, and the names of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class ExtraGraph:
    """A graph beside template and search, computed by the network's method of the same name.

    `inputs` are names of what is known by then: "z", "x", the template's tensors "kernel0", "kernel1", ...,
    the search graph's outputs, or names in `examples`, which gives a value for each input of the graph's own.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: dict[str, Tensor] = field(default_factory=dict)


class SiameseNetwork(nn.Module):
    """A tracker split in two: `template` runs once a target, `search` once a frame.

    `template(z, *template_inputs)` takes a (1, 3, T, T) crop and returns every tensor that depends on the template
    alone; `search(x, *those tensors, *search_inputs)` takes (N, 3, S, S) crops and returns what `outputs` names:
    "cls" and "loc" of a region proposal head, "response" of a response map, or "similarity" of candidates.
    """

    outputs: tuple[str, ...] = ("cls", "loc")

    template: Callable[..., tuple[Tensor, ...]]
    search: Callable[..., tuple[Tensor, ...]]

    def template_inputs(self) -> dict[str, Tensor]:
        """Inputs of `template` after the crop, by name, each with an example value."""
        return {}

    def search_inputs(self) -> dict[str, Tensor]:
        """Inputs of `search` after the crop and the template's tensors, by name, each with an example value."""
        return {}

    def extra_graphs(self) -> tuple[ExtraGraph, ...]:
        """Graphs beside the two, in the order they run."""
        return ()


def method_of(graph: str) -> str:
    """The network's method behind a graph: wide search graphs, `search_831`, are `search` on a larger crop."""
    return "search" if graph.startswith("search_") else graph
