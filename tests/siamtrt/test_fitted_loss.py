"""From training/loss_fit.py's JSON into a bundle with `siamtrt loss`: a watched tracker then acts on it."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from click.testing import CliRunner
from folders import snapshot
from loss_data import known_samples, write_videos

from siamtrt.cli import main
from siamtrt.fitted_loss import put_into_bundle
from siamtrt.manifest import MANIFEST_NAME, CalibratedGraph, EngineRecord, load_manifest, save_manifest
from siamtrt.runtime.watched import WatchedTracker
from siamtrt.training import loss_fit


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


@pytest.fixture(scope="module")
def fit(tiny_bundle, tmp_path_factory):
    """What the fit itself writes for the tiny bundle, of evidence with known weights."""
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_fit, "collected", lambda *_, **__: known_samples(500))
        command = [str(tiny_bundle), "--data", str(write_videos(folder / "videos")), "-o", str(folder / "fit.json")]
        result = CliRunner().invoke(loss_fit.main, command)
    assert result.exit_code == 0, result.output
    return folder / "fit.json"


def put(fit, bundle):
    return CliRunner().invoke(main, ["loss", str(bundle), str(fit)])


def test_nothing_else_of_the_bundle_changes(bundle, fit):
    """Built and calibrated: graphs, engines and their records stay."""
    before = load_manifest(bundle)
    sha256 = before.graphs["search"].sha256
    engine = EngineRecord(
        "engines/one", "search", "0" * 64, sha256, "tensorrt", "10.3", "fp16", "sm87", 1.5, 3, "plugin", {"plugin": 0.5}
    )
    calibrated = {"search": CalibratedGraph("search.int8.onnx", "1" * 64, sha256, ("a", "b"))}
    before = dataclasses.replace(before, engines=(engine,), calibrated=calibrated)
    save_manifest(before, bundle)
    (bundle / "engines").mkdir()
    (bundle / "engines" / "one").write_bytes(b"one")
    files = snapshot(bundle)
    result = put(fit, bundle)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert result.stdout == f"{bundle}: loss detection of {fit}\n"
    after, changed = load_manifest(bundle), snapshot(bundle)
    assert dataclasses.asdict(after.strategies.loss) == json.loads(fit.read_text())["loss"]
    assert after.strategies.loss.similarity_weight > 0
    assert dataclasses.replace(after, strategies=before.strategies) == before
    assert {name for name in files | changed if files.get(name) != changed.get(name)} == {MANIFEST_NAME}
    put_into_bundle(fit, bundle)
    assert snapshot(bundle) == changed, "the second time changes nothing"


@pytest.mark.parametrize(("similarity", "status"), [(10.0, "lost"), (-10.0, "locked")])
def test_a_watched_tracker_acts_on_it(bundle, fit, short_video, tmp_path, similarity, status):
    """Above every similarity all is lost, the target too; below every one nothing is, not even in black frames."""
    content = json.loads(fit.read_text())
    content["loss"]["similarity"] = similarity
    (tmp_path / "fit.json").write_text(json.dumps(content))
    results = {}
    for step in ("before", "after"):
        with WatchedTracker.load(bundle, "onnxruntime", threads=1) as tracker:
            tracker.init(short_video.frames[0], short_video.boxes_xywh[0])
            frames = (*short_video.frames[1:6], *[short_video.frames[0] * 0] * 3)
            results[step] = [tracker.update(frame) for frame in frames]
        assert put(tmp_path / "fit.json", bundle).exit_code == 0
    assert {(result.status, result.evidence) for result in results["before"]} == {("locked", None)}
    assert {result.status for result in results["after"][3:]} == {status}
    assert results["after"][0].evidence is not None


def test_bundles_for_several_targets_take_it(tiny_bundle_for_three, fit, tmp_path):
    """Of the same checkpoint, exported another time."""
    bundle = shutil.copytree(tiny_bundle_for_three, tmp_path / "three")
    assert put(fit, bundle).exit_code == 0
    assert load_manifest(bundle).strategies.loss is not None


def test_the_checkpoint_may_have_another_name(bundle, fit, tmp_path):
    content = json.loads(fit.read_text())
    content["source"]["checkpoint"] = "renamed.pth"
    (tmp_path / "fit.json").write_text(json.dumps(content))
    assert put(tmp_path / "fit.json", bundle).exit_code == 0
