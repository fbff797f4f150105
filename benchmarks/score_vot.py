"""VOT's scores of the result files of a folder or .zip, for each tracker in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from siamtrt.benchmarks.long_term import LongTermRun, LongTermScores, long_term_run_of, score_long_term
from siamtrt.benchmarks.protocols import LONG_TERM, ONE_PASS
from siamtrt.benchmarks.result_files import OpenFiles, ResultFiles
from siamtrt.benchmarks.vot import INTERVALS, Run, VotScores, run_of, score_runs
from siamtrt.benchmarks.vot_files import (
    VotSequence,
    confidences_name,
    find_trajectories,
    read_confidences,
    read_trajectory,
)
from siamtrt.errors import ResultsError

AnyRun = TypeVar("AnyRun", Run, LongTermRun)
YEAR = re.compile(r"vot[-_ ]?(\d{4})(?!\d)", re.I)


def interval_of(dataset: Path) -> tuple[int, int]:
    """The interval of the year that a description's or a folder's name holds, `VOT2018.json.gz`.

    Raises:
        ResultsError: no year, or none of `INTERVALS`.
    """
    match = YEAR.search(dataset.resolve().name)
    if not match or int(match[1]) not in INTERVALS:
        raise ResultsError(
            "no interval for the expected average overlap", received=dataset.name,
            expected=f"a name with VOT and a year of {', '.join(map(str, INTERVALS))}",
            fix="rename the dataset, or give --interval LOW HIGH",
        )
    return INTERVALS[int(match[1])]


def chosen_interval(
    interval: tuple[int, int] | None, dataset: Path, protocol: str, frames: list[int]
) -> tuple[int, int] | None:
    """The given interval, else the one of the dataset's year; None of a long-term evaluation, which has none.

    Args:
        frames: lengths of the sequences.

    Raises:
        ResultsError: one where none belongs; no year; no sequence as long as the interval's shortest.
    """
    if protocol in (ONE_PASS, LONG_TERM):
        if interval:
            raise ResultsError(
                f"{protocol} evaluation with an interval", received="--interval, which is VOT's", expected="none",
                fix="leave it out, or choose --protocol supervised",
            )  # fmt: skip
        return None
    interval, longest = interval or interval_of(dataset), max(frames)
    if not 1 < interval[0] <= min(interval[1], longest):
        raise ResultsError(
            "no sequence in the interval of the expected average overlap",
            received=f"{interval[0]} to {interval[1]} frames, the longest sequence having {longest}",
            expected="1 < LOW <= HIGH, and a sequence of LOW frames or more", fix="give --interval LOW HIGH",
        )  # fmt: skip
    return interval


def vot_scores(
    files: ResultFiles, sequences: list[VotSequence], protocol: str, interval: tuple[int, int], progress: bool
) -> dict[str, VotScores]:
    """By tracker, of its supervised or real-time runs.

    Raises:
        ResultsError: files that are missing or cannot be scored.
    """
    found = find_trajectories(files, sequences, protocol)
    trackers = _runs_of_trackers(files, found, sequences, _supervised_run, progress)
    return {tracker: score_runs(runs, interval) for tracker, runs in trackers}


def _runs_of_trackers(
    files: ResultFiles, found: Mapping[str, Mapping[str, list[str]]], sequences: list[VotSequence],
    read: Callable[[OpenFiles, str, VotSequence], AnyRun], progress: bool,
) -> Iterator[tuple[str, dict[str, list[AnyRun]]]]:  # fmt: skip
    """Each tracker with its runs by sequence, read while a bar counts sequences."""
    with files.open() as opened, sequence_bar(len(found) * len(sequences), progress) as bar:
        for tracker, paths in found.items():
            runs = {}
            for sequence in sequences:
                runs[sequence.name] = [read(opened, path, sequence) for path in paths[sequence.name]]
                bar.update()
            yield tracker, runs


def sequence_bar(total: int, progress: bool, done: int = 0) -> tqdm[Any]:
    """A bar on stderr that counts sequences, from those already done on, where wanted."""
    return tqdm(total=total, initial=done, unit="sequence", disable=None if progress else True)


def _supervised_run(opened: OpenFiles, path: str, sequence: VotSequence) -> Run:
    return run_of(read_trajectory(opened, path, len(sequence.truth)), sequence.truth, sequence.frame_size)


def long_term_scores(files: ResultFiles, sequences: list[VotSequence], progress: bool) -> dict[str, LongTermScores]:
    """By tracker, of its long-term runs.

    Raises:
        ResultsError: files that are missing or cannot be scored.
    """
    found = find_trajectories(files, sequences, LONG_TERM)
    _require_confidences(files, found)
    trackers = _runs_of_trackers(files, found, sequences, _long_term_run, progress)
    return {tracker: score_long_term(runs) for tracker, runs in trackers}


def _long_term_run(opened: OpenFiles, path: str, sequence: VotSequence) -> LongTermRun:
    frames = len(sequence.truth)
    confidences = read_confidences(opened, confidences_name(path), frames)
    trajectory = read_trajectory(opened, path, frames, LONG_TERM)
    return long_term_run_of(trajectory, confidences, sequence.truth, sequence.frame_size)


def _require_confidences(files: ResultFiles, found: Mapping[str, Mapping[str, list[str]]]) -> None:
    paths = [path for sequences in found.values() for repeated in sequences.values() for path in repeated]
    missing = sorted({confidences_name(path) for path in paths} - {*files.names})
    if missing:
        raise ResultsError(
            "results without confidences", received=f"no {missing[0]} in {files.root}",
            expected="a confidence a line beside every long-term result", fix="add them, or choose another --protocol",
        )  # fmt: skip
