"""Engines of calibrated graphs, really built with TensorRT-RTX, and what is refused before that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from folders import snapshot
from onnx import ModelProto, TensorProto, numpy_helper
from rtx import needs_rtx
from toy import replace_graph, save_toy, set_weight, toy_models, weight_of

from siamtrt.cli import main
from siamtrt.errors import BuildError, BundleError
from siamtrt.export import engine as engine_module
from siamtrt.export.engine import build_engines
from siamtrt.export.trt import TENSORRT_RTX, Flavour
from siamtrt.manifest import load_manifest, save_manifest, sha256_of

INT8_FILES = {"template.int8.onnx", "search.int8.onnx", "calibration.json", "calibration.md", "calibration.png"}


@pytest.fixture(scope="module")
def large_models() -> dict[str, ModelProto]:
    """The toy tracker with a template tensor, and so a correlation, that is too large for FP16."""
    models = toy_models()
    factors = {
        "template_weight": 1e4,
        "template_bias": 1e4,
        "cls_weight": 1e-4,
        "loc_weight": 1e-4,
        "squeeze_weight": 1e-4,
    }
    for name, factor in factors.items():
        model = models["template" if name.startswith("template") else "search"]
        set_weight(model, name, weight_of(model, name) * np.float32(factor))
    return models


@pytest.fixture
def labelled(short_video: Any, tmp_path: Path) -> Path:
    """The short video with its boxes beside it."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    (folder / "short.avi").write_bytes(short_video.path.read_bytes())
    np.savetxt(folder / "short.txt", short_video.boxes_xywh, "%g", ",")
    return folder / "short.avi"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelProto]:
    """The graphs that TensorRT was given, by "precision graph", while real engines are built."""
    seen: dict[str, ModelProto] = {}
    build = engine_module.build

    def spy(package: Flavour, data: bytes, target: str, what: str, *rest: Any) -> Any:
        seen[what] = ModelProto.FromString(data)
        return build(package, data, target, what, *rest)

    monkeypatch.setattr(engine_module, "build", spy)
    return seen


def cli(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def codes(model: ModelProto) -> int:
    return sum(tensor.data_type == TensorProto.INT8 for tensor in model.graph.initializer)


def types(model: ModelProto) -> dict[str, int]:
    """Element type of each node's constants, by the node's name."""
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {n.name: t for n in model.graph.node for t in [constants.get(name) for name in n.input] if t}


@needs_rtx
def test_int8_engines_from_the_command_line(toy_bundle: Path, labelled: Path, built: dict[str, ModelProto]) -> None:
    """`build --int8 --calib` calibrates, builds from the calibrated graphs and says so in the manifest."""
    result = cli("build", toy_bundle, "--int8", "--calib", labelled, "--max-iou-drop", "0.5", "--target", "sm86")
    assert result.exit_code == 0, result.output
    assert "66 pairs, 0 of 4 convolutions in FP16, 100.0% of the search in INT8" in result.stdout
    assert "note: 256 pairs were asked for, the sources have 66" in result.stderr
    manifest = load_manifest(toy_bundle)
    assert [(row.graph, row.precision, row.target) for row in manifest.engines] == [
        ("template", "int8", "sm86"), ("search", "int8", "sm86"),
    ]  # fmt: skip
    for row in manifest.engines:
        assert row.file in result.stdout
        assert row.file == f"engines/{row.graph}.int8.{TENSORRT_RTX}-{row.version}.sm86.engine"
        assert (row.sha256, row.size_bytes) == (
            sha256_of(toy_bundle / row.file),
            (toy_bundle / row.file).stat().st_size,
        )
        assert row.graph_sha256 == manifest.graphs[row.graph].sha256
    for graph in ("template", "search"):
        given, calibrated = built[f"int8 {graph}"], onnx.load(toy_bundle / f"{graph}.int8.onnx")
        assert codes(given) == codes(calibrated) > 0
        scales = [
            {n.input[0].split("_quantized")[0]: float(numpy_helper.to_array(c)) for n in model.graph.node
             for c in model.graph.initializer if n.op_type == "QuantizeLinear" and c.name == n.input[1]}
            for model in (given, calibrated)
        ]  # fmt: skip
        assert sorted(scales[0].values()) == sorted(scales[1].values())
    int8 = (toy_bundle / manifest.engines[1].file).read_bytes()
    again = cli("build", toy_bundle, "--fp16", "--target", "sm86")
    assert again.exit_code == 0, again.output
    engines = load_manifest(toy_bundle).engines
    assert [row.precision for row in engines] == ["int8", "int8", "fp16", "fp16"]
    assert (toy_bundle / engines[3].file).read_bytes() != int8
    assert codes(built["fp16 search"]) == 0
    assert set(snapshot(toy_bundle)) >= INT8_FILES - {"calibration.png"}


@needs_rtx
def test_what_fp16_cannot_hold_is_fp32(
    tmp_path: Path, large_models: dict[str, ModelProto], labelled: Path, built: dict[str, ModelProto]
) -> None:
    bundle = save_toy(large_models, tmp_path / "bundle")
    calibrate = pytest.importorskip("siamtrt.calibration.calibrate")
    found = calibrate.calibrate(bundle, [labelled], calibrate.Options(pairs=8, ranges="min-max", threads=1))
    nodes = {graph: row.fp32_nodes for graph, row in load_manifest(bundle).calibrated.items()}
    assert nodes == found.fp32
    assert "response" in nodes["search"]
    build_engines(bundle, "fp16", ["sm86"], TENSORRT_RTX)
    for graph, names in nodes.items():
        for name, kind in types(built[f"fp16 {graph}"]).items():
            if kind in (TensorProto.FLOAT, TensorProto.FLOAT16):
                assert (kind == TensorProto.FLOAT) == (name in names), name


def test_without_a_calibration(toy_bundle: Path) -> None:
    before = snapshot(toy_bundle)
    result = cli("build", toy_bundle, "--int8")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"siamtrt: {toy_bundle} has no calibration of its template graph: received none; expected ranges measured on "
        f"real pairs. Fix: siamtrt calibrate {toy_bundle} --calib SOURCE\n"
    )
    assert snapshot(toy_bundle) == before


@pytest.fixture
def calibrated_bundle(toy_bundle: Path, labelled: Path) -> Path:
    calibrate = pytest.importorskip("siamtrt.calibration.calibrate")
    calibrate.calibrate(toy_bundle, [labelled], calibrate.Options(pairs=8, ranges="min-max", threads=1))
    return toy_bundle


def exchange(bundle: Path, graph: str) -> None:
    """Another graph of the same tensors."""
    model = onnx.load(bundle / f"{graph}.onnx")
    model.producer_name = "another"
    replace_graph(bundle, graph, model)


@pytest.mark.parametrize("graph", ["template", "search"])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_calibration_of_another_graph(calibrated_bundle: Path, graph: str, precision: str) -> None:
    exchange(calibrated_bundle, graph)
    message = f"has no calibration of its {graph} graph: received another graph's; .* Fix: siamtrt calibrate "
    with pytest.raises(BuildError, match=message):
        build_engines(calibrated_bundle, precision, ["sm86"], TENSORRT_RTX)


def test_a_calibrated_graph_that_was_edited(calibrated_bundle: Path) -> None:
    (calibrated_bundle / "search.int8.onnx").write_bytes(b"edited")
    with pytest.raises(BundleError, match=r"bundle file search\.int8\.onnx was changed"):
        build_engines(calibrated_bundle, "int8", ["sm86"], TENSORRT_RTX)


def test_a_calibration_of_half_the_graphs(calibrated_bundle: Path) -> None:
    manifest = load_manifest(calibrated_bundle)
    half = {"template": manifest.calibrated["template"]}
    save_manifest(dataclasses.replace(manifest, calibrated=half), calibrated_bundle)
    with pytest.raises(BuildError, match="no calibration of its search graph: received none"):
        build_engines(calibrated_bundle, "int8", ["sm86"], TENSORRT_RTX)


@pytest.mark.parametrize(
    ("graph", "precision", "expected"),
    [
        ("search", "int8", "search.int8.onnx"), ("search", "fp16", "search.onnx"), ("search", "fp32", "search.onnx"),
        ("search_831", "int8", "search_831.onnx"), ("search_831", "fp16", "search_831.onnx"),
    ],
)  # fmt: skip
def test_which_file_an_engine_is_made_of(calibrated_bundle: Path, graph: str, precision: str, expected: str) -> None:
    """Graphs beside template and search are not calibrated and stay FP16."""
    manifest = load_manifest(calibrated_bundle)
    (calibrated_bundle / "search_831.onnx").write_bytes((calibrated_bundle / "search.onnx").read_bytes())
    spec = dataclasses.replace(manifest.graphs["search"], file="search_831.onnx")
    object.__setattr__(manifest, "graphs", {**manifest.graphs, "search_831": spec})
    source: Callable[..., Path] = engine_module._source
    assert source(calibrated_bundle, manifest, graph, precision) == calibrated_bundle / expected
