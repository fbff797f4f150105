"""Graph rewrites that make the search branch cheaper without changing what it computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxsim
from onnx import ModelProto
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass

ACTIVATIONS = {"Relu", "Clip"}


def simplified(model: ModelProto) -> ModelProto:
    """Fold constants, BatchNorm and constant scales (the fusion weights) into the convolutions (onnxsim).

    Also drops the exporter's stack traces, which would carry the exporting machine's paths.
    """
    smaller, _ = onnxsim.simplify(model, check_n=0)
    cleaned = ir.from_proto(smaller)
    ClearMetadataAndDocStringPass()(cleaned)
    return ir.to_proto(cleaned)


def with_merged_siblings(model: ModelProto) -> ModelProto:
    """Replace a concatenation of sibling convolutions of one tensor by one wider convolution.

    Siblings have the same input and attributes, constant weights, no group, optionally the same activation,
    and feed nothing but the concatenation along channels.
    """
    return _rewritten(model, _merge_siblings)


def with_composed_pointwise(model: ModelProto) -> ModelProto:
    """Compose a 1x1 convolution with the convolution after it where that takes fewer multiplications.

    The neck of SiamRPN++ widens narrow features (44 channels of MobileNetV2 to 256) with nothing but a 1x1
    convolution before the head's 3x3: on the narrow features themselves the 3x3 is several times cheaper.
    Padded convolutions stay: their border would miss the first one's bias.
    """
    return _rewritten(model, _compose_pointwise)


def _rewritten(model: ModelProto, rewrite: Callable[[ir.Graph, ir.Node], None]) -> ModelProto:
    """A copy in which `rewrite` has seen every node, without what nothing reads any more."""
    graph_model = ir.from_proto(model)
    for node in list(graph_model.graph):
        rewrite(graph_model.graph, node)
    RemoveUnusedNodesPass()(graph_model)
    return ir.to_proto(graph_model)


def _compose_pointwise(graph: ir.Graph, node: ir.Node) -> None:
    pointwise = _pointwise_before(node)
    if pointwise is not None and _saves_by_composing(pointwise, node):
        _compose(graph, pointwise, node)


def _pointwise_before(node: ir.Node) -> ir.Node | None:
    """The plain 1x1 convolution that feeds only `node`, itself an unpadded, ungrouped convolution."""
    if not _is_plain_conv(node):
        return None
    before = _single_producer(node.inputs[0])
    if before is None or not _is_plain_conv(before) or _array(before.inputs[1]).shape[2:] != (1, 1):
        return None
    strides = before.attributes.get("strides")
    return before if strides is None or set(strides.as_ints()) == {1} else None


def _is_plain_conv(node: ir.Node) -> bool:
    """Convolution with constant weights, one group, no padding."""
    if node.op_type != "Conv" or _attribute(node, "group", 1) != 1:
        return False
    padding = node.attributes.get("pads")
    unpadded = padding is None or not any(padding.as_ints())
    automatic = node.attributes.get("auto_pad")
    explicit = automatic is None or automatic.as_string() in ("NOTSET", "VALID")
    return unpadded and explicit and _has_constant_weights(node)


def _has_constant_weights(conv: ir.Node) -> bool:
    return all(value is not None and value.const_value is not None for value in conv.inputs[1:])


def _saves_by_composing(pointwise: ir.Node, node: ir.Node) -> bool:
    """Compare multiplications per output position, taking both outputs as equally large."""
    c_middle, c_in = _array(pointwise.inputs[1]).shape[:2]
    c_out, _, height, width = _array(node.inputs[1]).shape
    taps = height * width
    return c_in * c_out * taps < c_in * c_middle + c_middle * c_out * taps


def _compose(graph: ir.Graph, pointwise: ir.Node, node: ir.Node) -> None:
    first, second = _array(pointwise.inputs[1])[:, :, 0, 0], _array(node.inputs[1])
    product = np.tensordot(second.astype(np.float64), first.astype(np.float64), axes=(1, 0))  # (o, i, j, c)
    weight = product.transpose(0, 3, 1, 2).astype(second.dtype, order="C")
    bias = _bias(node) + np.einsum("omij,m->o", second, _bias(pointwise), dtype=np.float64).astype(second.dtype)
    constants = _constants(graph, node.outputs[0].name, weight, bias)
    node.resize_inputs(3)
    for index, value in enumerate((pointwise.inputs[0], *constants)):
        node.replace_input_with(index, value)


def _merge_siblings(graph: ir.Graph, concat: ir.Node) -> None:
    branches = _sibling_branches(concat)
    if branches:
        _merge(graph, concat, branches)


def _sibling_branches(concat: ir.Node) -> list[list[ir.Node]] | None:
    """[[Conv, activation?], ...] behind a channel concatenation, or None where they are not siblings."""
    if concat.op_type != "Concat" or concat.attributes["axis"].as_int() != 1:
        return None
    branches = [_conv_branch(value) for value in concat.inputs]
    if len(branches) < 2 or any(branch is None for branch in branches):
        return None
    found = [branch for branch in branches if branch is not None]
    same = all(_signature(branch) == _signature(found[0]) for branch in found[1:])
    return found if same else None


def _conv_branch(value: ir.Value | None) -> list[ir.Node] | None:
    """[Conv] or [Conv, activation] that produces `value` for a single reader."""
    node = _single_producer(value)
    if node is None:
        return None
    tail = []
    if node.op_type in ACTIVATIONS:
        tail, node = [node], _single_producer(node.inputs[0])
    if node is None or node.op_type != "Conv" or _attribute(node, "group", 1) != 1:
        return None
    return [node, *tail] if _has_constant_weights(node) else None


def _single_producer(value: ir.Value | None) -> ir.Node | None:
    if value is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    return value.producer()


def _signature(branch: list[ir.Node]) -> tuple[object, ...]:
    """What must agree between siblings: the input, every attribute, the weights' shape per filter, the activation."""
    conv = branch[0]
    attributes = sorted((name, str(attr.value)) for name, attr in conv.attributes.items())
    tail = [(node.op_type, [_scalar(value) for value in node.inputs[1:]]) for node in branch[1:]]
    return conv.inputs[0], str(attributes), tuple(_array(conv.inputs[1]).shape[1:]), str(tail)


def _merge(graph: ir.Graph, concat: ir.Node, branches: list[list[ir.Node]]) -> None:
    convs = [branch[0] for branch in branches]
    weight = np.concatenate([_array(conv.inputs[1]) for conv in convs])
    bias = np.concatenate([_bias(conv) for conv in convs])
    name = concat.outputs[0].name
    constants = _constants(graph, name, weight, bias)
    merged = ir.Node("", "Conv", [convs[0].inputs[0], *constants], attributes=list(convs[0].attributes.values()))
    new_nodes = [merged]
    if len(branches[0]) > 1:
        activation = branches[0][1]
        tail_inputs = [merged.outputs[0], *activation.inputs[1:]]
        new_nodes.append(ir.Node("", activation.op_type, tail_inputs, attributes=list(activation.attributes.values())))
    graph.insert_before(concat, new_nodes)
    old, new = concat.outputs[0], new_nodes[-1].outputs[0]
    new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(concat, safe=True)
    old.name, new.name = None, name


def _constants(graph: ir.Graph, name: str | None, weight: np.ndarray, bias: np.ndarray) -> list[ir.Value]:
    """A convolution's weight and bias as initializers named after its output."""
    return [_initializer(graph, f"{name}_weight", weight), _initializer(graph, f"{name}_bias", bias)]


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.FLOAT
    graph.register_initializer(value)
    return value


def _array(value: ir.Value | None) -> np.ndarray:
    """A constant's elements; only called on what `_has_constant_weights` has seen."""
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _bias(conv: ir.Node) -> np.ndarray:
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        return _array(conv.inputs[2])
    weight = _array(conv.inputs[1])
    return np.zeros(weight.shape[0], weight.dtype)


def _scalar(value: ir.Value | None) -> object:
    return None if value is None or value.const_value is None else _array(value).tolist()


def _attribute(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default
