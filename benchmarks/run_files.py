"""The files of an evaluation: boxes and times below `<results>/<tracker>`, and `run.json` there: what made them.

Boxes and times are written as the got10k toolkit writes them, where `siamtrt.benchmarks.got_files` says: a line
`x,y,w,h` a frame, here unrounded, and seconds a frame, 0 for the first. VOT's are in `siamtrt.benchmarks.vot_runs`,
with a `run.json` for each experiment.
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
from siamtrt.benchmarks.got_files import boxes_name, times_name
from siamtrt.benchmarks.otb_files import find_boxes, read_boxes, save_boxes
from siamtrt.benchmarks.protocols import Protocol
from siamtrt.benchmarks.result_files import OpenFiles, find_files, read_json
from siamtrt.benchmarks.vot_files import without_experiments
from siamtrt.errors import ResultsError, SiamtrtError
from siamtrt.files import write_whole
from siamtrt.manifest import Manifest, load_manifest
from siamtrt.runtime.sequence import Sequence

try:
    import fcntl
except ImportError:  # Windows: two evaluations into one folder are then not kept apart
    fcntl = None  # type: ignore[assignment]

RUN_NAME = "run.json"
PACKAGES = ("siamtrt", "numpy", "opencv-python", "onnxruntime")
TENSORRT_PACKAGES = ("tensorrt", "tensorrt-rtx")
WATCHED = "_watched"  # behind a bundle's name: both kinds of its tracker lie side by side


@dataclass(frozen=True)
class TrackerRun:
    """What gives a tracker's boxes: another value of any of these may give others.

    Attributes:
        name: of the tracker in the results: that of the bundle's folder, of a watched one with `WATCHED` behind it.
        bundle_sha256: of the graphs' hashes and of all that decodes them; on TensorRT of the engines' hashes too.
        options: backend, threads, those of the protocol, and "watch" where it is watched.
        versions: of the packages that compute; on TensorRT also the GPU.
        experiment: see `Protocol.experiment`.
    """

    name: str
    bundle: Path
    bundle_sha256: str
    options: dict[str, Any]
    versions: dict[str, str]
    experiment: str = ""

    @property
    def folder(self) -> Path:
        """Where its files are, from the folder of all results."""
        return Path(self.name, self.experiment)

    @property
    def watched(self) -> bool:
        """Whether it is a `WatchedTracker` that follows."""
        return "watch" in self.options

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "bundle", "experiment")}


def tracker_run(bundle: Path, backend: str, threads: int, protocol: Protocol, watch: bool = False) -> TrackerRun:
    """The identity of a bundle on a backend, which is "onnxruntime" or "tensorrt", under a protocol.

    Args:
        watch: see `WatchedTracker`.

    Raises:
        BundleError: no bundle.
        SiamtrtError: one to be watched that has no loss detection.
    """
    manifest = load_manifest(bundle)
    if watch and manifest.strategies.loss is None:
        raise SiamtrtError(
            "a tracker that cannot tell whether it has its target",
            received=f"--watch for {manifest.model} in {bundle}",
            expected="loss detection, as the default tracker's and NanoTrack's bundles have it",
            fix="leave out --watch; an old bundle of these trackers has to be exported again",
        )
    on_gpu = backend == "tensorrt"
    packages = PACKAGES + TENSORRT_PACKAGES * on_gpu
    versions = {name: found for name in packages if (found := installed_version(name))}
    gpu = {"gpu": gpu_name() or "unknown"} if on_gpu else {}
    watched = {"watch": True} if watch else {}
    options = {"backend": backend, "threads": threads, **watched, **protocol.options}
    name, digest = bundle.resolve().name + WATCHED * watch, _digest(manifest, on_gpu)
    return TrackerRun(name, bundle, digest, options, {**versions, **gpu}, protocol.experiment)


def _digest(manifest: Manifest, with_engines: bool) -> str:
    kept = ["graphs", "preprocessing", "decoding", "tracking", "strategies", "batch"] + ["engines"] * with_engines
    plain = asdict(manifest)
    return hashlib.sha256(json.dumps({key: plain[key] for key in kept}, sort_keys=True).encode()).hexdigest()


def has_begun(results: Path, run: TrackerRun) -> bool:
    """Whether the results hold a run of that name."""
    return (results / run.folder / RUN_NAME).exists()


def begin(results: Path, run: TrackerRun) -> None:
    """Make a tracker's folder, or check that what is in it came from the same bundle, options and versions.

    What a killed evaluation left half-written is removed. Call it with the results locked.

    Raises:
        ResultsError: other results of that name, or files without a readable `run.json`.
        SiamtrtError: it cannot be written.
    """
    folder = results / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RUN_NAME
    boxes = ("*/[!.]*.txt",) if run.experiment else ("[!.]*.txt", "*/[!.]*_001.txt")
    if has_begun(results, run):
        _require_same(run, read_json(record), folder)
    elif foreign := sorted(path.name for pattern in boxes for path in folder.glob(pattern)):
        raise _other_results(folder, f"{foreign[0]} without {RUN_NAME}")
    patterns = (f".{Path(RUN_NAME).stem}.*.json", ".*.txt", "*/.*.txt", "*/.*.value")
    for staged in [path for pattern in patterns for path in folder.glob(pattern)]:
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


def is_done(results: Path, tracker: str, sequence: Sequence, frames: int) -> bool:
    """Whether a sequence's boxes are there; a file that is no result at all, as a full disk leaves, is not.

    Raises:
        ResultsError: they are of another sequence: another first box, or another number of frames.
    """
    path = results / tracker / boxes_name(sequence.name, sequence.layout)
    if not path.is_file():
        return False
    lines = path.read_bytes().count(b"\n")
    try:
        boxes = read_boxes(OpenFiles(results, None), path.relative_to(results).as_posix(), lines)
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


def save_track(
    results: Path, tracker: str, sequence: Sequence, boxes_xywh: np.ndarray, update_ms: np.ndarray
) -> None:
    """Write times and then boxes, which make the sequence done, each file whole.

    Args:
        boxes_xywh: (F, 4) pixels, the given box first.
        update_ms: (F - 1,).
    """
    save_times(times_path(results / tracker, sequence), np.array([0.0, *update_ms.tolist()]))
    save_boxes(results, tracker, {sequence.name: boxes_xywh}, sequence.layout)


def save_times(path: Path, update_ms: np.ndarray) -> None:
    """Write (F,) times in seconds, one a line; 0 where nothing was computed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(f"{seconds:.8f}\n" for seconds in (update_ms / 1e3).tolist()).encode())


def median_update_ms(path: Path) -> float:
    """Median of the updates in a file of times; NaN where it is missing or has none."""
    try:
        seconds = np.loadtxt(path, ndmin=1)
    except (OSError, ValueError):
        seconds = np.empty(0)
    updates = seconds[seconds > 0]
    return float(np.median(updates) * 1e3) if updates.size else float("nan")


def times_path(folder: Path, sequence: Sequence) -> Path:
    """The file of a sequence's times in the folder of a tracker."""
    return folder / times_name(sequence.name, sequence.layout)


def read_tracks(results: Path, tracker: str, frames: dict[str, int]) -> dict[str, np.ndarray]:
    """(F, 4) boxes of every sequence of a tracker, read as any other tool's are.

    Raises:
        ResultsError: missing or unreadable.
    """
    files = without_experiments(find_files(results / tracker))
    found = find_boxes(files, list(frames))[tracker]
    with files.open() as opened:
        return {name: read_boxes(opened, found[name], count) for name, count in frames.items()}


@contextmanager
def locked(results: Path, trackers: Iterable[str | Path]) -> Iterator[None]:
    """Keep a second evaluation out of folders in the results, which are made; the lock ends with the process.

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
