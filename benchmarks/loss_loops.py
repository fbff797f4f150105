"""Which thresholds of `LossDetection` suit a tracker? `python -m siamtrt.benchmarks.loss_loops [BUNDLE] --data DIR`.

The weights come from single frames (training/loss_fit.py); what a threshold of their running mean does shows only where
the tracker goes on from what it found.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from siamtrt.benchmarks.loss_scores import WITHIN_LOCKED, WITHIN_LOST, WatchedRun, absences_of, false_losses
from siamtrt.benchmarks.loss_videos import Film, cut_films, whole_films
from siamtrt.benchmarks.metrics import success_auc
from siamtrt.errors import BoxError, FrameError, SiamtrtError
from siamtrt.files import require_place, write_whole
from siamtrt.fitted_loss import FITTER, loss_for
from siamtrt.runtime.state import TargetState
from siamtrt.runtime.watched import WatchedTracker, looked_for
from siamtrt.tracking import LossDetection
from siamtrt.training.loss_evidence import FEWEST_VIDEOS, tracks_of, unfollowed

ENOUGH_NOTICED = 0.9  # of the disappearances, for thresholds to be chosen
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)  # by which `lost` is below `sought`, where none is named


class Looped(WatchedTracker):
    """Says what its last update would have come to with other thresholds."""

    def state_with(self, policy: LossDetection) -> TargetState:
        """With another `lost`."""
        return looked_for(self._watch, policy) if self._watch and self._watch.candidate else self.state

    def with_policy(self, policy: LossDetection) -> Looped:
        """Another tracker with the same sessions, which are closed with this one.

        Raises:
            SiamtrtError: this tracker cannot have loss detection, or not with these numbers.
        """
        strategies = dataclasses.replace(self.manifest.strategies, loss=policy)
        try:
            return Looped(dataclasses.replace(self.manifest, strategies=strategies), self._sessions)
        except ValueError as error:
            raise SiamtrtError(
                "loss detection that cannot be used", received=f"{policy} ({error})",
                expected=f"what {self.manifest.model} can have", fix="correct the numbers, or name another bundle",
            ) from error  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What two thresholds come to; shares in [0, 1].

    Attributes:
        sought, lost: the thresholds.
        false_loss: of the frames of films without a cut, those with LOST.
        noticed: of the disappearances, those with LOST in time.
        regained: of them, those with LOCKED on the target in time after its return.
        away: of the frames without the target, those with LOST, the mean over the disappearances.
        auc: success AUC, the mean over the films without a cut.
    """

    sought: float
    lost: float
    false_loss: float
    noticed: float
    regained: float
    away: float
    auc: float


def runs_of(tracker: Looped, film: Film, policies: Sequence[LossDetection]) -> list[WatchedRun]:
    """One run, and what it would be with each of several policies that differ from the tracker's in `lost` alone.

    That says what is shown of a target that is looked for, not where it is looked for next.

    Raises:
        TrainingError: an unreadable image, frames of different sizes, a first box outside its frame.
    """
    truths: list[np.ndarray] = []
    states: list[list[TargetState]] = []
    try:
        for frame, truth in film.frames():
            if truths:
                tracker.update(frame)
                states.append([tracker.state_with(policy) for policy in policies])
            else:
                tracker.init(frame, truth.tolist())
            truths.append(truth)
    except (FrameError, BoxError) as error:
        raise unfollowed(film.name, error) from error
    return [
        WatchedRun(
            film.name, ("locked", *(state.status for state in several)),
            np.array([truths[0], *(state.box_xywh for state in several)]), np.array(truths),
        )
        for several in zip(*states, strict=True)
    ]  # fmt: skip


def measured(
    tracker: Looped, policies: Sequence[LossDetection], whole: Sequence[Film], cut: Sequence[Film],
    progress: bool = False,
) -> list[Row]:  # fmt: skip
    """A row for each policy; a run serves all that differ in `lost` alone.

    Args:
        tracker: whose sessions are used.
        whole, cut: films without a cut, and with one.

    Raises:
        SiamtrtError: see `Looped.with_policy` and `runs_of`.
    """
    groups: dict[LossDetection, list[LossDetection]] = {}
    for policy in policies:
        groups.setdefault(dataclasses.replace(policy, lost=policy.sought), []).append(policy)
    rows = {}
    with tqdm(total=len(groups) * (len(whole) + len(cut)), unit="run", disable=None if progress else True) as bar:
        for common, group in groups.items():
            looped = tracker.with_policy(common)
            found: list[list[WatchedRun]] = []
            for film in (*whole, *cut):
                found.append(runs_of(looped, film, group))
                bar.update()
            for policy, runs in zip(group, zip(*found, strict=True), strict=True):
                rows[policy] = row_of(policy, runs[: len(whole)], runs[len(whole) :])
    return [rows[policy] for policy in policies]


def row_of(policy: LossDetection, whole: Sequence[WatchedRun], cut: Sequence[WatchedRun]) -> Row:
    """Scores of the runs with a policy."""
    false = false_losses(whole)
    absences = [absence for run in cut for absence in absences_of(run)]
    shares = [(absence.noticed, absence.regained, absence.lost_share) for absence in absences]
    noticed, regained, away = np.mean(shares, axis=0).tolist()
    auc = float(np.mean([success_auc(run.boxes_xywh, run.truth_xywh) for run in whole]))
    return Row(policy.sought, policy.lost, false.lost / false.visible, noticed, regained, away, auc)


def chosen(rows: Sequence[Row]) -> Row | None:
    """Of those that notice enough disappearances the one that is LOST least often where the target is there.

    Among equals it is the one that has the target again more often, then the first; None where none notices enough.
    """
    enough = [row for row in rows if row.noticed >= ENOUGH_NOTICED]
    return min(enough, key=lambda row: (row.false_loss, -row.regained), default=None)


def policies_of(policy: LossDetection, sought: Sequence[float], lost: Sequence[float]) -> list[LossDetection]:
    """Every pair of thresholds in which `lost` is at most `sought`, once; of none the policy's, and some below it.

    Raises:
        SiamtrtError: there is no such pair.
    """
    sought = sought or (policy.sought,)
    pairs = [
        (first, second) for first in sought
        for second in lost or [first - step for step in STEPS] if second <= first
    ]  # fmt: skip
    if not pairs:
        raise SiamtrtError(
            "no thresholds to try", received=f"sought {list(sought)}, lost {list(lost)}",
            expected="a lost that is at most sought", fix="lower --lost, or raise --sought",
        )
    return [dataclasses.replace(policy, sought=first, lost=second) for first, second in dict.fromkeys(pairs)]


def as_table(rows: Sequence[Row], disappearances: int) -> str:
    """Markdown, and which row it would be."""
    lines = [
        f"| sought | lost | LOST though it is there | LOST within {WITHIN_LOST} frames of its disappearance "
        f"| LOCKED on it within {WITHIN_LOCKED} frames of its return | LOST while it is away | success AUC |",
        "|---|---|---|---|---|---|---|",
        *map(_line, rows),
    ]
    best, enough = chosen(rows), f"{100 * ENOUGH_NOTICED:.0f} % of {disappearances} disappearances noticed in time"
    if best is None:
        return "\n".join([*lines, "", f"None of these has {enough}: raise lost, and sought where it is in the way."])
    pair = f"sought {best.sought:g} and lost {best.lost:g}"
    return "\n".join([*lines, "", f"Of those with {enough}, {pair} say LOST least often where the target is there."])


def _line(row: Row) -> str:
    shares = (f"{100 * share:.1f} %" for share in (row.false_loss, row.noticed, row.regained, row.away))
    return f"| {row.sought:g} | {row.lost:g} | {' | '.join(shares)} | {row.auc:.3f} |"


def experiment(
    bundle: Path | None, data: Path, fit: Path | None, sought: Sequence[float], lost: Sequence[float], videos: int,
    seed: int,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """What the command finds, as a JSON object and as text.

    Raises:
        SiamtrtError: no loss detection to begin with; whatever else cannot be read or used.
    """
    tracks = tracks_of(data, videos, seed)
    with Looped.load(bundle, threads=1) as tracker:
        policy = loss_for(tracker.manifest, fit) if fit else tracker.manifest.strategies.loss
        if policy is None:
            raise SiamtrtError(
                "this tracker has no loss detection", received=tracker.manifest.model,
                expected="`loss` among its strategies, or --fit",
                fix=f"fit it first: {FITTER} BUNDLE --data DIR -o FIT",
            )  # fmt: skip
        policies = policies_of(policy, sought, lost)
        for one in policies:
            tracker.with_policy(one)  # none fails after minutes
        whole, cut = whole_films(tracks, seed), cut_films(tracks, seed)
        rows = measured(tracker, policies, whole, cut, progress=True)
        manifest = tracker.manifest
    best = chosen(rows)
    plain = {
        "model": manifest.model, "source": dataclasses.asdict(manifest.source), "videos": len(tracks), "seed": seed,
        "whole": len(whole), "cut": len(cut), "rows": [dataclasses.asdict(row) for row in rows],
        "loss": dataclasses.asdict(dataclasses.replace(policy, sought=best.sought, lost=best.lost)) if best else None,
    }  # fmt: skip
    return plain, as_table(rows, len(cut))


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Annotated videos, as for loss_fit.")
@click.option("--fit", type=click.Path(path_type=Path), help="What loss_fit wrote; else the bundle's own numbers.")
@click.option("--sought", type=float, multiple=True, help="To try; may be repeated. Else the one of these numbers.")
@click.option("--lost", type=float, multiple=True, help="To try; may be repeated. Else six, from sought to 1.5 below.")
@click.option("--videos", type=click.IntRange(FEWEST_VIDEOS), default=40, show_default=True, help="At most; drawn.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the figures as JSON.")
def main(
    bundle: Path | None, data: Path, fit: Path | None, sought: tuple[float, ...], lost: tuple[float, ...], videos: int,
    seed: int, output: Path | None,
) -> None:  # fmt: skip
    """Try thresholds of loss detection on the tracker of BUNDLE and say which suit it.

    Without BUNDLE it is the tracker that comes with siamtrt. Four films of each video, changed and played to and fro,
    are followed: two whole, and two in which 40 frames of another come in between, after which the target is seen in
    another view. Chosen are the thresholds that are LOST in the fewest frames of the whole films, where the target is
    always there, among those with which 90 % of the disappearances are LOST within 10 frames. A lost above sought is
    not tried. `loss` of the JSON has the chosen ones.

    Example: python -m siamtrt.benchmarks.loss_loops out/mine/bundle --data train --fit out/fit.json --lost -1 --lost -2
    """
    try:
        if output:
            require_place(output)
        plain, table = experiment(bundle, data, fit, sought, lost, videos, seed)
        if output:
            write_whole(output, f"{json.dumps(plain, indent=1)}\n".encode())
    except SiamtrtError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    click.echo(table)


if __name__ == "__main__":
    main()
