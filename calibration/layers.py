"""Which convolutions of a graph INT8 can take, what each costs, and which residual sum TensorRT fuses into it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from siamtrt.export.macs import Shape, graph_macs, node_macs, static_shapes

# What TensorRT fuses behind a convolution and its sum, so that the sum itself leaves the kernel as INT8.
ACTIVATIONS = frozenset({"Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})


@dataclass(frozen=True)
class Layer:
    """A convolution whose weight is constant.

    Attributes:
        name: the node's name; its output's where it has none.
        input: the tensor it convolves.
        weight: the initialiser, (O, C / groups, ...).
        output: the tensor it gives, unique in the graph.
        macs: multiply-accumulates of one inference.
        skip: the other operand of the Add that TensorRT fuses into this convolution; None without one.
    """

    name: str
    input: str
    weight: str
    output: str
    macs: int
    skip: str | None = None


@dataclass(frozen=True)
class Coverage:
    """Shares, 0..1, of a graph's multiply-accumulates that a set of layers has."""

    convolutions: float  # of those in convolutions with constant weights
    total: float  # of all: the correlation and matrix products too


def find_layers(model: ModelProto) -> tuple[Layer, ...]:
    """The graph's convolutions with a constant weight, in its order.

    Not among them, and so never quantised: the correlation, as `siamtrt::DepthwiseXCorr` or as the convolution with a
    computed weight that it is inlined to; matrix products, of two activations or in squeeze and excitation, where
    they are a few thousand multiplications; convolutions inside functions and subgraphs.

    A layer's `skip` follows NVIDIA's placement rules ("Working with Quantized Types", Q/DQ Layer-Placement
    Recommendations: "Quantize the residual input in skip connections"): an Add behind a convolution becomes part of
    its kernel, which gives INT8 only if the other operand is INT8; the convolution's own output is left alone. That
    needs a convolution which nothing but the Add reads, operands of one shape, and a sum which, directly or through
    one of `ACTIVATIONS`, is the input of a layer: sums that make up the graph's outputs stay as they are. Where both
    operands are such convolutions (a projection shortcut), the main path is the one with more convolutions between it
    and the graph's inputs, as NVIDIA's Model Optimizer takes the longer path; of equally many, the later node.

    Raises:
        SiamtrtError: a convolution whose shapes are not static.
    """
    shapes = static_shapes(model)
    constants = _constants(model)
    nodes = [node for node in model.graph.node if _is_quantisable(node, constants)]
    skips = _skips(model, nodes, shapes)
    return tuple(
        Layer(
            node.name or node.output[0], node.input[0], node.input[1], node.output[0], node_macs(node, shapes),
            skips.get(node.output[0]),
        )
        for node in nodes
    )  # fmt: skip


def quantised_tensors(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The activations that need a threshold when these layers are quantised: inputs and skips, each once."""
    names = (name for layer in layers for name in (layer.input, layer.skip) if name is not None)
    return tuple(dict.fromkeys(names))


def coverage(model: ModelProto, layers: Collection[Layer]) -> Coverage:
    """What share of the graph's multiply-accumulates these layers have; 0 in a graph without any.

    Raises:
        SiamtrtError: an operator whose shapes are not static.
    """
    covered = sum(layer.macs for layer in layers)
    convolutions, total = sum(layer.macs for layer in find_layers(model)), graph_macs(model)
    return Coverage(covered / convolutions if convolutions else 0.0, covered / total if total else 0.0)


def _constants(model: ModelProto) -> set[str]:
    """Initialisers that no caller can replace, as those that are graph inputs too could be."""
    return {tensor.name for tensor in model.graph.initializer} - {value.name for value in model.graph.input}


def _is_quantisable(node: NodeProto, constants: Collection[str]) -> bool:
    return (node.domain, node.op_type) == ("", "Conv") and node.input[1] in constants and node.input[0] not in constants


def _skips(model: ModelProto, layers: list[NodeProto], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Output of a layer -> the operand that is added to it."""
    reads = Counter(name for node in model.graph.node for name in node.input)
    reads.update(value.name for value in model.graph.output)
    rank = {node.output[0]: (depth, index) for index, (node, depth) in enumerate(_with_depths(model, layers))}
    results = _quantised_results(model, layers)
    skips = {}
    for node in model.graph.node:
        if (node.domain, node.op_type) != ("", "Add") or node.output[0] not in results:
            continue
        mains = [name for name in node.input if name in rank and reads[name] == 1]
        if not mains:
            continue
        main = max(mains, key=rank.__getitem__)
        skip = node.input[1 if node.input[0] == main else 0]
        if skip in shapes and shapes[skip] == shapes.get(main) and skip not in _constants(model):
            skips[main] = skip
    return skips


def _with_depths(model: ModelProto, layers: list[NodeProto]) -> list[tuple[NodeProto, int]]:
    """Each layer with the number of convolutions on the longest path from the graph's inputs to its output."""
    depths: defaultdict[str, int] = defaultdict(int)
    for node in model.graph.node:
        depth = max((depths[name] for name in node.input), default=0) + (node.op_type == "Conv")
        depths.update(dict.fromkeys(node.output, depth))
    return [(node, depths[node.output[0]]) for node in layers]


def _quantised_results(model: ModelProto, layers: list[NodeProto]) -> set[str]:
    """Tensors that, directly or through one activation, are a layer's input."""
    inputs = {node.input[0] for node in layers}
    before = {node.input[0] for node in model.graph.node if node.op_type in ACTIVATIONS and node.output[0] in inputs}
    return inputs | before
