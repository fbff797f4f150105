"""`siamtrt compare`: figures equal to those computed apart from it, the gate's exit codes, whole reports."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="exporting the bundle needs the export extra")
pytest.importorskip("matplotlib", reason="needs the report extra")

from calibrated import calibration_of, graphs_of, labelled
from folders import snapshot

from siamtrt.benchmarks import compare_report
from siamtrt.benchmarks.compare import compare
from siamtrt.benchmarks.compare_plot import LOOKS
from siamtrt.benchmarks.compare_report import as_markdown, save_report
from siamtrt.benchmarks.contenders import ENGINES, chosen_variants
from siamtrt.calibration.halves import simulated
from siamtrt.calibration.layers import find_layers
from siamtrt.calibration.record import CALIBRATION_NAME, load_calibration
from siamtrt.calibration.variants import VARIANTS, variant_models
from siamtrt.cli import main
from siamtrt.errors import CalibrationError, SiamtrtError, SourceError
from siamtrt.export.macs import graph_macs
from siamtrt.manifest import EngineRecord, load_manifest, save_manifest
from siamtrt.runtime import engines, trt_session
from siamtrt.runtime.ort_session import OrtSession
from siamtrt.runtime.sequences import open_sequences
from siamtrt.runtime.tracker import Tracker

EVERYTHING = ("naive", "mixed", "int8", "fp16", "fp32")


@pytest.fixture(scope="module")
def folder(tiny_bundle, short_video, tmp_path_factory):
    """Two sequences: the video with FP32's track for truth, which any other falls short of; and with the square for
    truth, from the third frame on, hidden in one."""
    folder = tmp_path_factory.mktemp("sequences")
    path = labelled(short_video.path, short_video.boxes_xywh, folder, "whole")
    labelled(short_video.path, tracked(tiny_bundle, graphs_of(tiny_bundle), *open_sequences([path])), folder, "whole")
    later = folder / "later.avi"
    writer = cv2.VideoWriter(str(later), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (320, 240))
    for frame in short_video.frames[2:]:
        writer.write(frame)
    writer.release()
    boxes = short_video.boxes_xywh[2:].copy()
    boxes[4] = np.nan
    later.with_suffix(".txt").write_text("\n".join(",".join(map(str, box)) for box in boxes))
    return folder


@pytest.fixture(scope="module")
def calibrated(tiny_bundle, folder, tmp_path_factory):
    """A bundle with a calibration and, on record, engines of two architectures."""
    bundle = tmp_path_factory.mktemp("bundle") / "calibrated"
    shutil.copytree(tiny_bundle, bundle)
    (bundle / CALIBRATION_NAME).write_text(calibration_of(bundle, folder / "whole.avi").to_json())
    manifest = load_manifest(bundle)
    records = [engine(manifest, graph, "int8", target, 1000 * number)
               for number, (graph, target) in enumerate((g, t) for g in manifest.graphs for t in ("sm86", "sm89"))]
    records.append(engine(manifest, "search", "fp16", "sm86", 77))  # of one graph alone: no size of the whole
    save_manifest(dataclasses.replace(manifest, engines=tuple(records)), bundle)
    return bundle


def engine(manifest, graph, precision, target, size):
    return EngineRecord(
        f"engines/{graph}.{precision}.{target}", graph, "0" * 64, manifest.graphs[graph].sha256, "tensorrt_rtx", "1.0",
        precision, target, 1.0, size,
    )  # fmt: skip


@pytest.fixture(scope="module")
def comparison(calibrated, folder):
    return compare(calibrated, open_sequences([folder]), EVERYTHING, command="siamtrt compare this")


def overlap(a, b):
    """IoU of two xywh boxes."""
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    both = max(right - left, 0) * max(bottom - top, 0)
    return min(both / (a[2] * a[3] + b[2] * b[3] - both), 1.0)  # equal boxes may round above 1, and count as above 1


def tracked(bundle, models, sequence):
    """Boxes by the tracker alone."""
    manifest = load_manifest(bundle)
    sessions = {g: OrtSession(m.SerializeToString(), manifest.graphs[g]) for g, m in models.items()}
    boxes = []
    with Tracker(manifest, sessions) as tracker:
        for frame in sequence.open():
            if boxes:
                boxes.append(tracker.update(frame).box_xywh)
            else:
                tracker.init(frame, sequence.truth_xywh[0])
                boxes.append(tuple(sequence.truth_xywh[0]))
    return boxes


def figures(boxes, truth, exact):
    """Success AUC, precision at 20 px, IoU with FP32's boxes."""
    seen = [(b, t) for b, t in zip(boxes, truth, strict=True) if not np.isnan(t).any()]
    overlaps = [overlap(b, t) for b, t in seen]
    auc = np.mean([np.mean([o > threshold / 20 for o in overlaps]) for threshold in range(21)])
    near = [np.hypot(b[0] + b[2] / 2 - t[0] - t[2] / 2, b[1] + b[3] / 2 - t[1] - t[3] / 2) <= 20 for b, t in seen]
    same = [overlap(b, e) for b, e in zip(boxes[1:], exact[1:], strict=True)]
    return auc, np.mean(near), np.mean(same)


# --- figures


def test_fp32_comes_first_and_each_variant_once(comparison):
    assert [row.name for row in comparison.contenders] == ["fp32", "naive", "mixed", "int8", "fp16"]
    assert comparison.skipped == {}


@pytest.fixture(scope="module")
def exact(calibrated, folder):
    """FP32's boxes of each sequence."""
    models = graphs_of(calibrated)
    return [tracked(calibrated, models, sequence) for sequence in open_sequences([folder])]


@pytest.mark.parametrize("name", EVERYTHING)
def test_figures_are_those_of_the_tracker_alone(comparison, calibrated, folder, exact, name):
    manifest, models = load_manifest(calibrated), graphs_of(calibrated)
    graphs = variant_models(name, models, load_calibration(calibrated, manifest), manifest, half=True)
    graphs = {graph: simulated(model) for graph, model in graphs.items()} if name != "fp32" else graphs
    row = next(row for row in comparison.contenders if row.name == name)
    expected = []
    for sequence, track, reference in zip(open_sequences([folder]), row.tracks, exact, strict=True):
        boxes = tracked(calibrated, graphs, sequence)
        expected.append(figures(boxes, sequence.truth_xywh, reference))
        assert (track.success_auc, track.precision, track.iou_fp32) == pytest.approx(expected[-1], abs=1e-9)
        assert np.mean(track.success) == pytest.approx(track.success_auc)
        np.testing.assert_allclose(track.boxes_xywh, boxes, atol=5.1e-4)
    means = np.mean(expected, axis=0)
    assert (row.success_auc, row.precision, row.iou_fp32) == pytest.approx(tuple(means), abs=1e-9)
    assert row.auc_drop == pytest.approx(comparison.contenders[0].success_auc - means[0], abs=1e-9)
    assert [track.sequence for track in row.tracks] == ["later", "whole"]
    assert row.backend == "onnxruntime"
    assert row.update_ms > 0


def test_fp32_is_one_with_itself_and_the_others_are_not(comparison):
    exact, *others = comparison.contenders
    assert exact.auc_drop == 0.0
    assert [exact.iou_fp32, *(track.iou_fp32 for track in exact.tracks)] == pytest.approx([1.0] * 3, abs=1e-12)
    assert all(0 < row.iou_fp32 < 0.9999 for row in others)
    assert max(row.auc_drop for row in others) > 0.001
    assert exact.success_auc > 10 / 21, "FP32 is exact on one of two sequences"


def test_sizes_and_shares(comparison, calibrated):
    rows = {row.name: row for row in comparison.contenders}
    manifest, models = load_manifest(calibrated), graphs_of(calibrated)
    assert rows["fp32"].graph_bytes == sum((calibrated / spec.file).stat().st_size for spec in manifest.graphs.values())
    assert rows["fp16"].graph_bytes < 0.6 * rows["fp32"].graph_bytes
    assert rows["int8"].graph_bytes < rows["mixed"].graph_bytes < rows["fp16"].graph_bytes
    rtx = "tensorrt_rtx 1.0"
    assert rows["mixed"].engine_bytes == {f"{rtx} sm86": 0 + 2000, f"{rtx} sm89": 1000 + 3000}
    assert rows["fp16"].engine_bytes == rows["fp32"].engine_bytes == rows["int8"].engine_bytes == {}
    macs, total = [layer.macs for layer in find_layers(models["search"])], graph_macs(models["search"])
    assert rows["fp32"].int8_share == rows["fp16"].int8_share == 0
    assert rows["int8"].int8_share == rows["naive"].int8_share == pytest.approx(sum(macs) / total)
    assert rows["mixed"].int8_share == pytest.approx(sum(macs[3:]) / total)


def test_defaults(tiny_bundle, calibrated, folder):
    built = load_manifest(calibrated)
    names = ("fp32", "fp16", "int8", "mixed", "engine:int8", "engine:fp16")
    assert chosen_variants(None, built, calibrated=True) == names
    assert chosen_variants(None, built, calibrated=False) == ("fp32", "fp16", *names[4:])
    found = compare(tiny_bundle, open_sequences([folder / "whole.avi"]))
    assert [row.name for row in found.contenders] == ["fp32", "fp16"]


# --- engines


def test_engines_are_skipped_with_the_reason(calibrated, folder):
    found = compare(calibrated, open_sequences([folder / "whole.avi"]), ["fp16", "engine:int8"])
    assert [row.name for row in found.contenders] == ["fp32", "fp16"]
    assert "engines cannot run here" in found.skipped["engine:int8"]
    assert f"Skipped engine:int8: {found.skipped['engine:int8']}." in as_markdown(found)


def test_nothing_but_engines_that_cannot_run(calibrated, folder):
    with pytest.raises(SiamtrtError, match=r"nothing to compare with FP32.*engine:fp16: .*engine:int8: "):
        compare(calibrated, open_sequences([folder]), ["engine:fp16", "engine:int8"])


def test_an_engine_goes_through_the_same_comparison(calibrated, folder, monkeypatch):
    """The GPU is played by ONNX Runtime; an engine of another precision must not be taken."""
    opened = []

    def session(bundle, manifest, graph):
        opened.append((graph, {record.precision for record in manifest.engines}))
        return OrtSession(bundle / manifest.graphs[graph].file, manifest.graphs[graph])

    monkeypatch.setattr(engines, "find_devices", lambda: [engines.Device("tensorrt_rtx", "1.0", "sm89")])
    monkeypatch.setattr(trt_session, "trt_session", session)
    found = compare(calibrated, open_sequences([folder / "whole.avi"]), ["engine:int8", "engine:fp16"])
    assert opened == [("template", {"int8"}), ("search", {"int8"})]
    exact, row = found.contenders
    assert row.name == "engine:int8"
    assert (row.iou_fp32, row.auc_drop) == (pytest.approx(1.0, abs=1e-12), 0.0)
    assert row.engine_bytes == {"tensorrt_rtx 1.0 sm89": 4000}
    assert (row.graph_bytes, row.int8_share) == (None, None)
    assert row.tracks[0].boxes_xywh == exact.tracks[0].boxes_xywh
    assert list(found.skipped) == ["engine:fp16"]
    assert "for this machine" in found.skipped["engine:fp16"]


# --- the report


def test_report(comparison, tmp_path):
    written = save_report(comparison, tmp_path / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md", "report.png"]
    assert set(written) == set(tmp_path.iterdir())
    data = json.loads((tmp_path / "report.json").read_text())
    assert data == json.loads(json.dumps(dataclasses.asdict(comparison)))
    picture = cv2.imread(str(tmp_path / "report.png"))
    height, width, _ = picture.shape
    assert 800 < width < 1400
    assert 800 < height < 2500
    assert picture[:20, :20].min() == 255, "light background"
    assert 0.02 < (picture < 250).any(axis=2).mean() < 0.5
    text = (tmp_path / "report.md").read_text()
    for row in comparison.contenders:
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {row.name} | "))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == f"{row.success_auc:.4f}"
        assert cells[2] == ("–" if row.name == "fp32" else f"{row.auc_drop:.4f}")  # noqa: RUF001
        assert cells[3:5] == [f"{row.precision:.4f}", f"{row.iou_fp32:.4f}"]
        assert cells[5] == f"{100 * row.int8_share:.1f} %"
        assert cells[6] == f"{row.graph_bytes / 1e6:.2f}"
        assert cells[9] == "–", "no speed is predicted"  # noqa: RUF001
    assert "| 0.00 to 0.00 |" not in text
    for number, sequence in enumerate(("later", "whole")):
        auc, same = (line for line in text.splitlines() if line.startswith(f"| {sequence} |"))
        tracks = [row.tracks[number] for row in comparison.contenders]
        assert auc == f"| {sequence} | {' | '.join(f'{track.success_auc:.4f}' for track in tracks)} |"
        assert same == f"| {sequence} | {' | '.join(f'{track.iou_fp32:.4f}' for track in tracks)} |"
    assert "](report.png)" in text
    assert "2 sequences, 22 frames" in text
    assert "siamtrt compare this" in text
    assert "say nothing about a GPU" in text
    assert str(comparison.environment["cpu"]) in text


def test_no_file_before_all_are_made(comparison, tmp_path, monkeypatch):
    def fails(comparison):
        raise RuntimeError("no picture")

    monkeypatch.setattr(compare_report, "plot_png", fails)
    with pytest.raises(RuntimeError, match="no picture"):
        save_report(comparison, tmp_path / "report")
    assert snapshot(tmp_path) == {}


def test_only_naive_may_lose_more(comparison):
    rows = [dataclasses.replace(row, auc_drop=0.5) for row in comparison.contenders[1:]]
    lossy = dataclasses.replace(comparison, contenders=(comparison.contenders[0], *rows), max_auc_drop=0.4)
    assert [row.name for row in lossy.over_budget] == ["mixed", "int8", "fp16"]
    assert dataclasses.replace(lossy, max_auc_drop=0.5).over_budget == ()


def test_every_variant_has_a_look_of_its_own():
    assert set(LOOKS) == {*VARIANTS, *ENGINES}
    for looks in zip(*LOOKS.values(), strict=True):
        assert len(set(looks)) >= len(LOOKS) - 1, "FP32 is the only other solid line"


# --- the command


def run(*arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_exit_0_within_the_budget(calibrated, folder, tmp_path):
    options = "--variants", "int8,naive", "--max-auc-drop", 1, "-o", tmp_path / "r"
    result = run(calibrated, "--source", folder / "whole.avi", *options)
    assert result.exit_code == 0, result.output
    assert "# siamrpn_alex_tiny: no variant loses more than 1 of success AUC" in result.stdout
    command = f"siamtrt compare {calibrated} --source {folder / 'whole.avi'} --variants int8,naive --max-auc-drop 1\n"
    assert command in result.stdout
    assert all(f"wrote {tmp_path / 'r'}{suffix}\n" in result.stdout for suffix in (".json", ".md", ".png"))
    assert command in (tmp_path / "r.md").read_text()


def test_exit_1_beyond_it_and_the_report_is_there(calibrated, folder, tmp_path):
    options = "--variants", "int8", "--max-auc-drop", 0, "-o", tmp_path / "r"
    result = run(calibrated, "--source", folder / "whole.avi", *options)
    assert result.exit_code == 1, result.output
    drop = json.loads((tmp_path / "r.json").read_text())["contenders"][1]["auc_drop"]
    assert drop > 0
    assert result.stderr.splitlines()[-1] == f"siamtrt: success AUC drops by more than 0: int8 {drop:.4f}"
    assert "# siamrpn_alex_tiny: success AUC drops by more than 0: int8" in result.stdout


def test_no_half_leaves_the_rest_in_fp32(calibrated, comparison, folder, tmp_path):
    options = "--variants", "mixed", "--no-half", "--max-auc-drop", 1, "-o", tmp_path / "r"
    result = run(calibrated, "--source", folder / "whole.avi", *options)
    assert result.exit_code == 0, result.output
    data = json.loads((tmp_path / "r.json").read_text())
    halved = next(row for row in comparison.contenders if row.name == "mixed")
    assert data["contenders"][1]["graph_bytes"] > 1.1 * halved.graph_bytes
    assert "what is not INT8 is FP32" in result.stdout
    assert "--no-half" in data["command"]


def test_naive_does_not_fail_the_gate(calibrated, folder):
    result = run(calibrated, "--source", folder / "whole.avi", "--variants", "naive", "--max-auc-drop", 0)
    assert result.exit_code == 0, result.output


def test_help_teaches():
    text = " ".join(run("--help").stdout.split())
    assert all(part in text for part in ("Example: siamtrt compare", "Exit code 1", "naive", "engine:int8", "0.02"))


# --- bad input


def refused(result, *parts):
    assert result.exit_code == 2, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("siamtrt: "))
    assert all(part in line for part in parts), line
    return True


def test_missing_calibration(tiny_bundle, folder):
    for name in ("int8", "mixed"):
        assert refused(run(tiny_bundle, "--source", folder, "--variants", name), "not calibrated", "siamtrt calibrate")
    with pytest.raises(CalibrationError):
        compare(tiny_bundle, open_sequences([folder]), ["mixed"])


def test_calibration_of_another_graph(calibrated, folder, tmp_path):
    bundle = tmp_path / "other"
    shutil.copytree(calibrated, bundle)
    path = bundle / CALIBRATION_NAME
    path.write_text(path.read_text().replace(load_manifest(bundle).graphs["search"].sha256, "f" * 64))
    assert refused(run(bundle, "--source", folder), "another graph")


def test_unlabelled_source(tiny_bundle, short_video, folder):
    source = f"{short_video.path}:{short_video.init}"
    assert refused(run(tiny_bundle, "--source", folder, "--source", source), "short", "ground truth")
    with pytest.raises(SourceError, match="no sequences"):
        compare(tiny_bundle, [])


def test_two_sequences_of_one_name(tiny_bundle, folder, tmp_path):
    for suffix in (".avi", ".txt"):
        shutil.copy(folder / f"whole{suffix}", tmp_path)
    assert refused(run(tiny_bundle, "--source", folder, "--source", tmp_path), "of one name", "whole")


@pytest.mark.parametrize("name", ["int4", "engine:int4", "fp16,FP32"])
def test_unknown_variant(tiny_bundle, folder, name):
    assert refused(run(tiny_bundle, "--source", folder, "--variants", name), "no such variant", "engine:fp16")


def test_a_place_that_cannot_be_written_is_found_before_tracking(tiny_bundle, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("siamtrt.benchmarks.compare.compare", lambda *_, **__: pytest.fail("tracked"))
    assert refused(run(tiny_bundle, "--source", folder, "-o", tmp_path / "no" / "r"), "no such directory")


def test_missing_matplotlib_is_found_before_tracking(tiny_bundle, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("siamtrt.benchmarks.compare.compare", lambda *_, **__: pytest.fail("tracked"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert refused(run(tiny_bundle, "--source", folder, "-o", tmp_path / "r"), "siamtrt[report]")
