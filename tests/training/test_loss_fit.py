"""The fit of `LossDetection`'s weights: the regression, its errors, and the command."""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from loss_data import evidence_of, known_samples, write_videos
from training_data import write_training

from siamtrt.default_tracker import default_bundle
from siamtrt.errors import TrainingError
from siamtrt.manifest import load_manifest, save_manifest
from siamtrt.models.presets import PRESETS
from siamtrt.runtime.evidence import MOST_LOG_ODDS, Evidence, log_odds
from siamtrt.tracking import BlendedTemplate, LossDetection, Strategies
from siamtrt.training import loss_fit
from siamtrt.training.loss_evidence import UNFITTED, Sample, Witness, tracks_of
from siamtrt.training.loss_fit import RIDGE, as_row, fitted, logistic_fit, terms_of

POLICY = LossDetection(0.3, 0.8, 0.2, 15.0, 0.7, uncertain=0.5, lost=-2.0, regained=0.1, searches=7)


def random_problem(seed):
    """Features of other scales, some of them copies with the opposite sense, and rarely held targets."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (400, 4)) @ rng.normal(0, 1, (4, 4)) * (1, 10, 0.1, 3) + (5, 0, 0, 50)
    chance = 1 / (1 + np.exp(1.5 - (features - features.mean(0)) / features.std(0) @ rng.normal(0, 1.5, 4)))
    return features, rng.random(400) < chance


@pytest.mark.parametrize("seed", range(6))
def test_regression_against_scipys_bounded_minimum(seed):
    """Seeds whose bounds hold back one weight, two, three, or none."""
    minimize = pytest.importorskip("scipy.optimize", reason="SciPy comes with the train extra").minimize
    features, held = random_problem(seed)
    deviation, signs = features.std(axis=0), np.where(held, 1, -1)
    shares = np.where(held, 200 / held.sum(), 200 / (~held).sum())

    def objective(point):
        odds = (features - features.mean(axis=0)) @ (point[:4] / deviation) + point[4]
        return (shares * np.logaddexp(0, -signs * odds)).sum() + RIDGE / 2 * (point[:4] ** 2).sum()

    bounds = [(0, None)] * 4 + [(None, None)]
    best = minimize(objective, np.ones(5) / 2, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9})
    weights, intercept = logistic_fit(features, held)
    ours = np.array([*weights * deviation, intercept + weights @ features.mean(axis=0)])
    assert objective(ours) <= best.fun + 1e-6
    np.testing.assert_allclose(ours, best.x, atol=1e-3)
    assert (weights >= 0).all()


def test_bounds_matter_in_some_of_these_problems():
    zeros = {int((logistic_fit(*random_problem(seed))[0] == 0).sum()) for seed in range(6)}
    assert len(zeros) > 1


def test_outliers_do_not_lead_it_astray(monkeypatch):
    """Full steps of Newton's method end at a loss of 1e23 here; SciPy's bounded minimum is 11.26."""
    monkeypatch.setattr(loss_fit, "RIDGE", 0.01)
    rng = np.random.default_rng(25)
    features = rng.standard_t(1, (200, 4))
    held = features.sum(axis=1) + rng.normal(0, 0.1, 200) > np.sort(features.sum(axis=1))[-20]
    weights, intercept = logistic_fit(features, held)
    signs = np.where(held, 1, -1)
    shares = np.where(held, 100 / held.sum(), 100 / (~held).sum())
    loss = (shares * np.logaddexp(0, -signs * (features @ weights + intercept))).sum()
    assert loss + 0.01 / 2 * ((weights * features.std(axis=0)) ** 2).sum() == pytest.approx(11.2637, abs=1e-4)


def test_what_speaks_against_the_target_gets_no_weight():
    rng = np.random.default_rng(1)
    held = np.arange(600) % 2 == 0
    features = rng.normal(np.where(held, 1, 0)[:, None] * (1, -1, 0, 2), 1)
    weights, _ = logistic_fit(features, held)
    assert weights[1] == 0
    assert weights[[0, 3]].min() > 0.1


def test_a_constant_feature_gets_no_weight():
    held = np.arange(100) % 2 == 0
    weights, intercept = logistic_fit(np.column_stack([held, np.full(100, 7.0)]), held)
    assert weights[1] == 0
    assert weights[0] > 0
    assert np.isfinite(intercept)


def test_kinds_count_the_same_however_many_there_are(monkeypatch):
    """The boxes without the target three times over change nothing but the share of the ridge."""
    monkeypatch.setattr(loss_fit, "RIDGE", 1e-6)
    features, held = random_problem(0)
    more = np.concatenate([np.arange(len(held)), *[np.flatnonzero(~held)] * 2])
    once, again = logistic_fit(features, held), logistic_fit(features[more], held[more])
    np.testing.assert_allclose(again[0], once[0], rtol=1e-4, atol=1e-9)
    assert again[1] == pytest.approx(once[1], rel=1e-4)


def test_known_weights_are_found(monkeypatch):
    monkeypatch.setattr(loss_fit, "RIDGE", 0.1)
    samples = known_samples(10_000)
    fit = fitted(samples, POLICY)
    found = [getattr(fit.policy, name) for name in loss_fit.WEIGHTS]
    np.testing.assert_allclose(found, (0.4, 1.5, 0.8, 6.0), rtol=0.12)
    # Both kinds count the same, which moves the even point by the logarithm of their ratio.
    assert fit.policy.similarity == pytest.approx(0.6 + np.log(fit.held / fit.missed) / 6.0, abs=0.03)
    assert fit.held + fit.missed == 10_000
    kept = dict.fromkeys([*loss_fit.WEIGHTS, "similarity"], 0.0)
    assert dataclasses.replace(fit.policy, **kept) == dataclasses.replace(POLICY, **kept), "the rest is as it was"


def test_errors_are_those_of_the_weights_of_other_videos():
    """One video, of more boxes than the others together, whose target changes so much that these take it for lost."""
    samples = [
        Sample(evidence_of((0, 1, 0, likeness - (0 if held else 0.3))), held, group)
        for group, likeness, count in (("changing", 0.6, 500), *((f"{n}", 0.9, 100) for n in range(4)))
        for held in (True, False) for _ in range(count)
    ]  # fmt: skip
    fit = fitted(samples)
    assert (fit.held, fit.missed) == (900, 900)
    assert fit.false_loss == pytest.approx(500 / 900), "all of the one"
    assert fit.false_lock == pytest.approx(400 / 900), "what is as like as the one's target"
    apart = fitted([sample._replace(evidence=evidence_of((0, 0, 0, float(sample.held)))) for sample in samples])
    assert (apart.false_loss, apart.false_lock) == (0, 0)


def test_terms_are_those_of_the_log_odds():
    rng = np.random.default_rng(0)
    several = [Evidence(*row) for row in rng.random((50, 4)) * (1, 9, 1, 1)]
    several += [Evidence(0, 0, 0, -1), Evidence(1, 1e9, 0, 1), Evidence(0, 0, 1, 1), Evidence(0.5, 1e-9, 0.5, 0)]
    terms = terms_of(several)
    for evidence, row in zip(several, terms, strict=True):
        for policy in (POLICY, dataclasses.replace(POLICY, psr_weight=0.0, similarity=0.3)):
            weights = [getattr(policy, name) for name in loss_fit.WEIGHTS]
            odds = row @ weights - policy.similarity_weight * policy.similarity
            assert log_odds(evidence, policy) == pytest.approx(np.clip(odds, -MOST_LOG_ODDS, MOST_LOG_ODDS))
    assert terms[50] == pytest.approx((-13.8155, -13.8155, 0, -1), abs=1e-3)
    assert terms[51] == pytest.approx((13.8155, 20.723, 27.631, 1), abs=1e-3)


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([], "received 0 with the target and 0 without"),
        (known_samples(300)[:60], "too few boxes to learn from"),
        ([s for s in known_samples(400) if not s.held], "received 0 with the target"),
        ([s._replace(group="the only") for s in known_samples(400)], "received 0 with the target and 0 without"),
        ([s._replace(evidence=s.evidence._replace(similarity=0.5)) for s in known_samples(900)], "tells nothing"),
        (known_samples(400, (0.4, 1.5, 0.8, -6.0), 0.15), "similarity tells nothing"),
    ],
    ids=["none", "few", "never there", "one video", "one similarity", "unlike"],
)
def test_nothing_to_learn_from(samples, problem):
    with pytest.raises(TrainingError, match=problem):
        fitted(samples)


@pytest.mark.parametrize("policy", [POLICY, PRESETS["nanotrack_v2"].strategies.loss, UNFITTED])
def test_row_is_the_policy(policy):
    call = ast.parse(as_row(policy), mode="eval").body
    assert call.func.id == "LossDetection"
    assert LossDetection(**{word.arg: ast.literal_eval(word.value) for word in call.keywords}) == policy
    assert "rings" not in as_row(policy), "what is as usual is left out"


def command(*arguments):
    return CliRunner().invoke(loss_fit.main, [str(argument) for argument in arguments])


def test_the_command(toy, data, tmp_path, monkeypatch):
    """Its JSON's `loss` is what a manifest takes, its last line what a preset takes."""
    known, seeds = known_samples(500), []
    monkeypatch.setattr(loss_fit, "collected", lambda witness, tracks, seed, progress: seeds.append(seed) or known)
    monkeypatch.setattr(loss_fit, "tracks_of", lambda *given: seeds.append(given[-1]) or tracks_of(*given))
    result = command(toy, "--data", data, "-o", tmp_path / "fit.json", "--seed", 3)
    assert result.exit_code == 0, result.output
    assert seeds == [3, 3]
    fit = fitted(known)
    assert result.stdout.splitlines()[-1] == as_row(fit.policy)
    assert f"{fit.held} boxes with the target, {fit.false_loss:.2%}" in result.stdout
    content = json.loads((tmp_path / "fit.json").read_text())
    assert (content["model"], content["seed"], content["videos"]) == ("toy", 3, 5)
    assert (content["held"], content["false_lock"]) == (fit.held, fit.false_lock)
    bundle = shutil.copytree(toy, tmp_path / "toy")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["strategies"]["loss"] = content["loss"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert load_manifest(bundle).strategies.loss == fit.policy
    with Witness.load(bundle, threads=1) as witness:
        assert witness.policy == fit.policy


def test_without_a_bundle_it_is_the_default_tracker(data, monkeypatch):
    monkeypatch.setattr(loss_fit, "collected", lambda witness, *_, progress: known_samples(500))
    result = command("--data", data)
    assert result.exit_code == 0, result.output
    loss = load_manifest(default_bundle()).strategies.loss
    thresholds = ast.parse(result.stdout.splitlines()[-1], mode="eval").body.keywords
    assert {"uncertain": loss.uncertain, "lost": loss.lost, "regained": loss.regained}.items() <= {
        word.arg: ast.literal_eval(word.value) for word in thresholds
    }.items()


def test_bad_data_is_one_line(toy, data, tmp_path):
    few = write_videos(tmp_path / "few", 4)
    short = write_videos(tmp_path / "short", 6, 9)
    write_training(tmp_path / "stills")
    damaged = shutil.copytree(data, tmp_path / "damaged")
    (damaged / "3_4.png").write_bytes(b"no picture")
    for arguments, problem in (
        (["--data", tmp_path / "none"], "none"),
        (["--data", few], "too few videos: received 4 of 10 frames or more"),
        (["--data", short], "too few videos: received 0 of 10 frames or more"),
        (["--data", tmp_path / "stills" / "boxes.json"], "too few videos: received 0"),
        (["--data", damaged], "unreadable training image"),
        ([tmp_path / "no bundle", "--data", data], "no bundle"),
    ):
        bundle = [] if str(arguments[0]).endswith("bundle") else [toy]
        result = command(*bundle, *arguments)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.output
        assert problem in result.stderr
        assert result.stdout == ""


def test_nothing_begins_that_could_not_be_written(toy, data, tmp_path, monkeypatch):
    monkeypatch.setattr(loss_fit, "collected", lambda *_, **__: pytest.fail("begun"))
    result = command(toy, "--data", data, "-o", tmp_path / "nowhere" / "fit.json")
    assert (result.exit_code, result.stderr[:23]) == (2, "cannot write the output")


def test_trackers_that_cannot_have_it(toy, data, tmp_path):
    bundle = shutil.copytree(toy, tmp_path / "blended")
    strategies = Strategies(template=BlendedTemplate(0.5, 0.1))
    save_manifest(dataclasses.replace(load_manifest(toy), strategies=strategies), bundle)
    result = command(bundle, "--data", data)
    assert result.exit_code == 2
    assert result.stderr.startswith("this tracker cannot have loss detection: received toy, point head")
