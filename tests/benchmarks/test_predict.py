"""`siamtrt predict`: a bundle's update on every device."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

onnx = pytest.importorskip("onnx", reason="needs the export extra")
pytest.importorskip("torch", reason="needs the export extra")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from siamtrt.benchmarks import predict as library  # noqa: E402
from siamtrt.benchmarks import published_speeds  # noqa: E402
from siamtrt.benchmarks.devices import DEVICES, find_device  # noqa: E402
from siamtrt.benchmarks.predict import BundleWork, bundle_work, predict, ranked  # noqa: E402
from siamtrt.benchmarks.roofline import fused  # noqa: E402
from siamtrt.cli import main  # noqa: E402
from siamtrt.manifest import (  # noqa: E402
    CalibratedGraph,
    GraphSpec,
    Manifest,
    PaperFigure,
    Source,
    TensorSpec,
    load_manifest,
    save_manifest,
    sha256_of,
)
from siamtrt.models.presets import get_preset  # noqa: E402

X, Z, CLS, LOC = (1, 3, 287, 287), (1, 3, 127, 127), (1, 10, 21, 21), (1, 20, 21, 21)
SEARCH_MACS = 30 * 21 * 21 * 3 * 27 * 27
FACTORS = (0.5, 4.0)


def _save(path, nodes, tensors, weights):
    """A graph of named tensors (name, shape): inputs first, then as many outputs as the nodes leave over."""
    produced = {name for node in nodes for name in node.output}
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in tensors.items()]
    graph = helper.make_graph(
        nodes, "toy", [info for info in infos if info.name not in produced],
        [info for info in infos if info.name in produced],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    inputs, outputs = (tuple(TensorSpec(info.name, tensors[info.name]) for info in side)
                       for side in (graph.input, graph.output))  # fmt: skip
    return GraphSpec(path.name, sha256_of(path), inputs, outputs)


def _quantize(source, weight):
    """Q/DQ pairs before a convolution: nodes and the names to read."""
    nodes = []
    for name in (source, weight):
        nodes += [helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}8"]),
                  helper.make_node("DequantizeLinear", [f"{name}8", "scale", "zero"], [f"{name}q"])]  # fmt: skip
    return nodes, (f"{source}q", f"{weight}q")


def _search_nodes(x="x", w="w"):
    return [
        helper.make_node("Conv", [x, w], ["f"], name="conv", strides=[13, 13]),
        helper.make_node("Add", ["f", "kernel0"], ["s"], name="add"),
        helper.make_node("Split", ["s", "sizes"], ["cls", "loc"], name="split", axis=1),
    ]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of the tiny network's shapes whose search is one 27x27 convolution, calibrated; not to be changed."""
    folder = tmp_path_factory.mktemp("bundle")
    weights = {"w": np.zeros((30, 3, 27, 27), np.float32), "sizes": np.array([10, 20])}
    kernel = {"kernel0": (1, 30, 1, 1)}
    template = _save(
        folder / "template.onnx",
        [helper.make_node("Conv", ["z", "w"], ["kernel0"])], {"z": Z, **kernel},
        {"w": np.zeros((30, 3, 127, 127), np.float32)},
    )  # fmt: skip
    tensors = {"x": X, **kernel, "cls": CLS, "loc": LOC}
    search = _save(folder / "search.onnx", _search_nodes(), tensors, weights)
    pairs, names = _quantize("x", "w")
    scales = {"scale": np.float32(1), "zero": np.int8(0)}
    int8 = _save(folder / "search.int8.onnx", [*pairs, *_search_nodes(*names)], tensors, weights | scales)
    preset = get_preset("siamrpn_alex_tiny")
    manifest = Manifest(
        "siamrpn_alex_tiny", "a paper", Source("none", "0" * 64), {"template": template, "search": search},
        preset.preprocessing, preset.decoding, preset.tracking, {"search": 0.0}, {},
        PaperFigure(50, "NVIDIA Titan Xp", "a paper"),
        calibrated={"search": CalibratedGraph(int8.file, int8.sha256, search.sha256)},
    )  # fmt: skip
    save_manifest(manifest, folder)
    return folder


@pytest.fixture(scope="module")
def published():
    return published_speeds.compare_published()


def test_an_update_is_crop_search_and_decoding(bundle):
    work = bundle_work(bundle, "fp16")
    search = work.works[1]
    assert search.macs == SEARCH_MACS
    assert search.operations[0].kind == "matrix"  # three input channels, but not in groups
    assert [operation.name for operation in search.operations] == ["search/conv", "search/add", "search/split"]
    groups = [group for part in work.works for group in fused(part)]
    elements = [(group.first.op, group.read, group.written) for group in groups]
    image, head = 3 * 287 * 287, 30 * 21 * 21
    assert elements == [
        ("Crop", image, image), ("Conv", image + 30, head), ("Split", head, head), ("Decode", head, 1)
    ]  # fmt: skip
    prediction = predict(work, find_device("rtx-3060"), 3.0, FACTORS)
    assert prediction.gpu_ms == pytest.approx(sum(row.ms for row in prediction.rows))
    assert prediction.fps == pytest.approx(1e3 / (prediction.gpu_ms + 3))
    assert prediction.fps_range == pytest.approx((prediction.fps / 4, prediction.fps * 2))


def test_int8_by_layer_where_calibrated_else_everywhere(bundle, tmp_path):
    orin = find_device("jetson-orin-nano")

    def precisions(folder):
        work = bundle_work(folder, "int8")
        return work.source, [row.precision for row in predict(work, orin, 0, FACTORS).rows]

    source, used = precisions(bundle)
    assert source == "layer by layer from the bundle's calibration"
    assert used == ["fp16", "int8", "fp16", "fp16"]

    folder = shutil.copytree(bundle, tmp_path / "bundle")
    manifest = load_manifest(folder)
    stale = {"search": dataclasses.replace(manifest.calibrated["search"], graph_sha256="1" * 64)}
    save_manifest(dataclasses.replace(manifest, calibrated=stale), folder)
    source, used = precisions(folder)
    assert source == "every convolution taken for INT8: the bundle is not calibrated"
    assert used == ["fp16", "int8", "fp16", "fp16"]

    kept = {"search": dataclasses.replace(manifest.calibrated["search"], fp32_nodes=("conv",))}
    save_manifest(dataclasses.replace(manifest, calibrated=kept), folder)
    half = predict(bundle_work(folder, "fp16"), orin, 0, FACTORS)
    assert [row.precision for row in half.rows] == ["fp16", "fp32", "fp16", "fp16"]


def test_ranked_by_speed(bundle):
    predictions = ranked(bundle_work(bundle, "fp16"), DEVICES, 1.0, FACTORS)
    speeds = [one.fps for one in predictions]
    assert speeds == sorted(speeds)
    assert {one.device for one in predictions} == set(DEVICES)
    assert {one.precision for one in predictions if one.device.name == "titan-xp"} == {"fp32"}


@pytest.fixture
def run(monkeypatch, published):
    """The command, with the published figures computed once."""
    monkeypatch.setattr(library, "compare_published", lambda: published)
    return lambda *arguments: CliRunner().invoke(main, ["predict", *map(str, arguments)])


def _devices(output):
    lines = [line.split(" | ")[0].strip("| ") for line in output.splitlines() if line.startswith("| ")]
    return [name for name in lines if name in {device.name for device in DEVICES}]


def test_command(run, bundle):
    result = run(bundle)
    assert result.exit_code == 0, result.output
    assert len(_devices(result.output)) == len(DEVICES)
    assert "A prediction, not a measurement" in result.output
    assert "4.8 ms an update on the host" in result.output
    assert "Error: predicted / published" in result.output
    paper = next(line for line in result.output.splitlines() if line.startswith("| titan-xp"))
    assert "50 in PyTorch (a paper): " in paper
    assert result.output.count("in PyTorch (a paper)") == 1
    assert "Sources" not in result.output


def test_command_with_one_device(run, bundle):
    result = run(bundle, "--device", "jetson-orin-nano", "--precision", "int8", "--layers", "--figures", "--host-ms", 0)
    assert result.exit_code == 0, result.output
    assert _devices(result.output) == ["jetson-orin-nano"]
    assert "0.0 ms an update on the host" in result.output
    assert "| Conv+Add search/conv | int8 |" in result.output
    assert "Sources: techpowerup.com" in result.output
    assert "Not verified: INT8 rate" in result.output
    assert result.output.count("| fitted |") == 2
    assert result.output.count("BEYOND 1.6x") == 1


def test_list_keeps_those_that_reach(run, bundle):
    everyone = json.loads(run(bundle, "--json", "--host-ms", 0).output)["predictions"]
    middle = everyone[7]["fps"]
    listed = json.loads(run(bundle, "--json", "--host-ms", 0, "--list", "--fps", middle).output)["predictions"]
    assert [one["device"] for one in listed] == [one["device"] for one in everyone[7:]]
    assert "No device reaches that." in run(bundle, "--list", "--fps", 1e6).output


def test_json(run, bundle):
    report = json.loads(run(bundle, "--json", "--device", "a100").output)
    (one,) = report["predictions"]
    assert one["device"] == "a100"
    assert one["fps"] == pytest.approx(1e3 / (one["gpu_ms"] + one["host_ms"]))
    assert sum(one["bound_by"].values()) == pytest.approx(1)
    assert len(report["figures"]) == 11


def test_errors(run, bundle, tmp_path):
    unknown = run(bundle, "--device", "gtx")
    assert (unknown.exit_code, "expected gtx-1060, gtx-1080" in unknown.output) == (2, True)
    missing = run(tmp_path / "none")
    assert (missing.exit_code, "not a bundle" in missing.output) == (2, True)
    many = run(bundle, "--layers")
    assert (many.exit_code, "--layers shows one device" in many.output) == (2, True)
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / "search.onnx").write_bytes(b"edited")
    edited = run(folder)
    assert (edited.exit_code, "search.onnx was changed" in edited.output) == (2, True)


@pytest.mark.parametrize(("batch", "said"), [(1, "a model, fp16 (every layer): "), (3, ", 3 targets an update: ")])
def test_heading(batch, said):
    text = library.heading(BundleWork(SimpleNamespace(model="a model", batch=batch), "fp16", "every layer", ()), 1.25)
    assert said in text
    assert "0.000 GMAC in 0 kernels\n" in text
    assert "1.2 ms an update on the host" in text
