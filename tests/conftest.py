"""What every test may use: a small network as checkpoint and bundle, a short video, the folder of shared data."""

from __future__ import annotations

import functools
import gc
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

FRAMES = 12
SIDE = 40
GROUPED_FOLDERS = ("kernels", "models")
Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep on one worker what shares an export, a compiled kernel or a module's costly fixture."""
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name")
        group = f"tracker {name}" if name and "exported" in getattr(item, "fixturenames", ()) else str(item.path)
        if name or item.path.parent.name in GROUPED_FOLDERS:
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish() -> None:
    """What is imported by now stays: collections of garbage need not walk it again and again."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread a worker, as OMP_NUM_THREADS=1 is for PyTorch: two that wait for a core cost half as much again."""
    from siamtrt.runtime import ort_session

    cv2.setNumThreads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ort_session, "SMALL_THREADS", 1)
        yield


@pytest.fixture(scope="module")  # not longer: while it is open its thread has an event loop, in which none other runs
def browser() -> Iterator[Any]:
    """Chromium, or Chrome."""
    from browsers import open_browser

    with open_browser() as running:
        yield running


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children heed SIGINT though pytest was started with it ignored, as a script's background jobs are."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: the path that `make(path)` has written, once a run, whichever worker asks for it first.

    It is not to be changed: copy it first.
    """
    filelock = pytest.importorskip("filelock", reason="needs the export extra")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    folder.mkdir(exist_ok=True)

    def path_of(name: str, make: Callable[[Path], object]) -> Path:
        path = folder / name
        with filelock.FileLock(f"{path}.lock"):
            if not path.exists():
                make(path)
        return path

    return path_of


@pytest.fixture(scope="session")
def one_registry() -> Iterator[None]:
    """PyTorch's exporter parses its thousand operators' sources anew for every graph, half a second; here, once."""
    pytest.importorskip("torch", reason="needs the export extra")
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(scope="session")
def exported(shared_dir: Path, once: Once, one_registry: None) -> Callable[[str], Path]:
    """Exports a tracker once a run: preset name -> bundle.

    NanoTrack is trained, others have the goldens' weights, and where there is no golden, seeded ones.

    The bundles are not to be changed: copy them first.
    """
    from goldens import NETWORKS, Golden

    from siamtrt.export.bundle import export_bundle
    from siamtrt.models.seeded import save_seeded

    def export(bundle: Path) -> None:
        name, model = bundle.name, bundle.with_suffix(".pth")
        if name.startswith("nanotrack"):
            checkpoint = shared_dir / "weights" / f"{name.replace('_', '')}.pth"
        elif name in NETWORKS:
            checkpoint = Golden(shared_dir / "goldens", name).save(model)
        else:
            checkpoint = save_seeded(name, model)
        export_bundle(checkpoint, bundle, model=name)
        model.unlink(missing_ok=True)

    return lambda name: once(name, export)


@pytest.fixture(scope="session")
def tiny_checkpoint(once: Once, one_registry: None) -> Path:
    """A state dict of the `siamrpn_alex_tiny` network with seeded random weights, 1.6 MB. Not to be changed."""
    pytest.importorskip("torch", reason="needs the export extra")
    from siamtrt.models.seeded import save_seeded

    return once("tiny.pth", lambda path: save_seeded("siamrpn_alex_tiny", path))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, once: Once) -> Path:
    """The bundle of `tiny_checkpoint`, from the real export. Not to be changed: copy it first."""
    from siamtrt.export.bundle import export_bundle

    return once("tiny", lambda bundle: export_bundle(tiny_checkpoint, bundle))


@pytest.fixture(scope="session")
def tiny_bundle_for_three(tiny_checkpoint: Path, once: Once) -> Path:
    """The same weights for three targets a search. Not to be changed: copy it first."""
    from siamtrt.export.bundle import export_bundle

    return once("tiny_for_three", lambda bundle: export_bundle(tiny_checkpoint, bundle, batch=3))


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
