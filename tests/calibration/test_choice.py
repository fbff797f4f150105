"""The estimator that is chosen is the one whose INT8 disturbs the outputs least, by a computation of its own."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx_runs import session_of
from toy import outlier_models
from tqdm import tqdm

from siamtrt.calibration import choice
from siamtrt.calibration.choice import choose_ranges
from siamtrt.calibration.evaluation import Evaluator
from siamtrt.calibration.layers import find_layers, quantised_tensors
from siamtrt.calibration.pairs import Pair
from siamtrt.calibration.qdq import quantised
from siamtrt.calibration.record import Range
from siamtrt.manifest import Manifest

Models = dict[str, ModelProto]
ESTIMATORS = ("min-max", "percentile", "entropy", "mse")


def proposals(model: ModelProto, evaluator: Evaluator) -> dict[str, dict[str, float]]:
    """For every tensor of the search graph its largest magnitude, a half, a tenth and a thousandth of it."""
    names = quantised_tensors(find_layers(model))
    largest = dict.fromkeys(names, 0.0)
    probe = ModelProto.FromString(model.SerializeToString())
    made = [name for name in names if name != "x"]
    probe.graph.output.extend(ort_output(name) for name in made)
    session = session_of(probe)
    for feeds, _ in evaluator.cases("search"):
        for name, value in zip(made, session.run(made, feeds), strict=True):
            largest[name] = max(largest[name], float(np.abs(value).max()))
        largest["x"] = 255.0
    return {name: dict(zip(ESTIMATORS, (v, v / 2, v / 10, v / 1000), strict=True)) for name, v in largest.items()}


def ort_output(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def output_error(model: ModelProto, evaluator: Evaluator, name: str, threshold: float) -> float:
    """Of the graph with the readers of one tensor in INT8, written with that threshold as a constant."""
    layers = [layer for layer in find_layers(model) if layer.input == name]
    session = session_of(quantised(model, layers, {name: threshold}))
    rows = []
    for feeds, exact in evaluator.cases("search"):
        found = session.run(list(exact), feeds)
        rows += [np.mean((f - e.astype(float)) ** 2) / np.var(e) for f, e in zip(found, exact.values(), strict=True)]
    return float(np.mean(rows))


@pytest.mark.parametrize(("outlier_weight", "best"), [(0.0, "percentile, entropy or mse"), (1.0, "min-max")])
def test_an_outlier_channel(toy_manifest: Manifest, toy_pairs: list[Pair], outlier_weight: float, best: str) -> None:
    """Where its weight is 0, clipping it costs nothing; where it is 1, the output is little else."""
    models = outlier_models(outlier_weight)
    search = models["search"]
    layers = find_layers(search)
    with Evaluator(toy_manifest, models, toy_pairs[:4], threads=1) as evaluator:
        proposed = proposals(search, evaluator)
        with tqdm(file=io.StringIO()) as bar:
            ranges = choose_ranges(evaluator, "search", search, layers, proposed, bar)
            assert bar.n == len(ranges)
        assert list(ranges) == ["x", "uneven", "response"]
        for name, found in ranges.items():
            errors = {method: output_error(search, evaluator, name, value) for method, value in proposed[name].items()}
            assert found.errors == pytest.approx(errors, rel=1e-3), name
            assert found.method == min(errors, key=errors.__getitem__)
            assert (found.threshold, found.proposed) == (proposed[name][found.method], proposed[name])
    assert ranges["uneven"].method in best
    low, high = sorted(ranges["uneven"].errors.values())[:: len(ESTIMATORS) - 1]
    assert high > 5 * low  # it is a choice


@pytest.mark.parametrize(
    ("values", "tried"),
    [
        ((100, 99, 98.5, 98.1), ["min-max"]),
        ((100, 97, 96, 90), ["min-max", "percentile", "mse"]),  # 96 is near 97
        ((100, 50, 100, 50.5), ["min-max", "percentile"]),
        ((100, 90, 80, 70), list(ESTIMATORS)),
        ((50, 100, 51.1, 100), ["min-max", "percentile", "entropy"]),
    ],
)
def test_thresholds_nearly_equal_are_tried_once(
    toy_manifest: Manifest, toys: Models, toy_pairs: list[Pair], values: tuple[float, ...], tried: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked = []

    class Probe:
        def __init__(self, *arguments: object) -> None:
            pass

        def error(self, threshold: float) -> float:
            asked.append(threshold)
            return -threshold

    monkeypatch.setattr(choice, "_Probe", Probe)
    layers = find_layers(toys["search"])[:1]
    proposed = dict(zip(ESTIMATORS, values, strict=True))
    with Evaluator(toy_manifest, toys, toy_pairs[:1], threads=1) as evaluator:
        ranges = choose_ranges(evaluator, "search", toys["search"], layers, {"x": proposed})
    if len(tried) == 1:
        assert (asked, ranges) == ([], {"x": Range(100, "min-max", proposed, {})})
    else:
        assert asked == [proposed[method] for method in tried]
        best = max(tried, key=proposed.__getitem__)
        assert ranges == {"x": Range(proposed[best], best, proposed, {m: -proposed[m] for m in tried})}


RESIDUAL = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[1,3,64,64] x, float[1,8,7,7] kernel0) => (float[1,3,64,64] y)
{ a = Relu (x) b = Conv (a, w0) s = Add (b, h) r = Relu (s) y = Conv (r, w1) }
"""


def test_a_skip_is_probed_with_the_layer_it_is_added_to(
    toy_manifest: Manifest, toys: Models, toy_pairs: list[Pair]
) -> None:
    """A tensor that only an addition reads still gets the error of its own INT8."""
    model = onnx.parser.parse_model(RESIDUAL.replace("b = Conv (a, w0)", "h = Sigmoid (x) b = Conv (a, w0)"))
    rng = np.random.default_rng(0)
    model.graph.initializer.extend(
        numpy_helper.from_array(rng.normal(0, 0.3, (3, 3, 1, 1)).astype(np.float32), name) for name in ("w0", "w1")
    )
    layers = find_layers(model)
    assert quantised_tensors(layers) == ("a", "h", "r")
    feeds = {"x": toy_pairs[0].search, "kernel0": np.zeros((1, 8, 7, 7), np.float32)}
    exact = dict(zip(["y"], session_of(model).run(None, feeds), strict=True))

    class Single:
        cases = staticmethod(lambda graph: iter([(feeds, exact)]))
        raw_session = staticmethod(session_of)

    proposed = {
        "a": {"min-max": 255.0, "mse": 200.0}, "h": {"min-max": 1.0, "mse": 0.5}, "r": {"min-max": 500.0, "mse": 250.0},
    }  # fmt: skip
    ranges = choose_ranges(Single(), "search", model, layers, proposed)  # type: ignore[arg-type]
    alone = [dataclasses.replace(layers[0], skip=None)]
    for name, readers, thresholds in (("h", layers[:1], {"a": 255.0}), ("a", alone, {})):
        wanted = {}
        for method, value in proposed[name].items():
            session = session_of(quantised(model, readers, {**thresholds, name: value}))
            error = session.run(None, feeds)[0] - exact["y"].astype(float)
            wanted[method] = np.mean(error**2) / exact["y"].var()
        assert ranges[name].errors == pytest.approx(wanted, rel=1e-3)
    assert ranges["h"].method == "min-max"  # a sigmoid's upper half is not clipped
