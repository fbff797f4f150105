"""A whole training, small: unbroken, killed, stopped, shared by processes, and what of the network it changes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import train_ranks
from click.testing import CliRunner
from training_data import PLAIN, write_config, write_training

from siamtrt.cli import main
from siamtrt.models.checkpoints import load_network
from siamtrt.training.batches import Batch, batches
from siamtrt.training.config import load_config
from siamtrt.training.curve import TABLE, read_curve
from siamtrt.training.loop import CHECKPOINT, GRADIENT_NORM, WEIGHTS, Run
from siamtrt.training.losses import head_loss
from siamtrt.training.processes import Processes, StopRequest
from siamtrt.training.schedule import prepare_step

STEPS, TUNED_FROM = PLAIN["schedule"]["steps"], PLAIN["schedule"]["backbone_from"]
pytestmark = pytest.mark.xdist_group("training loop")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that are started here: sums over threads depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures and annotations; each test writes a config with an output of its own beside them."""
    return write_training(tmp_path_factory.mktemp("training")).parent


def config_file(folder: Path, name: str, **fields: object) -> Path:
    """A config whose output is the folder `name`."""
    return write_config(folder / f"{name}.yaml", output=name, **fields)


def state_of(output: Path) -> dict:
    """A checkpoint."""
    return torch.load(output / CHECKPOINT, weights_only=True)


def copied(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_same_run(output: Path, wanted: Path) -> None:
    """Checkpoint, weights and curve, bit for bit; only the pace may differ."""
    states = [state_of(folder) for folder in (output, wanted)]
    for state in states:
        del state["config"]  # `save_every` may differ
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert (output / WEIGHTS).read_bytes() == (wanted / WEIGHTS).read_bytes()
    rows = [[row[:-1] for row in read_curve(folder / TABLE)] for folder in (output, wanted)]
    assert rows[0] == rows[1]
    assert [row[0] for row in rows[0]] == [6, 12]


@pytest.fixture(scope="module")
def unbroken(folder):
    """The output of a run from the first step to the last, and the state it began with."""
    run = Run(load_config(config_file(folder, "unbroken")), workers=0)
    before = copied(run.net)
    assert run.train(progress=False) == run.folder / WEIGHTS
    assert run.complete
    return run.folder, before


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL to a group of processes")
def test_killed_and_resumed_equals_unbroken(folder, unbroken):
    """Killed at a moment of chance, before or after the backbone begins to learn; two workers draw the pairs."""
    save_every, step, pause = random.choice([1, 2, 3]), random.randint(1, STEPS - 4), random.uniform(0, 0.3)
    config = config_file(folder, "killed", save_every=save_every)
    command = [sys.executable, "-m", "siamtrt.cli", "train", str(config), "--threads", "1", "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, folder / "killed", step)
        time.sleep(pause)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reached = state_of(folder / "killed")["step"]
    run = Run(load_config(config), workers=0)
    assert step <= run.step == reached, (save_every, step, pause)
    run.train(progress=False)
    assert_same_run(folder / "killed", unbroken[0])


def _wait_for(process: subprocess.Popen, output: Path, step: int) -> None:
    """Until the checkpoint of this step or a later one is there."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if (output / CHECKPOINT).exists() and state_of(output)["step"] >= step:
            return
        time.sleep(0.02)
    pytest.fail(f"no checkpoint of step {step}; exit code {process.returncode}")


@pytest.fixture
def stopping(monkeypatch):
    """Every run is sent a signal in the middle of a step."""

    def stop(number: signal.Signals, at_step: int) -> None:
        whole = Run.train_step

        def train_step(run: Run, batch: Batch, stop: StopRequest):
            if run.step == at_step - 1:
                os.kill(os.getpid(), number)
            return whole(run, batch, stop)

        monkeypatch.setattr(Run, "train_step", train_step)

    return stop


@pytest.mark.skipif(os.name != "posix", reason="signals as a terminal and a service manager send them")
def test_stopped_runs_save_and_go_on(folder, unbroken, stopping, monkeypatch):
    """Ctrl-C at the last step that the backbone is frozen for, SIGTERM at a later one, both between saves.

    Exit code 130, no step is lost, and the third run ends with all there is to say.
    """
    output = folder / "stopped"
    arguments = ["train", str(config_file(folder, "stopped", save_every=100)), "--workers", "0", "--threads", "1"]
    for number, step in ((signal.SIGINT, TUNED_FROM), (signal.SIGTERM, TUNED_FROM + 2)):
        stopping(number, step)
        before = signal.getsignal(signal.SIGINT)
        result = CliRunner().invoke(main, arguments)
        monkeypatch.undo()
        assert (result.exit_code, result.stdout) == (130, ""), result.output
        assert f"siamtrt: stopped and saved at step {step} of {STEPS}; the same command goes on\n" in result.stderr
        assert signal.getsignal(signal.SIGINT) == before
        state = state_of(output)
        assert state["step"] == step
        changed = {name for name, value in unbroken[1].items() if not torch.equal(state["net"][name], value)}
        assert any(name.startswith("backbone.") for name in changed) == (step > TUNED_FROM)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert f"siamtrt export {output / WEIGHTS} " in result.stdout
    assert f"siamtrt loss {output / 'bundle'} {output / 'fit.json'}" in result.stdout
    assert f"curve: {output / TABLE}" in result.stdout
    assert_same_run(output, unbroken[0])


def test_a_second_signal_interrupts_at_once(folder, monkeypatch):
    run = Run(load_config(config_file(folder, "twice")), workers=0)

    def train_step(batch: Batch, stop: StopRequest):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(run, "train_step", train_step)
    with pytest.raises(KeyboardInterrupt):
        run.train(progress=False)
    assert not (run.folder / CHECKPOINT).exists()


def test_the_first_weights_are_of_the_last_step_and_stay(unbroken, folder):
    """A complete run trains no further; --fresh begins anew and leaves the old files until it saves."""
    config = load_config(folder / "unbroken.yaml")
    before = (unbroken[0] / CHECKPOINT).read_bytes()
    again = Run(config, workers=0)
    assert again.complete
    again.train(progress=False)
    fresh = Run(config, workers=0, fresh=True)
    assert fresh.step == 0
    torch.testing.assert_close(copied(fresh.net), unbroken[1], rtol=0, atol=0)
    assert (unbroken[0] / CHECKPOINT).read_bytes() == before


def test_what_training_changes(unbroken):
    """The frozen first layer and the backbone's statistics never; every other parameter and the head's statistics."""
    output, before = unbroken
    after = state_of(output)["net"]
    for name, value in before.items():
        statistics = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        stays = name.startswith("backbone.features.0.") or (name.startswith("backbone.") and statistics)
        assert torch.equal(after[name], value) == stays, name


def test_weights_are_the_average_and_load_as_a_checkpoint(unbroken):
    output = unbroken[0]
    module = load_network(output / WEIGHTS, "siamrpn_mobilev2_small").module
    average = state_of(output)["average"]
    for name, value in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, average[name], rtol=1e-3, atol=1e-6)
    assert not torch.equal(average["neck.fine.weight"], state_of(output)["net"]["neck.fine.weight"])


def test_workers_do_not_change_the_batches(folder):
    run = Run(load_config(config_file(folder, "batches")), workers=0)
    drawn = [list(batches(run.sampler, 2, range(3, 6), workers)) for workers in (0, 2)]
    for here, there in zip(*drawn, strict=True):
        torch.testing.assert_close(here.parts, there.parts, rtol=0, atol=0)


class Sessions:
    """Pairs that tell by their box in which session they were drawn."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        crop = np.zeros((2, 2, 3), np.uint8)
        return crop, crop, np.zeros(1), np.zeros((4, 1)), np.array([os.getsid(0)])


@pytest.mark.skipif(os.name != "posix", reason="sessions of processes")
def test_workers_are_out_of_reach_of_signals_to_the_group_and_end_with_the_batches():
    drawn = batches(Sessions(), 2, range(100), workers=2)
    assert (next(drawn).boxes != os.getsid(0)).all()
    assert len(multiprocessing.active_children()) == 2
    drawn.close()
    assert not multiprocessing.active_children()


def test_processes_share_the_pairs_of_a_step(folder):
    """Together and in any number they draw what one process draws, from whichever step."""
    run = Run(load_config(config_file(folder, "shares")), workers=0)
    alone = list(batches(run.sampler, 4, range(2, 4)))
    shares = [list(batches(run.sampler, 4, range(2, 4), 0, Processes(rank, 2))) for rank in range(2)]
    for whole, *parts in zip(alone, *shares, strict=True):
        for column, *columns in zip(whole.parts, *(part.parts for part in parts), strict=True):
            torch.testing.assert_close(torch.stack(columns, dim=1).flatten(0, 1), column, rtol=0, atol=0)


def test_two_processes_take_the_mean_of_their_gradients(folder, tmp_path):
    """Under torchrun, against both halves of each batch one after the other in this process.

    The processes end with the same parameters; BatchNorm's statistics are each one's own. Only the first writes.
    """
    schedule = {"steps": 2, "rate": 0.01, "final_rate": 0.01, "warm_up": 0, "backbone_from": 1}
    fields = {"optimiser": "sgd", "batch": 4, "schedule": schedule, "check_pairs": 2}
    config = config_file(folder, "ranks", **fields)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, train_ranks.__file__, str(config), str(tmp_path)], capture_output=True, text=True, timeout=400,
        check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.split("held back")) == 2, "one check, of one process"
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    run = Run(load_config(config_file(folder, "halves", **fields)), workers=0)
    names = {name for name, _ in run.net.named_parameters()}
    losses = []
    for step in range(2):
        losses.append(_step_in_halves(run, step))
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in names)
    assert not torch.equal(ranks[0]["neck.norm.0.running_mean"], ranks[1]["neck.norm.0.running_mean"])
    state = state_of(folder / "ranks")
    torch.testing.assert_close(state["net"], ranks[0], rtol=0, atol=0)
    ours = {name: value for name, value in copied(run.net).items() if name in names}
    torch.testing.assert_close(ours, {name: ranks[0][name] for name in ours}, rtol=1e-4, atol=1e-6)
    (row,) = read_curve(folder / "ranks" / TABLE)
    assert row[2] + row[3] == pytest.approx(sum(losses) / 2, rel=1e-4)


def _step_in_halves(run: Run, step: int) -> float:
    """One update by the mean gradient of the batch's even and odd pairs; returns the mean loss."""
    config, total = run.config, 0.0
    prepare_step(run.net, run.optimiser, step, config)
    run.optimiser.zero_grad()
    for rank in range(2):
        (batch,) = batches(run.sampler, config.batch, range(step, step + 1), 0, Processes(rank, 2))
        batch = batch.to(run.device)
        outputs = run.net.search(batch.search, *run.net.template(batch.template))
        loss = sum(head_loss(*outputs, batch.labels, batch.offsets, config.loc_weight, config.smooth_l1)) / 2
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(run.net.parameters(), GRADIENT_NORM)
    run.optimiser.step()
    return total
