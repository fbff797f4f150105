"""Every tracker is exported, built with TensorRT-RTX without a GPU, and tracks a real video."""

from __future__ import annotations

import shutil
from itertools import islice

import pytest

from siamtrt.boxes import check_box
from siamtrt.export.engine import build_engines
from siamtrt.manifest import load_manifest, verified_file
from siamtrt.runtime.sources import open_source
from siamtrt.runtime.track import tracked_frames
from siamtrt.runtime.tracker import Tracker

# The rest of the large ones is left to `python -m siamtrt.benchmarks.all_trackers`, which takes minutes.
EVERY_TARGET, COMMON_TARGETS, ONE_TARGET = ("sm75", "sm86", "sm89", "sm120"), ("sm86", "sm89"), ("sm86",)
TRACKERS = {
    "nanotrack_v1": EVERY_TARGET, "nanotrack_v2": EVERY_TARGET, "nanotrack_v3": EVERY_TARGET,
    "siamrpn_alex_dwxcorr": EVERY_TARGET, "siamrpn_mobilev2_l234_dwxcorr": COMMON_TARGETS,
    "siamrpn_r50_l234_dwxcorr": ONE_TARGET, "siamrpn_alex": COMMON_TARGETS, "siamrpn_mobilev2_small": ONE_TARGET,
    "dasiamrpn_vot": COMMON_TARGETS, "dasiamrpn_lt": ONE_TARGET,
    "siammask_r50_l3": ONE_TARGET,
    "siamfc_alexnet": COMMON_TARGETS, "siamdw_siamfcres22": COMMON_TARGETS, "siamdw_siamfcincep22": COMMON_TARGETS,
    "siamdw_siamfcnext22": COMMON_TARGETS, "siamdw_siamfcres22w": COMMON_TARGETS,
    "cfnet_conv2": COMMON_TARGETS, "dsiam": COMMON_TARGETS,
    "rasnet": COMMON_TARGETS, "sa_siam": COMMON_TARGETS, "siam_bm": COMMON_TARGETS, "sint": COMMON_TARGETS,
}  # fmt: skip
UPDATES = 4


@pytest.mark.parametrize("name", TRACKERS)
def test_fp16_engines(exported, tmp_path, name):
    pytest.importorskip("tensorrt_rtx", reason="builds need the rtx extra")
    bundle = shutil.copytree(exported(name), tmp_path / "bundle")
    build_engines(bundle, "fp16", TRACKERS[name], "tensorrt_rtx")
    built = load_manifest(bundle).engines
    graphs = load_manifest(bundle).graphs
    assert [(e.graph, e.target) for e in built] == [(g, t) for g in graphs for t in TRACKERS[name]]
    for engine in built:
        verified_file(bundle, engine.file, engine.sha256)
    shutil.rmtree(bundle)  # ResNet-50's engines are large


@pytest.mark.parametrize("name", TRACKERS)
def test_tracks_a_real_video(exported, shared_dir, name):
    """Trained weights track. Seeded ones may overflow, but their box stays finite and inside the frame."""
    frames = open_source(shared_dir / "sequences" / "bag.avi")
    with Tracker.load(exported(name), "onnxruntime") as tracker:
        tracked = list(islice(tracked_frames(tracker, frames, lambda frame: (150, 100, 80, 90)), 1 + UPDATES))
    assert len(tracked) == 1 + UPDATES
    if name.startswith("nanotrack"):
        assert all(frame.result.ok for frame in tracked[1:])
    for frame in tracked:
        check_box(frame.box_xywh, (480, 360))
