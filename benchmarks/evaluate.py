"""Evaluation of bundles over a dataset, by several processes, that a second run continues."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path

from siamtrt.backends import Backend
from siamtrt.benchmarks.one_pass import one_pass_scores, truths_of
from siamtrt.benchmarks.otb_files import of_layout
from siamtrt.benchmarks.protocols import DEFAULT_FPS, ONE_PASS, REAL_TIME, Protocol, implied_protocol
from siamtrt.benchmarks.ray_workers import run_on_ray
from siamtrt.benchmarks.result_files import find_files
from siamtrt.benchmarks.run_files import (
    TrackerRun,
    begin,
    has_begun,
    locked,
    median_update_ms,
    read_tracks,
    tracker_run,
)
from siamtrt.benchmarks.score_results import Evaluation, TrackerScores, one_pass_evaluation, vot_evaluation
from siamtrt.benchmarks.score_vot import chosen_interval, sequence_bar
from siamtrt.benchmarks.tasks import Task, sequence_is_done, times_of
from siamtrt.benchmarks.vot_files import sequences_of_videos
from siamtrt.benchmarks.workers import THREADS, open_tracker, run_tasks
from siamtrt.errors import ResultsError
from siamtrt.manifest import load_manifest
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.sequences import open_sequences


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        backend: "auto" takes TensorRT for all bundles that have an engine for this machine.
        workers: processes, one sequence each at a time.
        ray: instead, address of a Ray cluster whose cores take a sequence each; see `run_on_ray`.
        layout: of a dataset that holds several, which to take; see `Sequence.layout`.
        protocol: a name, see `Protocol`; None for what the dataset implies.
        fps, latency_ms: see `Protocol`; only for "realtime".
        interval: of the expected average overlap; by default that of the year in the dataset's name.
        watch: follow with a `WatchedTracker`.
        progress: show a bar on stderr.
    """

    backend: Backend = "auto"
    workers: int = 1
    ray: str | None = None
    layout: str | None = None
    protocol: str | None = None
    fps: float | None = None
    latency_ms: float | None = None
    interval: tuple[int, int] | None = None
    watch: bool = False
    progress: bool = False


def evaluate_bundles(
    bundles: Several[Path], dataset: Path, results: Path, options: Options | None = None
) -> Evaluation | None:
    """Track every sequence with every bundle, write the files of `run_files` or `vot_runs`, and score what is there.

    Sequences whose file is there are not tracked again. Each file is whole or absent, and the same at any number of
    workers and after any interruption; in real time, where the latency is given.

    Args:
        bundles: directories written by `siamtrt export`; a tracker is named like its directory, see `TrackerRun`.
        dataset: what `open_sequences` takes; where only first boxes are known, for an evaluation server, nothing is
            scored.

    Returns:
        the scores; None where no sequence has ground truth.

    Raises:
        BundleError: no bundle, or an edited one.
        SourceError: no sequences, or unreadable ones, by name.
        ResultsError: two trackers or sequences of one name; results of another bundle, option, version or dataset; a
            protocol or an interval that does not fit the dataset.
        SiamtrtError: a tracker that cannot be watched; what stopped a sequence, with its name.
    """
    options = options or Options()
    sequences = of_layout(open_sequences([dataset]), options.layout, dataset)
    protocol = _protocol(options, sequences)
    runs = [
        tracker_run(bundle, _resolved(bundle, options.backend), THREADS, protocol, options.watch) for bundle in bundles
    ]
    _require_names(runs)
    frames = {sequence.name: _length(sequence) for sequence in sequences}
    truths = [] if protocol.name == ONE_PASS else sequences_of_videos(sequences, protocol.name)
    interval = chosen_interval(options.interval, dataset, protocol.name, list(frames.values()))
    for run in runs:
        if not has_begun(results, run):  # nothing is left behind where a bundle does not run here
            open_tracker(run.bundle, run.options["backend"], run.watched).close()
    with locked(results, [run.folder for run in runs]):
        for run in runs:
            begin(results, run)
        tasks = _open_tasks(runs, sequences, frames, results, protocol)
        total = len(runs) * len(sequences)
        with sequence_bar(total, options.progress, total - len(tasks)) as bar:
            done = run_on_ray(tasks, options.ray) if options.ray else run_tasks(tasks, options.workers)
            for task in done:
                bar.set_postfix_str(f"{task.tracker} {task.sequence.name}", refresh=False)
                bar.update()
        if protocol.name == ONE_PASS:
            evaluation = _one_pass_scored(runs, sequences, results, dataset)
        else:
            files = [find_files(results / run.name) for run in runs]
            evaluation = vot_evaluation(results, files, dataset, truths, protocol.name, interval, progress=False)
        return evaluation and dataclasses.replace(
            _timed(evaluation, results, sequences, protocol), watched=options.watch
        )


def _protocol(options: Options, sequences: list[Sequence]) -> Protocol:
    name = options.protocol or implied_protocol(sequences)
    if name != REAL_TIME and (options.fps is not None or options.latency_ms is not None):
        raise ResultsError(
            f"{name} evaluation with a rate of frames", received="--fps or --latency-ms, which are for real time",
            expected="none", fix="leave them out, or choose --protocol realtime",
        )  # fmt: skip
    if options.watch and options.latency_ms is not None:
        raise ResultsError(
            "one latency for a watched tracker", received="--watch with --latency-ms",
            expected="measured latencies: it takes several times as long while it looks for a lost target",
            fix="leave one of them out",
        )
    return Protocol(name, DEFAULT_FPS if options.fps is None else options.fps, options.latency_ms)


def _resolved(bundle: Path, backend: Backend) -> Backend:
    if backend != "auto":
        return backend
    from siamtrt.runtime.engines import can_run_engines

    return "tensorrt" if can_run_engines(load_manifest(bundle)) else "onnxruntime"


def _require_names(runs: list[TrackerRun]) -> None:
    names = [run.name.casefold() for run in runs]
    for run in runs:
        if names.count(run.name.casefold()) > 1:
            raise ResultsError(
                "two trackers of one name", received=f"{run.name} twice among the bundles",
                expected="bundles in directories of different names", fix="rename one, or evaluate them one by one",
            )


def _length(sequence: Sequence) -> int:
    if not sequence.init_only:
        return len(sequence.truth_xywh)
    length = sequence.open().length
    if length is None:
        raise ResultsError(
            "unknown number of frames", received=str(sequence.frames), expected="a video that says it, or images",
            fix="extract its frames to a folder",
        )
    return length


def _open_tasks(
    runs: list[TrackerRun], sequences: list[Sequence], frames: dict[str, int], results: Path, protocol: Protocol
) -> list[Task]:
    """What is not done yet, the longest sequences of a tracker first, so that the workers end together."""
    ordered = sorted(sequences, key=lambda sequence: (-frames[sequence.name], sequence.name))
    return [
        Task(run.bundle, run.options["backend"], sequence, results, run.name, protocol, run.watched)
        for run in runs
        for sequence in ordered
        if not sequence_is_done(results, run.name, sequence, frames[sequence.name], protocol)
    ]


def _one_pass_scored(
    runs: list[TrackerRun], sequences: list[Sequence], results: Path, dataset: Path
) -> Evaluation | None:
    known = [sequence for sequence in sequences if not sequence.init_only]
    if not known:
        return None
    truths = truths_of(known)
    frames = {name: len(truth.boxes_xywh) for name, truth in truths.items()}
    scored = [
        TrackerScores(run.name, *one_pass_scores(read_tracks(results, run.name, frames), truths)) for run in runs
    ]
    return one_pass_evaluation(results, dataset, truths, scored)


def _timed(evaluation: Evaluation, results: Path, sequences: list[Sequence], protocol: Protocol) -> Evaluation:
    """With each tracker's times."""
    rows = []
    for row in evaluation.trackers:
        times = {one.name: median_update_ms(times_of(results, row.name, one, protocol)) for one in sequences}
        rows.append(dataclasses.replace(row, update_ms=times))
    return dataclasses.replace(evaluation, trackers=tuple(rows))
