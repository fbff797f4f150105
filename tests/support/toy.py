"""Trackers small enough to calibrate and to build in a test: crops of 32 and 64 pixels, a 9x9 map, point decoding."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from siamtrt.export.operator import with_operator_function
from siamtrt.manifest import GraphSpec, Manifest, Source, TensorSpec, load_manifest, save_manifest, sha256_of
from siamtrt.tracking import PointDecoding, Preprocessing, Tracking

CHANNELS = 8
OUTLIER = 1000.0  # times the other channels
TEMPLATE = """
<ir_version: 8, opset_import: ["" : 18]>
template (float[1,3,32,32] z) => (float[1,8,7,7] kernel0)
{
    features = Conv <strides = [4, 4]> (z, template_weight, template_bias)
    kernel0 = Relu (features)
}
"""
SEARCH = """
<ir_version: 8, opset_import: ["" : 18, "siamtrt" : 1]>
search (float[1,3,64,64] x, float[1,8,7,7] kernel0) => (float[1,2,9,9] cls, float[1,4,9,9] loc)
{
    features = Conv <strides = [4, 4]> (x, search_weight, search_bias)
    active = Relu (features)
    response = siamtrt.DepthwiseXCorr <group: int = 8> (active, kernel0)
    mean = ReduceMean <keepdims = 0> (response, sides)
    squeezed = Gemm <transB = 1> (mean, squeeze_weight, squeeze_bias)
    gate = HardSigmoid (squeezed)
    gate_map = Unsqueeze (gate, sides)
    gated = Mul (response, gate_map)
    cls = Conv (gated, cls_weight, cls_bias)
    log_loc = Conv (gated, loc_weight, loc_bias)
    loc = Exp (log_loc)
}
"""
# What cls convolves has one channel that is far larger than the others.
OUTLIER_SEARCH = """
<ir_version: 8, opset_import: ["" : 18, "siamtrt" : 1]>
search (float[1,3,64,64] x, float[1,8,7,7] kernel0) => (float[1,2,9,9] cls, float[1,4,9,9] loc)
{
    features = Conv <strides = [4, 4]> (x, search_weight, search_bias)
    active = Relu (features)
    response = siamtrt.DepthwiseXCorr <group: int = 8> (active, kernel0)
    uneven = Mul (response, gains)
    cls = Conv (uneven, cls_weight, cls_bias)
    log_loc = Conv (response, loc_weight, loc_bias)
    loc = Exp (log_loc)
}
"""


def _weights(rng: np.random.Generator, name: str, *shape: int, scale: float = 1.0) -> list[TensorProto]:
    """Weights that keep the magnitude of their input times `scale`, and biases."""
    weight = rng.normal(0, scale / np.sqrt(np.prod(shape[1:])), shape)
    arrays = {f"{name}_weight": weight, f"{name}_bias": rng.normal(0, 0.1, shape[0])}
    return [numpy_helper.from_array(array.astype(np.float32), key) for key, array in arrays.items()]


def toy_models() -> dict[str, ModelProto]:
    """`{"template": ..., "search": ...}` in FP32, inputs 32x32 and 64x64 of magnitude 0..255."""
    rng = np.random.default_rng(3)
    template, search = (onnx.parser.parse_model(text) for text in (TEMPLATE, SEARCH))
    template.graph.initializer.extend(_weights(rng, "template", CHANNELS, 3, 8, 8, scale=0.002))
    search.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([2, 3], np.int64), "sides"),
            *_weights(rng, "search", CHANNELS, 3, 8, 8, scale=0.02),
            *_weights(rng, "squeeze", CHANNELS, CHANNELS),
            *_weights(rng, "cls", 2, CHANNELS, 1, 1),
            *_weights(rng, "loc", 4, CHANNELS, 1, 1, scale=0.1),
        ]
    )
    return {"template": template, "search": with_operator_function(search)}


def outlier_models(outlier_weight: float) -> dict[str, ModelProto]:
    """A tracker whose classification reads an outlier channel with this weight; 0: it does not matter."""
    models = toy_models()
    constants = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in models["search"].graph.initializer}
    search = onnx.parser.parse_model(OUTLIER_SEARCH)
    gains = np.ones((1, CHANNELS, 1, 1), np.float32)
    gains[0, 0] = OUTLIER
    constants["gains"] = gains
    constants["cls_weight"][:, 0] = np.array([[[-1.0]], [[1.0]]]) * outlier_weight
    used = {name for node in search.graph.node for name in node.input}
    search.graph.initializer.extend(
        numpy_helper.from_array(constants[name], name) for name in sorted(used & {*constants})
    )
    return {"template": models["template"], "search": with_operator_function(search)}


def set_weight(model: ModelProto, name: str, value: np.ndarray) -> None:
    """Replace a constant."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def weight_of(model: ModelProto, name: str) -> np.ndarray:
    """A copy of a constant."""
    return next(numpy_helper.to_array(t).copy() for t in model.graph.initializer if t.name == name)


def save_toy(models: dict[str, ModelProto], bundle: Path) -> Path:
    """A bundle of such graphs, not built."""
    bundle.mkdir()
    graphs = {}
    for name, model in models.items():
        onnx.save(model, bundle / f"{name}.onnx")
        inputs, outputs = (tuple(map(_spec, values)) for values in (model.graph.input, model.graph.output))
        graphs[name] = GraphSpec(f"{name}.onnx", sha256_of(bundle / f"{name}.onnx"), inputs, outputs)
    manifest = Manifest(
        model="toy", paper="none", source=Source("none", "0" * 64), graphs=graphs,
        preprocessing=Preprocessing(32, 64), decoding=PointDecoding(9, 4), tracking=Tracking(0.1, 0.4, 0.3),
        parity={"cls": 0.0, "loc": 0.0}, versions={},
    )  # fmt: skip
    save_manifest(manifest, bundle)
    return bundle


def replace_graph(bundle: Path, name: str, model: ModelProto) -> None:
    """Save another graph of the same tensors, and its hash."""
    onnx.save(model, bundle / f"{name}.onnx")
    manifest = load_manifest(bundle)
    spec = dataclasses.replace(manifest.graphs[name], sha256=sha256_of(bundle / f"{name}.onnx"))
    save_manifest(dataclasses.replace(manifest, graphs={**manifest.graphs, name: spec}), bundle)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    return TensorSpec(value.name, tuple(side.dim_value for side in value.type.tensor_type.shape.dim))
