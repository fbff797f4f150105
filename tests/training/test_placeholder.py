"""The placeholder: its pairs, its loss, its training step, and the weights in the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from siamtrt.boxes import iou
from siamtrt.export.bundle import export_bundle
from siamtrt.models.presets import get_preset
from siamtrt.runtime.tracker import Tracker
from siamtrt.training.placeholder import Batch, PairSampler, Recipe, head_loss, train_step
from siamtrt.training.scenes import render_scene
from siamtrt.training.targets import BACKGROUND, TARGET

pytest.importorskip("skimage", reason="scenes are rendered from scikit-image's photos")
WEIGHTS = Path(__file__).resolve().parents[2] / "siamtrt" / "weights" / "placeholder.safetensors"


@pytest.fixture(scope="module")
def batch():
    return PairSampler(np.random.default_rng(0), get_preset("placeholder"), Recipe()).batch(24)


def test_pairs_are_shifted_uniformly_and_sampled_within_the_papers_limits(batch):
    assert batch.template.shape == (24, 3, 127, 127)
    assert batch.search.shape == (24, 3, 287, 287)
    shifts = batch.boxes[:, :2].numpy()
    assert np.abs(shifts).max() <= 64
    assert np.abs(shifts).mean() == pytest.approx(32, abs=8), "uniform in -64..64, not centred"
    positives = (batch.labels == TARGET).sum(dim=1)
    assert positives.max() <= 16
    assert ((batch.labels != -1).sum(dim=1) <= 64).all()
    assert 0 < (positives == 0).sum() < 12, "a share of pairs shows another object"


def _answer(batch: Batch, target_logit: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs that give every target anchor this logit, every other one its negative, and the right offsets."""
    logit = torch.where(batch.labels == TARGET, target_logit, -target_logit)
    cls = torch.stack([torch.zeros_like(logit), logit], dim=1)
    return cls.reshape(len(cls), 10, 21, 21), batch.offsets.reshape(len(cls), 20, 21, 21)


def test_loss_by_hand(batch):
    """Right answers cost nothing; undecided ones cost log 2; wrong ones about their logit."""
    recipe = Recipe()
    assert head_loss(*_answer(batch, 50.0), batch, recipe).item() == pytest.approx(0, abs=1e-6)
    assert head_loss(*_answer(batch, 0.0), batch, recipe).item() == pytest.approx(np.log(2), abs=1e-6)
    assert head_loss(*_answer(batch, -50.0), batch, recipe).item() == pytest.approx(50, abs=1e-3)


def test_loss_ignores_anchors_that_were_not_sampled(batch):
    cls, loc = _answer(batch, 3.0)
    unused = ((batch.labels != TARGET) & (batch.labels != BACKGROUND)).reshape(len(cls), 5, 21, 21)
    noisy = cls.clone().reshape(len(cls), 2, 5, 21, 21)
    noisy[:, 1][unused] += 100
    recipe = Recipe()
    expected = head_loss(cls, loc, batch, recipe)
    torch.testing.assert_close(head_loss(noisy.reshape(cls.shape), loc, batch, recipe), expected)


def test_a_few_steps_on_one_batch_lower_its_loss(batch):
    torch.manual_seed(0)
    net = get_preset("placeholder").build().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    few = Batch(*(field[:4] for field in vars(batch).values()))
    losses = [train_step(net, optimiser, few, Recipe()) for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]


def test_shipped_weights_follow_an_unseen_scene(tmp_path):
    """The clip of `make demo`, half as large: photos and scene that training never saw."""
    export_bundle(WEIGHTS, tmp_path / "bundle")
    overlaps = []
    with Tracker.load(tmp_path / "bundle", "onnxruntime", threads=1) as tracker:
        for number, (frame, box) in enumerate(render_scene(1, 60)):
            if number == 0:
                tracker.init(frame, box)
            else:
                overlaps.append(float(iou(np.array(tracker.update(frame).box_xywh), np.array(box))))
    assert np.mean(overlaps) > 0.6
