"""Success and precision curves of trackers that `siamtrt eval` scored, from their boxes and the ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrt.benchmarks.metrics import precision_curve, success_curve
from siamtrt.benchmarks.one_pass import COLUMNS, Truth, weighed, with_given_box
from siamtrt.benchmarks.otb_files import find_runs, read_runs, truths_of_description
from siamtrt.benchmarks.report_model import number
from siamtrt.benchmarks.result_files import find_files, read_json
from siamtrt.benchmarks.score_results import Evaluation
from siamtrt.errors import ResultsError, SiamtrtError
from siamtrt.runtime.sequences import find_sequences

PIXELS = np.arange(51.0)  # thresholds of the precision curve, as OTB's toolkit plots it
SAME = 2e-3  # a curve whose mean is further from the score on file belongs to other boxes or another truth


@dataclass(frozen=True)
class TrackerCurves:
    """Means over sequences of the share of frames, at each of `SUCCESS_THRESHOLDS` and of `PIXELS`."""

    name: str
    success: np.ndarray
    precision: np.ndarray


def curves_of(evaluation: Evaluation, folder: Path) -> list[TrackerCurves]:
    """The curves of every tracker of an evaluation whose boxes and dataset are where they were.

    Args:
        folder: of the evaluation's file; its boxes may have been moved together with it.

    Raises:
        SiamtrtError: boxes or dataset are not there, or give other scores now.
    """
    wanted = list(evaluation.trackers[0].sequences)
    if COLUMNS[0] not in evaluation.columns or not wanted:
        raise _no_curves("scores without sequences and success AUC")
    truths = _truths(Path(evaluation.dataset), wanted)
    found = []
    for row in evaluation.trackers:
        tracked = _tracked(evaluation, folder, row.name, truths)
        both = [sequence_curves(tracked[name], truth) for name, truth in truths.items()]
        success, near = (np.nanmean(rows, axis=0) for rows in zip(*both, strict=True))
        recorded = row.scores[evaluation.columns.index(COLUMNS[0])]
        if not abs(success.mean() - recorded) <= SAME:
            raise _no_curves(f"boxes of {row.name} with success AUC {success.mean():.3f}, on file {number(recorded)}")
        found.append(TrackerCurves(row.name, success, near))
    return found


def _truths(dataset: Path, wanted: list[str]) -> dict[str, Truth]:
    if dataset.is_dir():
        found = {one.name: Truth(one.truth_xywh, one.layout) for one in find_sequences(dataset) if one.name in wanted}
    elif dataset.is_file() and dataset.suffix in (".json", ".gz"):
        truths = truths_of_description(read_json(dataset), dataset)
        found = {name: truth for name, truth in truths.items() if name in wanted}
    else:
        raise _no_curves(f"no dataset at {dataset}")
    if missing := sorted(set(wanted) - found.keys()):
        raise _no_curves(f"no sequence {missing[0]} in {dataset}")
    return found


def _tracked(evaluation: Evaluation, folder: Path, tracker: str, truths: Mapping[str, Truth]) -> dict[str, np.ndarray]:
    """(R, F, 4) boxes of R runs by sequence, from beside the evaluation's file, or from where they were scored."""
    for root in _roots(Path(evaluation.results), folder, tracker):
        files = find_files(root)
        paths = find_runs(files, list(truths)).get(tracker)
        if paths:
            with files.open() as opened:
                return {name: read_runs(opened, paths[name], len(truths[name].boxes_xywh)) for name in truths}
    raise _no_curves(f"no boxes of {tracker} in {evaluation.results}")


def _roots(results: Path, folder: Path, tracker: str) -> Iterator[Path]:
    """The tracker's own folder before one with others, of which some may be unfinished."""
    if Path(tracker).name == tracker != "..":  # a name from a file does not lead elsewhere
        yield from (root / tracker for root in (folder, results) if (root / tracker).is_dir())
    if results.exists():
        yield results


def sequence_curves(runs_xywh: np.ndarray, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Success and precision curves of (R, F, 4) boxes, means over runs; frames count as in `one_pass`."""
    success, near = weighed(with_given_box(runs_xywh, truth), truth, (success_curve, _near))
    return success, near


def _near(tracked_xywh: np.ndarray, truth_xywh: np.ndarray) -> np.ndarray:
    return precision_curve(tracked_xywh, truth_xywh, PIXELS)


def _no_curves(received: str) -> SiamtrtError:
    return ResultsError(
        "no curves can be drawn", received=received, expected="boxes and ground truth where they were scored",
        fix="run the report where `siamtrt eval` ran, or evaluate again",
    )
