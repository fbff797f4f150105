"""What is written into a bundle, read back, and refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from folders import snapshot
from onnx import ModelProto, numpy_helper
from toy import replace_graph, set_weight, toy_models, weight_of

from siamtrt.calibration import store as store_module
from siamtrt.calibration.calibrate import load_models
from siamtrt.calibration.evaluation import Evaluator
from siamtrt.calibration.pairs import sample_pairs
from siamtrt.calibration.record import CALIBRATION_NAME, Calibration, load_calibration
from siamtrt.calibration.store import planned_graphs, store, stored
from siamtrt.calibration.variants import variant_models
from siamtrt.errors import CalibrationError
from siamtrt.manifest import EngineRecord, load_manifest, save_manifest, sha256_of
from siamtrt.runtime.sequences import open_sequences

Edit = Callable[[dict[str, Any]], Any]


def read(bundle: Path) -> Calibration:
    return load_calibration(bundle, load_manifest(bundle))


def edited(bundle: Path, change: Edit) -> Path:
    path = bundle / CALIBRATION_NAME
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(change(raw) or raw))
    return bundle


def other_weights(bundle: Path, graph: str) -> None:
    """The bundle as if it were exported again from another checkpoint."""
    model = toy_models()[graph]
    name = f"{graph}_weight"
    set_weight(model, name, weight_of(model, name) * np.float32(1.01))
    replace_graph(bundle, graph, model)


def test_the_manifest_knows_the_graphs(calibrated: Path) -> None:
    manifest = load_manifest(calibrated)
    found = read(calibrated)
    assert set(manifest.calibrated) == {"template", "search"}
    for graph, row in manifest.calibrated.items():
        assert row.file == f"{graph}.int8.onnx"
        assert row.sha256 == sha256_of(calibrated / row.file)
        assert row.graph_sha256 == found.graphs[graph] == sha256_of(calibrated / f"{graph}.onnx")
        assert row.fp32_nodes == found.fp32[graph]
    assert stored(calibrated, manifest) == found


def test_the_graphs_are_the_plan(calibrated: Path, source: Path) -> None:
    """As `compare` makes them from the record; in the tracker they do the damage that the record has."""
    manifest, calibration = load_manifest(calibrated), read(calibrated)
    models = load_models(calibrated, manifest)
    planned = planned_graphs(models, calibration)
    written = {graph: onnx.load(calibrated / f"{graph}.int8.onnx") for graph in models}
    assert written == planned == variant_models("mixed", models, calibration, manifest)
    for model in written.values():
        onnx.checker.check_model(model)
        assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    with (
        sample_pairs(manifest, open_sequences([source]), 8) as pairs,
        Evaluator(manifest, models, pairs, threads=1) as evaluator,
    ):
        found = dataclasses.astuple(evaluator.damage(written))
    assert found == pytest.approx(dataclasses.astuple(calibration.chosen.damage), rel=1e-5)
    assert 0.9 < found[0] < 1


def test_the_scales_are_those_of_the_record(calibrated: Path) -> None:
    ranges = read(calibrated).ranges
    for graph, rows in ranges.items():
        model = onnx.load(calibrated / f"{graph}.int8.onnx")
        constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        scales = {n.input[0]: constants[n.input[1]] for n in model.graph.node if n.op_type == "QuantizeLinear"}
        assert set(scales) == set(rows)
        for name, row in rows.items():
            assert row.threshold / 127 <= scales[name] <= row.threshold / 127 * 1.001


@pytest.mark.parametrize("graph", ["template", "search"])
def test_another_graph_is_refused(copied: Path, graph: str) -> None:
    other_weights(copied, graph)
    with pytest.raises(CalibrationError) as caught:
        read(copied)
    assert str(caught.value) == (
        f"the calibration is of another graph: received calibration.json of other {graph} graphs; "
        f"expected those of {copied}. Fix: calibrate again: siamtrt calibrate {copied} --calib SOURCE"
    )
    assert stored(copied, load_manifest(copied)) is None


def test_none_at_all(toy_bundle: Path) -> None:
    with pytest.raises(CalibrationError, match=r"the bundle is not calibrated: received no calibration\.json in"):
        read(toy_bundle)
    assert stored(toy_bundle, load_manifest(toy_bundle)) is None


def put(*path_and_value: Any) -> Edit:
    *path, last, value = path_and_value

    def change(raw: dict[str, Any]) -> None:
        for key in path:
            raw = raw[key]
        raw[last] = value

    return change


UNREADABLE: dict[str, Edit] = {
    "list": lambda raw: [raw],
    "number": lambda raw: 3,
    "another schema": put("schema_version", 2),
    "no schema": lambda raw: {name: value for name, value in raw.items() if name != "schema_version"},
    "a field too many": put("colour", "red"),
    "no points": put("points", []),
    "a plan that was not tried": put("kept", "search", ["cls"] * 9),
    "no plan of a graph": put("kept", {"template": []}),
    "a graph unknown": put("graphs", "refine", "0"),
    "no graphs": put("graphs", {}),
    "ranges of no graph": put("ranges", {}),
    "a text for a number": put("pairs", "8"),
    "a threshold that is a text": put("ranges", "template", "z", "threshold", "255"),
    "a threshold that is a truth value": put("ranges", "template", "z", "threshold", True),
    "settings missing": put("settings", None),
}


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE)
def test_a_record_that_makes_no_sense(copied: Path, change: Edit) -> None:
    with pytest.raises(CalibrationError, match=r"unreadable calibration: received .*Fix: siamtrt calibrate "):
        read(edited(copied, change))
    assert stored(copied, load_manifest(copied)) is None


@pytest.mark.parametrize("text", ["", "{", "\udcff", "[" * 100_000, "null"])
def test_garbage(copied: Path, text: str) -> None:
    (copied / CALIBRATION_NAME).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CalibrationError, match="unreadable calibration"):
        read(copied)


def test_a_folder_in_its_place(copied: Path) -> None:
    (copied / CALIBRATION_NAME).unlink()
    (copied / CALIBRATION_NAME).mkdir()
    with pytest.raises(CalibrationError, match="unreadable calibration"):
        read(copied)


def test_whole_numbers_from_elsewhere(copied: Path) -> None:
    """Other languages write 255.0 as 255."""
    before = read(copied)
    assert read(edited(copied, put("ranges", "template", "z", "threshold", 255))) == before


def test_written_numbers_are_the_ones_in_use(calibrated: Path) -> None:
    found = read(calibrated)
    assert found.to_json() == (calibrated / CALIBRATION_NAME).read_text()
    assert found.rounded() == found
    fine = dataclasses.replace(
        found,
        settings=dataclasses.replace(found.settings, max_iou_drop=1 / 7),
        largest={"template": {"z": 1 / 7}, "search": {}},
    )
    assert fine.rounded().largest["template"]["z"] == 0.142857
    assert fine.rounded().settings.max_iou_drop == 1 / 7


def record(graph: str, precision: str) -> EngineRecord:
    name = f"engines/{graph}.{precision}.engine"
    return EngineRecord(name, graph, "0" * 64, "0" * 64, "tensorrt_rtx", "1.7", precision, "sm86", 1.0, 1)


def with_engines(bundle: Path) -> list[EngineRecord]:
    """Records of every precision, of the search graph with FP32 and FP16 too, as files."""
    rows = [record(graph, precision) for graph in ("template", "search") for precision in ("fp32", "fp16", "int8")]
    (bundle / "engines").mkdir()
    for row in rows:
        (bundle / row.file).write_bytes(b"engine")
    save_manifest(dataclasses.replace(load_manifest(bundle), engines=tuple(rows)), bundle)
    return rows


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({}, set()),
        ({"kept": {"template": (), "search": ("cls",)}}, {"search.int8"}),
        ({"fp32": {"template": ("features",), "search": ()}}, {"template.int8", "template.fp16"}),
    ],
    ids=["the same", "another plan", "other nodes in FP32"],
)
def test_engines_of_an_earlier_calibration_are_removed(copied: Path, change: dict[str, Any], gone: set[str]) -> None:
    found = read(copied)
    assert found.kept == {"template": (), "search": ()}
    rows = with_engines(copied)
    points = (*found.points, dataclasses.replace(found.points[0], kept=1)) if "kept" in change else found.points
    store(dataclasses.replace(found, **change, points=points), load_models(copied, load_manifest(copied)), copied)
    files = {f"engines/{name}.engine" for name in gone}
    assert list(load_manifest(copied).engines) == [row for row in rows if row.file not in files]
    assert {f"engines/{path.name}" for path in (copied / "engines").iterdir()} == {row.file for row in rows} - files


def test_engines_that_were_added_meanwhile_stay(copied: Path) -> None:
    models = load_models(copied, load_manifest(copied))
    rows = with_engines(copied)
    store(read(copied), models, copied)
    assert list(load_manifest(copied).engines) == rows


def test_interrupted_between_two_files(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each rename: what is there is the old calibration, the new one, or none; never parts of both."""
    found = read(copied)
    models = load_models(copied, load_manifest(copied))
    point = dataclasses.replace(found.points[0], kept=2)
    kept = {"template": ("features",), "search": ("cls",)}
    new = dataclasses.replace(
        found, kept=kept, points=(*found.points, point), settings=dataclasses.replace(found.settings, seed=9)
    )
    rename, outcomes = Path.replace, []
    for survivors in range(5):
        left = iter(range(survivors))

        def replace(path: Path, target: Path) -> Path:
            if target.parent == copied and next(left, None) is None:  # noqa: B023
                raise KeyboardInterrupt
            return rename(path, target)

        store(found, models, copied)
        monkeypatch.setattr(Path, "replace", replace)
        try:
            store(new, models, copied)
        except KeyboardInterrupt:
            assert survivors < 4
        monkeypatch.setattr(Path, "replace", rename)
        outcomes.append(stored(copied, load_manifest(copied)))
        assert not list(copied.glob(".calibration*"))
    assert outcomes == [found, None, None, None, new]


def test_a_failing_graph_leaves_nothing(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = read(copied), snapshot(copied)
    ranges = {**found.ranges, "search": {}}
    with pytest.raises(CalibrationError, match="tensor 'x' cannot be quantised: received threshold None"):
        store(dataclasses.replace(found, ranges=ranges), load_models(copied, load_manifest(copied)), copied)
    monkeypatch.setattr(store_module, "sha256_of", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store(found, load_models(copied, load_manifest(copied)), copied)
    assert snapshot(copied) == before


def test_a_planned_graph_runs_anywhere(calibrated: Path) -> None:
    """Q/DQ of the ordinary kind: opset and operators that any runtime knows, inputs and outputs FP32."""
    model: ModelProto = onnx.load(calibrated / "search.int8.onnx")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float)"}


@pytest.mark.parametrize("left", ["none", "one", "other nodes in FP32", "of another graph"])
def test_a_record_that_the_manifest_does_not_know(copied: Path, left: str) -> None:
    """Such as a calibration.json that was copied into another export of the same checkpoint."""
    manifest = load_manifest(copied)
    rows = dict(manifest.calibrated)
    if left == "none":
        rows = {}
    elif left == "one":
        del rows["search"]
    elif left == "other nodes in FP32":
        rows["search"] = dataclasses.replace(rows["search"], fp32_nodes=("loc",))
    else:
        rows["search"] = dataclasses.replace(rows["search"], graph_sha256="0" * 64)
    assert read(copied).pairs == 8
    assert stored(copied, dataclasses.replace(manifest, calibrated=rows)) is None
    assert stored(copied, manifest) == read(copied)
