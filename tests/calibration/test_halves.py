"""Which nodes FP16 leaves in FP32: on small graphs by name, on trackers by what the mixed graph computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper, parser
from onnx_runs import run

from siamtrt.calibration.collection import Histograms, collect
from siamtrt.calibration.evaluation import GRAPHS
from siamtrt.calibration.halves import MARGIN, fp32_nodes, largest_magnitudes, rounding_loss, simulated
from siamtrt.calibration.histogram import Histogram
from siamtrt.calibration.layers import find_layers, quantised_tensors
from siamtrt.calibration.pairs import Pair, sample_pairs
from siamtrt.calibration.qdq import quantised
from siamtrt.errors import CalibrationError
from siamtrt.export.precision import FP16_LARGEST, fp16_from_fp32
from siamtrt.manifest import Manifest, load_manifest
from siamtrt.runtime.sequences import find_sequences

Feeds = dict[str, np.ndarray]
LIMIT = FP16_LARGEST / MARGIN
FP16_ACCURACY = 2e-3  # of the largest magnitude: a few roundings of 2**-11


def graph(body: str, **constants: float | np.ndarray) -> ModelProto:
    text = f'<ir_version: 10, opset_import: ["" : 20]> g (float[1,2,4,4] x) => (float[1,2,4,4] y) {{ {body} }}'
    model = parser.parse_model(text)
    arrays = {name: np.asarray(v, None if isinstance(v, np.ndarray) else np.float32) for name, v in constants.items()}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def histograms_of(model: ModelProto, x: np.ndarray) -> dict[str, Histogram]:
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    made = [name for node in model.graph.node for name in node.output]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made)
    histograms = {}
    for name, values in {"x": x, **run(watched, {"x": x})}.items():
        histograms[name] = Histogram(name)
        histograms[name].add(values)
    return histograms


def histogram(values: np.ndarray | list[float]) -> Histogram:
    result = Histogram("t")
    result.add(values)
    return result


def values_to(largest: float, smallest: float = 0.0) -> np.ndarray:
    """(1, 2, 4, 4), from one to the other, FP16's rounding of each no special case."""
    return np.linspace(smallest or largest / 7, largest, 32, dtype=np.float32).reshape(1, 2, 4, 4)


SHAPES = {"flat": np.array([1, 32]), "square": np.array([1, 2, 4, 4])}
PASSED_ON = """a = Mul(x, big) b = Relu(a) c = Reshape(b, flat) d = Concat<axis = 1>(c, c)
    e, f = Split<num_outputs = 2, axis = 1>(d) g = Reshape(e, square)
    h = Transpose<perm = [0, 1, 3, 2]>(g) i = Mul(h, small) y = Relu(i)"""
TINY = np.full((2, 2, 1, 1), 1e-7, np.float32)
ONES = np.ones((2, 2, 1, 1), np.float32)
CASES = {
    # body, its constants, the largest input, the nodes to keep
    "nothing": ("y = Relu(x)", {}, 255.0, ""),
    "made and read": ("a = Relu(x) b = Mul(a, big) y = Mul(b, small)", {"big": 3e4, "small": 3e-5}, 5, "by"),
    "passed on": (PASSED_ON, {"big": 1e5, "small": 1e-5, **SHAPES}, 5.0, "abcdeghi"),
    "read by a node that makes small values": ("a = Mul(x, big) y = Sigmoid(a)", {"big": 1e5}, 5.0, "ay"),
    "all its readers": ("a = Mul(x, big) b = Sigmoid(a) c = Tanh(a) y = Add(b, c)", {"big": 1e5}, 5.0, "abc"),
    "graph input": ("a = Mul(x, small) y = Relu(a)", {"small": 1e-5}, 1e6, "a"),
    "graph output": ("a = Relu(x) y = Mul(a, a)", {}, 400.0, "y"),
    "within the margin": ("a = Relu(x) y = Neg(a)", {}, LIMIT, ""),
    "beyond the margin": ("a = Relu(x) y = Neg(a)", {}, LIMIT * 1.001, "ay"),
    "underflow": ("a = Mul(x, small) b = Relu(a) c = Mul(b, big) y = Relu(c)", {"big": 1e6, "small": 1e-6}, 5.0, "abc"),
    "small but exact enough": ("a = Mul(x, small) y = Mul(a, big)", {"big": 1e4, "small": 1e-4}, 1.0, ""),
    "weight": ("a = Relu(x) y = Mul(a, big)", {"big": 1e5}, 1e-2, "y"),
    "large weight that FP16 holds": ("a = Relu(x) y = Mul(a, big)", {"big": 65504}, 1e-2, ""),
    "tiny weight": ("a = Conv(x, w) y = Relu(a)", {"w": TINY}, LIMIT, "a"),
    "tiny bias": ("y = Conv(x, w, c)", {"w": ONES, "c": np.full(2, 1e-7, np.float32)}, 5.0, ""),
    "tiny factor": ("a = Relu(x) y = Mul(a, c)", {"c": 1e-7}, LIMIT, "y"),
    "large bias": ("y = Conv(x, w, c)", {"w": ONES, "c": np.float32([1e5, -1e5])}, 5.0, "y"),
    "tiny operand of a sum": ("y = Add(x, c)", {"c": 1e-7}, 5.0, ""),
    "bounds": ("y = Clip(x, low, high)", {"low": -3e38, "high": 3e38}, 5.0, ""),
    "infinite constant": ("y = Max(x, low)", {"low": -np.inf}, 5.0, ""),
    "zero weight": ("y = Mul(x, c)", {"c": 0.0}, 5.0, ""),
}  # fmt: skip


@pytest.mark.parametrize(("body", "constants", "largest", "expected"), CASES.values(), ids=CASES)
def test_kept_nodes(body: str, constants: dict[str, float | np.ndarray], largest: float, expected: str) -> None:
    model, x = graph(body, **constants), values_to(largest)
    kept = fp32_nodes(model, histograms_of(model, x))
    assert kept == tuple(expected), "by name and in graph order"
    exact = run(model, {"x": x})["y"]
    found = run(simulated(fp16_from_fp32(model, kept)), {"x": x})["y"]
    np.testing.assert_allclose(found, exact, rtol=0, atol=FP16_ACCURACY * np.abs(exact).max())


@pytest.mark.parametrize("case", ["made and read", "passed on", "graph input", "graph output"])
def test_without_kept_nodes_these_overflow(case: str) -> None:
    body, constants, largest, _ = CASES[case]
    model, x = graph(body, **constants), values_to(largest)
    assert not np.isfinite(run(simulated(fp16_from_fp32(model)), {"x": x})["y"]).all()


@pytest.mark.parametrize("case", ["underflow", "tiny weight"])
def test_without_kept_nodes_these_lose_their_values(case: str) -> None:
    body, constants, largest, _ = CASES[case]
    model, x = graph(body, **constants), values_to(largest)
    exact, found = (run(m, {"x": x})["y"] for m in (model, simulated(fp16_from_fp32(model))))
    assert np.abs(found - exact).max() > 5 * FP16_ACCURACY * np.abs(exact).max()


def test_onnx_runtimes_cpu_alone_would_not_show_an_overflow() -> None:
    """Why there is a simulation. Should this fail, ONNX Runtime has become a judge of FP16 itself."""
    body, constants, largest, _ = CASES["made and read"]
    half, x = fp16_from_fp32(graph(body, **constants)), values_to(largest)
    assert {tensor.data_type for tensor in half.graph.initializer} == {TensorProto.FLOAT16}
    assert np.isfinite(run(half, {"x": x})["y"]).all()
    assert not np.isfinite(run(simulated(half), {"x": x})["y"]).all()


def test_many_tiny_values_do_not_matter_beside_few_large_ones() -> None:
    model, x = graph("a = Relu(x) y = Neg(a)"), np.full((1, 2, 4, 4), 1e-6, np.float32)
    assert fp32_nodes(model, histograms_of(model, x)) == ("a", "y")
    x.flat[0] = 1.0
    assert fp32_nodes(model, histograms_of(model, x)) == ()


def test_a_name_is_given_where_there_is_one() -> None:
    model = graph("a = Relu(x) y = Exp(a)")
    model.graph.node[1].name = "grown"
    assert fp32_nodes(model, histograms_of(model, values_to(12.0))) == ("grown",)


def test_a_tensor_without_a_histogram_is_refused() -> None:
    model, x = graph("a = Relu(x) y = Exp(a)"), values_to(1.0)
    for name in "xay":
        histograms = histograms_of(model, x)
        del histograms[name]
        with pytest.raises(CalibrationError, match=f"no histogram of '{name}'"):
            fp32_nodes(model, histograms)


@pytest.mark.parametrize("exponent", range(-30, 12, 3))
def test_rounding_loss_is_what_rounding_costs(exponent: int) -> None:
    values = np.random.default_rng(5).normal(0, 2.0**exponent, 20_000).astype(np.float32)
    error = values - values.astype(np.float16).astype(np.float32)
    actual = float((error**2).sum() / (values**2).sum())
    assert actual / 4 < rounding_loss(histogram(values)) < actual * 4


def test_rounding_loss_of_zeros_and_of_nothing() -> None:
    assert rounding_loss(histogram([])) == rounding_loss(histogram([0.0, 0.0])) == 0.0
    assert rounding_loss(histogram([1e-30])) == 1.0
    assert rounding_loss(histogram([1.0, 0.0, 0.0])) < 1e-6


def test_largest_magnitudes_first() -> None:
    histograms = {name: histogram([value, 0.1]) for name, value in [("c", 3.0), ("b", -7.5), ("a", 3.0), ("d", 1e6)]}
    assert list(largest_magnitudes(histograms).items()) == [("d", 1e6), ("b", 7.5), ("a", 3.0), ("c", 3.0)]
    assert list(largest_magnitudes(histograms, 2)) == ["d", "b"]


def test_the_simulation_rounds_after_every_node() -> None:
    model = graph("a = Mul(x, c) b = Exp(a) d = Sub(b, c) y = Mul(d, d)", c=1 / 3)
    x = np.random.default_rng(2).normal(0, 1, (1, 2, 4, 4)).astype(np.float32)

    def half(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float16).astype(np.float32)

    c = half(np.float32(1 / 3))
    b = half(np.exp(half(half(x) * c)))
    d = half(b - c)
    result = simulated(fp16_from_fp32(model))
    np.testing.assert_allclose(run(result, {"x": x})["y"], half(d * d), rtol=2e-3)  # exp may fall on either side
    assert np.mean(run(result, {"x": x})["y"] == half(d * d)) > 0.9
    types = {tensor.data_type for tensor in result.graph.initializer}
    assert types == {TensorProto.FLOAT}
    mixed = run(simulated(fp16_from_fp32(model, ["d", "y"])), {"x": x})["y"]
    np.testing.assert_allclose(mixed, (b - np.float32(1 / 3)) ** 2, rtol=2e-3)


def test_int8_beside_overflow() -> None:
    """A layer quantised, the next too large: both as they should be, the names from the graph without Q/DQ."""
    weight = np.random.default_rng(3).normal(0, 0.5, (2, 2, 1, 1)).astype(np.float32)
    model = graph("a = Conv(x, w) b = Mul(a, big) d = Conv(b, w) e = Mul(d, small) y = Neg(e)",
                  w=weight, big=1e5, small=1e-5)  # fmt: skip
    x = values_to(5.0)
    histograms = histograms_of(model, x)
    kept, layers = fp32_nodes(model, histograms), find_layers(model)
    assert kept == ("b", "d", "e")
    ranges = {name: histograms[name].largest for name in quantised_tensors(layers)}
    pairs = quantised(model, layers, ranges)
    exact = run(pairs, {"x": x})["y"]
    found = run(simulated(fp16_from_fp32(pairs, kept)), {"x": x})["y"]
    # A value that FP16 rounds across the border of two codes moves by a code, a 127th.
    np.testing.assert_allclose(found, exact, rtol=0, atol=1.5e-2 * np.abs(exact).max())
    assert not np.isfinite(run(simulated(fp16_from_fp32(pairs)), {"x": x})["y"]).all()


def collected(bundle: Path, pairs: list[Pair], manifest: Manifest) -> tuple[dict[str, ModelProto], Histograms]:
    models = {graph: onnx.load(bundle / f"{graph}.onnx") for graph in GRAPHS}
    return models, collect(manifest, models, pairs, 1)


def random_pair(manifest: Manifest) -> Pair:
    rng = np.random.default_rng(9)
    crops = [rng.integers(0, 256, manifest.graphs[g].inputs[0].shape).astype(np.float32) for g in GRAPHS]
    return Pair(*crops, state=None, frame_size=(9, 9), truth_xywh=(0, 0, 1, 1), name="random")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["siamrpn_alex"])
def test_a_tracker_that_overflows(exported: Callable[[str], Path], name: str) -> None:
    """The reference's weights from a seed, whose correlation gives 6e5."""
    manifest = load_manifest(exported(name))
    pair = random_pair(manifest)
    models, histograms = collected(exported(name), [pair], manifest)
    kept = {graph: fp32_nodes(models[graph], histograms[graph]) for graph in GRAPHS}
    assert not kept["template"]
    assert 0 < len(kept["search"]) <= 4
    kernels = run(models["template"], {"z": pair.template})
    feeds = {"x": pair.search, **kernels}
    exact = run(models["search"], feeds)
    plain = run(simulated(fp16_from_fp32(models["search"])), feeds)
    mixed = run(simulated(fp16_from_fp32(models["search"], kept["search"])), feeds)
    for output, values in exact.items():
        assert not np.isfinite(plain[output]).all()
        np.testing.assert_allclose(mixed[output], values, rtol=0, atol=FP16_ACCURACY * np.abs(values).max())


@pytest.mark.parametrize("name", ["nanotrack_v1"])
def test_a_trained_tracker_needs_fp32_in_its_last_exponential_alone(
    exported: Callable[[str], Path], shared_dir: Path, name: str
) -> None:
    """v2 and v3, whose largest output was 92 on pairs of 15 sequences, need it nowhere."""
    manifest = load_manifest(exported(name))
    with sample_pairs(manifest, find_sequences(shared_dir / "sequences" / "otb")[:1], 8) as pairs:
        models, histograms = collected(exported(name), list(pairs), manifest)
    kept = {graph: fp32_nodes(models[graph], histograms[graph]) for graph in GRAPHS}
    assert not kept["template"]
    assert {node.op_type for node in models["search"].graph.node if node.name in kept["search"]} == {"Exp"}
    others = {n: h.largest for graph in GRAPHS for n, h in histograms[graph].items() if n != "loc"}
    assert max(others.values()) < 2500  # the correlation; the next is the crop
