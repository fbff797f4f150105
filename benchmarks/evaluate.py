"""One-pass evaluation of bundles over a dataset, by several processes, that a second run continues."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from siamtrt.backends import Backend
from siamtrt.benchmarks.one_pass import one_pass_scores, truths_of
from siamtrt.benchmarks.otb_files import of_layout
from siamtrt.benchmarks.run_files import (
    TrackerRun,
    begin,
    has_begun,
    is_done,
    locked,
    median_update_ms,
    read_tracks,
    tracker_run,
)
from siamtrt.benchmarks.score_results import Evaluation, TrackerScores, one_pass_evaluation
from siamtrt.benchmarks.workers import THREADS, Task, run_tasks
from siamtrt.errors import ResultsError
from siamtrt.manifest import load_manifest
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.sequences import open_sequences
from siamtrt.runtime.tracker import Tracker


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        backend: "auto" takes TensorRT for all bundles that have an engine for this machine.
        workers: processes, one sequence each at a time.
        layout: of a dataset that holds several, which to take; see `Sequence.layout`.
        progress: show a bar on stderr.
    """

    backend: Backend = "auto"
    workers: int = 1
    layout: str | None = None
    progress: bool = False


def evaluate_bundles(
    bundles: Several[Path], dataset: Path, results: Path, options: Options | None = None
) -> Evaluation | None:
    """Track every sequence with every bundle, write `<results>/<tracker>/<sequence>.txt`, and score what is there.

    Sequences whose file is there are not tracked again. Each file is whole or absent, and the same at any number of
    workers and after any interruption.

    Args:
        bundles: directories written by `siamtrt export`; a tracker is named like its directory.
        dataset: what `open_sequences` takes; where only first boxes are known, for an evaluation server, nothing is
            scored.

    Returns:
        the scores; None where no sequence has ground truth.

    Raises:
        BundleError: no bundle, or an edited one.
        SourceError: no sequences, or unreadable ones, by name.
        ResultsError: two trackers or sequences of one name; results of another bundle, option, version or dataset.
        SiamtrtError: what stopped a sequence, with its name.
    """
    options = options or Options()
    sequences = of_layout(open_sequences([dataset]), options.layout, dataset)
    runs = [tracker_run(bundle, _resolved(bundle, options.backend), THREADS) for bundle in bundles]
    _require_names(runs)
    frames = {sequence.name: _length(sequence) for sequence in sequences}
    for run in runs:
        if not has_begun(results, run):  # nothing is left behind where a bundle does not run here
            Tracker.load(run.bundle, run.options["backend"], threads=THREADS).close()
    with locked(results, [run.name for run in runs]):
        for run in runs:
            begin(results, run)
        tasks = _open_tasks(runs, sequences, frames, results)
        total = len(runs) * len(sequences)
        bar = tqdm(
            total=total, initial=total - len(tasks), unit="sequence", disable=None if options.progress else True
        )
        with bar:
            for task in run_tasks(tasks, options.workers):
                bar.set_postfix_str(f"{task.tracker} {task.sequence.name}", refresh=False)
                bar.update()
        return _scored(runs, sequences, results, dataset)


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
    runs: list[TrackerRun], sequences: list[Sequence], frames: dict[str, int], results: Path
) -> list[Task]:
    """What is not done yet, the longest sequences of a tracker first, so that the workers end together."""
    ordered = sorted(sequences, key=lambda sequence: (-frames[sequence.name], sequence.name))
    return [
        Task(run.bundle, run.options["backend"], sequence, results, run.name)
        for run in runs
        for sequence in ordered
        if not is_done(results, run, sequence, frames[sequence.name])
    ]


def _scored(runs: list[TrackerRun], sequences: list[Sequence], results: Path, dataset: Path) -> Evaluation | None:
    known = [sequence for sequence in sequences if not sequence.init_only]
    if not known:
        return None
    truths = truths_of(known)
    frames = {name: len(truth.boxes_xywh) for name, truth in truths.items()}
    scored = []
    for run in runs:
        means, rows = one_pass_scores(read_tracks(results, run.name, frames), truths)
        times = {name: median_update_ms(results, run.name, name) for name in truths}
        scored.append(TrackerScores(run.name, means, rows, update_ms=times))
    return one_pass_evaluation(results, dataset, truths, scored)
