"""Small trackers and pairs for them; a calibrated bundle; a source with boxes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import clip
from onnx import ModelProto
from toy import outlier_models, save_toy, toy_models

from siamtrt.calibration.calibrate import Options, calibrate
from siamtrt.calibration.pairs import Pair, sample_pairs
from siamtrt.manifest import Manifest, load_manifest

QUICK = Options(pairs=8, threads=1)


@pytest.fixture(scope="session")
def toys() -> dict[str, ModelProto]:
    """The toy tracker's graphs. Not to be changed."""
    return toy_models()


@pytest.fixture(scope="session")
def uneven() -> dict[str, ModelProto]:
    """Those with an outlier channel that does not matter. Not to be changed."""
    return outlier_models(0.0)


@pytest.fixture(scope="session")
def toy_manifest(toys: dict[str, ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of both."""
    return load_manifest(save_toy(toys, tmp_path_factory.mktemp("manifest") / "toy"))


@pytest.fixture(scope="session")
def toy_pairs(toy_manifest: Manifest) -> list[Pair]:
    """Eight pairs in memory."""
    with sample_pairs(toy_manifest, [clip(count=20)], 8) as pairs:
        return list(pairs)


@pytest.fixture(scope="session")
def source(short_video: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short video with its boxes beside it."""
    folder = tmp_path_factory.mktemp("source")
    np.savetxt(folder / "short.txt", short_video.boxes_xywh, "%g", ",")
    return Path(shutil.copy(short_video.path, folder / "short.avi"))


@pytest.fixture(scope="session")
def calibrated(toys: dict[str, ModelProto], source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle of the toy tracker. Not to be changed: copy it first."""
    bundle = save_toy(toys, tmp_path_factory.mktemp("calibrated") / "toy")
    calibrate(bundle, [source], QUICK)
    return bundle


@pytest.fixture
def copied(calibrated: Path, tmp_path: Path) -> Path:
    """A copy of that bundle which a test may spoil."""
    return Path(shutil.copytree(calibrated, tmp_path / "copied"))


@pytest.fixture
def toy_bundle(toys: dict[str, ModelProto], tmp_path: Path) -> Path:
    """A bundle of the toy tracker, not calibrated."""
    return save_toy(toys, tmp_path / "toy")


@pytest.fixture
def bundle_of(tmp_path: Path) -> Callable[[dict[str, ModelProto]], Path]:
    """Writes graphs as a bundle, each time another one."""
    count = iter(range(100))
    return lambda models: save_toy(models, tmp_path / f"bundle{next(count)}")
