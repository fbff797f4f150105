"""The operators of an ONNX graph as `roofline` takes them: what multiplies, what fuses, what is only a view."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

from onnx import ModelProto, NodeProto

from siamtrt.benchmarks.devices import Precision
from siamtrt.benchmarks.roofline import PLAIN_CHANNELS, Kind, Operation, Work
from siamtrt.errors import SiamtrtError
from siamtrt.export.macs import COUNTS, Shape, node_macs, static_shapes
from siamtrt.export.precision import node_name

VIEWS = frozenset((
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear",
))  # fmt: skip
POINTWISE = frozenset((
    "Relu", "Clip", "Add", "Mul", "Sub", "Div", "Sigmoid", "HardSigmoid", "HardSwish", "Exp", "Sqrt", "Pow", "Tanh",
    "Neg", "Abs", "Min", "Max", "Where", "PRelu", "LeakyRelu", "Reciprocal", "BatchNormalization",
))  # fmt: skip
CONSTANTS = frozenset(("Constant", "Shape", "ConstantOfShape"))  # of static shapes: no kernel


class _Names:
    """Which tensors are constant, and which names mean the same memory."""

    def __init__(self, model: ModelProto) -> None:
        self.constants = {tensor.name for tensor in model.graph.initializer}
        self._sources: dict[str, str] = {}
        self.dequantized: set[str] = set()

    def source(self, name: str) -> str:
        """The tensor that a view shows."""
        return self._sources.get(name, name)

    def take(self, node: NodeProto) -> bool:
        """Whether the node is no kernel: a constant, made of constants alone, or a view."""
        inputs = [name for name in node.input if name]
        if node.op_type in CONSTANTS or (inputs and self.constants.issuperset(inputs)):
            self.constants.update(node.output)
            return True
        if node.domain or node.op_type not in VIEWS:
            return False
        self._sources[node.output[0]] = self.source(node.input[0])
        if node.op_type == "DequantizeLinear":
            self.dequantized.update(node.output)
        return True


def graph_work(model: ModelProto, fp32_nodes: Collection[str] = ()) -> Work:
    """The operators of a graph with static shapes.

    Where the graph has Q/DQ pairs, what multiplies a dequantized tensor is INT8 and the rest FP16: the pairs themselves
    fuse into their neighbours. TensorRT's precisions without pairs are those of the run.

    Args:
        fp32_nodes: names of nodes that FP16 cannot hold.

    Raises:
        SiamtrtError: a shape that the count needs is not static.
    """
    shapes, names = static_shapes(model), _Names(model)
    operations, elements = [], {}
    for node in model.graph.node:
        if names.take(node):
            continue
        operation = _operation(node, shapes, names, fp32_nodes)
        operations.append(operation)
        for name in (*operation.reads, *operation.writes):
            elements[name] = prod(_shape(name, node, shapes))
    if names.dequantized:
        operations = [_quantized(operation) for operation in operations]
    outputs = frozenset(names.source(value.name) for value in model.graph.output)
    return Work(tuple(operations), elements, outputs)


def _operation(node: NodeProto, shapes: Mapping[str, Shape], names: _Names, fp32_nodes: Collection[str]) -> Operation:
    name = node_name(node)
    given = [tensor for tensor in node.input if tensor]
    reads = tuple(dict.fromkeys(names.source(tensor) for tensor in given if tensor not in names.constants))
    weights = sum(prod(shapes.get(tensor, ())) for tensor in given if tensor in names.constants)
    kind, side = _kind(node, shapes)
    precision: Precision | None = None
    if kind in ("matrix", "plain") and node.input[0] in names.dequantized:
        precision = "int8"  # TensorRT fuses the pair, also where what the node gives stays FP32
    elif name in fp32_nodes:
        precision = "fp32"
    writes = tuple(tensor for tensor in node.output if tensor)
    return Operation(name, node.op_type, kind, reads, writes, node_macs(node, shapes), weights, side, precision)


def _quantized(operation: Operation) -> Operation:
    """In a calibrated graph, what has no Q/DQ pair was left in FP16."""
    return operation if operation.precision else operation.with_precision("fp16")


def _kind(node: NodeProto, shapes: Mapping[str, Shape]) -> tuple[Kind, tuple[int, int]]:
    """Kind, and rows and columns of a matrix product's output."""
    if (node.domain, node.op_type) not in COUNTS:
        return ("pointwise" if not node.domain and node.op_type in POINTWISE else "other"), (1, 1)
    y = _shape(node.output[0], node, shapes)
    columns = y[1] if node.op_type in ("Conv", "ConvTranspose") else y[-1]
    side = prod(y) // columns, columns
    return ("plain" if _is_plain(node, shapes) else "matrix"), side


def _is_plain(node: NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """Depthwise, or so many groups that none fills a tensor core."""
    if node.domain:
        return True
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return groups > 1 and _shape(node.input[1], node, shapes)[1] < PLAIN_CHANNELS


def _shape(name: str, node: NodeProto, shapes: Mapping[str, Shape]) -> Shape:
    if name not in shapes:
        raise SiamtrtError(
            f"cannot count the traffic of the {node.op_type} {node_name(node)}",
            received=f"no static shape of {name}", expected="a graph whose shapes can be inferred",
            fix="export the checkpoint again with `siamtrt export`",
        )  # fmt: skip
    return shapes[name]
