"""Every tracker builds for every target that TensorRT-RTX and this release promise, without a GPU."""

from __future__ import annotations

import shutil

import pytest

from siamtrt.export.engine import build_engines
from siamtrt.manifest import load_manifest, verified_file

TARGETS = ("sm75", "sm86", "sm89", "sm120")
TRACKERS = (
    "nanotrack_v1", "nanotrack_v2", "nanotrack_v3",
    "siamrpn_alex_dwxcorr", "siamrpn_mobilev2_l234_dwxcorr", "siamrpn_r50_l234_dwxcorr",
)  # fmt: skip


@pytest.mark.parametrize("name", TRACKERS)
def test_fp16_engines_for_every_target(exported, tmp_path, name):
    pytest.importorskip("tensorrt_rtx", reason="builds need the rtx extra")
    bundle = shutil.copytree(exported(name), tmp_path / "bundle")
    build_engines(bundle, "fp16", TARGETS, "tensorrt_rtx")
    built = load_manifest(bundle).engines
    assert [(e.graph, e.target) for e in built] == [(g, t) for g in ("template", "search") for t in TARGETS]
    for engine in built:
        verified_file(bundle, engine.file, engine.sha256)
    shutil.rmtree(bundle)  # ResNet-50's engines are large
