"""The placeholder: its pairs, its training step, and the weights in the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from siamtrt.boxes import iou
from siamtrt.export.bundle import export_bundle
from siamtrt.models.presets import get_preset
from siamtrt.runtime.tracker import Tracker
from siamtrt.training.batches import Batch
from siamtrt.training.placeholder import PairSampler, Recipe, train_step
from siamtrt.training.scenes import render_scene
from siamtrt.training.targets import TARGET

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
