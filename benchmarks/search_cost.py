"""What the search graphs cost beside the naive split's: `python -m siamtrt.benchmarks.search_cost [NAME...]`.

The naive split keeps backbone and neck of the template crop in the template graph, and everything else in the search
graph: each frame pays for the head's template side anew, and no layer is merged or composed.

The naive figure is a lower bound. `network.search` as written no longer has the layers that a network moves into the
template's tensors by algebra; the move is counted instead, which costs less (million multiply-accumulates a frame):

    SiamRPN's `loc_adjust`                                0 for 0.2
    NanoTrack v2's 1x1 convolutions on 16x16 features     0.3 for 1.2 (v3: 1.2 for 4.7)
    SA-Siam's 1x1 fusion, at three scales                 22 for 133 (wider correlations included)

Nor has it SiamMask's mask head. What the template graph computes beyond backbone and neck is the exported graph, whose
constants are folded, less backbone and neck as written, of which the export may have composed some layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import click
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from siamtrt.export.calls import Call, example_inputs, graph_calls, run_calls
from siamtrt.export.macs import graph_macs
from siamtrt.export.onnx_export import Branch, export_graphs
from siamtrt.manifest import GRAPHS
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.preset import Preset
from siamtrt.models.presets import PRESETS, get_preset
from siamtrt.models.seeded import seeded_network

WIDEST = 800  # px: the export of a wider search graph takes minutes
HEADER = (
    "| tracker | graph | crops | search GMAC | naive GMAC | ratio | template GMAC |",
    "|---|---|---|---|---|---|---|",
)

Counts = dict[str, int]


@dataclasses.dataclass(frozen=True)
class SearchCost:
    """Multiply-accumulates of one search graph, and what the naive split's are made of.

    Args:
        tracker, graph: names of preset and graph.
        crops: of one inference, and their side in pixels.
        search, template: of our graphs.
        written: of `network.search` as PyTorch runs it.
        hoisted: of our template graph, less backbone and neck as written.
    """

    tracker: str
    graph: str
    crops: tuple[int, int]
    search: int
    template: int
    written: int
    hoisted: int

    @property
    def naive(self) -> int:
        """What the naive split's search graph would cost at least."""
        return self.written + self.hoisted

    @property
    def holds(self) -> bool:
        """Our search graph costs no more, and less where something was hoisted."""
        return self.search < self.naive if self.hoisted else self.search <= self.naive

    def line(self) -> str:
        """One line of the Markdown table under `HEADER`."""
        number, side = self.crops
        return (
            f"| {self.tracker} | {self.graph} | {number} x {side} px | {self.search / 1e9:.4f} | "
            f"{self.naive / 1e9:.4f} | {self.search / self.naive:.4f} | {self.template / 1e9:.4f} |"
        )


def search_costs(preset: Preset) -> list[SearchCost]:
    """The cost of every search graph of a preset, exported with seeded weights."""
    network = seeded_network(preset)
    calls = [call for call in graph_calls(network, preset) if call.method in GRAPHS]
    ours = {name: graph_macs(graph.model) for name, graph in export_graphs(network, preset).items()}
    written = _written_macs(network.to("meta"), calls)
    costs = []
    for call in calls[1:]:
        shared = _shared_macs(written["template"], written[call.graph])
        number, _, _, side = call.crops["x"]
        costs.append(SearchCost(
            preset.name, call.graph, (number, side), ours[call.graph], ours["template"],
            written[call.graph]["Global"], max(ours["template"] - shared, 0),
        ))  # fmt: skip
    return costs


def _written_macs(network: SiameseNetwork, calls: list[Call]) -> dict[str, Counts]:
    """`{graph: {module: multiply-accumulates}}` of a network on the meta device, as it is before the export."""
    counts: dict[str, Counts] = {}

    def count(call: Call, feeds: dict[str, Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            outputs = Branch(network, call.method)(*feeds.values())
        flops = counter.get_flop_counts()
        counts[call.graph] = {name: sum(by_operator.values()) // 2 for name, by_operator in flops.items()}
        return outputs

    examples = {name: value.to("meta") for name, value in example_inputs(network).items()}
    run_calls(calls, examples, lambda _, shape: torch.empty(shape, device="meta"), count, lambda tensor, _: tensor)
    return counts


def _shared_macs(template: Counts, search: Counts) -> int:
    """The template's cost of the modules that both crops run through: backbone and neck, whatever their names."""
    both = (template.keys() & search.keys()) - {"Global", Branch.__name__}
    outermost = [name for name in both if not any(name.startswith(f"{other}.") for other in both)]
    return sum(template[name] for name in outermost)


def _narrow(preset: Preset) -> Preset:
    """The preset without its wide search graphs, if they are costly to export."""
    strategies = preset.strategies
    if max(strategies.search_sizes, default=0) <= WIDEST:
        return preset
    return dataclasses.replace(preset, strategies=dataclasses.replace(strategies, search=None))


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(PRESETS)))
def main(names: Iterable[str]) -> None:
    """Print the cost of presets' search graphs; every preset, without graphs wider than 800 px, if none is named."""
    presets = [get_preset(name) for name in names] or [_narrow(preset) for preset in PRESETS.values()]
    dearer = []
    tqdm.write("\n".join(HEADER))
    for preset in tqdm(presets, unit="tracker", disable=None):
        for cost in search_costs(preset):
            tqdm.write(cost.line())
            if not cost.holds:
                dearer.append(f"{cost.tracker} {cost.graph}")
    if dearer:
        raise click.ClickException(f"not cheaper than the naive split: {', '.join(dearer)}")


if __name__ == "__main__":
    main()
