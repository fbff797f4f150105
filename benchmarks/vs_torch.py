"""Search-network speed beside eager PyTorch: `python -m siamtrt.benchmarks.vs_torch --model NAME --threads N`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

import click
import numpy as np
from tqdm import tqdm

from siamtrt.export.bundle import export_bundle
from siamtrt.models.seeded import save_seeded
from siamtrt.runtime.session import Session, open_session

WARM_UP = 5


def alternating_times(sessions: list[Session], runs: int) -> np.ndarray:
    """(runs, len(sessions)) milliseconds of each run, on one random input."""
    rng = np.random.default_rng(0)
    feeds = {spec.name: rng.uniform(0, 255, spec.shape).astype(spec.dtype) for spec in sessions[0].inputs}
    times = []
    for _ in tqdm(range(WARM_UP + runs), unit="run", disable=None):
        row = []
        for session in sessions:
            start = perf_counter()
            session.run(feeds)
            row.append(1e3 * (perf_counter() - start))
        times.append(row)
    return np.array(times[WARM_UP:])


@click.command()
@click.option("--model", required=True, help="Preset name.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of both.")
@click.option("--runs", type=click.IntRange(1), default=30, show_default=True)
def main(model: str, threads: int, runs: int) -> None:
    """Export a preset with random weights and alternate its search graph with the eager module."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_seeded(model, Path(folder) / "model.pth")
        bundle = Path(folder) / "bundle"
        export_bundle(checkpoint, bundle, model)
        with (
            open_session(bundle, "search", "torch", checkpoint=checkpoint, threads=threads) as eager,
            open_session(bundle, "search", "onnxruntime", threads=threads) as exported,
        ):
            medians = np.median(alternating_times([eager, exported], runs), axis=0)
    click.echo(
        f"{model}, {threads} thread(s): PyTorch {medians[0]:.1f} ms, "
        f"ONNX Runtime {medians[1]:.1f} ms, ratio {medians[0] / medians[1]:.2f}"
    )


if __name__ == "__main__":
    main()
