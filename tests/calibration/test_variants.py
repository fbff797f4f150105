"""Variants: which layers are INT8, with which scales, in which types, and what naive calibration does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

pytest.importorskip("torch", reason="exporting the bundle needs the export extra")

from calibrated import calibration_of, graphs_of, labelled
from clips import manifest_of

from siamtrt.calibration.layers import find_layers
from siamtrt.calibration.qdq import scale_of
from siamtrt.calibration.variants import VARIANTS, int8_layers, int8_share, noise_thresholds, variant_models
from siamtrt.errors import CalibrationError
from siamtrt.export.macs import graph_macs
from siamtrt.export.precision import node_name
from siamtrt.manifest import load_manifest
from siamtrt.runtime.ort_session import OrtSession


@pytest.fixture(scope="module")
def models(tiny_bundle):
    return graphs_of(tiny_bundle)


@pytest.fixture(scope="module")
def manifest(tiny_bundle):
    return load_manifest(tiny_bundle)


@pytest.fixture(scope="module")
def calibration(tiny_bundle, short_video, tmp_path_factory):
    return calibration_of(tiny_bundle, labelled(short_video.path, short_video.boxes_xywh, tmp_path_factory.mktemp("v")))


@pytest.fixture(scope="module")
def noisy(models, manifest):
    return noise_thresholds(models, manifest)


def types_of(model):
    return {tensor.data_type for tensor in model.graph.initializer if tensor.dims}


def quantised_convolutions(model):
    """Names of the convolutions whose weight is stored in INT8."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
              and constants.get(node.input[0], TensorProto()).data_type == TensorProto.INT8}  # fmt: skip
    return {node_name(node) for node in model.graph.node if node.op_type == "Conv" and node.input[1] in stored}


def scales_of(model):
    """Scale of each activation that is quantised."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {node.input[0]: constants[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def test_fp32_is_the_bundle(models, manifest, calibration):
    assert variant_models("fp32", models, calibration, manifest) == models
    assert variant_models("fp32", models, None, manifest) == models


def test_fp16_keeps_what_the_calibration_says(models, manifest, calibration):
    layer = find_layers(models["search"])[2]
    kept = dataclasses.replace(calibration, fp32={"template": (), "search": (layer.name,)})
    found = variant_models("fp16", models, kept, manifest)["search"]
    weights = {tensor.name: tensor.data_type for tensor in found.graph.initializer}
    in_single = {item.weight for item in find_layers(models["search"]) if weights.get(item.weight) == TensorProto.FLOAT}
    assert in_single == {layer.weight}
    plain = variant_models("fp16", models, None, manifest)
    assert set(plain) == set(models)
    assert all(TensorProto.FLOAT not in types_of(model) for model in plain.values())


@pytest.mark.parametrize("name", ["int8", "mixed"])
def test_int8_layers_and_scales_are_the_calibrations(models, manifest, calibration, name):
    found = variant_models(name, models, calibration, manifest)
    for graph in ("template", "search"):
        layers = find_layers(models[graph])
        kept = layers[:3] if (name, graph) == ("mixed", "search") else ()
        assert quantised_convolutions(found[graph]) == {layer.name for layer in layers} - {k.name for k in kept}
        for tensor, scale in scales_of(found[graph]).items():
            assert scale == scale_of(calibration.ranges[graph][tensor].threshold)
        assert types_of(found[graph]) >= {TensorProto.INT8, TensorProto.FLOAT}
        assert TensorProto.FLOAT16 not in types_of(found[graph])


@pytest.mark.parametrize("name", ["int8", "mixed", "naive"])
def test_half_makes_the_rest_fp16(models, manifest, calibration, name):
    single, halved = (variant_models(name, models, calibration, manifest, half=half) for half in (False, True))
    for graph in models:
        assert quantised_convolutions(halved[graph]) == quantised_convolutions(single[graph])
        assert TensorProto.FLOAT not in types_of(halved[graph])
        scales = scales_of(single[graph]), scales_of(halved[graph])
        assert sorted(float(scale) for scale in scales[0].values()) == sorted(float(s) for s in scales[1].values())
        assert len(halved[graph].SerializeToString()) < len(single[graph].SerializeToString())


def test_half_keeps_fp32_nodes(models, manifest, calibration):
    layer = find_layers(models["search"])[0]
    kept = dataclasses.replace(calibration, fp32={"template": (), "search": (layer.name,)})
    found = variant_models("mixed", models, kept, manifest, half=True)["search"]
    types = {tensor.name: tensor.data_type for tensor in found.graph.initializer}
    (node,) = (node for node in found.graph.node if node_name(node) == layer.name)
    assert types[node.input[1]] == TensorProto.FLOAT


def test_naive_ranges_are_the_largest_over_noise(models, manifest, noisy):
    """The same noise through sessions of the graphs as they are."""
    rng = np.random.default_rng(0)
    shapes = [manifest.graphs[graph].inputs[0].shape for graph in ("template", "search")]
    kernels = [tensor.name for tensor in manifest.graphs["template"].outputs]
    largest = dict.fromkeys((*kernels, "cls", "loc"), 0.0)
    graphs = {name: OrtSession(model.SerializeToString(), manifest.graphs[name]) for name, model in models.items()}
    for _ in range(8):
        template, search = (rng.integers(0, 256, shape).astype(np.float32) for shape in shapes)
        made = {name: value.copy() for name, value in graphs["template"].run({"z": template}).items()}
        maps = graphs["search"].run({"x": search, **made})
        for name, value in (*made.items(), *maps.items()):
            largest[name] = max(largest[name], float(np.abs(value).max()))
    assert noisy["search"]["x"] == noisy["template"]["z"] == 255
    for name in kernels:
        assert noisy["template"][name] == pytest.approx(largest[name], rel=1e-5)
        assert noisy["search"][name] == noisy["template"][name]
    for name in ("cls", "loc"):
        assert noisy["search"][name] == pytest.approx(largest[name], rel=1e-4)


def test_naive_needs_no_calibration_and_is_seeded(models, manifest, calibration, noisy):
    found = variant_models("naive", models, None, manifest)
    again = variant_models("naive", models, calibration, manifest)
    for graph, model in found.items():
        assert model.SerializeToString() == again[graph].SerializeToString()
        assert quantised_convolutions(model) == {layer.name for layer in find_layers(models[graph])}
        for tensor, scale in scales_of(model).items():
            assert scale == scale_of(noisy[graph][tensor])


def test_models_given_are_not_changed(models, manifest, calibration):
    before = {graph: model.SerializeToString() for graph, model in models.items()}
    for name in VARIANTS:
        variant_models(name, models, calibration, manifest, half=True)
    assert {graph: model.SerializeToString() for graph, model in models.items()} == before


def test_share_of_the_search_graphs_multiplications(models, calibration):
    layers, total = find_layers(models["search"]), graph_macs(models["search"])
    everything = sum(layer.macs for layer in layers) / total
    planned = sum(layer.macs for layer in layers[3:]) / total
    shares = {name: int8_share(name, models, calibration) for name in VARIANTS}
    assert shares == {
        "fp32": 0, "fp16": 0, "naive": pytest.approx(everything), "int8": pytest.approx(everything),
        "mixed": pytest.approx(planned), "shaken": 0,
    }  # fmt: skip
    assert 0.1 < planned < everything < 1


def test_shaken_weights_differ_by_a_millionth(models, manifest):
    found = variant_models("shaken", models, None, manifest)
    for graph, model in models.items():
        changed = 0
        for before, after in zip(model.graph.initializer, found[graph].graph.initializer, strict=True):
            a, b = numpy_helper.to_array(before), numpy_helper.to_array(after)
            if before.data_type == TensorProto.FLOAT and a.ndim > 1:
                np.testing.assert_allclose(b, a, rtol=1.2e-6)
                changed += np.count_nonzero(a != b)
            else:
                np.testing.assert_array_equal(a, b)
        assert changed > 0.9 * sum(np.prod(t.dims) for t in model.graph.initializer if len(t.dims) > 1)


@pytest.mark.parametrize("name", ["int8", "mixed"])
def test_missing_calibration(models, manifest, name):
    for function in (lambda: variant_models(name, models, None, manifest), lambda: int8_share(name, models, None)):
        with pytest.raises(CalibrationError, match=f"variant {name} needs a calibration.*siamtrt calibrate"):
            function()


def test_unknown_variant(models, calibration):
    with pytest.raises(CalibrationError, match="'int4'; expected fp32, fp16, int8, mixed, naive, shaken"):
        int8_layers("int4", models, calibration)


def test_naive_refuses_a_tracker_that_takes_more_than_crops(models):
    with pytest.raises(CalibrationError, match="cannot be calibrated"):
        noise_thresholds(models, manifest_of("siam_bm"))
