"""Q/DQ graphs: on small ones against NumPy, on trackers their size, their types and TensorRT-RTX's word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper, parser
from onnx_runs import session_of
from rtx import RTX, needs_rtx

from siamtrt.calibration.histogram import Histogram
from siamtrt.calibration.layers import Layer, find_layers, quantised_tensors
from siamtrt.calibration.qdq import channel_thresholds, quantised, scale_of
from siamtrt.errors import CalibrationError
from siamtrt.export.operator import with_operator_function
from siamtrt.export.precision import fp16_from_fp32
from siamtrt.export.trt import engine_from_onnx

X, Y = "float[1,4,6,6] x", "float[1,4,6,6] y"
PADDED = "<pads = [1, 1, 1, 1]>"
T = 1.5  # clips a sixth of the values that reach it


def graph(body: str, inputs: str = X, outputs: str = Y) -> ModelProto:
    """Opset 20; weights w0..w3 (4, 4, 3, 3), d (4, 1, 3, 3), bias b (4,), channel 1 of w0 zero."""
    text = f'<ir_version: 10, opset_import: ["" : 20, "siamtrt" : 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = parser.parse_model(text)
    rng = np.random.default_rng(23)
    arrays = {f"w{index}": rng.normal(0, 0.3, (4, 4, 3, 3)) for index in range(4)}
    arrays |= {"d": rng.normal(0, 0.4, (4, 1, 3, 3)), "b": rng.normal(0, 0.1, 4)}
    arrays["w0"][1] = 0
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items() if name in used
    )
    return with_operator_function(model)


def run(model: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return session_of(model).run(None, feeds)


def fake_quantised(x: np.ndarray, scale: np.ndarray, lowest: int) -> np.ndarray:
    return np.clip(np.rint(x / scale), lowest, 127) * scale


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float, pad: int, groups: int) -> np.ndarray:
    """(1, C, H, W), (O, C / groups, h, w) -> (1, O, H', W') in float64."""
    x = np.pad(x[0].astype(np.float64), [(0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (1, 2))  # (C, H', W', h, w)
    parts = [np.einsum("chwij,ocij->ohw", a, b) for a, b in
             zip(np.split(windows, groups), np.split(weight, groups), strict=True)]  # fmt: skip
    return (np.concatenate(parts) + np.reshape(bias, (-1, 1, 1)))[None]


def simulated(model: ModelProto, feeds: dict[str, np.ndarray], edges: set[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Every tensor of a float graph of Conv, Relu and Add; `edges`, (input, output), are fake-quantised.

    A convolution whose input edge is quantised has a quantised weight.
    """
    values = dict(feeds) | {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale = np.float64(scale_of(T))
    for node in model.graph.node:
        output, attributes = node.output[0], {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        args = [fake_quantised(values[name], scale, -128) if (name, output) in edges else values[name]
                for name in node.input]  # fmt: skip
        if node.op_type == "Conv":
            if (node.input[0], output) in edges:
                steps = np.abs(args[1]).max(axis=(1, 2, 3), keepdims=True) / 127
                steps = scale_of(127.0 * steps).astype(np.float64)
                args[1] = fake_quantised(args[1], steps, -127)
            pad, groups = attributes.get("pads", [0])[0], attributes.get("group", 1)
            values[output] = convolved(args[0], args[1], args[2] if len(args) > 2 else 0.0, pad, groups)
        else:
            values[output] = np.maximum(args[0], 0) if node.op_type == "Relu" else args[0] + args[1]
    return values


def operators(model: ModelProto, kind: str) -> dict[str, str]:
    """Input -> output of the graph's operators of this kind."""
    return {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == kind}


def initialisers(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


C = f"Conv{PADDED}"
IDENTITY = f"a = Relu(x) p = {C}(a, w0, b) s = Add(p, a) r = Relu(s) y = {C}(r, w1)"
PROJECTION = f"p = {C}(x, w0) m = {C}(x, w1) n = Relu(m) q = {C}(n, w2) s = Add(p, q) y = {C}(s, w3)"
CHAIN = f"m = {C}(x, w0, b) n = Relu(m) y = {C}(n, w1)"
CASES = {
    # body, the layers to quantise by their outputs, the edges that have to be quantised
    "chain": (CHAIN, "my", "xm ny"),
    "none": (CHAIN, "", ""),
    "first of two": (CHAIN, "m", "xm"),
    "second of two": (CHAIN, "y", "ny"),
    "identity skip": (IDENTITY, "py", "ap as ry"),
    "identity skip, second operand": (IDENTITY.replace("Add(p, a)", "Add(a, p)"), "py", "ap as ry"),
    "residual layer left out": (IDENTITY, "y", "ry"),
    "projection skip": (PROJECTION, "pmqy", "xp xm nq ps sy"),
    "projection alone": (PROJECTION, "p", "xp"),
    "main path alone": (PROJECTION, "q", "nq ps"),
    "weight shared": (f"m = {C}(x, w0) n = Relu(m) y = {C}(n, w0)", "my", "xm ny"),
    "weight shared with a float layer": (f"m = {C}(x, w0) n = Relu(m) y = {C}(n, w0)", "y", "ny"),
    "input shared": (f"m = {C}(x, w0) n = {C}(x, w1) y = Add(m, n)", "mn", "xm xn"),
    "input shared with a float layer": (f"m = {C}(x, w0) n = {C}(x, w1) y = Add(m, n)", "n", "xn"),
    "depthwise": (f"m = {C[:-1]}, group = 4>(x, d, b) y = {C}(m, w1)", "my", "xm my"),
    "output too": (f"m = {C}(x, w0) y = {C}(m, w1)", "my", "xm my"),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_fake_quantisation_in_numpy(case: str) -> None:
    body, chosen, arrows = CASES[case]
    model = graph(body, outputs=f"{Y}, float[1,4,6,6] m" if case == "output too" else Y)
    before = model.SerializeToString(deterministic=True)
    layers = [layer for layer in find_layers(model) if layer.output in chosen]
    edges = {(first, second) for first, second in arrows.split()}
    result = quantised(model, layers, dict.fromkeys("xamnprs", T))

    onnx.checker.check_model(result, full_check=True)
    assert model.SerializeToString(deterministic=True) == before
    assert (result.graph.input, result.graph.output) == (model.graph.input, model.graph.output)
    quantisers = sorted(node.input[0] for node in result.graph.node if node.op_type == "QuantizeLinear")
    assert quantisers == sorted({first for first, _ in edges}), "one a tensor"
    feeds = {"x": np.random.default_rng(4).normal(0, 1, (1, 4, 6, 6)).astype(np.float32)}
    expected = simulated(model, feeds, edges)
    for output, value in zip(result.graph.output, run(result, feeds), strict=True):
        np.testing.assert_allclose(value, expected[output.name], rtol=0, atol=2e-5)
    if chosen:
        exact = simulated(model, feeds, set())["y"]
        assert np.abs(run(result, feeds)[0] - exact).max() > 1e-2, "clipping must show"


@pytest.mark.parametrize("case", CASES)
def test_weights_are_stored_as_int8_once(case: str) -> None:
    body, chosen, _ = CASES[case]
    model = graph(body)
    layers = [layer for layer in find_layers(model) if layer.output in chosen]
    result = quantised(model, layers, dict.fromkeys("xamnprs", T))
    stored, floats = initialisers(result), initialisers(model)
    weights = {layer.weight for layer in layers}
    left = {layer.weight for layer in find_layers(model) if layer not in layers}
    assert {name for name in stored if name in floats} == (floats.keys() - weights) | left
    assert sum(value.ndim == 4 and value.dtype == np.int8 for value in stored.values()) == len(weights)
    for name in weights:
        codes, scale = stored[f"{name}_quantized"], stored[f"{name}_scale"]
        assert codes.dtype == np.int8
        steps = scale.reshape(-1, 1, 1, 1)
        np.testing.assert_array_less(np.abs(codes * steps - floats[name]), np.broadcast_to(0.51 * steps, codes.shape))
        largest = np.abs(codes.astype(int)).max(axis=(1, 2, 3))
        np.testing.assert_array_equal(largest, np.where(channel_thresholds(floats[name]) > 0, 127, 0))
    for name, value in stored.items():
        if name.endswith("scale"):
            assert value.dtype == np.float32
            assert (value > 0).all()
        if name.startswith("zero_point"):
            assert value.dtype == np.int8
            assert not value.any()


def test_the_correlation_keeps_its_operands_and_its_body() -> None:
    body = f"a = {C}(x, w0) r = siamtrt.DepthwiseXCorr<group = 4>(a, k) y = {C}(r, w1) z = {C}(a, w2)"
    outputs = "float[1,4,4,4] y, float[1,4,6,6] z"
    model = graph(body, inputs=f"{X}, float[1,4,3,3] k", outputs=outputs)
    layers = find_layers(model)
    result = quantised(model, layers, dict.fromkeys(quantised_tensors(layers), T))
    onnx.checker.check_model(result)
    assert set(operators(result, "QuantizeLinear")) == {"x", "a", "r"}
    (correlation,) = (node for node in result.graph.node if node.op_type == "DepthwiseXCorr")
    assert list(correlation.input) == ["a", "k"]
    assert result.functions == model.functions
    assert len(run(result, {"x": np.ones((1, 4, 6, 6), np.float32), "k": np.ones((1, 4, 3, 3), np.float32)})) == 2


def test_names_say_the_tensor_and_give_way() -> None:
    model = graph(CHAIN.replace("m =", "x_scale =").replace("Relu(m)", "Relu(x_scale)"))
    result = quantised(model, find_layers(model), dict.fromkeys(("x", "n"), T))
    onnx.checker.check_model(result)
    assert operators(result, "QuantizeLinear") == {"x": "x_quantized", "n": "n_quantized"}
    assert operators(result, "DequantizeLinear") == {
        f"{name}_quantized": f"{name}_dequantized" for name in ("x", "n", "w0", "w1")
    }
    assert {"x_scale_", "w0_scale"} <= initialisers(result).keys()
    names = [node.name for node in result.graph.node if node.op_type.endswith("Linear")]
    assert len(set(names)) == len(names) == 6


def test_channel_thresholds_may_be_given() -> None:
    model = graph(f"y = {C}(x, w1)")
    chosen = np.array([0.1, 0.2, 0.3, 5.0])
    result = initialisers(quantised(model, find_layers(model), {"x": 1.0}, {"w1": chosen}))
    np.testing.assert_array_equal(result["w1_scale"], scale_of(chosen))
    codes = np.abs(result["w1_quantized"].astype(int)).max(axis=(1, 2, 3))
    assert list(codes[:3]) == [127, 127, 127]
    assert codes[3] < 127


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": [Layer("other", "x", "w1", "m", 1)]}, "not of this graph: received other;"),
        ({"layers": [Layer("other", "x", "w0", "m", 1, skip="x")]}, "not of this graph: received other;"),
        ({"thresholds": {"x": 1.0}}, "'n' cannot be quantised: received threshold None"),
        ({"thresholds": {"x": 0.0, "n": 1.0}}, "'x' cannot be quantised: received threshold 0.0"),
        ({"thresholds": {"x": 1.0, "n": np.nan}}, "'n' cannot be quantised: received threshold nan"),
        ({"thresholds": {"x": np.inf, "n": 1.0}}, "'x' cannot be quantised: received threshold inf"),
        ({"weight_thresholds": {"w0": np.ones(3)}}, "'w0' cannot be quantised"),
        ({"weight_thresholds": {"w1": np.array([1, 1, -1, 1])}}, "'w1' cannot be quantised"),
    ],
)
def test_refusals(change: dict[str, object], message: str) -> None:
    model = graph(CHAIN)
    arguments = {"layers": find_layers(model), "thresholds": {"x": 1.0, "n": 1.0}} | change
    with pytest.raises(CalibrationError, match=message):
        quantised(model, **arguments)


def test_a_weight_that_is_not_finite_is_refused() -> None:
    model = graph(f"y = {C}(x, w1)")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4, 4, 3, 3), np.nan, np.float32), "w1"))
    with pytest.raises(CalibrationError, match="'w1' cannot be quantised"):
        quantised(model, find_layers(model), {"x": 1.0})


@pytest.mark.parametrize("threshold", [1e-9, 1e-5, 0.005, 1.0, 127.0, 254.9, 8e6, 1e30])
def test_scales_are_fp16_numbers_not_below_the_exact_one(threshold: float) -> None:
    scale = float(scale_of(threshold))
    assert scale >= threshold / 127 * (1 - 1e-7)
    if threshold < 8e6:
        assert float(np.float16(scale)) == scale
    if threshold >= 0.008:
        assert scale <= threshold / 127 * (1 + 2**-10)
    assert 2**-23 <= scale < np.inf


def test_scales_of_channels() -> None:
    np.testing.assert_array_equal(scale_of(np.array([0.0, 127.0, 12.7, 1e-12])), np.float32([1, 1, 0.10003662, 2**-23]))


def whole_graph(model: ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest magnitude of every tensor to quantise, on one input."""
    names = quantised_tensors(find_layers(model))
    probe = ModelProto()
    probe.CopyFrom(model)
    inner = [name for name in names if name not in feeds]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    ranges = {}
    for name, value in {**feeds, **dict(zip(inner, run(probe, feeds), strict=True))}.items():
        histogram = Histogram(name)
        histogram.add(value)
        ranges[name] = histogram.largest
    return ranges


@pytest.fixture(scope="module")
def search(exported: Callable[[str], Path]) -> tuple[ModelProto, dict[str, np.ndarray], dict[str, float]]:
    """NanoTrack v3's search graph, a crop with its template's kernels, and min-max thresholds."""
    bundle = exported("nanotrack_v3")
    rng = np.random.default_rng(9)
    scene = np.repeat(np.repeat(rng.uniform(0, 255, (1, 3, 32, 32)), 8, 2), 8, 3).astype(np.float32)
    template, model = (onnx.load(bundle / f"{name}.onnx") for name in ("template", "search"))
    kernels = run(template, {"z": scene[:, :, 64:191, 64:191]})
    feeds = {"x": scene[:, :, :255, :255], **{f"kernel{index}": kernel for index, kernel in enumerate(kernels)}}
    return model, feeds, whole_graph(model, feeds)


@pytest.mark.parametrize("name", ["nanotrack_v3"])
def test_a_tracker_in_int8(search, name: str) -> None:
    model, feeds, ranges = search
    layers = find_layers(model)
    result = quantised(model, layers, ranges)
    onnx.checker.check_model(result, full_check=True)
    weights = {layer.weight for layer in layers}
    stored = initialisers(result)
    assert not weights & stored.keys()
    bytes_int8 = sum(stored[f"{name}_quantized"].nbytes for name in weights)
    assert 4 * bytes_int8 == sum(value.nbytes for name, value in initialisers(model).items() if name in weights)
    saved = len(model.SerializeToString()) - len(result.SerializeToString())
    assert saved > 0.93 * 3 * bytes_int8  # scales, zero points and nodes cost the rest
    for exact, value in zip(run(model, feeds), run(result, feeds), strict=True):
        assert value.dtype == np.float32
        correlation = np.corrcoef(exact.ravel(), value.ravel())[0, 1]
        assert 0.97 < correlation < 0.999999, correlation


@pytest.mark.parametrize("name", ["nanotrack_v3"])
def test_fp16_form_has_the_same_codes_and_scales(search, name: str) -> None:
    model, _, ranges = search
    result = quantised(model, find_layers(model), ranges)
    half = fp16_from_fp32(result)
    onnx.checker.check_model(half)
    stored, halved = initialisers(result), initialisers(half)
    for name, value in stored.items():
        if name.endswith(("_scale", "_quantized")):
            np.testing.assert_array_equal(halved[name].astype(value.dtype), value, err_msg=name)
    assert {halved[name].dtype for name in stored if name.endswith("_scale")} == {np.dtype(np.float16)}
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


@needs_rtx
@pytest.mark.parametrize(("precision", "share"), [("fp32", "all"), ("fp16", "all"), ("fp16", "half")])
@pytest.mark.parametrize("name", ["nanotrack_v3"])
def test_tensorrt_builds_it(search, precision: str, share: str, name: str) -> None:
    model, _, ranges = search
    layers = find_layers(model)
    result = quantised(model, layers if share == "all" else layers[::2], ranges)
    if precision == "fp16":
        result = fp16_from_fp32(result)
    assert RTX is not None
    assert len(engine_from_onnx(RTX, result.SerializeToString(), "sm86", "search")) > 500_000
