from collections.abc import Iterable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper, parser
from onnx.shape_inference import infer_shapes
from onnx_runs import run
from rtx import RTX, needs_rtx

from siamtrt.calibration.layers import find_layers, quantised_tensors
from siamtrt.calibration.qdq import quantised
from siamtrt.errors import BuildError
from siamtrt.export.precision import fp16_from_fp32, node_name
from siamtrt.export.trt import engine_from_onnx

FP16_MAX = 65504.0
TOLERANCE = 5e-3  # of the largest magnitude; one rounding to FP16 is 5e-4 and the tiny graphs have four layers
HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def feeds_of(model: ModelProto) -> dict[str, np.ndarray]:
    """Pixels for the crop, small activations for the kernels."""
    rng = np.random.default_rng(11)
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.input}
    top = {"z": 255, "x": 255, "kernel0": 0.5}
    return {name: rng.uniform(0, top[name], shape).astype(np.float32) for name, shape in shapes.items()}


def graph(body: str, **constants: float | list[float] | np.ndarray) -> ModelProto:
    text = f'<ir_version: 10, opset_import: ["" : 20]> g (float[1,4,6,6] x) => (float[1,4,6,6] y) {{ {body} }}'
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items())
    return model


def initialisers(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def single_nodes(half: ModelProto) -> set[str]:
    """Names of the nodes that give FP32, as type inference sees it; the graph has to be well-formed."""
    onnx.checker.check_model(half)
    inferred = infer_shapes(half, check_type=True, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    return {n.name for n in half.graph.node if n.op_type != "Cast" and SINGLE in {types.get(o) for o in n.output}}


def casts(half: ModelProto) -> list[tuple[str, str]]:
    """(from, to) of every Cast."""
    return [(node.input[0], node.output[0]) for node in half.graph.node if node.op_type == "Cast"]


def names(nodes: Iterable[NodeProto]) -> list[str]:
    return [node_name(node) for node in nodes]


@pytest.mark.parametrize("graph_name", ["template", "search"])
def test_fp16_graph_agrees_with_fp32(toy_graphs: dict[str, ModelProto], graph_name: str) -> None:
    model = toy_graphs[graph_name]
    feeds = feeds_of(model)
    expected, actual = run(model, feeds), run(fp16_from_fp32(model), feeds)
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        assert actual[name].dtype == np.float32
        difference = np.abs(actual[name] - values).max()
        assert 0 < difference < TOLERANCE * np.abs(values).max(), name


@pytest.mark.parametrize("graph_name", ["template", "search"])
def test_only_inputs_and_outputs_stay_fp32(toy_graphs: dict[str, ModelProto], graph_name: str) -> None:
    half = fp16_from_fp32(toy_graphs[graph_name])
    assert single_nodes(half) == set()
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == SINGLE, value.name
    types = {weight.data_type for weight in half.graph.initializer if weight.name != "sides"}
    assert types == {HALF}


def test_shape_tensors_and_the_operator_keep_their_form(toy_graphs: dict[str, ModelProto]) -> None:
    half = fp16_from_fp32(toy_graphs["search"])
    assert initialisers(half)["sides"].dtype == np.int64
    assert list(half.functions) == list(toy_graphs["search"].functions)


def test_the_given_model_is_not_changed(toy_graphs: dict[str, ModelProto]) -> None:
    before = toy_graphs["search"].SerializeToString(deterministic=True)
    fp16_from_fp32(toy_graphs["search"], ["gated"])
    assert toy_graphs["search"].SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "kept",
    [
        "features", "response", "active response", "features response cls", "mean squeezed gate gate_map",
        "loc", "log_loc loc", "cls log_loc", "gated cls log_loc loc",
    ],
)  # fmt: skip
def test_exactly_the_named_nodes_are_fp32(toy_graphs: dict[str, ModelProto], kept: str) -> None:
    model = toy_graphs["search"]
    half = fp16_from_fp32(model, kept.split())
    assert single_nodes(half) == set(kept.split())
    weights = initialisers(half)
    for node in half.graph.node:
        expected = {np.dtype(np.float32 if node.name in kept.split() else np.float16)}
        assert {weights[n].dtype for n in node.input if n in weights and n != "sides"} <= expected, node.name
    made = {target for _, target in casts(half)}
    assert len(made) == len({source for source, _ in casts(half)}) == len(casts(half)), "a tensor cast twice"
    assert not made.intersection(source for source, _ in casts(half)), "a Cast behind a Cast"
    feeds = feeds_of(model)
    expected_outputs, actual = run(model, feeds), run(half, feeds)
    for name, values in expected_outputs.items():
        np.testing.assert_allclose(actual[name], values, rtol=0, atol=TOLERANCE * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize("graph_name", ["template", "search"])
def test_with_every_node_kept_the_graph_is_the_fp32_one(toy_graphs: dict[str, ModelProto], graph_name: str) -> None:
    model = toy_graphs[graph_name]
    half = fp16_from_fp32(model, names(model.graph.node))
    assert casts(half) == []
    assert [list(node.input) for node in half.graph.node] == [list(node.input) for node in model.graph.node]
    assert list(half.graph.initializer) == list(model.graph.initializer)
    feeds = feeds_of(model)
    for name, values in run(model, feeds).items():
        np.testing.assert_array_equal(run(half, feeds)[name], values)


def test_fp32_runs_through_kept_nodes_and_their_graph_input_and_output() -> None:
    """1e-6 to 1e9, no step of which FP16 holds: read twice, made twice, read and given out."""
    body = "a = Mul(x, big) b = Relu(a) c = Neg(a) d = Sub(b, c) y = Mul(d, big)"
    model = graph(body, big=1e9)
    x = np.random.default_rng(0).uniform(1e-8, 2e-8, (1, 4, 6, 6)).astype(np.float32)
    half = fp16_from_fp32(model, ["a", "b", "c", "d", "y"])
    assert casts(half) == []
    np.testing.assert_array_equal(run(half, {"x": x})["y"], run(model, {"x": x})["y"])


def test_a_kept_graph_output_with_readers_of_both_kinds() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]> g (float[4] x) => (float[4] y, float[4] u, float[4] v)
        { y = Mul(x, big) u = Mul(y, small) v = Neg(y) }"""
    model = parser.parse_model(text)
    values = {"big": 1e6, "small": 1e-6}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.float32), k) for k, v in values.items())
    half = fp16_from_fp32(model, ["y", "u"])
    assert single_nodes(half) == {"y", "u"}
    assert sorted(source for source, _ in casts(half)) == ["graph_output_cast_2", "y"]
    x = np.array([1.1, 2.2, 1e-3, 0], np.float32)
    found = run(half, {"x": x})
    np.testing.assert_array_equal(found["y"], x * np.float32(1e6))
    np.testing.assert_allclose(found["u"], x, rtol=1e-6)


def test_a_constant_of_both_kinds_of_nodes_is_exact_for_the_kept_one() -> None:
    value = 1 + 2.0**-20
    half = fp16_from_fp32(graph("a = Mul(x, c) b = Add(a, c) y = Mul(b, c)", c=value), ["b"])
    assert {name: (float(v), v.dtype.name) for name, v in initialisers(half).items()} == {
        "c": (1.0, "float16"), "c_fp32": (value, "float32"),
    }  # fmt: skip
    assert {node.name: node.input[1] for node in half.graph.node if node.op_type != "Cast"} == {
        "a": "c", "b": "c_fp32", "y": "c",
    }  # fmt: skip


def test_types_stated_for_constants_do_not_mislead() -> None:
    """PyTorch's exporter states them; the converter then takes a kept node's constant to be FP16."""
    model = graph("a = Mul(x, c) y = Relu(a)", c=3.0)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("c", SINGLE, []))
    half = fp16_from_fp32(model, ["a"])
    assert [source for source, _ in casts(half)].count("c") == 0
    assert single_nodes(half) == {"a"}


def test_a_name_counts_before_the_output() -> None:
    model = graph("a = Relu(x) b = Neg(a) y = Relu(b)")
    model.graph.node[1].name = "minus"
    assert names(model.graph.node) == ["a", "minus", "y"]
    assert single_nodes(fp16_from_fp32(model, ["minus"])) == {"minus"}


def test_unknown_nodes_are_refused(toy_graphs: dict[str, ModelProto]) -> None:
    with pytest.raises(BuildError, match=r"no node 'nonsense', 'x' in the graph.*siamtrt calibrate|calibrate"):
        fp16_from_fp32(toy_graphs["search"], ["gated", "nonsense", "x"])


@pytest.mark.parametrize("largest", [FP16_MAX, 1e6, -1e6])
def test_weights_beyond_fp16_keep_their_node(toy_graphs: dict[str, ModelProto], largest: float) -> None:
    model = ModelProto()
    model.CopyFrom(toy_graphs["template"])
    index = [weight.name for weight in model.graph.initializer].index("template_weight")
    weight = numpy_helper.to_array(model.graph.initializer[index]).copy()
    weight.flat[:3] = largest, -np.inf, 1 / 3
    model.graph.initializer[index].CopyFrom(numpy_helper.from_array(weight, "template_weight"))
    half = fp16_from_fp32(model)
    fits = largest == FP16_MAX
    assert single_nodes(half) == (set() if fits else {"features"})
    expected = weight.astype(np.float16) if fits else weight
    np.testing.assert_array_equal(initialisers(half)["template_weight"], expected)


def test_bounds_beyond_fp16_are_clamped() -> None:
    half = fp16_from_fp32(graph("y = Clip(x, low, high)", low=-3.4e38, high=3.4e38))
    assert single_nodes(half) == set()
    assert {name: float(v) for name, v in initialisers(half).items()} == {"low": -FP16_MAX, "high": FP16_MAX}


CONV = "Conv<pads = [1, 1, 1, 1]>"


@pytest.fixture(scope="module")
def quantised_graph() -> ModelProto:
    """Three INT8 convolutions, one behind a skip, two that read one tensor."""
    body = f"""a = Relu(x) p = {CONV}(a, w0, b) s = Add(p, a) r = Relu(s)
        m = {CONV}(r, w1, b) n = {CONV}(r, w2, b) y = Add(m, n)"""
    rng = np.random.default_rng(23)
    weights = {f"w{i}": rng.normal(0, 0.2, (4, 4, 3, 3)) for i in range(3)}
    model = graph(body, b=rng.normal(0, 0.1, 4), **weights)
    layers = find_layers(model)
    return quantised(model, layers, dict.fromkeys(quantised_tensors(layers), 3.0))


@pytest.mark.parametrize("kept", ["", "p", "m", "n y", "m n", "p s r", "s r m n y", "a p s r m n y", "a"])
def test_codes_and_scales_of_a_mixed_graph_are_those_of_the_fp32_one(quantised_graph: ModelProto, kept: str) -> None:
    half = fp16_from_fp32(quantised_graph, kept.split())
    before, after = initialisers(quantised_graph), initialisers(half)
    pairs = [node for node in half.graph.node if node.op_type.endswith("quantizeLinear") or "Quantize" in node.op_type]
    assert {node.op_type for node in pairs} == {"QuantizeLinear", "DequantizeLinear"}
    for node in pairs:
        scale = node.input[1]
        np.testing.assert_array_equal(after[scale].astype(np.float32), before[scale.removesuffix("_fp32")])
    for name, values in before.items():
        if values.dtype == np.int8:
            np.testing.assert_array_equal(after[name], values)
    plain = {n for n in single_nodes(half) if "Quantize" not in n and "quantize" not in n}
    assert plain == set(kept.split())
    made = {node.output[0]: node for node in half.graph.node}
    for node in half.graph.node:
        if node.op_type == "Conv":
            assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2, node.name
    x = np.random.default_rng(1).normal(0, 1.5, (1, 4, 6, 6)).astype(np.float32)
    expected, actual = run(quantised_graph, {"x": x})["y"], run(half, {"x": x})["y"]
    # A value that FP16 rounds across the border of two codes moves by a code, a 127th.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-2 * np.abs(expected).max())


def test_a_tensor_made_in_fp32_is_quantised_in_fp32(quantised_graph: ModelProto) -> None:
    half = fp16_from_fp32(quantised_graph, ["s", "r"])
    made = {node.output[0]: node for node in half.graph.node}
    (quantize,) = (node for node in half.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "r")
    assert made[quantize.input[0]].name == "r"
    assert initialisers(half)[quantize.input[1]].dtype == np.float32


def test_a_large_graph_input_is_quantised_as_it_is() -> None:
    model = graph(f"y = {CONV}(x, w)", w=np.full((4, 4, 3, 3), 1e-6, np.float32))
    layers = find_layers(model)
    pairs = quantised(model, layers, {"x": 1e6})
    x = np.random.default_rng(1).uniform(0, 1e6, (1, 4, 6, 6)).astype(np.float32)
    half = fp16_from_fp32(pairs, ["y"])
    assert casts(half) == []
    np.testing.assert_array_equal(run(half, {"x": x})["y"], run(pairs, {"x": x})["y"])


def test_int8_weights_beyond_fp16_keep_their_layer() -> None:
    """No number in the file is beyond 65504: the scale is 1e5 / 127."""
    model = graph(f"y = {CONV}(x, w)", w=np.full((4, 4, 3, 3), 1e5, np.float32))
    half = fp16_from_fp32(quantised(model, find_layers(model), {"x": 1.0}))
    assert "y" in single_nodes(half)


@needs_rtx
@pytest.mark.parametrize("kept", ["response", "active response gated", "features gate loc"])
@pytest.mark.parametrize("with_pairs", [False, True])
def test_rtx_builds_mixed_graphs(toy_graphs: dict[str, ModelProto], kept: str, with_pairs: bool) -> None:
    assert RTX is not None
    model = toy_graphs["search"]
    if with_pairs:
        layers = find_layers(model)
        model = quantised(model, layers, dict.fromkeys(quantised_tensors(layers), 3.0))
    half = fp16_from_fp32(model, kept.split())
    assert len(engine_from_onnx(RTX, half.SerializeToString(), "sm86", "search")) > 10_000
