"""What `siamtrt calibrate` and `build --calib` refuse, and manifests with and without a calibration."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from folders import snapshot
from toy import save_toy, set_weight, toy_models, weight_of

from siamtrt.cli import main
from siamtrt.manifest import load_manifest
from siamtrt.runtime.tracker import Tracker


@pytest.fixture
def toy(work):
    """The toy tracker's bundle, in the folder that must stay as it was."""
    return save_toy(toy_models(), work / "toy")


@pytest.fixture
def labelled(short_video, tmp_path):
    """The short video with boxes beside it."""
    (tmp_path / "short.avi").write_bytes(short_video.path.read_bytes())
    np.savetxt(tmp_path / "short.txt", short_video.boxes_xywh, "%g", ",")
    return tmp_path / "short.avi"


@pytest.mark.parametrize("command", [("calibrate",), ("build", "--int8")], ids=["calibrate", "build"])
def test_sources(fails, toy, short_video, labelled, command):
    def refused(*sources):
        return fails(*command, toy, *(word for source in sources for word in ("--calib", source)))

    assert refused(short_video.path).startswith("source without boxes: received")
    assert refused("nothing").startswith("no such source: received nothing")
    assert refused(labelled, labelled).startswith("a sequence twice")
    assert refused(f"{short_video.path}:900,900,9,9").startswith("target box outside the frame")
    labelled.with_suffix(".txt").write_text("nan,nan,nan,nan\n" * len(short_video.frames))
    assert refused(labelled).startswith("no target to calibrate with: received 1 sequence in which it is absent")
    labelled.with_suffix(".txt").write_text("9,9,20,20\n9,9,20,20\n" + "nan,nan,nan,nan\n" * 10)
    assert refused(labelled).startswith("too few pairs")


def test_too_few_pairs_asked_for(fails, toy, labelled):
    assert fails("calibrate", toy, "--calib", labelled, "--pairs", 7).startswith("too few pairs: received 7 asked for")


@pytest.mark.parametrize(
    "arguments", [("--seed", -1), ("--pairs", 0), ("--ranges", "best"), ("--max-iou-drop", 2), ("--threads", 0)]
)
def test_options(toy, labelled, arguments):
    before = snapshot(toy)
    result = CliRunner().invoke(main, ["calibrate", str(toy), "--calib", str(labelled), *map(str, arguments)])
    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[0]}'" in result.stderr
    assert snapshot(toy) == before


def test_no_bundle(fails, work, labelled):
    assert fails("calibrate", work / "absent", "--calib", labelled).startswith("not a bundle")


def test_network_that_overflows(fails, work, labelled, short_video):
    models = toy_models()
    weight = weight_of(models["template"], "template_weight")
    set_weight(models["template"], "template_weight", weight / np.abs(weight).max() * np.float32(3e38))
    bundle = save_toy(models, work / "huge")
    message = fails("calibrate", bundle, "--calib", labelled)
    assert re.match(r"cannot calibrate tensor 'features': received \d+ NaN and \d+ infinite", message)
    message = fails("calibrate", bundle, "--calib", f"{short_video.path}:{short_video.init}")
    assert message.startswith("short cannot be labelled")


def run_calibrate(bundle, source, *arguments):
    result = CliRunner().invoke(
        main, ["calibrate", str(bundle), "--calib", str(source), "--pairs", "8", "--ranges", "min-max", *arguments]
    )
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_calibrate_says_what_it_wrote(toy, labelled):
    pytest.importorskip("matplotlib")
    result = run_calibrate(toy, labelled, "--max-iou-drop", "1")
    assert re.fullmatch(
        rf"{re.escape(str(toy))}: 8 pairs, 0 of 4 convolutions in FP16, 100\.0% of the search in INT8, "
        r"IoU with FP32's boxes \d\.\d{4}\n", result.stdout,
    )  # fmt: skip
    added = {"calibration.json", "calibration.md", "calibration.png", "search.int8.onnx", "template.int8.onnx"}
    assert {path.name for path in toy.iterdir()} == {"manifest.json", "search.onnx", "template.onnx", *added}
    assert result.stdout.rsplit(" ", 1)[1].strip() in (toy / "calibration.md").read_text()
    assert cv2.imread(str(toy / "calibration.png")).shape == (630, 1350, 3)
    shown = CliRunner().invoke(main, ["info", str(toy)])
    assert shown.exit_code == 0


def test_without_matplotlib_there_is_no_picture(toy, labelled, monkeypatch):
    """Nor one of an earlier calibration."""
    (toy / "calibration.png").write_bytes(b"older")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run_calibrate(toy, labelled)
    assert "no picture: the picture needs matplotlib" in result.stderr
    assert "pip install 'siamtrt[report]'" in result.stderr
    assert not (toy / "calibration.png").exists()
    assert "# Calibration" in (toy / "calibration.md").read_text()


def test_a_zero_template_tensor_is_noted(work, labelled):
    models = toy_models()
    set_weight(models["template"], "template_weight", np.zeros((8, 3, 8, 8), np.float32))
    set_weight(models["template"], "template_bias", np.full(8, -1, np.float32))
    bundle = save_toy(models, work / "zero")
    result = run_calibrate(bundle, labelled)
    assert "note: zero on every pair, range 1 taken, in template: kernel0\n" in result.stderr
    assert "Note: zero on every pair, range 1 taken, in template: kernel0." in (bundle / "calibration.md").read_text()


def test_a_manifest_without_calibration_is_an_older_one(bundle, edit_manifest):
    before = load_manifest(bundle)
    assert load_manifest(edit_manifest(lambda raw: raw.pop("calibrated"))) == before
    assert before.calibrated == {}


def calibrated_row(**changes):
    return {"file": "search.int8.onnx", "sha256": "0", "graph_sha256": "0", "fp32_nodes": [], **changes}


@pytest.mark.parametrize("name", ["../x.onnx", "a/../../x.onnx", "/etc/passwd", "..\\x.onnx", "", ".", "a\0b"])
def test_a_calibrated_path_that_leaves_the_bundle(fails, edit_manifest, name):
    message = fails("info", edit_manifest(lambda raw: raw.update(calibrated={"search": calibrated_row(file=name)})))
    assert message.startswith("invalid manifest")
    assert f"{name!r} leaves the bundle" in message


@pytest.mark.parametrize("value", [[], {"search": 3}, {"search": {}}, {"search": calibrated_row(colour=1)}])
def test_a_calibrated_field_that_makes_no_sense(fails, edit_manifest, value):
    assert fails("info", edit_manifest(lambda raw: raw.update(calibrated=value))).startswith("invalid manifest")


def test_a_calibrated_graph_linked_from_outside(fails, work, labelled, tmp_path):
    toy = save_toy(toy_models(), work / "linked")
    run_calibrate(toy, labelled)
    (toy / "search.int8.onnx").rename(tmp_path / "elsewhere.onnx")
    (toy / "search.int8.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    assert "search.int8.onnx" in fails("build", toy, "--int8")


def test_tracking_is_as_before(toy, labelled, short_video):
    """The INT8 graphs are for engines: ONNX Runtime goes on with FP32."""

    def boxes(bundle: Path):
        with Tracker.load(bundle, "onnxruntime", threads=1) as tracker:
            tracker.init(short_video.frames[0], short_video.boxes_xywh[0])
            return [tracker.update(frame).box_xywh for frame in short_video.frames[1:4]]

    before = boxes(toy)
    run_calibrate(toy, labelled)
    assert boxes(toy) == before
    assert onnx.load(toy / "search.int8.onnx").graph.node
