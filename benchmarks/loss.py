"""Does a tracker know that its target is gone? `python -m siamtrt.benchmarks.loss [BUNDLE] --dataset DIR`.

Measured on every sequence, some of which may have frames without the target (nan), and on cuts, in two variants: until
some frame one sequence, then 40 frames of another, then the first again, either 40 frames later or where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Several
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from siamtrt.backends import BACKENDS, Backend
from siamtrt.benchmarks.cuts import RETURNS, Cut, choose_cuts
from siamtrt.benchmarks.loss_report import as_table, picture_of
from siamtrt.benchmarks.loss_scores import Measured, WatchedRun
from siamtrt.files import require_place, write_whole
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.sequences import open_sequences
from siamtrt.runtime.tracker import Tracker
from siamtrt.runtime.watched import WatchedTracker


def measure(
    watched: WatchedTracker, plain: Tracker, sequences: Several[Sequence], cuts: int, progress: bool = False
) -> Measured:
    """Track every sequence, watched and not, and that many cuts in both variants.

    Args:
        watched, plain: trackers of one bundle.

    Raises:
        SourceError: a sequence cannot be read, or none is long enough for a cut.
    """
    chosen = choose_cuts(sequences, cuts)
    variants = {back: [dataclasses.replace(cut, back=back) for cut in chosen] for back in RETURNS}
    with tqdm(total=len(sequences) + len(RETURNS) * cuts, unit="run", disable=None if progress else True) as bar:
        besides = []
        for sequence in sequences:
            besides.append(run_beside(watched, plain, sequence))
            bar.update()
        runs: dict[str, tuple[WatchedRun, ...]] = {}
        for back, items in variants.items():
            found = []
            for cut in items:
                found.append(run_cut(watched, cut))
                bar.update()
            runs[back] = tuple(found)
    starts = tuple(cut.start for cut in chosen)
    whole, times = zip(*besides, strict=True)
    return Measured(watched.manifest.model, whole, runs, starts, np.concatenate(times))


def run_beside(watched: WatchedTracker, plain: Tracker, sequence: Sequence) -> tuple[WatchedRun, np.ndarray]:
    """Both trackers on a sequence, frame by frame, in an order that changes every frame.

    Returns:
        the run, and (U, 2) milliseconds of each update of both, watched first.
    """
    trackers, truth = (watched, plain), sequence.truth_xywh
    boxes: list[list[object]] = [[], []]
    statuses, times = ["locked"], []
    for number, frame in enumerate(sequence.open()):
        if number == 0:
            for tracker, kept in zip(trackers, boxes, strict=True):
                tracker.init(frame, truth[0].tolist())
                kept.append(truth[0])
            continue
        taken = [0.0, 0.0]
        for turn in (number % 2, 1 - number % 2):
            result = trackers[turn].update(frame)
            boxes[turn].append(result.box_xywh)
            taken[turn] = result.times.total_ms
            if turn == 0:
                statuses.append(result.status)
        times.append(taken)
    ours, others = (np.array(kept, float) for kept in boxes)
    return WatchedRun(sequence.name, tuple(statuses), ours, truth, others), np.array(times)


def run_cut(tracker: WatchedTracker, cut: Cut) -> WatchedRun:
    """The tracker through a cut."""
    statuses, boxes, truths = [], [], []
    for number, (frame, truth) in enumerate(cut.frames()):
        if number == 0:
            tracker.init(frame, truth.tolist())
            status, box = "locked", tuple(truth.tolist())
        else:
            result = tracker.update(frame)
            status, box = result.status, result.box_xywh
        statuses.append(status)
        boxes.append(box)
        truths.append(truth)
    return WatchedRun(cut.name, tuple(statuses), np.array(boxes, float), np.array(truths))


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--dataset", required=True, type=click.Path(path_type=Path), help="Folder of annotated sequences.")
@click.option("--cuts", type=click.IntRange(1), default=20, show_default=True, help="Cuts between two sequences.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path),
    help="Also write OUTPUT.md and OUTPUT.png, the status of every frame.",
)
def main(bundle: Path | None, dataset: Path, cuts: int, backend: Backend, output: Path | None) -> None:
    """Say how soon a tracker notices that its target is gone, and how soon it has it again.

    Without BUNDLE it is the tracker that comes with siamtrt.

    Example: python -m siamtrt.benchmarks.loss nanotrack_v2 --dataset sequences -o out/loss
    """
    paths = [output.with_name(f"{output.name}{suffix}") for suffix in (".md", ".png")] if output else []
    for path in paths:
        require_place(path)
    sequences = open_sequences([dataset])
    with (
        WatchedTracker.load(bundle, backend, threads=1) as watched, Tracker.load(bundle, backend, threads=1) as plain
    ):  # fmt: skip
        measured = measure(watched, plain, sequences, cuts, progress=True)
    table = as_table(measured)
    click.echo(table)
    if paths:
        write_whole(paths[0], f"{table}\n".encode())
        write_whole(paths[1], picture_of(measured))


if __name__ == "__main__":
    main()
