"""Which layers are kept: a layer that is known to do harm first, and no more than the budget asks for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from onnx import ModelProto

from siamtrt.calibration.evaluation import UNCHANGED, Damage, Evaluator
from siamtrt.calibration.layers import Layer
from siamtrt.calibration.pairs import Pair
from siamtrt.calibration.plan import Quantiser, choose_plan, kept_layers, layers_of, rank_layers
from siamtrt.calibration.record import LayerDamage
from siamtrt.manifest import Manifest

Models = dict[str, ModelProto]


@pytest.fixture(scope="module")
def quantiser(uneven: Models) -> Quantiser:
    """Ranges as wide as values get: an outlier leaves one code to what `cls` depends on."""
    thresholds = {"template": {"z": 255.0}, "search": {"x": 255.0, "uneven": 1e5, "response": 100.0}}
    return Quantiser(uneven, layers_of(uneven), thresholds)


@pytest.fixture(scope="module")
def evaluator(toy_manifest: Manifest, uneven: Models, toy_pairs: list[Pair]) -> Iterator[Evaluator]:
    with Evaluator(toy_manifest, uneven, toy_pairs, threads=1) as found:
        yield found


@pytest.fixture(scope="module")
def ranked(evaluator: Evaluator, quantiser: Quantiser) -> tuple[LayerDamage, ...]:
    return rank_layers(evaluator, quantiser)


def names(rows: tuple[LayerDamage, ...]) -> list[tuple[str, str]]:
    return [(row.graph, row.layer) for row in rows]


def test_layers_are_in_the_order_of_what_fp16_is_worth(
    evaluator: Evaluator, quantiser: Quantiser, ranked: tuple[LayerDamage, ...]
) -> None:
    """IoU lost for a share of the search's multiplications and a hundredth of them; a template's cost a hundredth."""
    total = sum(layer.macs for layer in quantiser.layers["search"])
    worth = [
        row.damage.drop / (row.macs / total + 0.01) * (100 if row.graph == "template" else 1) for row in ranked
    ]  # fmt: skip
    assert worth == sorted(worth, reverse=True)
    assert sorted(names(ranked)) == [
        ("search", "cls"),
        ("search", "features"),
        ("search", "log_loc"),
        ("template", "features"),
    ]
    drops = {row.layer: row.damage.drop for row in ranked if row.graph == "search"}
    assert drops.pop("cls") > 10 * max(drops.values())
    for row in ranked:
        layer = next(layer for layer in quantiser.layers[row.graph] if layer.name == row.layer)
        assert row.macs == layer.macs
        assert row.damage == evaluator.damage(quantiser.only(row.graph, layer))


def test_a_template_layer_costs_little_and_equal_worth_goes_by_the_response_then_by_name(quantiser: Quantiser) -> None:
    class Judge:
        def damage(self, changed: Models) -> Damage:
            weights = {tensor.name for model in changed.values() for tensor in model.graph.initializer}
            return Damage(0.2 if "loc_weight_quantized" in weights else 0.9, 0.0, iou)

    iou = 0.5  # cls has the fewest multiplications, then log_loc
    in_order = [("template", "features"), ("search", "cls"), ("search", "log_loc"), ("search", "features")]
    assert names(rank_layers(Judge(), quantiser)) == in_order  # type: ignore[arg-type]
    iou = 1.0
    by_response = [("search", "log_loc"), ("search", "cls"), ("search", "features"), ("template", "features")]
    assert names(rank_layers(Judge(), quantiser)) == by_response  # type: ignore[arg-type]


def test_only_and_without(quantiser: Quantiser) -> None:
    def int8(model: ModelProto) -> set[str]:
        return {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}

    for graph, layers in quantiser.layers.items():
        for layer in layers:
            assert {name: int8(model) for name, model in quantiser.only(graph, layer).items()} == {graph: {layer.input}}
    everything = quantiser.without(set())
    assert {graph: int8(model) for graph, model in everything.items()} == {
        "template": {"z"}, "search": {"x", "uneven", "response"},
    }  # fmt: skip
    some = quantiser.without({("search", "features"), ("template", "cls")})  # of the same name in the other graph
    assert {graph: int8(model) for graph, model in some.items()} == {
        "template": {"z"},
        "search": {"uneven", "response"},
    }


def test_share_of_int8(quantiser: Quantiser) -> None:
    features, cls, loc = 8 * 3 * 8 * 8 * 15 * 15, 2 * 8 * 81, 4 * 8 * 81
    total = features + cls + loc
    assert quantiser.int8_share(set()) == 1
    assert quantiser.int8_share({("template", "features")}) == 1  # of the search graph's
    assert quantiser.int8_share({("search", "cls")}) == pytest.approx((features + loc) / total)
    assert quantiser.int8_share({("search", "features"), ("search", "cls")}) == pytest.approx(loc / total)
    assert quantiser.int8_share({("search", name) for name in ("features", "cls", "log_loc")}) == 0
    assert Quantiser({}, {"template": (), "search": ()}, {}).int8_share(set()) == 0


def test_the_harmful_layer_is_kept(evaluator: Evaluator, quantiser: Quantiser, ranked: tuple[LayerDamage, ...]) -> None:
    budget = 0.1
    points = choose_plan(evaluator, quantiser, ranked, budget)
    kept = kept_layers(ranked, points, budget)
    assert "cls" in kept["search"]
    both = {(graph, layer) for graph, layers in kept.items() for layer in layers}
    assert both == set(names(ranked)[: len(both)])
    chosen = next(point for point in points if point.kept == len(both))
    assert points[0].damage.drop > budget >= chosen.damage.drop
    assert chosen.damage == evaluator.damage(quantiser.without(both))
    assert chosen.int8_share == quantiser.int8_share(both)
    assert points[-1].damage == UNCHANGED


@pytest.mark.parametrize(("budget", "count"), [(1.0, 0), (0.0, None)])
def test_extreme_budgets(
    evaluator: Evaluator, quantiser: Quantiser, ranked: tuple[LayerDamage, ...], budget: float, count: int | None
) -> None:
    points = choose_plan(evaluator, quantiser, ranked, budget)
    kept = sum(map(len, kept_layers(ranked, points, budget).values()))
    assert kept == (count if count is not None else min(p.kept for p in points if p.damage.iou == 1))
    assert {point.kept for point in points} >= {0, 1, 2, 4}


BUDGET = 0.125  # exactly 1 - 0.875


class Made:
    """Damage by a table of how many layers are kept; counts what is asked."""

    def __init__(self, drops: list[float]) -> None:
        self.drops, self.asked = drops, []

    def damage(self, kept: int) -> Damage:
        self.asked.append(kept)
        return Damage(1.0, 0.0, 1 - self.drops[kept])


class Counting(Quantiser):
    """Hands on how many layers are kept in place of graphs."""

    def without(self, kept: set[tuple[str, str]]):
        return len(kept)


@pytest.mark.parametrize(
    ("drops", "asked", "kept"),
    [
        ([0.0] * 11, [0, 1, 2, 4, 8], 0),
        ([0.5] * 7 + [0.0] * 4, [0, 1, 2, 4, 8, 6, 7], 7),
        ([0.5] * 5 + [0.125] * 6, [0, 1, 2, 4, 8, 6, 5], 5),
        ([0.5] * 10, [0, 1, 2, 4, 8, 9], 10),  # nothing but everything
        ([0.5, 0.5, 0.0] + [0.5] * 8, [0, 1, 2, 4, 8], 2),  # more in FP16 is worse: still the smallest that was tried
        ([0.13, 0.125] + [0.0] * 9, [0, 1, 2, 4, 8], 1),
    ],
)
def test_the_smallest_plan_within_the_budget(drops: list[float], asked: list[int], kept: int) -> None:
    layers = tuple(Layer(f"layer{i}", "x", "w", f"y{i}", 10) for i in range(10))
    quantiser = Counting({}, {"template": (), "search": layers}, {})
    ranked = tuple(LayerDamage("search", layer.name, 10, UNCHANGED) for layer in layers)
    judge = Made(drops)
    points = choose_plan(judge, quantiser, ranked, BUDGET)  # type: ignore[arg-type]
    assert judge.asked == asked
    assert [point.kept for point in points] == sorted({*asked, 10})
    chosen = kept_layers(ranked, points, BUDGET)
    assert chosen == {"template": (), "search": tuple(f"layer{i}" for i in range(kept))}
    point = next(point for point in points if point.kept == kept)
    assert point.damage.drop <= BUDGET
    assert point.int8_share == pytest.approx(1 - kept / 10)
    assert not any(point.damage.drop <= BUDGET for point in points if point.kept < kept)


def test_a_network_without_layers() -> None:
    points = choose_plan(Made([]), Counting({}, {"template": (), "search": ()}, {}), (), 0.0)  # type: ignore[arg-type]
    assert [(point.kept, point.int8_share, point.damage) for point in points] == [(0, 0.0, UNCHANGED)]
    assert kept_layers((), points, 0.0) == {"template": (), "search": ()}


def test_ranks_do_not_depend_on_the_order_of_the_layers(evaluator: Evaluator, quantiser: Quantiser) -> None:
    turned = Quantiser(quantiser.models, {g: rows[::-1] for g, rows in quantiser.layers.items()}, quantiser.thresholds)
    assert names(rank_layers(evaluator, turned)) == names(rank_layers(evaluator, quantiser))
    assert np.isfinite([row.damage.iou for row in rank_layers(evaluator, turned)]).all()
