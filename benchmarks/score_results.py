"""Scores of any tracker's result files against a dataset: what `siamtrt eval --results` prints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.benchmarks.attributes import attribute_table, grouped, scores_by_attribute
from siamtrt.benchmarks.one_pass import Truth, columns_of, one_pass_scores, truths_of
from siamtrt.benchmarks.otb_files import find_runs, read_runs, sequences_of_folder, truths_of_description
from siamtrt.benchmarks.protocols import ONE_PASS, SUPERVISED, implied_protocol
from siamtrt.benchmarks.result_files import ResultFiles, find_files, read_json
from siamtrt.benchmarks.score_vot import chosen_interval, long_term_scores, sequence_bar, vot_scores
from siamtrt.benchmarks.vot import VotScores
from siamtrt.benchmarks.vot_files import (
    VotSequence,
    is_vot_description,
    sequences_of,
    sequences_of_videos,
    without_experiments,
)
from siamtrt.files import write_whole

VOT_SCORES = ("EAO", "accuracy", "robustness", "lost number")
LONG_TERM_SCORES = ("F-score", "precision", "recall")


@dataclass(frozen=True)
class TrackerScores:
    """A tracker's scores, one for each of `Evaluation.columns`; the first is the one trackers are sorted by.

    Attributes:
        sequences: the same by sequence, where scores by sequence mean something.
        curve: expected overlap over sequences of 1, 2, ... frames; VOT only.
        update_ms: median time of an update by sequence; where the tracker was run here.
        attributes: scores by attribute, where the dataset has them.
    """

    name: str
    scores: tuple[float, ...]
    sequences: dict[str, tuple[float, ...]] = field(default_factory=dict)
    curve: list[float] = field(default_factory=list)
    update_ms: dict[str, float] = field(default_factory=dict)
    attributes: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Trackers on a dataset, best first.

    Attributes:
        results, dataset: where they were read from.
        columns: names of the scores.
        interval: shortest and longest sequence of the expected average overlap, in frames; VOT only.
        attributes: number of sequences of each, where the dataset has them.
        protocol: see `Protocol.name`.
        watched: whether the trackers were run here, each as a `WatchedTracker`.
    """

    results: str
    dataset: str
    columns: tuple[str, ...]
    sequences: int
    frames: int
    interval: tuple[int, int] | None
    trackers: tuple[TrackerScores, ...]
    attributes: dict[str, int] = field(default_factory=dict)
    protocol: str = ONE_PASS
    watched: bool = False


def score_results(
    results: Path, dataset: Path, interval: tuple[int, int] | None = None, progress: bool = False,
    layout: str | None = None, protocol: str | None = None,
) -> Evaluation:  # fmt: skip
    """Score every tracker of a folder or .zip of result files.

    Args:
        results: in VOT's layout for a VOT dataset, of OTB's otherwise.
        dataset: a VOT or OTB description in pysot's form (.json, gzipped or not), or a folder of annotated sequences.
        interval: of the expected average overlap; by default that of the year in the dataset's name.
        layout: of a folder that holds several, which to score; see `Sequence.layout`.
        protocol: which of a tracker's results to score, see `Protocol`; by default what the dataset implies.

    Raises:
        ResultsError: files that are missing, unreadable or do not fit each other; a VOT year that is not known.
        SourceError: a folder without annotated sequences.
    """
    files = find_files(results)
    if dataset.is_dir():
        videos = sequences_of_folder(dataset, layout)
        protocol = protocol or implied_protocol(videos)
        if protocol == ONE_PASS:
            return _score_boxes(files, dataset, truths_of(videos), progress)
        return _score_vot(files, dataset, sequences_of_videos(videos, protocol), protocol, interval, progress)
    content = read_json(dataset)
    protocol = protocol or (SUPERVISED if is_vot_description(content) else ONE_PASS)
    if protocol == ONE_PASS:
        return _score_boxes(files, dataset, truths_of_description(content, dataset, layout), progress)
    return _score_vot(files, dataset, sequences_of(content, dataset, protocol), protocol, interval, progress)


def _score_vot(
    files: ResultFiles, dataset: Path, sequences: list[VotSequence], protocol: str,
    interval: tuple[int, int] | None, progress: bool,
) -> Evaluation:  # fmt: skip
    chosen = chosen_interval(interval, dataset, protocol, [len(sequence.truth) for sequence in sequences])
    return vot_evaluation(files.root, [files], dataset, sequences, protocol, chosen, progress)


def vot_evaluation(
    root: Path, results: Iterable[ResultFiles], dataset: Path, sequences: list[VotSequence], protocol: str,
    interval: tuple[int, int] | None, progress: bool,
) -> Evaluation:  # fmt: skip
    """Trackers run under one of VOT's protocols, best first.

    Args:
        root: of all results, for the report.
        results: every tracker in them is scored.
        interval: see `chosen_interval`.

    Raises:
        ResultsError: files that are missing or cannot be scored.
    """
    scored: list[TrackerScores] = []
    for files in results:
        if interval:
            found = vot_scores(files, sequences, protocol, interval, progress)
            scored += [_vot_row(tracker, scores) for tracker, scores in found.items()]
        else:
            long_term = long_term_scores(files, sequences, progress)
            scored += [
                TrackerScores(tracker, (scores.f_score, scores.precision, scores.recall))
                for tracker, scores in long_term.items()
            ]
    columns = VOT_SCORES if interval else LONG_TERM_SCORES
    frames = [len(sequence.truth) for sequence in sequences]
    return _evaluation(root, dataset, columns, frames, interval, scored, protocol)


def _vot_row(tracker: str, scores: VotScores) -> TrackerScores:
    shown = scores.eao, scores.accuracy, scores.robustness, scores.lost_number
    return TrackerScores(tracker, shown, curve=scores.curve.tolist())


def _score_boxes(files: ResultFiles, dataset: Path, truths: dict[str, Truth], progress: bool) -> Evaluation:
    files = without_experiments(files)
    found = find_runs(files, list(truths))
    scored = []
    with files.open() as opened, sequence_bar(len(found) * len(truths), progress) as bar:
        for tracker, paths in found.items():
            tracked = {}
            for name, truth in truths.items():
                tracked[name] = read_runs(opened, paths[name], len(truth.boxes_xywh))
                bar.update()
            scored.append(TrackerScores(tracker, *one_pass_scores(tracked, truths)))
    return one_pass_evaluation(files.root, dataset, truths, scored)


def one_pass_evaluation(
    results: Path, dataset: Path, truths: dict[str, Truth], scored: list[TrackerScores]
) -> Evaluation:
    """Trackers that saw every frame once, best first."""
    frames = [len(truth.boxes_xywh) for truth in truths.values()]
    groups = grouped({name: truth.attributes for name, truth in truths.items()})
    scored = [replace(row, attributes=scores_by_attribute(row.sequences, groups)) for row in scored]
    evaluation = _evaluation(results, dataset, columns_of(truths), frames, None, scored)
    return replace(evaluation, attributes={name: len(members) for name, members in groups.items()})


def _evaluation(
    results: Path, dataset: Path, columns: tuple[str, ...], frames: list[int],
    interval: tuple[int, int] | None, scored: list[TrackerScores], protocol: str = ONE_PASS,
) -> Evaluation:  # fmt: skip
    ranked = sorted(scored, key=lambda row: (-row.scores[0], row.name))
    rows = tuple(ranked)
    return Evaluation(
        str(results), str(dataset), columns, len(frames), sum(frames), interval, rows, protocol=protocol
    )


def as_table(evaluation: Evaluation) -> str:
    """Markdown: a line a tracker, best first, to three decimals."""
    lines = [
        f"| tracker | {' | '.join(evaluation.columns)} |",
        f"|---|{'---|' * len(evaluation.columns)}",
        *(f"| {row.name} | {' | '.join(f'{score:.3f}' for score in row.scores)} |" for row in evaluation.trackers),
    ]
    return "\n".join(lines) + "\n"


def as_markdown(evaluation: Evaluation) -> str:
    """The table, what it was made from, and for boxes a table by sequence, and by attribute where these are known."""
    low_high = "EAO over sequences of {} to {} frames; robustness is failures per 100 frames."
    amount = f"{evaluation.sequences} sequences, {evaluation.frames:,} frames"
    blocks = [
        as_table(evaluation),
        f"{evaluation.results} on {evaluation.dataset}: {amount}.",
        *([low_high.format(*evaluation.interval)] if evaluation.interval else []),
    ]
    if evaluation.trackers[0].sequences:
        blocks.append(_by_sequence(evaluation))
    if evaluation.attributes:
        rows = {row.name: row.attributes for row in evaluation.trackers}
        blocks.append(attribute_table(evaluation.columns[0], evaluation.attributes, rows))
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
            **({"attributes": {key: named(part) for key, part in row.attributes.items()}} if row.attributes else {}),
            **({"curve": row.curve} if row.curve else {}),
            **({"update_ms": row.update_ms} if row.update_ms else {}),
        }
        for row in evaluation.trackers
    ]  # fmt: skip
    kept = ("results", "dataset", "protocol", "sequences", "frames", "interval")
    attributes = {"attributes": evaluation.attributes} if evaluation.attributes else {}
    watched = {"watched": True} if evaluation.watched else {}
    return {**{key: getattr(evaluation, key) for key in kept}, **watched, **attributes, "trackers": trackers}
