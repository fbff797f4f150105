"""Every kind of tracker is exported, built with TensorRT-RTX without a GPU, and tracks a real video."""

from __future__ import annotations

import dataclasses
import shutil
from itertools import islice

import pytest
from networks import seeded

from siamtrt.boxes import check_box
from siamtrt.export.bundle import bundle_from_network
from siamtrt.export.engine import build_engines
from siamtrt.manifest import load_manifest, verified_file
from siamtrt.models.alexnet import AlexNet
from siamtrt.models.presets import PRESETS
from siamtrt.models.siamrpn import DistractorAwareSiamRPN
from siamtrt.runtime.sources import open_source
from siamtrt.runtime.track import tracked_frames
from siamtrt.runtime.tracker import Tracker

TRACKERS = (
    "nanotrack_v1", "nanotrack_v2", "nanotrack_v3", "siamrpn_alex_dwxcorr", "siamrpn_mobilev2_l234_dwxcorr",
    "siamrpn_mobilev2_small", "siamrpn_alex", "siammask_r50_l3", "siamfc_alexnet", "siamdw_siamfcres22",
    "siamdw_siamfcincep22", "siamdw_siamfcnext22", "cfnet_conv2", "dsiam", "rasnet", "sa_siam", "siam_bm", "sint",
)  # fmt: skip
ONE_TARGET = ("sm86",)
TARGETS = {"nanotrack_v2": ("sm86", "sm89"), "siamrpn_alex_dwxcorr": ("sm75", "sm86", "sm89", "sm120")}
UPDATES = 4


@pytest.mark.parametrize("name", TRACKERS)
def test_fp16_engines(exported, tmp_path, name):
    """Every kind of layer and of head, for one GPU; two trackers for more, which what a graph holds does not change.

    `python -m siamtrt.benchmarks.all_trackers`, which takes minutes, builds every preset. Left to it are those with
    more or wider layers of these (SiamRPN++ on ResNets beside SiamMask's ResNet-50 and MobileNetV2's three levels, the
    wide CIR network, SiamDW's SiamRPN), with other crop sizes of the same graphs (DaSiamRPN beside SiamRPN, SiamFC at
    five scales, SINT++), and with parts of these put together otherwise (C-RPN, CFNet at other depths). What the
    long-term DaSiamRPN adds is in `test_a_narrow_long_term_tracker`.
    """
    pytest.importorskip("tensorrt_rtx", reason="builds need the rtx extra")
    bundle = shutil.copytree(exported(name), tmp_path / "bundle")
    assert_engines(bundle, TARGETS.get(name, ONE_TARGET))
    shutil.rmtree(bundle)  # SiamMask's engines are large


def assert_engines(bundle, targets):
    """FP16 engines of every graph for every target are built and recorded."""
    build_engines(bundle, "fp16", targets, "tensorrt_rtx")
    built = load_manifest(bundle).engines
    graphs = load_manifest(bundle).graphs
    assert [(e.graph, e.target) for e in built] == [(g, t) for g in graphs for t in targets]
    for engine in built:
        verified_file(bundle, engine.file, engine.sha256)


@pytest.mark.parametrize("name", TRACKERS)
def test_tracks_a_real_video(exported, shared_dir, name):
    """Trained weights track. Seeded ones may overflow, but their box stays finite and inside the frame."""
    tracked = assert_tracks(exported(name), shared_dir)
    if name.startswith("nanotrack"):
        assert all(frame.result.ok for frame in tracked[1:])


@pytest.mark.usefixtures("one_registry")
def test_a_narrow_long_term_tracker(shared_dir, tmp_path):
    """DaSiamRPN with its distractors' kernel, which begins as zeros, and one wide search: an eighth of its width."""
    pytest.importorskip("tensorrt_rtx", reason="builds need the rtx extra")
    preset = PRESETS["dasiamrpn_lt"]
    search = dataclasses.replace(preset.strategies.search, sizes=preset.strategies.search_sizes[:1])
    strategies = dataclasses.replace(preset.strategies, search=search)
    narrow = dataclasses.replace(
        preset, build=lambda: DistractorAwareSiamRPN(AlexNet(0.125), 32), strategies=strategies
    )
    bundle_from_network(seeded(narrow), tmp_path / "bundle")
    assert_engines(tmp_path / "bundle", ONE_TARGET)
    assert_tracks(tmp_path / "bundle", shared_dir)


def assert_tracks(bundle, shared_dir):
    """Returns what was tracked."""
    frames = open_source(shared_dir / "sequences" / "bag.avi")
    with Tracker.load(bundle, "onnxruntime", threads=1) as tracker:
        tracked = list(islice(tracked_frames(tracker, frames, lambda frame: (150, 100, 80, 90)), 1 + UPDATES))
    assert len(tracked) == 1 + UPDATES
    for frame in tracked:
        check_box(frame.box_xywh, (480, 360))
    return tracked
