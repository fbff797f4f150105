"""A graph and thresholds -> the same graph with QuantizeLinear and DequantizeLinear around chosen convolutions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from siamtrt.calibration.layers import Layer, quantised_tensors
from siamtrt.calibration.ranges import LEVELS
from siamtrt.errors import CalibrationError

# FP16's conversion replaces anything smaller by 1e-7, which rounds to this.
SMALLEST_SCALE = 2.0**-23


def quantised(
    model: ModelProto,
    layers: Collection[Layer],
    thresholds: Mapping[str, float],
    weight_thresholds: Mapping[str, np.ndarray] | None = None,
) -> ModelProto:
    """A copy in which exactly these layers are INT8, as strongly typed TensorRT and any ONNX runtime take it.

    Each layer's input and skip goes through a QuantizeLinear and a DequantizeLinear; a tensor has one such pair, and
    so one scale, for all edges that need it. Other readers of the tensor, graph outputs among them, get it as it was.
    Weights become int8 initialisers behind a DequantizeLinear with a scale a channel, once for all layers that share
    them; a float weight that nobody reads any more is dropped. Biases stay. int8, zero point 0, scales by `scale_of`:
    weights' codes are -127..127; an activation below -T becomes -128, as QuantizeLinear and TensorRT have it.

    Args:
        model: FP32, its main graph in topological order; left as it is.
        layers: any of `find_layers(model)`.
        thresholds: T of each of `quantised_tensors(layers)`, positive; others are ignored.
        weight_thresholds: (O,) per weight; by default `channel_thresholds`.

    Raises:
        CalibrationError: a layer of another graph, a threshold that is missing or not positive, a weight that is not
            finite.
    """
    result = ModelProto()
    result.CopyFrom(model)
    _check(model, layers, thresholds)
    skips = {(layer.output, layer.skip) for layer in layers if layer.skip is not None}
    outputs = {layer.output for layer in layers}
    graph = _Rewriting(result.graph, thresholds, weight_thresholds or {})
    for node in result.graph.node:
        if (node.domain, node.op_type) == ("", "Conv") and node.output[0] in outputs:
            node.input[0], node.input[1] = graph.activation(node.input[0]), graph.weight(node.input[1])
        elif (node.domain, node.op_type) == ("", "Add") and len(node.input) == 2:
            first, second = node.input
            if (second, first) in skips:
                node.input[0] = graph.activation(first)
            elif (first, second) in skips:
                node.input[1] = graph.activation(second)
        graph.nodes.append(node)
    graph.write()
    return result


def scale_of(threshold: float | np.ndarray) -> np.ndarray:
    """float32 scale of a clipping threshold: T / 127, rounded up to the next FP16 number.

    So the FP32 and the FP16 form of a graph hold the same scales, and what is simulated with the one is what the other
    computes, up to FP16's own rounding of activations. The scale is at most 0.1 % larger (FP16's subnormals, below
    6e-5: more), never smaller, so that nothing within T is clipped. At least `SMALLEST_SCALE`; 1 for the threshold 0
    of an all-zero channel; not rounded beyond FP16's range, where FP16 could not hold the tensor either.
    """
    exact = np.maximum(np.asarray(threshold, np.float64) / LEVELS, SMALLEST_SCALE)
    with np.errstate(over="ignore"):
        half = exact.astype(np.float16)
        half = np.where(half < exact, np.nextafter(half, np.float16(np.inf)), half)
    scale = np.where(np.isfinite(half), half, exact)
    return np.where(np.asarray(threshold) == 0, 1.0, scale).astype(np.float32)


def channel_thresholds(weight: np.ndarray) -> np.ndarray:
    """(O, ...) -> (O,): the largest magnitude of each output channel."""
    return np.abs(weight).reshape(len(weight), -1).max(axis=1)


class _Rewriting:
    """The nodes and initialisers of a graph in the making; `write` puts them into it."""

    def __init__(
        self, graph: GraphProto, thresholds: Mapping[str, float], weight_thresholds: Mapping[str, np.ndarray]
    ) -> None:
        self.nodes: list[NodeProto] = []
        self._graph, self._thresholds, self._weight_thresholds = graph, thresholds, weight_thresholds
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._taken = {name for node in graph.node for name in (*node.input, *node.output, node.name)}
        self._taken |= {value.name for value in (*graph.input, *graph.output)} | set(self._weights)
        self._dequantised: dict[str, str] = {}
        self._zero_points: dict[tuple[int, ...], str] = {}
        self._new: list[TensorProto] = []

    def activation(self, name: str) -> str:
        """The tensor after its Q/DQ pair, which is added where it is first needed."""
        if name not in self._dequantised:
            codes, scale = self._free(f"{name}_quantized"), scale_of(self._thresholds[name])
            inputs = self._constant(f"{name}_scale", scale), self._zero_point(scale.shape)
            self._append("QuantizeLinear", [name, *inputs], codes)
            self._dequantised[name] = self._dequantize(name, codes, *inputs)
        return self._dequantised[name]

    def weight(self, name: str) -> str:
        """The dequantised weight, whose codes are stored once."""
        if name not in self._dequantised:
            weight = numpy_helper.to_array(self._weights[name])
            scale = scale_of(self._channel_thresholds(name, weight))
            codes = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).clip(-LEVELS, LEVELS).astype(np.int8)
            inputs = self._constant(f"{name}_scale", scale), self._zero_point(scale.shape)
            stored = self._constant(f"{name}_quantized", codes)
            self._dequantised[name] = self._dequantize(name, stored, *inputs, axis=0)
        return self._dequantised[name]

    def write(self) -> None:
        """Replace the graph's nodes, add the new initialisers, drop the weights that only quantised layers read."""
        read = {name for node in self.nodes for name in node.input} | {value.name for value in self._graph.output}
        for index in reversed(range(len(self._graph.initializer))):
            name = self._graph.initializer[index].name
            if name in self._dequantised and name not in read:
                del self._graph.initializer[index]
        self._graph.initializer.extend(self._new)
        del self._graph.node[:]
        self._graph.node.extend(self.nodes)

    def _channel_thresholds(self, name: str, weight: np.ndarray) -> np.ndarray:
        largest = channel_thresholds(weight)
        chosen = np.asarray(self._weight_thresholds.get(name, largest))
        if chosen.shape != largest.shape or not np.isfinite([chosen, largest]).all() or (chosen < 0).any():
            raise CalibrationError(
                f"weight {name!r} cannot be quantised", received=f"channel thresholds {chosen}",
                expected=f"{largest.size} finite numbers, none negative, and a finite weight",
                fix="check the checkpoint's weights",
            )  # fmt: skip
        return chosen

    def _dequantize(self, name: str, codes: str, scale: str, zero: str, axis: int | None = None) -> str:
        result = self._free(f"{name}_dequantized")
        self._append("DequantizeLinear", [codes, scale, zero], result, axis)
        return result

    def _append(self, operator: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        name = self._free(f"{output}_{operator}")
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, axis=axis))

    def _zero_point(self, shape: tuple[int, ...]) -> str:
        if shape not in self._zero_points:
            name = "_".join(["zero_point", *map(str, shape)])
            self._zero_points[shape] = self._constant(name, np.zeros(shape, np.int8))
        return self._zero_points[shape]

    def _constant(self, name: str, value: np.ndarray) -> str:
        name = self._free(name)
        self._new.append(numpy_helper.from_array(value, name))
        return name

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        return name


def _check(model: ModelProto, layers: Collection[Layer], thresholds: Mapping[str, float]) -> None:
    convolutions = {(*node.input[:2], node.output[0]) for node in model.graph.node if node.op_type == "Conv"}
    sums = {frozenset(node.input) for node in model.graph.node if node.op_type == "Add"}
    strangers = [
        layer.name for layer in layers
        if (layer.input, layer.weight, layer.output) not in convolutions
        or (layer.skip is not None and frozenset((layer.output, layer.skip)) not in sums)
    ]  # fmt: skip
    if strangers:
        raise CalibrationError(
            "a layer is not of this graph", received=", ".join(strangers), expected="layers of find_layers(model)",
            fix="find the layers of the graph that is to be quantised",
        )  # fmt: skip
    for name in quantised_tensors(layers):
        value = thresholds.get(name)
        if value is None or not (math.isfinite(value) and value > 0):
            raise CalibrationError(
                f"tensor {name!r} cannot be quantised", received=f"threshold {value}",
                expected="a positive, finite number", fix="calibrate this graph again",
            )  # fmt: skip
