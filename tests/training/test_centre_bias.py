"""The experiment on the centre bias: what it trains with, what it measures, and a run of a few steps."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from known_answers import ANCHORS, BOXES, SIDE, Answering, answered, held_batch
from training_data import PLAIN, write_training

from siamtrt.training import centre_bias
from siamtrt.training.batches import batches
from siamtrt.training.centre_bias import measured, measuring_pairs, position_chances, shifted_config, true_heat
from siamtrt.training.config import load_config
from siamtrt.training.loop import Run
from siamtrt.training.starting import samplers

REACH = 48.0


@pytest.fixture(scope="module")
def config_path(tmp_path_factory):
    return write_training(tmp_path_factory.mktemp("bias"), average=0.0)


def test_chance_of_a_position_is_its_best_anchors():
    cls = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    found = position_chances(cls)
    for n, i, j in np.ndindex(2, 4, 4):
        chances = [1 / (1 + np.exp(float(cls[n, a, i, j] - cls[n, 3 + a, i, j]))) for a in range(3)]
        assert found[n, i, j] == pytest.approx(max(chances))


def test_a_network_that_always_answers_the_centre():
    """All mass and every best position in the middle; right only where the target is."""
    boxes = np.array([[0, 0, 48, 48], [40, 0, 48, 48], [0, -30, 48, 48], [10, 10, 48, 48]], np.float32)
    middle = np.flatnonzero((ANCHORS[:, :2] == 0).all(axis=1))[2]  # the square one
    cls, loc = answered(np.tile(BOXES[:1], (4, 1)), [middle] * 4)
    cls -= cls.max()  # no chance elsewhere
    cls[:, :5] = 100.0
    cls.reshape(4, 2, -1)[:, 1, middle] = 200.0
    pairs = held_batch(np.zeros((4, len(ANCHORS)), np.int64), boxes)
    bias = measured(Answering(cls, loc), pairs, ANCHORS, 0.0, REACH)
    assert (bias.central_share, bias.best_central_share) == (pytest.approx(1), 1)
    assert bias.heat[SIDE // 2, SIDE // 2] == pytest.approx(1)
    overlap = (38 * 38) / (2 * 48 * 48 - 38 * 38)
    assert bias.iou_near == pytest.approx((1 + overlap) / 2, abs=1e-4)
    far = [8 * 48 / (2 * 48 * 48 - 8 * 48), 18 * 48 / (2 * 48 * 48 - 18 * 48)]
    assert bias.iou_far == pytest.approx(sum(far) / 2, abs=1e-4)


def test_a_network_that_does_not_know():
    cls, loc = torch.zeros(3, 10, SIDE, SIDE), torch.zeros(3, 20, SIDE, SIDE)
    bias = measured(Answering(cls, loc), held_batch(np.zeros((3, len(ANCHORS)), np.int64), BOXES), ANCHORS, 0, REACH)
    assert bias.heat.sum() == pytest.approx(1)
    assert bias.central_share == pytest.approx((5 / SIDE) ** 2)


def test_heat_of_the_targets():
    """x across, y down, 8 pixels a position; what lies outside counts at the border."""
    boxes = np.array([[0, 0, 9, 9], [17, -8, 9, 9], [3.9, -4.1, 9, 9], [200, 0, 9, 9]], np.float32)
    heat = true_heat(held_batch(np.zeros((4, 1), np.int64), boxes), SIDE, 8)
    assert {tuple(place): heat[tuple(place)] for place in np.argwhere(heat)} == {
        (6, 6): 0.25, (5, 8): 0.25, (5, 6): 0.25, (6, 12): 0.25,
    }  # fmt: skip


def test_the_runs_differ_by_nothing_but_the_shift(config_path, tmp_path):
    config = load_config(config_path)
    none, much = (shifted_config(config, shift, 6, tmp_path) for shift in (0.0, 64.0))
    assert replace(much, output=none.output, pairs=none.pairs) == none
    assert (none.pairs.shift, much.pairs.shift) == (0, pytest.approx(64 * 159 / 255))
    assert (none.schedule.steps, none.schedule.warm_up, none.schedule.backbone_from) == (6, 2, 2)  # halves of 3 and 5
    assert none.schedule.rate == config.schedule.rate
    pairs = [next(batches(samplers(run)[0], 12, range(1))) for run in (none, much)]
    assert torch.equal(pairs[0].template, pairs[1].template)
    assert not pairs[0].boxes[:, :2].any()
    assert pairs[1].boxes[:, :2].abs().max() > 24
    assert torch.equal(pairs[0].boxes[:, 2:], pairs[1].boxes[:, 2:])


def test_every_network_is_measured_with_shifted_unchanged_matching_pairs(config_path):
    boxes = measuring_pairs(load_config(config_path), 64).boxes.numpy()
    reach = 64 * 159 / 255
    assert reach * 0.9 < np.abs(boxes[:, :2]).max() <= reach
    assert np.abs(boxes[:, :2]).mean() == pytest.approx(reach / 2, rel=0.2)
    assert len(np.unique(boxes[:, 2:].round(3), axis=0)) == 1, "all targets of the tiny set are 24 x 30"


def test_a_few_steps_and_again(config_path, tmp_path, monkeypatch):
    """A number and a map a shift, a picture; the second time nothing is trained."""
    pytest.importorskip("matplotlib", reason="the picture needs the report extra")
    command = [str(config_path), "--shifts", "0,64", "--steps", "1", "--pairs", "16", "--workers", "0"]
    result = CliRunner().invoke(centre_bias.main, [*command, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "centre_bias.json").read_text())
    assert [entry["shift"] for entry in found["shifts"]] == [0, 64]
    for entry in found["shifts"]:
        assert np.shape(entry["heat"]) == (SIDE, SIDE)
        assert f"| {entry['shift']:g} | {entry['central_share']:.3f} |" in result.stdout
    assert cv2.imread(str(tmp_path / "out" / "centre_bias.png")).std() > 0
    (tmp_path / "out" / "centre_bias.json").unlink()
    monkeypatch.setattr(Run, "train_step", None)
    again = CliRunner().invoke(centre_bias.main, [*command, "-o", str(tmp_path / "out")])
    assert again.stdout == result.stdout
    assert json.loads((tmp_path / "out" / "centre_bias.json").read_text()) == found


@pytest.mark.parametrize("shifts", ["", "a", "0,0", "-1", "0,128", "nan", "0;16"])
def test_bad_shifts(config_path, tmp_path, shifts):
    command = [str(config_path), "--shifts", shifts, "--steps", "1", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(centre_bias.main, command)
    assert result.exit_code == 2
    assert result.stderr.startswith("no shifts to train with: received")
    assert not (tmp_path / "out").exists()


def test_the_tiny_config_is_as_the_tests_expect():
    assert (PLAIN["schedule"]["steps"], PLAIN["schedule"]["warm_up"], PLAIN["schedule"]["backbone_from"]) == (12, 3, 5)
