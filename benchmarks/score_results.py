"""Scores of any tracker's result files against a dataset: what `siamtrt eval --results` prints."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from siamtrt.benchmarks.one_pass import Truth, columns_of, one_pass_scores, truths_of
from siamtrt.benchmarks.otb_files import boxes_of_description, find_boxes, read_boxes, sequences_of_folder
from siamtrt.benchmarks.result_files import OpenFiles, ResultFiles, find_files, read_json
from siamtrt.benchmarks.vot import INTERVALS, Run, VotScores, run_of, score_runs
from siamtrt.benchmarks.vot_files import (
    VotSequence,
    find_trajectories,
    is_vot_description,
    read_trajectory,
    sequences_of,
)
from siamtrt.errors import ResultsError
from siamtrt.files import write_whole

YEAR = re.compile(r"vot[-_ ]?(\d{4})(?!\d)", re.I)
VOT_SCORES = ("EAO", "accuracy", "robustness", "lost number")


@dataclass(frozen=True)
class TrackerScores:
    """A tracker's scores, one for each of `Evaluation.columns`; the first is the one trackers are sorted by.

    Attributes:
        sequences: the same by sequence, where scores by sequence mean something.
        curve: expected overlap over sequences of 1, 2, ... frames; VOT only.
        update_ms: median time of an update by sequence; where the tracker was run here.
    """

    name: str
    scores: tuple[float, ...]
    sequences: dict[str, tuple[float, ...]] = field(default_factory=dict)
    curve: list[float] = field(default_factory=list)
    update_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Trackers on a dataset, best first.

    Attributes:
        results, dataset: where they were read from.
        columns: names of the scores.
        interval: shortest and longest sequence of the expected average overlap, in frames; VOT only.
    """

    results: str
    dataset: str
    columns: tuple[str, ...]
    sequences: int
    frames: int
    interval: tuple[int, int] | None
    trackers: tuple[TrackerScores, ...]


def score_results(
    results: Path, dataset: Path, interval: tuple[int, int] | None = None, progress: bool = False,
    layout: str | None = None,
) -> Evaluation:  # fmt: skip
    """Score every tracker of a folder or .zip of result files.

    Args:
        results: of VOT's supervised layout for a VOT description, of OTB's otherwise.
        dataset: a VOT or OTB description in pysot's form (.json, gzipped or not), or a folder of annotated sequences.
        interval: of the expected average overlap; by default that of the year in the description's name.
        layout: of a folder that holds several, which to score; see `Sequence.layout`.

    Raises:
        ResultsError: files that are missing, unreadable or do not fit each other; a VOT year that is not known.
        SourceError: a folder without annotated sequences.
    """
    files = find_files(results)
    if dataset.is_dir():
        return _score_boxes(files, dataset, truths_of(sequences_of_folder(dataset, layout)), progress)
    content = read_json(dataset)
    if not is_vot_description(content):
        boxes = boxes_of_description(content, dataset)
        return _score_boxes(files, dataset, {name: Truth(rows) for name, rows in boxes.items()}, progress)
    chosen = interval or interval_of(dataset)
    return _score_vot(files, dataset, sequences_of(content, dataset), chosen, progress)


def interval_of(dataset: Path) -> tuple[int, int]:
    """The interval of the year that a description's name holds, `VOT2018.json.gz`.

    Raises:
        ResultsError: no year, or none of `INTERVALS`.
    """
    match = YEAR.search(dataset.name)
    if not match or int(match[1]) not in INTERVALS:
        raise ResultsError(
            "no interval for the expected average overlap", received=dataset.name,
            expected=f"a name with VOT and a year of {', '.join(map(str, INTERVALS))}",
            fix="rename the description, or give --interval LOW HIGH",
        )
    return INTERVALS[int(match[1])]


def _score_vot(
    files: ResultFiles, dataset: Path, sequences: list[VotSequence], interval: tuple[int, int], progress: bool
) -> Evaluation:
    frames = [len(sequence.truth) for sequence in sequences]
    if not 1 < interval[0] <= min(interval[1], max(frames)):
        raise ResultsError(
            "no sequence in the interval of the expected average overlap",
            received=f"{interval[0]} to {interval[1]} frames, the longest sequence having {max(frames)}",
            expected="1 < LOW <= HIGH, and a sequence of LOW frames or more", fix="give --interval LOW HIGH",
        )  # fmt: skip
    found = find_trajectories(files, sequences)
    scored = []
    with files.open() as opened, _bar(len(found) * len(sequences), progress) as bar:
        for tracker, paths in found.items():
            runs = {}
            for sequence in sequences:
                runs[sequence.name] = [_run(opened, path, sequence) for path in paths[sequence.name]]
                bar.update()
            scored.append(_vot_row(tracker, score_runs(runs, interval)))
    return _evaluation(files.root, dataset, VOT_SCORES, frames, interval, scored)


def _run(opened: OpenFiles, path: str, sequence: VotSequence) -> Run:
    return run_of(read_trajectory(opened, path, sequence), sequence.truth, sequence.frame_size)


def _vot_row(tracker: str, scores: VotScores) -> TrackerScores:
    shown = scores.eao, scores.accuracy, scores.robustness, scores.lost_number
    return TrackerScores(tracker, shown, curve=scores.curve.tolist())


def _score_boxes(files: ResultFiles, dataset: Path, truths: dict[str, Truth], progress: bool) -> Evaluation:
    found = find_boxes(files, list(truths))
    scored = []
    with files.open() as opened, _bar(len(found) * len(truths), progress) as bar:
        for tracker, paths in found.items():
            tracked = {}
            for name, truth in truths.items():
                tracked[name] = read_boxes(opened, paths[name], len(truth.boxes_xywh))
                bar.update()
            scored.append(TrackerScores(tracker, *one_pass_scores(tracked, truths)))
    return one_pass_evaluation(files.root, dataset, truths, scored)


def one_pass_evaluation(
    results: Path, dataset: Path, truths: dict[str, Truth], scored: list[TrackerScores]
) -> Evaluation:
    """Trackers that saw every frame once, best first."""
    frames = [len(truth.boxes_xywh) for truth in truths.values()]
    return _evaluation(results, dataset, columns_of(truths), frames, None, scored)


def _bar(total: int, progress: bool) -> tqdm[Any]:
    return tqdm(total=total, unit="sequence", disable=None if progress else True)


def _evaluation(
    results: Path, dataset: Path, columns: tuple[str, ...], frames: list[int],
    interval: tuple[int, int] | None, scored: list[TrackerScores],
) -> Evaluation:  # fmt: skip
    ranked = sorted(scored, key=lambda row: (-row.scores[0], row.name))
    return Evaluation(str(results), str(dataset), columns, len(frames), sum(frames), interval, tuple(ranked))


def as_table(evaluation: Evaluation) -> str:
    """Markdown: a line a tracker, best first, to three decimals."""
    lines = [
        f"| tracker | {' | '.join(evaluation.columns)} |",
        f"|---|{'---|' * len(evaluation.columns)}",
        *(f"| {row.name} | {' | '.join(f'{score:.3f}' for score in row.scores)} |" for row in evaluation.trackers),
    ]
    return "\n".join(lines) + "\n"


def as_markdown(evaluation: Evaluation) -> str:
    """The table, what it was made from, and for boxes a table by sequence."""
    low_high = "EAO over sequences of {} to {} frames; robustness is failures per 100 frames."
    amount = f"{evaluation.sequences} sequences, {evaluation.frames:,} frames"
    blocks = [
        as_table(evaluation),
        f"{evaluation.results} on {evaluation.dataset}: {amount}.",
        *([low_high.format(*evaluation.interval)] if evaluation.interval else []),
    ]
    if evaluation.trackers[0].sequences:
        blocks.append(_by_sequence(evaluation))
    return "\n\n".join(block.rstrip("\n") for block in blocks) + "\n"


def _by_sequence(evaluation: Evaluation) -> str:
    names = [row.name for row in evaluation.trackers]
    lines = [f"| {evaluation.columns[0]} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for sequence in evaluation.trackers[0].sequences:
        scores = [f"{row.sequences[sequence][0]:.3f}" for row in evaluation.trackers]
        lines.append(f"| {sequence} | {' | '.join(scores)} |")
    return "\n".join(lines)


def report_paths(stem: Path) -> tuple[Path, Path]:
    """The two files of a report."""
    return stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.md")


def save_report(evaluation: Evaluation, stem: Path) -> tuple[Path, Path]:
    """Write STEM.json, every score unrounded, and STEM.md.

    Raises:
        SiamtrtError: a file cannot be written.
    """
    as_json, markdown = report_paths(stem)
    write_whole(as_json, (json.dumps(_plain(evaluation), indent=1) + "\n").encode())
    write_whole(markdown, as_markdown(evaluation).encode())
    return as_json, markdown


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    def named(scores: tuple[float, ...]) -> dict[str, float | None]:
        return {
            name: score if np.isfinite(score) else None
            for name, score in zip(evaluation.columns, scores, strict=True)
        }

    trackers = [
        {
            "name": row.name, **named(row.scores),
            **({"sequences": {name: named(scores) for name, scores in row.sequences.items()}} if row.sequences else {}),
            **({"curve": row.curve} if row.curve else {}),
            **({"update_ms": row.update_ms} if row.update_ms else {}),
        }
        for row in evaluation.trackers
    ]  # fmt: skip
    kept = ("results", "dataset", "sequences", "frames", "interval")
    return {**{key: getattr(evaluation, key) for key in kept}, "trackers": trackers}
