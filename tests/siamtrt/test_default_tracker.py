"""The tracker in the package: whole, small, found without an argument, and good."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from siamtrt import Tracker, default_tracker
from siamtrt.benchmarks.accuracy import score_sequences
from siamtrt.boxes import iou
from siamtrt.cli import main
from siamtrt.default_tracker import ARCHIVE, WEIGHTS, default_bundle
from siamtrt.errors import BundleError
from siamtrt.manifest import load_manifest, sha256_of, verified_file
from siamtrt.runtime.sequences import find_sequences


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_bundle_is_unpacked_once_and_is_that_of_the_weights(cache):
    bundle = default_bundle()
    assert bundle.parent == cache / "siamtrt"
    manifest = load_manifest(bundle)
    for graph in manifest.graphs.values():
        verified_file(bundle, graph.file, graph.sha256)
    assert manifest.source.sha256 == sha256_of(WEIGHTS)
    before = (bundle / "search.onnx").stat().st_mtime_ns
    assert default_bundle() == bundle
    assert (bundle / "search.onnx").stat().st_mtime_ns == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_it_is_small():
    assert ARCHIVE.stat().st_size + WEIGHTS.stat().st_size <= 5_000_000


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_file_leaves_nothing(cache, tmp_path, monkeypatch, share):
    content = ARCHIVE.read_bytes()
    damaged = tmp_path / ARCHIVE.name
    damaged.write_bytes(content[: int(share * len(content))])
    monkeypatch.setattr(default_tracker, "ARCHIVE", damaged)
    with pytest.raises(BundleError, match="the default tracker is not there"):
        default_bundle()
    assert not list(cache.glob("siamtrt/*"))


def test_an_installation_without_it_says_so(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(default_tracker, "ARCHIVE", tmp_path / "none.tar.xz")
    with pytest.raises(BundleError, match="Fix: install siamtrt again, or name a bundle"):
        Tracker.load()


def test_commands_take_it_without_a_bundle(cache, short_video, tmp_path):
    boxes = tmp_path / "boxes.csv"
    result = CliRunner().invoke(
        main, ["track", str(short_video.path), "--init", short_video.init, "--boxes", str(boxes)]
    )
    assert result.exit_code == 0, result.output
    rows = [line.split(",")[1:5] for line in boxes.read_text().splitlines()[1:]]
    assert iou(np.array(rows, float), short_video.boxes_xywh).min() > 0.5
    for arguments in ([], ["a", "b", "c"]):
        assert CliRunner().invoke(main, ["track", *arguments]).exit_code == 2


def test_without_a_checkpoint_its_weights_are_exported(cache, tmp_path, one_registry):
    """The graphs in the package are what its weights give."""
    onnx = pytest.importorskip("onnx", reason="needs the export extra")
    result = CliRunner().invoke(main, ["export", "-o", str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    for graph in ("template.onnx", "search.onnx"):
        ours, shipped = (onnx.load(folder / graph).graph for folder in (tmp_path / "bundle", default_bundle()))
        assert [node.op_type for node in ours.node] == [node.op_type for node in shipped.node]
        for mine, theirs in zip(ours.initializer, shipped.initializer, strict=True):
            a, b = (onnx.numpy_helper.to_array(tensor) for tensor in (mine, theirs))
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_it_follows_a_rendered_scene(cache, seed):
    """It was trained on none."""
    pytest.importorskip("skimage", reason="scenes are rendered from scikit-image's photos")
    from siamtrt.training.scenes import render_scene

    overlaps = []
    with Tracker.load(threads=1) as tracker:
        for number, (frame, box) in enumerate(render_scene(seed, 60)):
            if number == 0:
                tracker.init(frame, box)
            else:
                overlaps.append(float(iou(np.array(tracker.update(frame).box_xywh), np.array(box))))
    assert np.mean(overlaps) > 0.6


def test_it_follows_real_targets(cache, shared_dir):
    """Success AUC of two short sequences, which its model card has at 0.75 and 0.78."""
    chosen = [s for s in find_sequences(shared_dir / "sequences") if s.name in ("Crossing", "Man")]
    cv2.setNumThreads(1)
    with Tracker.load(backend="onnxruntime", threads=1) as tracker:
        scores = {score.name: score.success_auc for score in score_sequences(tracker, chosen)}
    assert scores.keys() == {"Crossing", "Man"}
    assert min(scores.values()) > 0.6, scores
