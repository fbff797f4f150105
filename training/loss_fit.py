"""Fit the weights of `LossDetection` to a tracker: `python -m siamtrt.training.loss_fit [BUNDLE] --data DIR`.

Other weights have other scores: those of a preset fit the weights that it was published with.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from siamtrt.errors import SiamtrtError, TrainingError
from siamtrt.files import require_place, write_whole
from siamtrt.runtime.evidence import Evidence, log_odds
from siamtrt.tracking import LossDetection
from siamtrt.training.loss_evidence import FEWEST_VIDEOS, UNFITTED, Sample, Witness, collected, tracks_of

WEIGHTS = ("score_weight", "psr_weight", "second_weight", "similarity_weight")
RIDGE = 100.0
FOLDS = FEWEST_VIDEOS
FEWEST_SAMPLES = 50  # with the target, and without
MOST_STEPS = 100  # of Newton's method, which takes about ten
UNIT = 2.0**-6  # a weight with which no sum reaches the bounds of the log-odds


@dataclass(frozen=True)
class Fit:
    """What the evidence of one tracker gave.

    Attributes:
        policy: with the weights.
        held, missed: boxes with the target and without.
        false_loss, false_lock: shares of these that other videos' weights take for the opposite, by cross-validation.
    """

    policy: LossDetection
    held: int
    missed: int
    false_loss: float
    false_lock: float


def terms_of(evidence: Sequence[Evidence]) -> np.ndarray:
    """(N, 4) what each of `WEIGHTS` is multiplied with in `log_odds`, asked of it with one weight at a time."""
    policies = [with_weights(UNFITTED, unit) for unit in UNIT * np.eye(len(WEIGHTS))]
    return np.array([[log_odds(one, policy) / UNIT for policy in policies] for one in evidence])


def with_weights(policy: LossDetection, weights: Sequence[float], similarity: float = 0.0) -> LossDetection:
    """The policy with these `WEIGHTS` and the similarity at which their part is even."""
    score, psr, second, similar = map(float, weights)
    return dataclasses.replace(
        policy, score_weight=score, psr_weight=psr, second_weight=second, similarity_weight=similar,
        similarity=similarity,
    )  # fmt: skip


def logistic_fit(features: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, float]:
    """Non-negative weights and the intercept of a logistic regression in which both kinds count the same.

    The squared weights of the standardised features, times half of `RIDGE`, are added to the summed loss. The best of
    the fits to every subset of the features, without bounds, that has no negative weight is the best with bounds.

    Args:
        features: (N, K).
        held: (N,) bool, both kinds.
    """
    mean, deviation = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-12)
    standard = np.column_stack([(features - mean) / deviation, np.ones(len(features))])
    signed = np.where(held[:, None], standard, -standard)
    shares = np.where(held, 0.5 / held.mean(), 0.5 / (1 - held.mean()))
    count, best, least = features.shape[1], np.zeros(features.shape[1] + 1), np.inf
    for chosen in itertools.product((True, False), repeat=count):
        used = np.array([*chosen, True])
        found, loss = _newton(signed[:, used], shares)
        if loss < least and (found[:-1] >= 0).all():
            best, least = np.zeros(count + 1), loss
            best[used] = found
    weights = best[:-1] / deviation
    return weights, float(best[-1] - weights @ mean)


def _newton(signed: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, float]:
    """(K,) minimum of the ridge and the summed log(1 + exp(-signed @ x)), and its value; the last of K is free."""
    ridge = np.full(signed.shape[1], RIDGE)
    ridge[-1] = 0.0

    def loss(point: np.ndarray) -> float:
        return float(shares @ np.logaddexp(0, -signed @ point) + ridge @ point**2 / 2)

    point = np.zeros(signed.shape[1])
    for _ in range(MOST_STEPS):
        wrong = 1 / (1 + np.exp(np.clip(signed @ point, -80, 80)))
        slope = ridge * point - signed.T @ (shares * wrong)
        curvature = (signed.T * (shares * wrong * (1 - wrong))) @ signed + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        if np.abs(step).max() < 1e-9:
            break
        while loss(point - step) > loss(point) + 1e-9:
            step /= 2
        point = point - step
    return point, loss(point)


def fitted(samples: Sequence[Sample], policy: LossDetection = UNFITTED) -> Fit:
    """The policy with weights that tell boxes with the target from those without.

    Raises:
        TrainingError: too few boxes of a kind; the similarity tells nothing.
    """
    held = np.array([sample.held for sample in samples], bool)
    features = terms_of([sample.evidence for sample in samples])
    groups = np.array([sample.group for sample in samples])
    odds = _cross_validated(features, held, groups)
    weights, intercept = logistic_fit(features, held)
    if not weights[-1] > 0:
        raise TrainingError(
            "the similarity tells nothing", received="boxes on the target no more like the template than others",
            expected="a trained tracker", fix="train it longer, or name another bundle",
        )
    rounded = [float(f"{weight:.4g}") for weight in weights]
    return Fit(
        with_weights(policy, rounded, round(float(-intercept / weights[-1]), 4)), int(held.sum()), int((~held).sum()),
        float((odds[held] < 0).mean()), float((odds[~held] > 0).mean()),
    )  # fmt: skip


def _cross_validated(features: np.ndarray, held: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(N,) log-odds of each sample by the weights of other videos.

    Raises:
        TrainingError: too few boxes of a kind in these.
    """
    names, odds = np.unique(groups), np.empty(len(held))
    for fold in range(FOLDS):
        out = np.isin(groups, names[fold::FOLDS])
        _require_both(held[~out])
        weights, intercept = logistic_fit(features[~out], held[~out])
        odds[out] = features[out] @ weights + intercept
    return odds


def _require_both(held: np.ndarray) -> None:
    if min(held.sum(), (~held).sum()) < FEWEST_SAMPLES:
        raise TrainingError(
            "too few boxes to learn from", expected=f"{FEWEST_SAMPLES} of each",
            received=f"{held.sum()} with the target and {(~held).sum()} without in four of five videos",
            fix="give more videos, or train the tracker until it follows them",
        )  # fmt: skip


def as_row(policy: LossDetection) -> str:
    """Python that makes the policy; what is as usual is left out."""
    values = [
        f"{field.name}={getattr(policy, field.name)!r}" for field in dataclasses.fields(policy)
        if getattr(policy, field.name) != field.default
    ]  # fmt: skip
    return f"LossDetection({', '.join(values)})"


def as_text(fit: Fit) -> str:
    """The figures for a reader."""
    policy = fit.policy
    return "\n".join([
        *(f"{name:<18}{getattr(policy, name):g}" for name in WEIGHTS), f"{'similarity':<18}{policy.similarity:g}",
        f"{fit.held} boxes with the target, {fit.false_loss:.2%} of them below 0 by the weights of other videos",
        f"{fit.missed} boxes without it, {fit.false_lock:.2%} of them above 0",
        as_row(policy),
    ])  # fmt: skip


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Annotated videos, as said above.")
@click.option("--videos", type=click.IntRange(FEWEST_VIDEOS), default=40, show_default=True, help="At most; drawn.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the figures as JSON.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(bundle: Path | None, data: Path, videos: int, output: Path | None, seed: int) -> None:
    """Find the weights with which a tracker of BUNDLE knows that it has lost its target.

    Without BUNDLE it is the tracker that comes with siamtrt. The data is a folder with an annotations.json of the form
    "videos" (training/formats.py), or of sequences in any layout that `siamtrt eval` reads.

    The last line goes into a preset; `siamtrt loss BUNDLE fit.json` puts the JSON into a bundle.

    Example: python -m siamtrt.training.loss_fit out/mine/bundle --data train -o out/fit.json
    """
    try:
        if output:
            require_place(output)
        tracks = tracks_of(data, videos, seed)
        with Witness.load(bundle, threads=1) as witness:
            fit = fitted(collected(witness, tracks, seed, progress=True), witness.policy)
            manifest = witness.manifest
        if output:
            plain = {
                "model": manifest.model, "source": dataclasses.asdict(manifest.source), "videos": len(tracks),
                "seed": seed, **dataclasses.asdict(fit),
            }  # fmt: skip
            plain["loss"] = plain.pop("policy")
            write_whole(output, f"{json.dumps(plain, indent=1)}\n".encode())
    except SiamtrtError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    click.echo(as_text(fit))


if __name__ == "__main__":
    main()
