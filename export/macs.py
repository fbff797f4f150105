"""Multiply-accumulates of one inference of an ONNX graph, from its shapes.

onnxsim has such a count too (`onnxsim.model_info`), but takes an operator of unknown shape for free, and so every
`siamtrt::DepthwiseXCorr` without a body. What is to judge a graph's cost must not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto

from siamtrt.errors import SiamtrtError
from siamtrt.export.operator import DOMAIN

Shape = tuple[int, ...]


def graph_macs(model: ModelProto) -> int:
    """Multiply-accumulates of the operators in `COUNTS`, for the batch that the inputs have.

    What `torch.utils.flop_counter` counts, halved: padding is multiplied like pixels; biases, activations, pooling
    and elementwise products are free. Subgraphs, which trackers do not have, are not looked into.

    Raises:
        SiamtrtError: a shape that the count needs is not static.
    """
    shapes = static_shapes(model)
    return sum(node_macs(node, shapes) for node in model.graph.node)


def static_shapes(model: ModelProto) -> dict[str, Shape]:
    """Shapes of all tensors of the main graph whose shape is known without running it, inferred where not written."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: shape for value in (*graph.input, *graph.value_info, *graph.output)
              if (shape := _static_shape(value)) is not None}  # fmt: skip
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _static_shape(value: ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    sides = tensor.shape.dim
    if not tensor.HasField("shape") or not all(side.HasField("dim_value") for side in sides):
        return None
    return tuple(side.dim_value for side in sides)


def node_macs(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Multiply-accumulates of one node, as `graph_macs` counts them; `shapes` from `static_shapes`.

    Raises:
        SiamtrtError: a shape that the count needs is not static.
    """
    count = COUNTS.get((node.domain, node.op_type))
    if count is None:
        return 0
    needed = (*node.input[:2], node.output[0])
    unknown = [name for name in needed if name not in shapes]
    if unknown:
        raise SiamtrtError(
            f"cannot count the multiplications of the {node.op_type} that gives {node.output[0]}",
            received=f"no static shape of {', '.join(unknown)}", expected="a graph whose shapes can be inferred",
            fix="export it with fixed input shapes, and simplify it",
        )
    return count(node, *(shapes[name] for name in needed))


def _conv(node: NodeProto, x: Shape, weight: Shape, y: Shape) -> int:
    """(N, C, ...), (O, C / groups, ...) -> (N, O, ...): a filter for every output."""
    return prod(y) * prod(weight[1:])


def _conv_transpose(node: NodeProto, x: Shape, weight: Shape, y: Shape) -> int:
    """(N, C, ...), (C, O / groups, ...) -> (N, O, ...): a filter for every input."""
    return prod(x) * prod(weight[1:])


def _matmul(node: NodeProto, a: Shape, b: Shape, y: Shape) -> int:
    """(..., M, K), (..., K, N) -> (..., M, N)."""
    return prod(y) * a[-1]


def _gemm(node: NodeProto, a: Shape, b: Shape, y: Shape) -> int:
    """(M, K) or, transposed, (K, M) -> (M, N)."""
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(y) * a[0 if transposed else 1]


def _einsum(node: NodeProto, a: Shape, b: Shape, y: Shape) -> int:
    """A multiplication for every combination of two operands' indices."""
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    operands = equation.replace(" ", "").split("->")[0].split(",")
    if len(node.input) != 2 or "." in equation:
        raise SiamtrtError(
            "cannot count the multiplications of an Einsum", received=equation,
            expected="two operands without ellipsis", fix="write it as a matrix product",
        )
    sides = {index: side for indices, shape in zip(operands, (a, b), strict=True)
             for index, side in zip(indices, shape, strict=True)}  # fmt: skip
    return prod(sides.values())


def _depthwise_xcorr(node: NodeProto, x: Shape, kernel: Shape, y: Shape) -> int:
    """(N, C, H, W), (N, C, h, w) -> (N, C, H-h+1, W-w+1): one channel's kernel for every output."""
    return prod(y) * prod(kernel[2:])


COUNTS: dict[tuple[str, str], Callable[[NodeProto, Shape, Shape, Shape], int]] = {
    ("", "Conv"): _conv,
    ("", "ConvTranspose"): _conv_transpose,
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("", "Einsum"): _einsum,
    (DOMAIN, "DepthwiseXCorr"): _depthwise_xcorr,
}
