"""What every test may use: a small network as checkpoint and bundle, a short video, the folder of shared data."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

FRAMES = 12
SIDE = 40
GROUPED_FOLDERS = ("kernels", "models")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep on one worker what shares an export, a compiled kernel or a module's costly fixture."""
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name")
        group = f"tracker {name}" if name and "exported" in getattr(item, "fixturenames", ()) else str(item.path)
        if name or item.path.parent.name in GROUPED_FOLDERS:
            item.add_marker(pytest.mark.xdist_group(group))


@dataclass(frozen=True)
class ShortVideo:
    """A rendered sequence, lossless: (12, 240, 320, 3) uint8 BGR, its (12, 4) xywh boxes, and the same as a file."""

    path: Path
    frames: np.ndarray
    boxes_xywh: np.ndarray

    @property
    def init(self) -> str:
        """The first box as `--init` takes it."""
        return ",".join(f"{value:g}" for value in self.boxes_xywh[0])


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of references and sequences beside the repository, or wherever SIAMTRT_SHARED says."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("SIAMTRT_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set SIAMTRT_SHARED to the folder that holds goldens/ and sequences/")
    return folder


@pytest.fixture(scope="session")
def exported(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Exports a tracker once a session: preset name -> bundle.

    NanoTrack is trained, others have the goldens' weights, and where there is no golden, seeded ones.

    The bundles are not to be changed: copy them first.
    """
    from goldens import NETWORKS, Golden

    from siamtrt.export.bundle import export_bundle
    from siamtrt.models.seeded import save_seeded

    @functools.cache
    def bundle_of(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        if name.startswith("nanotrack"):
            checkpoint = shared_dir / "weights" / f"{name.replace('_', '')}.pth"
        elif name in NETWORKS:
            checkpoint = Golden(shared_dir / "goldens", name).save(folder / "model.pth")
        else:
            checkpoint = save_seeded(name, folder / "model.pth")
        export_bundle(checkpoint, folder / "bundle", model=name)
        (folder / "model.pth").unlink(missing_ok=True)
        return folder / "bundle"

    return bundle_of


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of the `siamrpn_alex_tiny` network with seeded random weights, 1.6 MB. Not to be changed."""
    pytest.importorskip("torch", reason="needs the export extra")
    from siamtrt.models.seeded import save_seeded

    return save_seeded("siamrpn_alex_tiny", tmp_path_factory.mktemp("checkpoint") / "tiny.pth")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `tiny_checkpoint`, from the real export. Not to be changed: copy it first."""
    from siamtrt.export.bundle import export_bundle

    bundle = tmp_path_factory.mktemp("bundle") / "tiny"
    export_bundle(tiny_checkpoint, bundle)
    return bundle


@pytest.fixture(scope="session")
def short_video(tmp_path_factory: pytest.TempPathFactory) -> ShortVideo:
    """A textured square that moves 4 pixels right and 2 down a frame over a textured background."""
    rng = np.random.default_rng(0)
    background = cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (320, 240))
    square = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    boxes = np.array([(60 + 4 * i, 80 + 2 * i, SIDE, SIDE) for i in range(FRAMES)], np.float64)
    frames = np.repeat(background[None], FRAMES, axis=0)
    for frame, (x, y, w, h) in zip(frames, boxes.astype(int), strict=True):
        frame[y : y + h, x : x + w] = square
    path = tmp_path_factory.mktemp("video") / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (320, 240))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return ShortVideo(path, frames, boxes)
