"""Which convolutions stay in FP16: those whose INT8 hurts the tracker most, until the boxes are good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto
from tqdm import tqdm

from siamtrt.calibration.evaluation import GRAPHS, UNCHANGED, Evaluator, Models
from siamtrt.calibration.layers import Layer, find_layers
from siamtrt.calibration.qdq import quantised
from siamtrt.calibration.record import LayerDamage, PlanPoint
from siamtrt.runtime.search import ORDINARY

SWITCH = 0.01
TEMPLATE_FRAMES = 100
Thresholds = Mapping[str, Mapping[str, float]]  # by graph and tensor
Names = tuple[str, str]  # graph, layer


@dataclass(frozen=True)
class Quantiser:
    """The FP32 graphs with what is known of their INT8 form.

    Attributes:
        models: FP32 graphs by name.
        layers: their convolutions that may be INT8.
        thresholds: of those convolutions' tensors.
    """

    models: Models
    layers: Mapping[str, tuple[Layer, ...]]
    thresholds: Thresholds

    def only(self, graph: str, layer: Layer) -> dict[str, ModelProto]:
        """The graph of a layer with that layer alone in INT8."""
        return {graph: quantised(self.models[graph], [layer], self.thresholds[graph])}

    def without(self, kept: set[Names]) -> dict[str, ModelProto]:
        """Both graphs in INT8 but for the layers kept."""
        changed = {}
        for graph, layers in self.layers.items():
            chosen = [layer for layer in layers if (graph, layer.name) not in kept]
            changed[graph] = quantised(self.models[graph], chosen, self.thresholds[graph])
        return changed

    def int8_share(self, kept: set[Names]) -> float:
        """Of the search graph's multiply-accumulates in convolutions with constant weights, 0..1."""
        layers = self.layers[ORDINARY]
        total = sum(layer.macs for layer in layers)
        return sum(layer.macs for layer in layers if (ORDINARY, layer.name) not in kept) / total if total else 0.0


def layers_of(models: Models) -> dict[str, tuple[Layer, ...]]:
    """The convolutions of both graphs that may be INT8."""
    return {graph: find_layers(models[graph]) for graph in GRAPHS}


def rank_layers(evaluator: Evaluator, quantiser: Quantiser, progress: bool = False) -> tuple[LayerDamage, ...]:
    """The damage of each convolution in INT8 alone, in the order in which FP16 is worth most.

    That is IoU lost for what FP16 costs a frame: the convolution's multiplications and `SWITCH` of all the search
    graph's, for the change of types around it. A template convolution, which runs once a target, costs a
    `TEMPLATE_FRAMES`-th of both.
    """
    everything = [(graph, layer) for graph in GRAPHS for layer in quantiser.layers[graph]]
    rows = [
        LayerDamage(graph, layer.name, layer.macs, evaluator.damage(quantiser.only(graph, layer)))
        for graph, layer in tqdm(everything, "damage", unit="layer", disable=None if progress else True)
    ]
    total = sum(layer.macs for layer in quantiser.layers[ORDINARY])
    return tuple(sorted(rows, key=lambda row: (-_worth(row, total), row.damage.correlation, row.graph, row.layer)))


def _worth(row: LayerDamage, search_macs: int) -> float:
    """IoU that FP16 saves for a share of the search graph's multiplications."""
    cost = row.macs / max(1, search_macs) + SWITCH
    return row.damage.drop / (cost if row.graph == ORDINARY else cost / TEMPLATE_FRAMES)


def choose_plan(
    evaluator: Evaluator, quantiser: Quantiser, ranked: tuple[LayerDamage, ...], max_iou_drop: float
) -> tuple[PlanPoint, ...]:
    """Plans that keep the first 0, 1, 2, 4, ... of the layers, and those in between that find the smallest good one.

    That more layers in FP16 do less damage is assumed between the plans tried, not beyond: the chosen one was measured.

    Args:
        evaluator: steps to judge by.
        quantiser: the graphs.
        ranked: every layer, as `rank_layers` orders them.
        max_iou_drop: most that the mean IoU with FP32's boxes may be below 1.

    Returns:
        In order of layers kept; the last but those that keep more than needed is the first within the budget. With
        every layer kept the graphs are FP32's and the drop is 0, so there is one.
    """
    names = [(row.graph, row.layer) for row in ranked]

    def tried(count: int) -> PlanPoint:
        kept = set(names[:count])
        damage = evaluator.damage(quantiser.without(kept)) if count < len(names) else UNCHANGED
        return PlanPoint(count, quantiser.int8_share(kept), damage)

    steps = [0, *(1 << power for power in range(len(names).bit_length()) if 1 << power < len(names)), len(names)]
    points = {count: tried(count) for count in steps}
    good = min(count for count, point in points.items() if point.damage.drop <= max_iou_drop)
    bad = max((count for count in points if count < good), default=good)
    while good - bad > 1:
        middle = (good + bad) // 2
        points[middle] = tried(middle)
        if points[middle].damage.drop <= max_iou_drop:
            good = middle
        else:
            bad = middle
    return tuple(points[count] for count in sorted(points))


def kept_layers(
    ranked: tuple[LayerDamage, ...], points: tuple[PlanPoint, ...], max_iou_drop: float
) -> dict[str, tuple[str, ...]]:
    """The layers in FP16 of the smallest plan within the budget, in their order, by graph."""
    count = min(point.kept for point in points if point.damage.drop <= max_iou_drop)
    return {graph: tuple(row.layer for row in ranked[:count] if row.graph == graph) for graph in GRAPHS}
