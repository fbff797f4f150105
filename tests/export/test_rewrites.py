"""Each graph rewrite does its work, keeps the result, and leaves alone what it must."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from siamtrt.export.rewrites import simplified, with_composed_pointwise, with_merged_siblings

HEADER = '<ir_version: 10, opset_import: ["" : 20]>'
RNG = np.random.default_rng(0)


def _model(body, **weights):
    model = parser.parse_model(f"{HEADER} g (float[1,3,8,8] x) => ({body[0]} y) {{ {body[1]} }}")
    model.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items())
    return model


def _conv(c_out=4, side=3):
    return RNG.standard_normal((c_out, 3, side, side))


def _ops(model):
    return Counter(node.op_type for node in model.graph.node)


def _run(model):
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


SIBLINGS = (
    "float[1,10,6,6]",
    "a = Conv(x, w1, b1) ra = Relu(a) b = Conv(x, w2) rb = Relu(b) y = Concat<axis = 1>(ra, rb)",
)


def test_siblings_become_one_convolution():
    model = _model(SIBLINGS, w1=_conv(4), b1=RNG.standard_normal(4), w2=_conv(6))
    merged = with_merged_siblings(model)
    assert _ops(merged) == {"Conv": 1, "Relu": 1}
    np.testing.assert_allclose(_run(merged), _run(model), rtol=1e-5, atol=1e-5)
    assert merged.graph.output[0].name == "y"


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, w1) b = Conv<strides = [1, 1], pads = [1, 1, 1, 1]>(x, w5) y = Concat<axis = 1>(a, b)",
        "a = Conv(x, w1) ra = Relu(a) b = Conv(x, w2) y = Concat<axis = 1>(ra, b)",
        "a = Conv(x, w1) b = Conv(x, w2) y = Concat<axis = 2>(a, b)",
        "a = Conv(x, w1) b = Conv(x, w2) c = Concat<axis = 1>(a, b) d = Concat<axis = 1>(a, a) y = Add(c, d)",
        "n = Neg(x) a = Conv(x, w1) b = Conv(n, w2) y = Concat<axis = 1>(a, b)",
    ],
    ids=["other attributes", "other activation", "other axis", "second reader", "other input"],
)
def test_what_is_not_a_sibling_stays(body):
    model = _model(("float[1,C,H,W]", body), w1=_conv(4), w2=_conv(4), w5=_conv(4, 5))
    if "Concat<axis = 1>(a, a)" in body:
        expected = _ops(model)
        assert _ops(with_merged_siblings(model)) == expected
        return
    assert _ops(with_merged_siblings(model)) == _ops(model)
    np.testing.assert_array_equal(_run(with_merged_siblings(model)), _run(model))


def _pointwise(c_out, c_in):
    return RNG.standard_normal((c_out, c_in, 1, 1))


def test_pointwise_convolution_that_widens_is_composed_with_the_next():
    """3 -> 16 -> 8 channels: the 3x3 on 3 channels takes fewer multiplications than on 16."""
    body = "float[1,8,3,3]", "a = Conv(x, w1, b1) y = Conv<strides = [2, 2]>(a, w2, b2)"
    weights = {"w1": _pointwise(16, 3), "w2": RNG.standard_normal((8, 16, 3, 3))}
    model = _model(body, b1=RNG.standard_normal(16), b2=RNG.standard_normal(8), **weights)
    composed = with_composed_pointwise(model)
    assert _ops(composed) == {"Conv": 1}
    np.testing.assert_allclose(_run(composed), _run(model), rtol=1e-4, atol=1e-4)
    assert _ops(model) == {"Conv": 2}, "the argument is unchanged"


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, wide) y = Conv<pads = [1, 1, 1, 1]>(a, w3)",
        "a = Conv(x, wide) r = Relu(a) y = Conv(r, w3)",
        "a = Conv(x, wide) b = Conv(a, w3) c = Conv(a, w3) y = Add(b, c)",
        "a = Conv(x, narrow) y = Conv(a, from_narrow)",
        "a = Conv<pads = [1, 1, 1, 1]>(x, wide) y = Conv(a, w3)",
    ],
    ids=["padded", "activation between", "two readers", "more multiplications", "padded first"],
)
def test_pointwise_convolutions_that_must_stay_do(body):
    weights = {"wide": _pointwise(16, 3), "w3": RNG.standard_normal((8, 16, 3, 3))}
    narrow = {"narrow": _pointwise(1, 3), "from_narrow": RNG.standard_normal((8, 1, 3, 3))}
    used = {name: value for name, value in {**weights, **narrow}.items() if name in body}
    model = _model(("float[1,C,H,W]", body), **used)
    assert _ops(with_composed_pointwise(model)) == _ops(model)
    np.testing.assert_array_equal(_run(with_composed_pointwise(model)), _run(model))


def test_batchnorm_and_constant_scales_fold_into_the_convolution():
    """The fusion weights of the layer-wise aggregation are such scales."""
    body = (
        "float[1,4,6,6]",
        "c = Conv(x, w1) n = BatchNormalization(c, gamma, beta, mean, var) r = Relu(n) "
        "d = Conv(r, w2) s = Mul(d, scale) e = Conv(r, w3) t = Mul(e, scale2) y = Add(s, t)",
    )
    weights = {name: RNG.uniform(0.5, 1.5, 4) for name in ("gamma", "beta", "mean", "var")}
    pointwise = {name: RNG.standard_normal((4, 4, 1, 1)) for name in ("w2", "w3")}
    model = _model(body, w1=_conv(4), scale=np.array(0.3), scale2=np.array(0.7), **pointwise, **weights)
    folded = simplified(model)
    assert _ops(folded) == {"Conv": 3, "Relu": 1, "Add": 1}
    np.testing.assert_allclose(_run(folded), _run(model), rtol=1e-4, atol=1e-5)


def test_exporter_traces_are_dropped():
    node = helper.make_node("Relu", ["x"], ["y"], doc_string="File '/home/somebody/model.py'")
    node.metadata_props.add(key="stack", value="/home/somebody/model.py")
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 8, 8)) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", tensors[:1], tensors[1:]), ir_version=10)
    assert b"somebody" not in simplified(model).SerializeToString()
