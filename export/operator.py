"""`siamtrt::DepthwiseXCorr`: the correlation as an ONNX function, and its removal for the plugin lowering."""

from __future__ import annotations

import onnx
from onnx import FunctionProto, ModelProto, parser

DOMAIN = "siamtrt"
NAME = "DepthwiseXCorr"
VERSION = 1

# The kernel is a tensor, so the body is a grouped convolution over batch and channels folded together.
_BODY = """
<domain: "siamtrt", opset_import: ["" : 18]>
DepthwiseXCorr <group: int> (x, k) => (response)
{
    to_one_row = Constant <value_ints: ints = [1, -1]> ()
    to_one_column = Constant <value_ints: ints = [-1, 1]> ()
    x_side = Shape <start: int = 2, end: int = 4> (x)
    k_side = Shape <start: int = 2, end: int = 4> (k)
    x_shape = Concat <axis: int = 0> (to_one_row, x_side)
    k_shape = Concat <axis: int = 0> (to_one_column, k_side)
    x_row = Reshape (x, x_shape)
    weight = Reshape (k, k_shape)
    row = Conv <group: int = @group> (x_row, weight)
    batch_channels = Shape <start: int = 0, end: int = 2> (x)
    response_side = Shape <start: int = 2, end: int = 4> (row)
    response_shape = Concat <axis: int = 0> (batch_channels, response_side)
    response = Reshape (row, response_shape)
}
"""


def depthwise_xcorr_function(opset: int) -> FunctionProto:
    """The function: x (N, C, H, W), k (N, C, h, w), attribute group = N*C -> (N, C, H-h+1, W-w+1).

    Args:
        opset: the model's version of the standard operators, which its functions must share; 15 or later.
    """
    function = parser.parse_function(_BODY)
    function.opset_import[0].version = opset
    return function


def with_operator_function(model: ModelProto) -> ModelProto:
    """A copy in which every `siamtrt::DepthwiseXCorr` node has its body (native lowering)."""
    result = without_operator_function(model)
    if has_operator(result):
        opset = next(entry.version for entry in result.opset_import if not entry.domain)
        result.functions.append(depthwise_xcorr_function(opset))
        if all(entry.domain != DOMAIN for entry in result.opset_import):
            result.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    return result


def has_operator(model: ModelProto) -> bool:
    """Whether the graph correlates with the operator."""
    return any((node.domain, node.op_type) == (DOMAIN, NAME) for node in model.graph.node)


def with_plugin_nodes(model: ModelProto) -> ModelProto:
    """A copy whose `siamtrt::DepthwiseXCorr` nodes TensorRT's parser makes plugins of (plugin lowering).

    The parser looks for a plugin by the node's name and two attributes; not every version falls back on its domain.
    """
    result = without_operator_function(model)
    for node in result.graph.node:
        if (node.domain, node.op_type) == (DOMAIN, NAME):
            wanted = {"plugin_namespace": DOMAIN, "plugin_version": str(VERSION)}
            node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in wanted.items())
    return result


def without_operator_function(model: ModelProto) -> ModelProto:
    """A copy whose `siamtrt::DepthwiseXCorr` nodes have no body."""
    result = ModelProto()
    result.CopyFrom(model)
    kept = [function for function in result.functions if function.domain != DOMAIN]
    del result.functions[:]
    result.functions.extend(kept)
    return result
