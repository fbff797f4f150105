"""One-pass accuracy of a bundle: `python -m siamtrt.benchmarks.accuracy BUNDLE --sequences DIR`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from siamtrt.backends import BACKENDS, Backend
from siamtrt.benchmarks.metrics import precision, success_auc
from siamtrt.runtime.sequences import Sequence, find_sequences
from siamtrt.runtime.track import tracked_frames
from siamtrt.runtime.tracker import Tracker


@dataclass(frozen=True)
class Score:
    """One sequence's boxes (F, 4) and metrics."""

    name: str
    boxes_xywh: np.ndarray
    success_auc: float
    precision: float


def run_sequence(tracker: Tracker, sequence: Sequence) -> np.ndarray:
    """Track a sequence from its first box: (F, 4) xywh, the first row being that box."""
    tracked = tracked_frames(tracker, sequence.open(), lambda frame: sequence.truth_xywh[0].tolist())
    return np.array([frame.box_xywh for frame in tracked])


def score_sequences(tracker: Tracker, sequences: list[Sequence], progress: bool = False) -> list[Score]:
    """Track and score every sequence."""
    scores = []
    for sequence in tqdm(sequences, unit="sequence", disable=None if progress else True):
        boxes, truth = run_sequence(tracker, sequence), sequence.truth_xywh
        scores.append(Score(sequence.name, boxes, success_auc(boxes, truth), precision(boxes, truth)))
    return scores


def as_table(scores: list[Score]) -> str:
    """Markdown: a row a sequence, then the means."""
    rows = [(s.name, s.success_auc, s.precision) for s in scores]
    means = np.mean([row[1:] for row in rows], axis=0).tolist()
    rows.append(("**mean**", means[0], means[1]))
    lines = ["| sequence | success AUC | precision at 20 px |", "|---|---|---|"]
    return "\n".join(lines + [f"| {name} | {auc:.4f} | {near:.4f} |" for name, auc, near in rows])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--sequences", required=True, type=click.Path(path_type=Path), help="Folder of annotated sequences.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True)
def main(bundle: Path, sequences: Path, backend: Backend) -> None:
    """Track every sequence below a folder once and print success AUC and precision."""
    with Tracker.load(bundle, backend) as tracker:
        click.echo(as_table(score_sequences(tracker, find_sequences(sequences), progress=True)))


if __name__ == "__main__":
    main()
