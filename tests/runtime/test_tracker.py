"""The tracker on real video, and what it needs to be installed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from siamtrt.benchmarks.accuracy import score_sequences
from siamtrt.boxes import iou
from siamtrt.models.checkpoints import load_network
from siamtrt.runtime import torch_session
from siamtrt.runtime.sequences import find_sequences
from siamtrt.runtime.tracker import Tracker


@pytest.mark.parametrize("version", [2, 3])
def test_exported_nanotrack_tracks_like_the_reference(shared_dir, exported, version):
    """All 15 real sequences: mean success AUC within 0.005, mean IoU with the reference's boxes 0.97."""
    goldens = shared_dir / "goldens"
    table = json.loads((goldens / f"nanotrack_v{version}_table.json").read_text())
    boxes = np.load(goldens / f"nanotrack_v{version}_boxes.npz")
    with Tracker.load(exported(f"nanotrack_v{version}"), "onnxruntime", threads=1) as tracker:
        scores = score_sequences(tracker, find_sequences(shared_dir / "sequences"))
    assert {score.name for score in scores} == set(table)
    found = np.mean([score.success_auc for score in scores])
    assert abs(found - np.mean([row["success_auc"] for row in table.values()])) <= 0.005
    agreement = [np.nanmean(iou(score.boxes_xywh, boxes[score.name][:, :4])) for score in scores]
    assert np.mean(agreement) >= 0.97


def test_result_unpacks_like_opencv_and_carries_times(tiny_bundle, short_video):
    frames, boxes = short_video.frames, short_video.boxes_xywh
    with Tracker.load(tiny_bundle) as tracker:
        tracker.init(frames[0], boxes[0])
        result = tracker.update(frames[1])
        ok, (x, y, w, h) = result
        assert ok is True
        assert (x, y, w, h) == tracker.state.box_xywh == result.box_xywh
        assert 0 <= result.score <= 1
        times = result.times
        stages = times.crop_ms + times.network_ms + times.decode_ms + times.extra_ms
        assert stages == pytest.approx(times.total_ms, rel=0.01, abs=0.01)
        assert min(times) > 0


def test_tracking_is_deterministic_and_reinitialisable(tiny_bundle, short_video):
    frames, boxes = short_video.frames, short_video.boxes_xywh
    with Tracker.load(tiny_bundle, threads=1) as tracker:
        runs = []
        for _ in range(2):
            tracker.init(frames[0], boxes[0])
            runs.append([tracker.update(frame).box_xywh for frame in frames[1:]])
    assert runs[0] == runs[1]


def test_torch_tracks_the_same_boxes_from_one_reading_of_the_checkpoint(
    tiny_bundle, tiny_checkpoint, short_video, monkeypatch
):
    read = []
    monkeypatch.setattr(torch_session, "load_network", lambda *given: read.append(given) or load_network(*given))
    boxes = []
    for backend, checkpoint in (("torch", tiny_checkpoint), ("onnxruntime", None)):
        with Tracker.load(tiny_bundle, backend, threads=1, checkpoint=checkpoint) as tracker:
            tracker.init(short_video.frames[0], short_video.boxes_xywh[0])
            boxes.append([tracker.update(frame).box_xywh for frame in short_video.frames[1:4]])
    np.testing.assert_allclose(boxes[0], boxes[1], atol=0.05)
    assert len(read) == 1


def test_tracking_imports_neither_torch_nor_onnx(tiny_bundle):
    """What the device does not need must not be imported, even where it is installed."""
    script = """
import sys, numpy as np
from siamtrt.runtime.tracker import Tracker
import siamtrt.runtime.session, siamtrt.runtime.track, siamtrt.runtime.sources, siamtrt.runtime.sinks
frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
tracker = Tracker.load(sys.argv[1])
tracker.init(frame, (40, 30, 30, 40))
tracker.update(frame)
heavy = {"torch", "onnx", "onnxsim", "onnxscript", "onnx_ir"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script, str(tiny_bundle)], check=True)
