"""Export, build and track with every tracker: `python -m siamtrt.benchmarks.all_trackers VIDEO --init X,Y,W,H`."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import click
from tqdm import tqdm

from siamtrt.cli import main as siamtrt
from siamtrt.files import write_whole
from siamtrt.manifest import load_manifest
from siamtrt.models.presets import PRESETS
from siamtrt.models.seeded import save_seeded

HEADER = (
    "| tracker | graphs | off PyTorch | export s | FP16 engines | build s | frames | ms an update |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """What came of one tracker."""

    name: str
    graphs: int
    parity: float
    export_s: float
    engines: int
    build_s: float
    frames: int
    update_ms: float

    def __str__(self) -> str:
        return (
            f"| {self.name} | {self.graphs} | {self.parity:.1e} | {self.export_s:.1f} | {self.engines} | "
            f"{self.build_s:.1f} | {self.frames} | {self.update_ms:.1f} |"
        )


def run_tracker(name: str, video: Path, init: str, frames: int, targets: Sequence[str], folder: Path) -> Row:
    """Run `siamtrt export`, `build` and `track` on seeded weights, as the command line does, its exits included."""
    bundle, boxes = folder / "bundle", folder / "boxes.csv"
    checkpoint = save_seeded(name, folder / "model.pth")
    export_s = _timed(["export", str(checkpoint), "-o", str(bundle), "--model", name])
    build_s = _timed(["build", str(bundle), "--fp16", "--target", ",".join(targets)]) if targets else 0.0
    arguments = ["--init", init, "--boxes", str(boxes), "--max-frames", str(frames), "--backend", "onnxruntime"]
    track_s = _timed(["track", str(bundle), str(video), *arguments])
    with boxes.open(newline="") as file:
        tracked = sum(1 for _ in csv.DictReader(file))
    manifest = load_manifest(bundle)
    return Row(
        name, len(manifest.graphs), max(manifest.parity.values()), export_s, len(manifest.engines), build_s, tracked,
        1e3 * track_s / max(tracked - 1, 1),
    )  # fmt: skip


def _timed(arguments: list[str]) -> float:
    """Seconds a command took; what it prints is dropped, but for the error that ends it."""
    start, errors = perf_counter(), io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            siamtrt.main(arguments, standalone_mode=False)
    except SystemExit:
        click.echo(errors.getvalue(), nl=False, err=True)
        raise
    return perf_counter() - start


@click.command()
@click.argument("video", type=click.Path(path_type=Path, exists=True))
@click.option("--init", required=True, help="The target in the first frame: x,y,w,h in pixels.")
@click.option(
    "--model", "models", multiple=True, type=click.Choice(list(PRESETS)), metavar="NAME",
    help="Only this preset; may be given several times.",
)  # fmt: skip
@click.option("--frames", type=click.IntRange(2), default=50, show_default=True, help="Frames to track through.")
@click.option("--target", default="sm86,sm89", show_default=True, help="GPU architectures; empty builds nothing.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Markdown file to write, row by row.",
)  # fmt: skip
def main(
    video: Path, init: str, models: tuple[str, ...], frames: int, target: str, output: Path | None
) -> None:
    """Export, build and track VIDEO with every preset, and print a table of what came of it.

    The weights are seeded, so that the boxes mean nothing; that every step runs does.
    """
    targets = [name for name in target.split(",") if name]
    lines = [HEADER]
    for name in tqdm(models or PRESETS, unit="tracker", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            lines.append(str(run_tracker(name, video, init, frames, targets, Path(folder))))
        if output:
            write_whole(output, ("\n".join(lines) + "\n").encode())
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
