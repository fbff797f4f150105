"""The whole of calibration: the same again, reused or not, interrupted, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from folders import snapshot

from siamtrt.calibration import calibrate as calibrate_module
from siamtrt.calibration.calibrate import Options, calibrate
from siamtrt.calibration.record import CALIBRATION_NAME, load_calibration
from siamtrt.manifest import load_manifest
from siamtrt.precision import ESTIMATORS
from siamtrt.runtime.sequences import open_sequences

QUICK = Options(pairs=8, threads=1)
MIN_MAX = dataclasses.replace(QUICK, ranges="min-max")
FILES = {CALIBRATION_NAME, "template.int8.onnx", "search.int8.onnx"}


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be computed."""

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(calibrate_module, "sample_pairs", refuse)


def times(bundle: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in bundle.iterdir()}


def test_what_is_stored_is_what_is_returned(toy_bundle: Path, source: Path) -> None:
    before = snapshot(toy_bundle)
    found = calibrate(toy_bundle, [source], QUICK)
    manifest = load_manifest(toy_bundle)
    assert load_calibration(toy_bundle, manifest) == found
    after = snapshot(toy_bundle)
    assert set(after) == {*before, *FILES}
    assert all(after[name] == data for name, data in before.items() if name != "manifest.json")
    assert (found.pairs, found.skipped, found.settings.sources) == (8, (), ("short",))
    assert {graph: set(rows) for graph, rows in found.ranges.items()} == {"template": {"z"}, "search": {"x", "gated"}}
    for rows in found.ranges.values():
        for row in rows.values():
            assert set(row.proposed) == set(ESTIMATORS)
            assert row.threshold == row.proposed[row.method]
            assert not row.errors or row.method == min(row.errors, key=row.errors.__getitem__)
    assert {(row.graph, row.layer) for row in found.layers} == {
        ("template", "features"), ("search", "features"), ("search", "cls"), ("search", "log_loc"),
    }  # fmt: skip
    assert found.chosen.damage.drop <= QUICK.max_iou_drop
    assert set(found.largest["search"]) <= {v.name for v in manifest.graphs["search"].inputs} | {
        "features", "active", "response", "mean", "squeezed", "gate", "gate_map", "gated", "cls", "log_loc", "loc",
    }  # fmt: skip
    assert list(found.largest["search"].values()) == sorted(found.largest["search"].values(), reverse=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_again_byte_for_byte(
    toy_bundle: Path, calibrated: Path, source: Path, tmp_path: Path, threads: int
) -> None:
    """In another folder, of a source in another folder, with another number of threads."""
    other = tmp_path / "elsewhere"
    shutil.copytree(source.parent, other)
    calibrate(toy_bundle, [other], dataclasses.replace(QUICK, threads=threads))
    assert snapshot(toy_bundle) == snapshot(calibrated)


@pytest.mark.usefixtures("no_work")
def test_the_same_is_not_computed_again(copied: Path, source: Path) -> None:
    before = times(copied)
    found = calibrate(copied, [source], dataclasses.replace(QUICK, threads=2, progress=False))
    assert found == load_calibration(copied, load_manifest(copied))
    assert times(copied) == before


def test_digits_of_a_budget_are_kept(copied: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dataclasses.replace(MIN_MAX, max_iou_drop=0.012345678901)
    first = calibrate(copied, [source], options)
    assert first.settings.max_iou_drop == 0.012345678901
    monkeypatch.setattr(calibrate_module, "sample_pairs", None)
    assert calibrate(copied, [source], options) == first


@pytest.mark.parametrize(
    "changes", [{"pairs": 9}, {"seed": 1}, {"ranges": "mse"}, {"max_iou_drop": 0.5}], ids=lambda row: next(iter(row))
)
def test_other_options_compute_again(copied: Path, source: Path, changes: dict[str, Any]) -> None:
    before = load_calibration(copied, load_manifest(copied))
    found = calibrate(copied, [source], dataclasses.replace(QUICK, **changes))
    assert found == load_calibration(copied, load_manifest(copied)) != before
    assert dataclasses.asdict(found.settings) == {**dataclasses.asdict(before.settings), **changes}
    measured = dataclasses.replace(found, settings=before.settings, pairs=before.pairs)
    assert (measured == before) == ("max_iou_drop" in changes)  # here no layer has to be kept for either


@pytest.mark.parametrize(
    ("macs", "layers", "runs", "expected"),
    [
        (1000, 1, 1, 64), (1000, 1, 4, 16), (10**9, 30, 1, 64), (10**9, 100, 1, 30), (10**9, 100, 4, 7),
        (10**11, 50, 1, 4), (10**11, 50, 4, 4), (0, 0, 1, 64),
    ],
)  # fmt: skip
def test_pairs_for_what_is_done_for_every_layer(
    monkeypatch: pytest.MonkeyPatch, macs: int, layers: int, runs: int, expected: int
) -> None:
    """3e12 multiplications, and between 4 and 64 pairs."""
    monkeypatch.setattr(calibrate_module, "graph_macs", lambda model: model)
    found = calibrate_module._layerwise_pairs({"search": macs}, {"search": (None,) * layers}, runs)  # type: ignore[dict-item]
    assert found == expected


def test_estimators_and_layers_are_judged_by_as_many(
    toy_bundle: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    class Counting(calibrate_module.Evaluator):
        def __init__(self, manifest: Any, models: Any, pairs: Any, threads: Any) -> None:
            counts.append([pair.name for pair in pairs])
            super().__init__(manifest, models, pairs, threads)

    monkeypatch.setattr(calibrate_module, "Evaluator", Counting)
    monkeypatch.setattr(calibrate_module, "_layerwise_pairs", lambda models, layers, runs=1: 12 // runs)
    monkeypatch.setattr(calibrate_module, "PLAN_PAIRS", 9)
    calibrate(toy_bundle, [source], dataclasses.replace(QUICK, pairs=20))
    assert [len(names) for names in counts] == [3, 12, 9]
    assert counts[0][0] == counts[1][0] == counts[2][0]  # from the first pair to the last
    assert counts[0][-1] == counts[1][-1] == counts[2][-1] != counts[0][1]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("damage", ["calibration", "garbage", "graph", "no graph", "manifest"])
def test_a_damaged_calibration_is_none(copied: Path, source: Path, damage: str) -> None:
    if damage == "calibration":
        (copied / CALIBRATION_NAME).unlink()
    elif damage == "garbage":
        (copied / CALIBRATION_NAME).write_text("[]")
    elif damage == "graph":
        (copied / "search.int8.onnx").write_bytes(b"edited")
    elif damage == "no graph":
        (copied / "template.int8.onnx").unlink()
    else:
        manifest = copied / "manifest.json"
        row = load_manifest(copied).calibrated["search"].sha256
        manifest.write_text(manifest.read_text().replace(row, "0" * 64))
    with pytest.raises(AssertionError, match="computed again"):
        calibrate(copied, [source], QUICK)


def sequence(folder: Path, name: str, frames: np.ndarray, boxes: np.ndarray) -> Path:
    """A folder of OTB's layout, in bitmaps: all of one size in bytes."""
    images = folder / name / "img"
    images.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(images / f"{number:04}.bmp"), np.ascontiguousarray(frame))
    np.savetxt(folder / name / "groundtruth_rect.txt", boxes, "%g", ",")
    return folder / name


def settings_of(*sources: Path) -> Any:
    return calibrate_module._settings(open_sequences(sources), QUICK)


def test_sources_in_any_order(short_video: Any, tmp_path: Path) -> None:
    rows = short_video.frames, short_video.boxes_xywh
    one, two, same = (sequence(tmp_path / name, base, *rows) for name, base in (("1", "b"), ("2", "a"), ("3", "b")))
    (same / "img" / "0003.bmp").write_bytes((one / "img" / "0004.bmp").read_bytes())  # of one name, other content
    expected = settings_of(one, two, same)
    assert expected[1].sources == ("a", "b", "b")
    for order in ((two, one, same), (same, two, one)):
        sequences, settings = settings_of(*order)
        assert settings == expected[1]
        assert [item.frames for item in sequences] == [item.frames for item in expected[0]]


@pytest.mark.parametrize("change", ["pixel", "box", "name", "folder"])
def test_fingerprints(short_video: Any, tmp_path: Path, change: str) -> None:
    """Of what is in the images: bitmaps that were rendered again have the same size."""
    folder = sequence(tmp_path, "one", short_video.frames[:4], short_video.boxes_xywh[:4])
    before = settings_of(folder)[1]
    if change == "pixel":
        frame = np.ascontiguousarray(short_video.frames[2])
        frame[5, 5] += 1
        cv2.imwrite(str(folder / "img" / "0002.bmp"), frame)
    elif change == "box":
        np.savetxt(folder / "groundtruth_rect.txt", short_video.boxes_xywh[:4] + 0.5, "%g", ",")
    elif change == "name":
        (folder / "img" / "0003.bmp").rename(folder / "img" / "0009.bmp")
    else:
        (folder / "img" / "notes").mkdir()
    assert (settings_of(folder)[1] == before) == (change == "folder")


def test_a_changed_video_computes_again(copied: Path, source: Path, short_video: Any, tmp_path: Path) -> None:
    other = Path(shutil.copy(short_video.path, tmp_path / "short.avi"))
    np.savetxt(tmp_path / "short.txt", short_video.boxes_xywh + 1, "%g", ",")
    before = load_calibration(copied, load_manifest(copied))
    found = calibrate(copied, [other], MIN_MAX)
    assert found.settings.source_sha256 != before.settings.source_sha256


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("where", ["collect", "rank_layers", "choose_plan", "planned_graphs", "save_manifest"])
def test_interrupted(
    toy_bundle: Path, copied: Path, source: Path, monkeypatch: pytest.MonkeyPatch, where: str, older: bool
) -> None:
    bundle = copied if older else toy_bundle
    before = snapshot(bundle)

    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    from siamtrt.calibration import store

    monkeypatch.setattr(store if hasattr(store, where) else calibrate_module, where, interrupt)
    with pytest.raises(KeyboardInterrupt):
        calibrate(bundle, [source], dataclasses.replace(MIN_MAX, seed=3))
    assert snapshot(bundle) == before


def test_one_box_and_the_tracker_for_the_rest(toy_bundle: Path, source: Path, short_video: Any) -> None:
    found = calibrate(toy_bundle, [f"{source}:{short_video.init}"], MIN_MAX)
    assert found.settings.sources == ("short",)
    assert found.pairs == 8


@pytest.mark.parametrize("ranges", ESTIMATORS)
def test_one_estimator_for_all(toy_bundle: Path, calibrated: Path, source: Path, ranges: str) -> None:
    found = calibrate(toy_bundle, [source], dataclasses.replace(QUICK, ranges=ranges))
    auto = load_calibration(calibrated, load_manifest(calibrated))
    for graph, rows in found.ranges.items():
        for name, row in rows.items():
            assert (row.method, row.errors) == (ranges, {})
            assert row.threshold == row.proposed[ranges] == auto.ranges[graph][name].proposed[ranges]


def test_budgets(toy_bundle: Path, source: Path) -> None:
    everything = calibrate(toy_bundle, [source], dataclasses.replace(MIN_MAX, max_iou_drop=1.0))
    assert everything.kept == {"template": (), "search": ()}
    assert everything.chosen.int8_share == 1
    strict = calibrate(toy_bundle, [source], dataclasses.replace(MIN_MAX, max_iou_drop=0.0))
    assert strict.chosen.damage.iou == 1
    assert strict.chosen.kept > 0


def test_what_is_kept_is_not_int8(copied: Path, source: Path) -> None:
    found = calibrate(copied, [source], dataclasses.replace(MIN_MAX, max_iou_drop=0.0))
    for graph in ("template", "search"):
        model = onnx.load(copied / f"{graph}.int8.onnx")
        made = {node.output[0]: node for node in model.graph.node}
        convolutions = {n.output[0]: n for n in model.graph.node if n.op_type == "Conv"}
        int8 = {
            name
            for name, n in convolutions.items()
            if n.input[0] in made and made[n.input[0]].op_type == "DequantizeLinear"
        }
        assert int8 == set(convolutions) - set(found.kept[graph])
