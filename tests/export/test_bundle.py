"""Exported pairs reproduce the references, and hold no work the template could have done."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from goldens import LIMIT, NETWORKS, Golden

from siamtrt.errors import ExportError
from siamtrt.export import bundle as bundle_module
from siamtrt.export.bundle import bundle_from_network
from siamtrt.export.calls import CROPS
from siamtrt.manifest import load_manifest, sha256_of
from siamtrt.models.checkpoints import load_network
from siamtrt.runtime.session import open_session

# The same layers as dasiamrpn_vot's and ResNet-18's, wider or more of them: minutes that show nothing else.
MORE_OF_THE_SAME = ("dasiamrpn_big", "siamrpn_r34_l234_dwxcorr")


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in MORE_OF_THE_SAME])
def test_exported_pair_equals_the_reference(shared_dir, exported, name):
    golden, bundle = Golden(shared_dir / "goldens", name), exported(name)
    known = {"position": np.array([12, 12])}
    found = {}
    for graph, spec in load_manifest(bundle).graphs.items():
        if graph.startswith("search_"):
            continue
        crops = {t.name: golden.crop(t.name, t.shape) for t in spec.inputs if t.name in CROPS}
        with open_session(bundle, graph, "onnxruntime") as session:
            feeds = {**known, **crops}
            found[graph] = session.run({tensor.name: feeds[tensor.name] for tensor in spec.inputs})
        known.update(found[graph])
    errors = golden.errors(found)
    assert errors
    assert max(errors.values()) <= LIMIT


@pytest.mark.parametrize(
    ("name", "levels", "composed"),
    [("siamrpn_alex_dwxcorr", 1, 0), ("siamrpn_r18_l234_dwxcorr", 3, 3), ("siamrpn_r50_l234_dwxcorr", 3, 0)],
)
def test_search_graph_is_lean(shared_dir, exported, name, levels, composed):
    """No BatchNorm, no fusion multiplication; one merged search convolution and one correlation a level.

    ResNet-18's neck is as narrow as its head, so its 1x1 convolutions are composed with the head's; ResNet-50's not.
    """
    golden, bundle = Golden(shared_dir / "goldens", name), exported(name)
    graph = onnx.load(bundle / "search.onnx").graph
    ops = Counter(node.op_type for node in graph.node)
    assert not ops.keys() & {"BatchNormalization", "Mul", "Softmax", "Identity", "Constant", "Concat"}
    assert ops["DepthwiseXCorr"] == levels
    convolutions = sum(1 for key, shape in golden.shapes.items() if len(shape) == 4 and "conv_kernel" not in key)
    assert ops["Conv"] == convolutions - levels - composed


def test_template_graph_holds_every_template_convolution(shared_dir, exported):
    name = "siamrpn_alex_dwxcorr"
    golden, bundle = Golden(shared_dir / "goldens", name), exported(name)
    weights = sum(np.prod(t.dims) for t in onnx.load(bundle / "template.onnx").graph.initializer)
    search = sum(np.prod(t.dims) for t in onnx.load(bundle / "search.onnx").graph.initializer)
    sizes = {key: np.prod(shape) for key, shape in golden.shapes.items() if len(shape) == 4}
    backbone = sum(size for key, size in sizes.items() if key.startswith("backbone"))
    kernel_side = sum(size for key, size in sizes.items() if "conv_kernel" in key)
    assert backbone + kernel_side <= weights < backbone + kernel_side + 10_000, "only biases on top"
    assert search < backbone + sum(sizes.values()) - backbone - kernel_side + 10_000


def test_loc_adjust_vanishes_into_the_template(exported):
    """SiamRPN: the search graph holds the backbone and one merged convolution; the two correlations have no weights."""
    bundle = exported("siamrpn_alex")
    search, template = (onnx.load(bundle / f"{name}.onnx").graph for name in ("search", "template"))
    weights = {tensor.name for tensor in search.initializer}
    convolutions = [node for node in search.node if node.op_type == "Conv"]
    assert len(convolutions) == 5 + 1 + 2
    assert sum(node.input[1] not in weights for node in convolutions) == 2
    assert Counter(node.op_type for node in template.node)["Conv"] == 5 + 2


def test_manifest_describes_the_graphs(tiny_bundle, tiny_checkpoint):
    manifest = load_manifest(tiny_bundle)
    assert manifest.model == "siamrpn_alex_tiny"
    assert manifest.source.sha256 == sha256_of(tiny_checkpoint)
    assert [spec.name for spec in manifest.graphs["search"].inputs] == ["x", "kernel0"]
    assert manifest.graphs["template"].outputs == manifest.graphs["search"].inputs[1:]
    assert set(manifest.parity) == {"kernel0", "cls", "loc"}
    assert max(manifest.parity.values()) <= 1e-4
    for name, spec in manifest.graphs.items():
        graph = onnx.load(tiny_bundle / spec.file).graph
        for tensors, found in ((spec.inputs, graph.input), (spec.outputs, graph.output)):
            shapes = [(t.name, tuple(d.dim_value for d in t.type.tensor_type.shape.dim)) for t in found]
            assert [(t.name, t.shape) for t in tensors] == shapes, name


def test_bundle_holds_no_path_of_the_exporting_machine(tiny_bundle):
    root = str(bundle_module.Path(__file__).parents[2]).encode()
    for file in tiny_bundle.iterdir():
        assert root not in file.read_bytes()


def test_export_that_differs_from_pytorch_is_refused(tiny_checkpoint, tmp_path, monkeypatch):
    """The gate itself: with a limit no float computation meets, nothing is written."""
    monkeypatch.setattr(bundle_module, "PARITY_LIMIT", 0.0)
    with pytest.raises(ExportError, match="does not reproduce PyTorch"):
        bundle_from_network(load_network(tiny_checkpoint), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_parity_sees_a_changed_weight(tiny_checkpoint, tiny_bundle):
    network = load_network(tiny_checkpoint)
    with torch.no_grad():
        network.module.rpn_head.cls.head[3].bias[0] += 1.0
    parity = bundle_module.measure_parity(network, tiny_bundle)
    assert parity["cls"] > 1e-4
    assert parity["loc"] <= 1e-4
