"""An FP32 graph -> the same graph in FP16, its inputs, outputs and chosen nodes still FP32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from siamtrt.errors import BuildError

FP16_LARGEST = 65504.0

_CODES = 127.0  # the largest magnitude that a DequantizeLinear multiplies its scale with


def fp16_from_fp32(model: ModelProto, fp32_nodes: Collection[str] = ()) -> ModelProto:
    """A copy whose weights and activations are half precision; `model` is left as it is.

    Graph inputs and outputs keep FP32, with a Cast beside each, so that decoding and the template
    tensors between the two graphs do not depend on the precision of an engine. Integer tensors (shapes) keep their
    type. So do INT8 codes; a scale is rounded like any weight, which leaves `scale_of`'s as they are.

    Between two nodes that are kept in FP32, and between one and the graph's inputs and outputs, nothing is rounded.
    Kept, besides those named, are

    * nodes with a weight beyond +-65504, FP16's largest magnitude (the bounds of a Clip are clamped to it instead,
      which changes nothing: FP16 holds nothing beyond);
    * the DequantizeLinear before a kept node and the QuantizeLinear behind one, with no Cast between, so that TensorRT
      still fuses them. A DequantizeLinear with other readers is there twice.

    A kept function call, `siamtrt::DepthwiseXCorr`, computes its whole body in FP32.

    Args:
        model: FP32, with or without QuantizeLinear and DequantizeLinear.
        fp32_nodes: nodes of the main graph by `node_name`; see `siamtrt.calibration.halves`.

    Raises:
        BuildError: a name that no node has.
    """
    prepared = ModelProto()
    prepared.CopyFrom(model)
    for node in prepared.graph.node:
        node.name = node_name(node)
    kept = _kept(prepared.graph, fp32_nodes)
    _split_dequantised(prepared.graph, kept)
    _split_constants(prepared.graph, kept)
    # With a type stated for it, the converter takes a constant to be FP16, which those of kept nodes are not.
    constants = {tensor.name for tensor in prepared.graph.initializer}
    _replace(prepared.graph.value_info, (v for v in prepared.graph.value_info if v.name not in constants))
    names = {node.name for node in prepared.graph.node}
    half = OnnxModel(convert_float_to_float16(prepared, keep_io_types=True, node_block_list=sorted(kept)))
    _join(half.model.graph, names)
    half.topological_sort()  # the converter appends its Casts at the end, where ONNX does not allow them
    return half.model


def node_name(node: NodeProto) -> str:
    """What this module calls a node: its name, or its first output's where it has none."""
    return node.name or node.output[0]


def _overflowing(graph: GraphProto) -> set[str]:
    """Nodes with a weight beyond FP16's range."""
    largest = {tensor.name: _largest(tensor) for tensor in graph.initializer}
    return {
        node.name
        for node in graph.node
        if node.op_type != "Clip" and any(largest.get(name, 0.0) > _limit(node) for name in node.input)
    }


def _largest(tensor: TensorProto) -> float:
    """Largest finite magnitude; infinities stay what they are in FP16."""
    if tensor.data_type != TensorProto.FLOAT:
        return 0.0
    values = numpy_helper.to_array(tensor)
    return float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))


def _limit(node: NodeProto) -> float:
    return FP16_LARGEST / _CODES if node.op_type in ("QuantizeLinear", "DequantizeLinear") else FP16_LARGEST


def _kept(graph: GraphProto, wanted: Collection[str]) -> set[str]:
    """Names of all nodes that stay FP32, but for the DequantizeLinear, which `_split_dequantised` adds."""
    known = {node.name for node in graph.node}
    if strangers := [name for name in wanted if name not in known]:
        raise BuildError(
            "nodes cannot be kept in FP32", received=f"no node {', '.join(map(repr, strangers))} in the graph",
            expected="names of the graph's nodes", fix="calibrate this bundle again",
        )  # fmt: skip
    readers = _readers(graph.node)
    kept = {*wanted, *_overflowing(graph)}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.name in kept:
            kept.update(reader.name for reader in readers[node.output[0]])
    made_exactly = {name for node in graph.node if node.name in kept for name in node.output}
    kept.update(n.name for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in made_exactly)
    return kept


def _readers(nodes: Iterable[NodeProto]) -> defaultdict[str, list[NodeProto]]:
    readers: defaultdict[str, list[NodeProto]] = defaultdict(list)
    for node in nodes:
        for name in dict.fromkeys(node.input):
            readers[name].append(node)
    return readers


def _split_dequantised(graph: GraphProto, kept: set[str]) -> None:
    """Keep each DequantizeLinear that kept nodes read; a second one, FP16, is for its other readers."""
    readers = _readers(graph.node)
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "DequantizeLinear":
            continue
        behind = readers[node.output[0]]
        others = [reader for reader in behind if reader.name not in kept]
        if len(others) == len(behind):
            continue
        if others:
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.name, copy.output[0] = f"{node.name}_fp16", f"{node.output[0]}_fp16"
            _rename_inputs(others, {node.output[0]: copy.output[0]})
            nodes.append(copy)
        kept.add(node.name)
    _replace(graph.node, nodes)


def _split_constants(graph: GraphProto, kept: Collection[str]) -> None:
    """A copy of each constant that both kept and other nodes read: the converter would round it for both."""
    readers = _readers(graph.node)
    for tensor in list(graph.initializer):
        single = [node for node in readers[tensor.name] if node.name in kept]
        if tensor.data_type == TensorProto.FLOAT and 0 < len(single) < len(readers[tensor.name]):
            copy = graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = f"{tensor.name}_fp32"
            _rename_inputs(single, {tensor.name: copy.name})


def _join(graph: GraphProto, original: Collection[str]) -> None:
    """Let FP32 run through: the converter leaves every kept node by FP16, also towards another or a graph output.

    Removes its Casts to FP16 and back, repeated Casts of one tensor and those that nobody reads. Tensors that are FP32
    alone get their names back.
    """
    nodes = [node for node in graph.node if node.name in original]
    casts = {node.output[0]: node for node in graph.node if node.name not in original}
    halves = {name: node.input[0] for name, node in casts.items() if node.attribute[0].i == TensorProto.FLOAT16}
    exact = {
        name: halves[node.input[0]] for name, node in casts.items() if name not in halves and node.input[0] in halves
    }
    left = [node for name, node in casts.items() if name not in exact]
    _rename_inputs((*nodes, *left), exact)
    read = {name for node in (*nodes, *left) for name in node.input} | {value.name for value in graph.output}
    made = {name for node in nodes for name in node.output}
    names = {source: name for name, source in halves.items() if name not in read and source in made}
    names |= {source: name for name, source in exact.items() if name in read}
    nodes += [node for node in left if node.output[0] in read]
    _rename_inputs(nodes, names)
    for node in nodes:
        node.output[:] = [names.get(name, name) for name in node.output]
    _replace(graph.node, nodes)
    del graph.value_info[:]  # now wrong; every runtime infers them


def _rename_inputs(nodes: Iterable[NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)


def _replace(field: Any, messages: Iterable[Any]) -> None:
    """Put other messages into a repeated field, of which they may be part."""
    messages = list(messages)
    copies = [type(message)() for message in messages]
    for copy, message in zip(copies, messages, strict=True):
        copy.CopyFrom(message)
    del field[:]
    field.extend(copies)
