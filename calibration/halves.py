"""What FP16 does to a graph: which nodes it must leave in FP32, found on real pairs, and a simulation of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from siamtrt.calibration.collection import float_tensors
from siamtrt.calibration.histogram import Histogram
from siamtrt.errors import CalibrationError
from siamtrt.export.precision import FP16_LARGEST, node_name

# Other frames have larger values than the calibrating ones: calibrated on 3 of 15 sequences, NanoTrack's tensors were
# up to 2.7 times as large on the other 12, and v1's exp(...) 12 times.
MARGIN = 16.0
# Rounding to FP16 costs a tensor at most (2**-11)**2 / 3 = 8e-8 of its energy while its values are normal numbers.
# This is an error of 1e-3 of the tensor's norm: values of 2e-5, below the smallest normal 6.1e-5, with two bits lost.
LARGEST_LOSS = 1e-6

_SMALLEST_STEP = 2.0**-24
_BIAS_INPUT = 2  # of Conv and Gemm
_ADDED = frozenset({"Add", "Sub", "Sum", "Clip", "Max", "Min"})


def fp32_nodes(model: ModelProto, histograms: Mapping[str, Histogram]) -> tuple[str, ...]:
    """Nodes that an FP16 graph has to keep in FP32, for `fp16_from_fp32`, in graph order.

    Kept are all makers and readers of a tensor that FP16 does not hold, and all readers of such a weight. FP16 does
    not hold

    * magnitudes above 65504 / `MARGIN` on the pairs, in a weight above 65504;
    * a tensor that rounding to FP16 costs more than `LARGEST_LOSS` of its energy, its sum of squares. Not the number of
      tiny values counts: in every network many lie below 2**-14, FP16's smallest normal number, and carry nothing.

    No chain of nodes needs to be followed: an overflow that a Reshape, Concat or Relu hands on is found in what that
    node makes. So every Cast in the mixed graph is of a tensor that FP16 holds. Graph inputs and outputs are FP32 in
    any case; next to one that is too large, its reader or maker is kept.

    Added constants (biases, the operands of Add and Clip) are not judged by their loss: an error of at most 2**-25 is
    no more than the sum suffers itself when it is stored. Bounds of a Clip are not judged at all.

    Not covered: intermediate results within one node, such as the sum of a ReduceMean, a Softmax, a convolution or a
    matrix product. They are in no histogram. ONNX Runtime's CPU sums in FP32, and TensorRT's kernels mostly do; one
    that sums in FP16 overflows where the values times their number exceed 65504, though their mean does not. Nor are
    single channels: tiny values that only a large weight behind them makes count have no energy in their tensor.

    Args:
        model: FP32, without Q/DQ, as it was calibrated; the names hold in its Q/DQ graph too.
        histograms: of its inputs and all its float tensors, from `collect`.

    Raises:
        CalibrationError: a tensor without a histogram.
    """
    inputs = [v.name for v in model.graph.input if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    tensors = (*inputs, *float_tensors(model))
    if missing := [name for name in tensors if name not in histograms]:
        raise CalibrationError(
            "FP16 cannot be judged", received=f"no histogram of {', '.join(map(repr, missing[:3]))}",
            expected="one of every float tensor", fix="calibrate this graph again",
        )  # fmt: skip
    unfit = {name for name in tensors if not _fits(histograms[name], FP16_LARGEST / MARGIN)}
    constants = {t.name: _constant(t) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    return tuple(
        node_name(node)
        for node in model.graph.node
        if unfit.intersection((*node.input, *node.output)) or not _constants_fit(node, constants)
    )


def rounding_loss(histogram: Histogram) -> float:
    """The share, 0..1, of a tensor's energy that rounding to FP16 costs, overflow aside; 0.0 without values.

    A value in [2**k, 2**(k + 1)) is taken as 2**k and its error as spread evenly over a step of FP16, 2**(k - 10) and
    at least 2**-24; what is below half a step becomes 0. GPUs compute with FP16's subnormals, none is flushed.
    """
    magnitudes = np.exp2(np.arange(1, histogram.octaves.size) - 127.0)  # without octave 0: zeros
    numbers = histogram.octaves[1:].astype(np.float64)
    steps = np.maximum(magnitudes * 2.0**-10, _SMALLEST_STEP)
    energies = magnitudes**2
    total = float(numbers @ energies)
    return float(numbers @ np.minimum(steps**2 / 12, energies)) / total if total else 0.0


def largest_magnitudes(histograms: Mapping[str, Histogram], count: int = 10) -> dict[str, float]:
    """The tensors with the largest values on the pairs, largest first, equal ones by name."""
    ranked = sorted(histograms.items(), key=lambda item: (-item[1].largest, item[0]))
    return {name: histogram.largest for name, histogram in ranked[:count]}


def _fits(histogram: Histogram, largest: float) -> bool:
    return histogram.largest <= largest and rounding_loss(histogram) <= LARGEST_LOSS


def _constant(tensor: TensorProto) -> Histogram:
    """Of a constant's finite values; infinities are the same in FP16."""
    values = numpy_helper.to_array(tensor)
    histogram = Histogram(tensor.name)
    histogram.add(values[np.isfinite(values)])
    return histogram


def _constants_fit(node: NodeProto, constants: Mapping[str, Histogram]) -> bool:
    if node.op_type == "Clip":
        return True
    for index, name in enumerate(node.input):
        if (constant := constants.get(name)) is None:
            continue
        is_added = node.op_type in _ADDED or (node.op_type in ("Conv", "Gemm") and index == _BIAS_INPUT)
        if constant.largest > FP16_LARGEST or not (is_added or rounding_loss(constant) <= LARGEST_LOSS):
            return False
    return True


def simulated(half: ModelProto) -> ModelProto:
    """An FP16 graph -> an FP32 graph that rounds to FP16 whatever the other one stores in it.

    ONNX Runtime's CPU has few FP16 kernels: it computes most of an FP16 graph in FP32 and drops the roundings between
    nodes, so that 1e6 passes where a GPU gets infinity. Casts that are written out it leaves alone. Sums within a node
    are in FP32, and so is the whole body of a function.

    Args:
        half: of `fp16_from_fp32`, mixed or with Q/DQ; without subgraphs; left as it is.
    """
    result = ModelProto()
    result.CopyFrom(half)
    types = {value.name: value.type.tensor_type.elem_type for value in infer_shapes(half).graph.value_info}
    del result.graph.value_info[:]
    for tensor in result.graph.initializer:
        tensor.CopyFrom(_widened(tensor))
    nodes = [step for node in half.graph.node for step in _rounded(node, types)]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def _widened(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _rounded(node: NodeProto, types: Mapping[str, int]) -> Iterator[NodeProto]:
    """The node in FP32, and behind each of its outputs that was FP16 a Cast there and one back."""
    step = NodeProto()
    step.CopyFrom(node)
    halves = [index for index, name in enumerate(node.output) if types.get(name) == TensorProto.FLOAT16]
    for index in halves:
        step.output[index] = f"{node.output[index]}_exact"
    yield step
    for index in halves:
        name = node.output[index]
        yield helper.make_node("Cast", [f"{name}_exact"], [f"{name}_half"], to=TensorProto.FLOAT16)
        yield helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT)
