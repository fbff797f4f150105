"""Configs, checkpoints and options that `siamtrt train` must refuse, touching nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from training_data import PLAIN, write_config, write_training

from siamtrt.errors import TrainingError
from siamtrt.models.seeded import save_seeded
from siamtrt.training.config import load_config
from siamtrt.training.loop import CHECKPOINT, Run
from siamtrt.training.processes import Processes, chosen_device

ONE_STEP = {**PLAIN["schedule"], "steps": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Data, config and checkpoint of a run of one step."""
    config = write_training(tmp_path_factory.mktemp("training"), schedule=ONE_STEP, check_pairs=2)
    Run(load_config(config), workers=0).train(progress=False)
    return config


@pytest.fixture
def train(fails, work, trained):
    """`train` with these fields in place of the config's must fail, and write nothing."""

    def run(*options, checkpoint=None, **fields):
        if checkpoint is not None:
            (work / CHECKPOINT).write_bytes(checkpoint)
        usual = {"output": str(work), "schedule": ONE_STEP, "check_pairs": 2}
        config = write_config(trained.parent / "bad.yaml", **{**usual, **fields})
        return fails("train", config, "--workers", 0, *options)

    return run


@pytest.fixture
def checkpoint(trained):
    return (trained.parent / "out" / CHECKPOINT).read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_and_stays(train, checkpoint, share):
    message = train(checkpoint=checkpoint[: int(len(checkpoint) * share)])
    assert message.startswith("unreadable checkpoint")
    assert CHECKPOINT in message
    assert "--fresh" in message


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"<html>", b"\x80\x02cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_no_checkpoint(train, content):
    assert train(checkpoint=content).startswith("unreadable checkpoint")


@pytest.mark.parametrize("value", [[1], {}, {"config": None}, {"config": 5}])
def test_a_checkpoint_of_something_else(train, tmp_path, value):
    torch.save(value, tmp_path / "other.pt")
    assert "checkpoint" in train(checkpoint=(tmp_path / "other.pt").read_bytes()).split(": ")[0]


@pytest.mark.parametrize("key", ["net", "optimiser", "average", "step"])
def test_a_checkpoint_with_a_part_missing(trained, refused, key):
    state = torch.load(trained.parent / "out" / CHECKPOINT, weights_only=True)
    del state[key]
    config = write_config(trained.parent / "part.yaml", output=f"part_{key}", schedule=ONE_STEP, check_pairs=2)
    (trained.parent / f"part_{key}").mkdir()
    torch.save(state, trained.parent / f"part_{key}" / CHECKPOINT)
    with refused(TrainingError, "unreadable checkpoint"):
        Run(load_config(config), workers=0)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"schedule": {**ONE_STEP, "steps": 2}}, {"frozen": []}, {"pairs": {"shift": 0.0}}],
    ids=["seed", "schedule", "frozen", "pairs"],
)  # fmt: skip
def test_a_checkpoint_of_another_config(train, checkpoint, change):
    message = train(checkpoint=checkpoint, **change)
    assert message.startswith("a checkpoint of another config")
    assert "begin anew with --fresh" in message


def test_a_preset_without_anchors(train):
    assert train(model="siamfc_alexnet").startswith("a tracker that cannot be trained here: received siamfc_alexnet")


def test_a_preset_that_does_not_exist(train):
    assert "siamrpn_huge" in train(model="siamrpn_huge")


def test_imagenet_for_a_backbone_that_is_none_of_its(train):
    message = train(model="siamrpn_alex_tiny", init="imagenet")
    assert message.startswith("no ImageNet weights for this backbone: received siamrpn_alex_tiny")


def test_init_from_a_file_that_does_not_fit(train, tmp_path):
    assert train(init=str(tmp_path / "none.pth")).startswith("no such checkpoint")
    other = save_seeded("siamrpn_alex_tiny", tmp_path / "other.pth")
    assert train(init=str(other)).startswith("checkpoint is not a siamrpn_mobilev2_small")


def test_a_gpu_that_is_not_there(train, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train("--device", "cuda").startswith("no GPU to train on")
    assert [chosen_device(name) for name in ("auto", "cpu", None)] == ["cpu"] * 3


def test_a_loss_that_is_not_finite(trained, refused):
    """Training that diverges ends at that step; nothing is saved over what there was."""
    fields = {"optimiser": "sgd", "save_every": 1, "check_pairs": 2, "output": "diverged"}
    schedule = {**PLAIN["schedule"], "rate": 1e30, "final_rate": 1e30, "warm_up": 0, "backbone_from": 0}
    run = Run(load_config(write_config(trained.parent / "diverged.yaml", schedule=schedule, **fields)), workers=0)
    with refused(TrainingError, "training diverged: received loss "):
        run.train(progress=False)
    saved = torch.load(run.folder / CHECKPOINT, weights_only=True)
    assert saved["step"] == run.step < 12


def test_a_batch_that_does_not_divide(trained, refused):
    with refused(TrainingError, "a batch that does not divide: received 2 pairs for 3 processes"):
        Run(load_config(trained), workers=0, processes=Processes(0, 3), fresh=True)


@pytest.mark.parametrize(("option", "value"), [("--workers", "-1"), ("--threads", "0"), ("--device", "tpu")])
def test_bad_options(trained, option, value):
    done = subprocess.run(
        [sys.executable, "-m", "siamtrt.cli", "train", str(trained), option, value], capture_output=True, text=True,
        timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert option in done.stderr
    assert "Traceback" not in done.stderr


def test_the_output_is_a_file(train, trained):
    (trained.parent / "file").write_text("")
    assert str(trained.parent / "file") in train(output=str(trained.parent / "file"))
