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
    """One sequence's boxes (F, 4), metrics, and the time of each update (F - 1,)."""

    name: str
    boxes_xywh: np.ndarray
    success_auc: float
    precision: float
    update_ms: np.ndarray


def score_sequence(tracker: Tracker, sequence: Sequence) -> Score:
    """Track a sequence from its first box, which is the first row of its boxes, and score it."""
    truth = sequence.truth_xywh
    tracked = tracked_frames(tracker, sequence.open(), lambda frame: truth[0].tolist())
    rows = [(frame.box_xywh, frame.result.times.total_ms if frame.result else None) for frame in tracked]
    boxes, times = np.array([box for box, _ in rows]), np.array([time for _, time in rows[1:]])
    return Score(sequence.name, boxes, success_auc(boxes, truth), precision(boxes, truth), times)


def score_sequences(tracker: Tracker, sequences: list[Sequence], progress: bool = False) -> list[Score]:
    """Track and score every sequence."""
    watched = tqdm(sequences, unit="sequence", disable=None if progress else True)
    return [score_sequence(tracker, sequence) for sequence in watched]


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
