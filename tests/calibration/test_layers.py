from __future__ import annotations

import numpy as np
import onnx.inliner
import pytest
from onnx import ModelProto, numpy_helper, parser

from siamtrt.calibration.layers import Layer, coverage, find_layers, quantised_tensors
from siamtrt.errors import SiamtrtError
from siamtrt.export.operator import with_operator_function

X = "float[1,4,6,6] x"
Y = "float[1,4,6,6] y"


def graph(body: str, inputs: str = X, outputs: str = Y, weights: tuple[str, ...] = ("w0", "w1", "w2")) -> ModelProto:
    """A graph of opset 20; each of `weights` is an initialiser (4, 4, 1, 1)."""
    text = f'<ir_version: 10, opset_import: ["" : 20, "siamtrt" : 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = parser.parse_model(text)
    arrays = {name: np.ones((4, 4, 1, 1), np.float32) for name in weights}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def skips(body: str, **kwargs: str) -> dict[str, str | None]:
    return {layer.output: layer.skip for layer in find_layers(graph(body, **kwargs))}


def test_a_layer_is_its_node() -> None:
    model = graph("a = Conv(x, w0) b = Relu(a) y = Conv(b, w1)")
    model.graph.node[2].name = "head"
    macs = 4 * 4 * 36
    assert find_layers(model) == (Layer("a", "x", "w0", "a", macs), Layer("head", "b", "w1", "y", macs))


@pytest.mark.parametrize(
    "body",
    [
        "y = Conv(x, k)",  # a weight from outside
        "k2 = Relu(w0) y = Conv(x, k2)",  # computed
        "y = Conv(w1, w0)",  # nothing to measure
        "y = ConvTranspose(x, w0)",
        "y = siamtrt.DepthwiseXCorr<group = 4>(x, k)",
        "y = siamtrt.Conv(x, w0)",
    ],
)
def test_what_is_no_layer(body: str) -> None:
    assert find_layers(graph(body, inputs=f"{X}, float[4,4,1,1] k")) == ()


def test_a_weight_that_callers_may_replace_is_not_constant() -> None:
    assert find_layers(graph("y = Conv(x, w0)", inputs=f"{X}, float[4,4,1,1] w0")) == ()


def test_correlations_are_no_layers_even_inlined() -> None:
    body = "a = Conv(x, w0) r = siamtrt.DepthwiseXCorr<group = 4>(a, k) y = Conv(r, w1)"
    model = with_operator_function(graph(body, inputs=f"{X}, float[1,4,3,3] k", outputs="float[1,4,4,4] y"))
    inlined = onnx.inliner.inline_local_functions(model)
    assert sum(node.op_type == "Conv" for node in inlined.graph.node) == 3
    for each in (model, inlined):
        assert [layer.weight for layer in find_layers(each)] == ["w0", "w1"]


TAIL = "r = Relu(s) y = Conv(r, w2)"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = Relu(x) b = Conv(a, w0) s = Add(b, a)", {"b": "a"}),  # identity
        ("a = Relu(x) b = Conv(a, w0) s = Add(a, b)", {"b": "a"}),
        ("a = Conv(x, w0) b = Conv(a, w1) s = Add(a, b)", {"a": None, "b": "a"}),  # as NanoTrack has it
        ("p = Conv(x, w0) a = Conv(x, w1) b = Relu(a) m = Conv(b, w1) s = Add(p, m)", {"p": None, "a": None, "m": "p"}),
        ("a = Conv(x, w0) b = Relu(a) m = Conv(b, w0) p = Conv(x, w1) s = Add(m, p)", {"a": None, "m": "p", "p": None}),
        ("a = Conv(x, w0) b = Conv(x, w1) s = Add(b, a)", {"a": None, "b": "a"}),  # equally deep
        (
            "a = Conv(x, w0) m = Conv(a, w1) c = Relu(x) d = Relu(c) e = Relu(d) p = Conv(e, w2) s = Add(m, p)",
            {"a": None, "m": "p", "p": None},
        ),  # convolutions count, not nodes
        ("b = Conv(x, w0) s = Add(b, b)", {"b": None}),
        ("b = Conv(x, w0) s = Add(b, w1)", {"b": None}),  # a constant, and broadcast
        ("c = ReduceMax(x) b = Conv(x, w0) s = Add(b, c)", {"b": None}),  # broadcast
        ("b = Conv(x, w0) c = Relu(b) s0 = Add(b, x) s = Add(s0, c)", {"b": None}),  # read twice
        ("b = Conv(x, w0) c = Relu(b) s = Add(c, x)", {"b": None}),  # not directly behind
        ("b = Conv(x, w0) s = Mul(b, x)", {"b": None}),
    ],
)  # fmt: skip
def test_skips(body: str, expected: dict[str, str | None]) -> None:
    assert skips(f"{body} {TAIL}") == {**expected, "y": None}


def test_a_constant_of_the_same_shape_is_no_skip() -> None:
    model = graph(f"b = Conv(x, w0) s = Add(b, c) {TAIL}")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4, 6, 6), np.float32), "c"))
    assert [layer.skip for layer in find_layers(model)] == [None, None]


def test_a_convolution_that_is_an_output_too_has_no_skip() -> None:
    assert skips(f"b = Conv(x, w0) s = Add(b, x) {TAIL}", outputs=f"{Y}, float[1,4,6,6] b") == {"b": None, "y": None}


@pytest.mark.parametrize(
    ("tail", "skip"),
    [
        ("y = Conv(s, w2)", "x"),
        ("r = Clip(s) y = Conv(r, w2)", "x"),
        ("y = Relu(s)", None),  # the graph's output
        ("r = MaxPool<kernel_shape = [1, 1]>(s) y = Conv(r, w2)", None),
        ("q = Add(s, x) y = Conv(q, w2)", None),
        ("y = siamtrt.DepthwiseXCorr<group = 4>(s, k)", None),
        ("z = siamtrt.DepthwiseXCorr<group = 4>(s, k) y = Conv(s, w2)", "x"),
    ],
)
def test_skips_only_of_sums_that_become_a_layers_input(tail: str, skip: str | None) -> None:
    inputs = f"{X}, float[1,4,1,1] k"
    assert skips(f"b = Conv(x, w0) s = Add(b, x) {tail}", inputs=inputs)["b"] == skip


def test_tensors_to_calibrate() -> None:
    model = graph("a = Relu(x) b = Conv(a, w0) s = Add(b, a) r = Relu(s) p = Conv(s, w1) y = Conv(r, w2)")
    layers = find_layers(model)
    assert quantised_tensors(layers) == ("a", "s", "r")
    assert quantised_tensors(layers[1:]) == ("s", "r")
    assert quantised_tensors(()) == ()
    projection = graph("a = Conv(x, w0) b = Conv(x, w1) c = Conv(b, w1) s = Add(a, c) y = Conv(s, w2)")
    assert quantised_tensors(find_layers(projection)) == ("x", "b", "a", "s")


def test_coverage() -> None:
    body = "a = Conv(x, w0) b = Conv(a, w1) r = Reshape(b, to) y = MatMul(r, k)"
    model = graph(body, inputs=f"{X}, float[36,5] k", outputs="float[4,5] y")
    model.graph.initializer.append(numpy_helper.from_array(np.array([4, 36]), "to"))
    layers = find_layers(model)
    half, rest = coverage(model, layers[:1]), 4 * 36 * 5
    assert half.convolutions == 0.5
    assert half.total == pytest.approx(576 / (2 * 576 + rest))
    assert coverage(model, layers).convolutions == 1
    nothing = coverage(graph("y = Relu(x)"), ())
    assert (nothing.convolutions, nothing.total) == (0, 0)


def test_shapes_must_be_static() -> None:
    with pytest.raises(SiamtrtError, match=r"no static shape of x, y"):
        find_layers(graph("y = Conv(x, w0)", inputs="float[1,4,H,6] x", outputs="float[A,B,C,D] y"))
