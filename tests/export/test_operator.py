"""The exported correlation operator computes a depthwise correlation in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from siamtrt.export.operator import (
    has_operator,
    with_operator_function,
    with_plugin_nodes,
    without_operator_function,
)
from siamtrt.export.precision import fp16_from_fp32
from siamtrt.kernels.xcorr import depthwise_xcorr_ref


def _model(x_shape, k_shape):
    node = helper.make_node("DepthwiseXCorr", ["x", "k"], ["y"], domain="siamtrt", group=x_shape[0] * x_shape[1])
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x_shape), ("k", k_shape))]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", "c", "h", "w"))
    graph = helper.make_graph([node], "g", tensors, [output])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("siamtrt", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    ("x_shape", "k_shape"),
    [
        ((1, 8, 29, 29), (1, 8, 5, 5)),
        ((1, 3, 7, 11), (1, 3, 2, 5)),
        ((3, 4, 9, 8), (3, 4, 4, 3)),
        ((1, 1, 4, 4), (1, 1, 4, 4)),
    ],
)
def test_operator_equals_the_reference(x_shape, k_shape):
    rng = np.random.default_rng(0)
    x, k = (rng.standard_normal(shape).astype(np.float32) for shape in (x_shape, k_shape))
    model = with_operator_function(_model(x_shape, k_shape))
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x, "k": k})
    np.testing.assert_allclose(found, depthwise_xcorr_ref(x, k), rtol=1e-4, atol=1e-4)


def test_plugin_lowering_leaves_the_node_without_a_body():
    native = with_operator_function(_model((1, 2, 5, 5), (1, 2, 3, 3)))
    assert [function.name for function in native.functions] == ["DepthwiseXCorr"]
    plugin = without_operator_function(native)
    assert not plugin.functions
    assert plugin.graph.node[0].domain == "siamtrt"
    assert len(native.functions) == 1, "the argument is unchanged"


def test_plugin_lowering_says_which_plugin():
    native = with_operator_function(_model((1, 2, 5, 5), (1, 2, 3, 3)))
    before = native.SerializeToString()
    plugin = with_plugin_nodes(native)
    onnx.checker.check_model(plugin)
    assert not plugin.functions
    (node,) = plugin.graph.node
    assert {a.name: helper.get_attribute_value(a) for a in node.attribute} == {
        "group": 2, "plugin_namespace": b"siamtrt", "plugin_version": b"1",
    }  # fmt: skip
    assert [(entry.domain, entry.version) for entry in plugin.opset_import] == [("", 20), ("siamtrt", 1)]
    assert native.SerializeToString() == before, "the argument is unchanged"


def test_only_the_operators_nodes_are_the_plugins(toy_graphs):
    search = toy_graphs["search"]
    assert (has_operator(search), has_operator(toy_graphs["template"])) == (True, False)
    plugin = with_plugin_nodes(search)
    changed = [new.op_type for new, old in zip(plugin.graph.node, search.graph.node, strict=True) if new != old]
    assert changed == ["DepthwiseXCorr"]


def test_a_half_precision_plugin_has_half_precision_tensors(toy_graphs):
    """The plugin takes one type for all three: what comes in and what goes on must not be a Cast's other side."""
    inferred = onnx.shape_inference.infer_shapes(fp16_from_fp32(toy_graphs["search"]), strict_mode=True)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    (node,) = (node for node in with_plugin_nodes(inferred).graph.node if node.domain == "siamtrt")
    assert [types[name] for name in (*node.input, *node.output)] == [TensorProto.FLOAT16] * 3
