"""`siamtrt train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from siamtrt.cli_source import MOST_THREADS

if TYPE_CHECKING:
    from siamtrt.training.loop import Run

MOST_WORKERS = 64
INTERRUPTED = 130


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--workers", type=click.IntRange(0, MOST_WORKERS), default=1, show_default=True,
    help="Processes that draw pairs; the weights are the same at any number. Raise it while steps wait for batches.",
)
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads of the network; default: PyTorch's.")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--fresh", is_flag=True, help="Begin anew, over the checkpoint in the output folder.")
def train(config: Path, workers: int, threads: int | None, device: str, fresh: bool) -> None:
    """Train the tracker of CONFIG, a YAML file that names a preset, its data and a schedule.

    training/small.yaml is the default tracker's; training/config.py explains every field.

    Into the config's `output` folder go weights.safetensors, curve.csv, curve.png (with matplotlib) and
    checkpoint.pt. Ctrl-C ends within a step or two and saves. The same command again goes on from the last
    checkpoint, also after a kill or a power cut, to the weights of an unbroken run, bit for bit on a CPU.

    Several GPUs or processes share a batch under torchrun.

    Examples: siamtrt train training/small.yaml --workers 1 --threads 1;
    torchrun --nproc-per-node 4 -m siamtrt.cli train training/small.yaml --workers 4
    """
    import torch

    from siamtrt.training.config import load_config
    from siamtrt.training.loop import Run
    from siamtrt.training.processes import joined_processes

    if threads:
        torch.set_num_threads(threads)
    with joined_processes(device) as processes:
        run = Run(load_config(config), workers, device, processes, fresh)
        weights = run.train()
    if processes.leads:
        _report(run, weights)
    if not run.complete:
        sys.exit(INTERRUPTED)


def _report(run: Run, weights: Path) -> None:
    from siamtrt.consistency import can_batch
    from siamtrt.models.presets import get_preset
    from siamtrt.training.curve import PICTURE, TABLE

    steps = run.config.schedule.steps
    if not run.complete:
        click.echo(f"siamtrt: stopped and saved at step {run.step} of {steps}; the same command goes on", err=True)
        return
    click.echo(f"{weights}: {steps} steps of {run.config.model}")
    for curve in filter(Path.exists, (run.folder / TABLE, run.folder / PICTURE)):
        click.echo(f"curve: {curve}")
    preset, bundle, fit = get_preset(run.config.model), run.folder / "bundle", run.folder / "fit.json"
    click.echo(f"next: siamtrt export {weights} -o {bundle} --model {run.config.model}")
    if can_batch(preset.decoding, preset.strategies):
        click.echo(
            f"loss detection for these weights: python -m siamtrt.training.loss_fit {bundle} --data VIDEOS -o {fit}; "
            f"siamtrt loss {bundle} {fit}"
        )
