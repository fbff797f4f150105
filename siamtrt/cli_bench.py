"""`siamtrt bench`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from siamtrt.cli_source import PathArgument, source_options
from siamtrt.errors import SiamtrtError

if TYPE_CHECKING:
    from siamtrt.backends import Backend


@click.command()
@source_options
@click.option("--init", required=True, help="The target in the first frame: x,y,w,h in pixels.")
@click.option("--warm-up", type=click.IntRange(0), default=20, show_default=True, help="Updates left out.")
@click.option("--max-frames", type=click.IntRange(2), help="Stop after this many frames.")
@click.option(
    "--compare", metavar="NAME,...",
    help="Time these beside ours, in turns on every frame: opencv:mil, opencv:nano, opencv:vit, opencv (TrackerMIL and "
    "those with a model), torch (the same tracker, its network in PyTorch; needs --checkpoint).",
)  # fmt: skip
@click.option(
    "--opencv-model", "models", multiple=True, metavar="NAME=FILE[,FILE]",
    help="For --compare: nano=BACKBONE.onnx,HEAD.onnx or vit=VITTRACK.onnx; may be given several times.",
)
@click.option("-o", "--output", type=PathArgument, help="Also write OUTPUT.json (raw samples) and OUTPUT.md.")
def bench(
    bundle: Path, source: str, backend: Backend, threads: int | None, checkpoint: Path | None, init: str,
    warm_up: int, max_frames: int | None, compare: str | None, models: tuple[str, ...], output: Path | None,
) -> None:  # fmt: skip
    """Measure every stage of an update on SOURCE, beside the paper's figure.

    With --compare other trackers get the same frames and the same box in the same process; --threads is then for each
    of them. The report has the ratio of their medians to ours and the IoU of their boxes with ours. Where SOURCE is a
    video with its boxes in a .txt beside it, or the folder of an annotated sequence, it has each one's success AUC.

    Examples: siamtrt bench nanotrack_v2 flight.mp4 --init 120,80,64,48 -o report;
    siamtrt bench nanotrack_v2 flight.mp4 --init 120,80,64,48 --compare opencv,torch --checkpoint nanotrackv2.pth
    --opencv-model nano=backbone.onnx,head.onnx
    """
    from siamtrt.benchmarks.harness import as_markdown, bench_source, report_paths, save_report
    from siamtrt.benchmarks.race import open_annotated
    from siamtrt.benchmarks.rivals import chosen_rivals, opened_rivals, parse_models
    from siamtrt.boxes import parse_box
    from siamtrt.files import require_place
    from siamtrt.runtime.sources import open_source
    from siamtrt.runtime.tracker import Tracker

    if models and compare is None:
        raise SiamtrtError(
            "a model that nothing compares", received="--opencv-model without --compare", expected="both, or none",
            fix="add --compare opencv",
        )
    box, files = parse_box(init), parse_models(models)
    names = chosen_rivals(compare, files) if compare is not None else ()
    for path in report_paths(output) if output else ():
        require_place(path)
    frames, truth = open_annotated(source) if names else (open_source(source), None)
    with (
        Tracker.load(bundle, backend, threads=threads, checkpoint=checkpoint) as tracker,
        opened_rivals(names, files, bundle, ours=tracker.backend, threads=threads, checkpoint=checkpoint) as rivals,
    ):
        report = bench_source(
            tracker, frames, box, bundle, warm_up, max_frames, rivals=rivals, truth_xywh=truth, threads=threads
        )
    report = dataclasses.replace(report, command=shlex.join(["siamtrt", *sys.argv[1:]]))
    click.echo(as_markdown(report), nl=False)
    for path in save_report(report, output) if output else ():
        click.echo(f"wrote {path}")
