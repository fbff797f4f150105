"""FP16 as a GPU rounds it, on a runtime that would compute it in FP32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from siamtrt.errors import SiamtrtError

_HALF, _SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def fp32_rounding_as_fp16(model: ModelProto) -> ModelProto:
    """A copy that computes in FP32 and rounds every tensor that is FP16 in `model` to FP16, infinities included.

    ONNX Runtime has no FP16 kernels on most CPUs. It computes such nodes in FP32 and leaves out the Casts between
    them, so that of an FP16 graph only weights and inputs are rounded and nothing ever overflows. Here each result
    goes through a pair of Casts that it keeps. That is FP16 with FP32 accumulators and one rounding an operator;
    engines, which fuse operators, round less often. INT8 codes and FP32 nodes stay what they are.

    Args:
        model: from `fp16_from_fp32`, without subgraphs; a graph without FP16 comes back as it is.

    Raises:
        SiamtrtError: a tensor whose type cannot be inferred.
    """
    result = ModelProto()
    result.CopyFrom(model)
    types = _types(model)
    if _HALF not in types.values():
        return result
    _widen_constants(result.graph)
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        halves = [index for index, name in enumerate(node.output) if types[name] == _HALF]
        pairs = [_rounding(node, index) for index in halves]
        nodes += [node, *(cast for pair in pairs for cast in pair)]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    del result.graph.value_info[:]  # says FP16
    result.graph.node.extend(copies)
    return result


def _types(model: ModelProto) -> Mapping[str, int]:
    """Element type of every node's output; "" is an output left out."""
    graph = infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)} | {"": 0}
    unknown = [name for node in model.graph.node for name in node.output if name not in types]
    if unknown:
        raise SiamtrtError(
            "FP16 cannot be simulated", received=f"no type of {', '.join(unknown)}",
            expected="a graph whose types can be inferred", fix="export the bundle again",
        )  # fmt: skip
    return types


def _widen_constants(graph: GraphProto) -> None:
    """Make FP32 of FP16 initialisers, constants in attributes, and what Casts give."""
    attributes = [(node, attribute) for node in graph.node for attribute in node.attribute]
    for tensor in (*graph.initializer, *(attribute.t for _, attribute in attributes if attribute.HasField("t"))):
        if tensor.data_type == _HALF:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node, attribute in attributes:
        if (node.op_type, attribute.name, attribute.i) == ("Cast", "to", _HALF):
            attribute.i = _SINGLE


def _rounding(node: NodeProto, index: int) -> tuple[NodeProto, NodeProto]:
    """Casts to FP16 and back that give an output of a node, which itself gets another name."""
    name = node.output[index]
    exact, half = f"{name}_before_rounding", f"{name}_rounded"
    node.output[index] = exact
    down = helper.make_node("Cast", [exact], [half], name=f"{half}_cast", to=_HALF)
    return down, helper.make_node("Cast", [half], [name], name=f"{name}_widened_cast", to=_SINGLE)
