"""The files of an evaluation: `<results>/<tracker>/<sequence>.txt`, its times, and `run.json`: what made them.

Boxes and times are written as the got10k toolkit writes OTB's: a line `x,y,w,h` a frame, here unrounded, and
`<tracker>/times/<sequence>_time.txt`, seconds a frame, 0 for the first.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.benchmarks.environment import gpu_name, installed_version
from siamtrt.benchmarks.otb_files import find_boxes, read_boxes, save_boxes
from siamtrt.benchmarks.result_files import OpenFiles, find_files, read_json
from siamtrt.errors import ResultsError
from siamtrt.files import write_whole
from siamtrt.manifest import Manifest, load_manifest
from siamtrt.runtime.sequence import Sequence

try:
    import fcntl
except ImportError:  # Windows: two evaluations into one folder are then not kept apart
    fcntl = None  # type: ignore[assignment]

RUN_NAME = "run.json"
TIMES = "times"
PACKAGES = ("siamtrt", "numpy", "opencv-python", "onnxruntime")
TENSORRT_PACKAGES = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class TrackerRun:
    """What gives a tracker's boxes: another value of any of these may give others.

    Attributes:
        name: of the bundle's folder, and of the tracker in the results.
        bundle_sha256: of the graphs' hashes and of all that decodes them; on TensorRT of the engines' hashes too.
        options: backend and threads.
        versions: of the packages that compute; on TensorRT also the GPU.
    """

    name: str
    bundle: Path
    bundle_sha256: str
    options: dict[str, Any]
    versions: dict[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "bundle")}


def tracker_run(bundle: Path, backend: str, threads: int) -> TrackerRun:
    """The identity of a bundle on a backend, which is "onnxruntime" or "tensorrt".

    Raises:
        BundleError: no bundle.
    """
    manifest = load_manifest(bundle)
    on_gpu = backend == "tensorrt"
    packages = PACKAGES + TENSORRT_PACKAGES * on_gpu
    versions = {name: found for name in packages if (found := installed_version(name))}
    gpu = {"gpu": gpu_name() or "unknown"} if on_gpu else {}
    options = {"backend": backend, "threads": threads}
    return TrackerRun(bundle.resolve().name, bundle, _digest(manifest, on_gpu), options, {**versions, **gpu})


def _digest(manifest: Manifest, with_engines: bool) -> str:
    kept = ["graphs", "preprocessing", "decoding", "tracking", "strategies", "batch"] + ["engines"] * with_engines
    plain = asdict(manifest)
    return hashlib.sha256(json.dumps({key: plain[key] for key in kept}, sort_keys=True).encode()).hexdigest()


def has_begun(results: Path, run: TrackerRun) -> bool:
    """Whether the results hold a run of that name."""
    return (results / run.name / RUN_NAME).exists()


def begin(results: Path, run: TrackerRun) -> None:
    """Make a tracker's folder, or check that what is in it came from the same bundle, options and versions.

    What a killed evaluation left half-written is removed. Call it with the results locked.

    Raises:
        ResultsError: other results of that name, or files without a readable `run.json`.
        SiamtrtError: it cannot be written.
    """
    folder = results / run.name
    (folder / TIMES).mkdir(parents=True, exist_ok=True)
    record = folder / RUN_NAME
    if has_begun(results, run):
        _require_same(run, read_json(record), folder)
    elif foreign := sorted(path.name for path in folder.glob("[!.]*.txt")):
        raise _other_results(folder, f"{foreign[0]} without {RUN_NAME}")
    for staged in (*folder.glob(".*.txt"), *folder.glob(f".{Path(RUN_NAME).stem}.*.json"), *folder.glob(f"{TIMES}/.*")):
        staged.unlink()
    if not record.exists():
        write_whole(record, (json.dumps(run.record, indent=1) + "\n").encode())


def _require_same(run: TrackerRun, found: Any, folder: Path) -> None:
    wanted, there = _flat(run.record), _flat(found if isinstance(found, dict) else {})
    for key in sorted({*wanted, *there}):
        if wanted.get(key) != there.get(key):
            raise _other_results(folder, f"{key} {there.get(key)}", f"{wanted.get(key)}, as {run.bundle} has it here")


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Keys of dicts inside joined to one level."""
    parts = [value.items() if isinstance(value, dict) else [(key, value)] for key, value in record.items()]
    return {key: value for part in parts for key, value in part}


def _other_results(folder: Path, received: str, expected: str = "results of this bundle, or none") -> ResultsError:
    return ResultsError(
        "the results hold another run of that name", received=f"{received} in {folder}", expected=expected,
        fix=f"give another folder with -o, or remove {folder}",
    )


def is_done(results: Path, run: TrackerRun, sequence: Sequence, frames: int) -> bool:
    """Whether a sequence's boxes are there; a file that is no result at all, as a full disk leaves, is not.

    Raises:
        ResultsError: they are of another sequence: another first box, or another number of frames.
    """
    path = results / run.name / f"{sequence.name}.txt"
    if not path.is_file():
        return False
    lines = path.read_bytes().count(b"\n")
    try:
        boxes = read_boxes(OpenFiles(results, None), f"{run.name}/{path.name}", lines)
    except ResultsError:
        return False
    if not len(boxes):
        return False
    if len(boxes) != frames or not np.array_equal(boxes[0], sequence.truth_xywh[0]):
        raise ResultsError(
            "results of another dataset", received=f"{len(boxes)} frames from {boxes[0].tolist()} in {path}",
            expected=f"{frames} frames from {sequence.truth_xywh[0].tolist()}",
            fix="give another folder with -o; one dataset a folder",
        )
    return True


def save_track(results: Path, tracker: str, sequence: str, boxes_xywh: np.ndarray, update_ms: np.ndarray) -> None:
    """Write times and then boxes, which make the sequence done, each file whole.

    Args:
        boxes_xywh: (F, 4) pixels, the given box first.
        update_ms: (F - 1,).
    """
    times = _times_path(results, tracker, sequence)
    times.parent.mkdir(parents=True, exist_ok=True)
    lines = [0.0, *(update_ms / 1e3).tolist()]
    write_whole(times, "".join(f"{seconds:.8f}\n" for seconds in lines).encode())
    save_boxes(results, tracker, {sequence: boxes_xywh})


def median_update_ms(results: Path, tracker: str, sequence: str) -> float:
    """Median of a sequence's updates; NaN where its times are missing."""
    try:
        seconds = np.loadtxt(_times_path(results, tracker, sequence), ndmin=1)[1:]
    except (OSError, ValueError):
        seconds = np.empty(0)
    return float(np.median(seconds) * 1e3) if seconds.size else float("nan")


def _times_path(results: Path, tracker: str, sequence: str) -> Path:
    return results / tracker / TIMES / f"{sequence}_time.txt"


def read_tracks(results: Path, tracker: str, frames: dict[str, int]) -> dict[str, np.ndarray]:
    """(F, 4) boxes of every sequence of a tracker, read as any other tool's are.

    Raises:
        ResultsError: missing or unreadable.
    """
    files = find_files(results / tracker)
    found = find_boxes(files, list(frames))[tracker]
    with files.open() as opened:
        return {name: read_boxes(opened, found[name], count) for name, count in frames.items()}


@contextmanager
def locked(results: Path, trackers: Iterable[str]) -> Iterator[None]:
    """Keep a second evaluation out of the trackers' folders, which are made; the lock ends with the process.

    Raises:
        ResultsError: another evaluation has one.
    """
    held = []
    try:
        for tracker in trackers:
            folder = results / tracker
            folder.mkdir(parents=True, exist_ok=True)
            if fcntl is not None:
                held.append(os.open(folder, os.O_RDONLY))
                _lock(held[-1], folder)
        yield
    finally:
        for handle in held:
            os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ResultsError(
            "another evaluation writes there", received=str(folder), expected="one at a time",
            fix="wait for it, or give another folder with -o",
        ) from error
