"""`siamtrt calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from siamtrt.cli_source import MOST_THREADS
from siamtrt.errors import MissingPackageError
from siamtrt.precision import AUTO, DEFAULT_IOU_DROP, DEFAULT_PAIRS, ESTIMATORS

if TYPE_CHECKING:
    from siamtrt.calibration.calibrate import Options

MOST_PAIRS = 65536
SOURCES = """A SOURCE is a folder of annotated sequences (OTB, GOT-10k), a video with its boxes in a .txt beside it, or
    a video or folder of images with the first box appended: flight.mp4:120,80,64,48; FP32 then tracks the rest."""


@click.command(help=f"""Measure a BUNDLE on real template/search pairs: INT8 ranges, FP16's limits, a precision plan.

    Every convolution is tried in INT8 alone; the worst stay in FP16 until a step's box overlaps FP32's well enough.
    Writes calibration.json, template.int8.onnx and search.int8.onnx into the bundle (ONNX Runtime simulates them,
    `build --int8` builds them), and a report, calibration.md and calibration.png.

    {SOURCES}

    Example: siamtrt calibrate nanotrack_v2 --calib flights/ --calib roof.mp4:120,80,64,48
    """)  # fmt: skip
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--calib", "sources", multiple=True, required=True, metavar="SOURCE", help="May be given several times.")
@click.option("--pairs", type=click.IntRange(1, MOST_PAIRS), default=DEFAULT_PAIRS, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the choice of frames.")
@click.option(
    "--ranges", type=click.Choice([AUTO, *ESTIMATORS]), default=AUTO, show_default=True,
    help="Estimator of INT8 ranges; auto takes for each tensor the one that disturbs the outputs least.",
)  # fmt: skip
@click.option(
    "--max-iou-drop", type=click.FloatRange(0, 1), default=DEFAULT_IOU_DROP, show_default=True,
    help="Most that INT8 may take from the boxes' IoU with FP32's; 1 puts every convolution in INT8.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads; default by network size.")
def calibrate(
    bundle: Path, sources: tuple[str, ...], pairs: int, seed: int, ranges: str, max_iou_drop: float,
    threads: int | None,
) -> None:  # fmt: skip
    from siamtrt.calibration.calibrate import Options

    calibrate_and_report(bundle, sources, Options(pairs, seed, ranges, max_iou_drop, threads, progress=True))


def calibrate_and_report(bundle: Path, sources: tuple[str, ...], options: Options) -> None:
    """Calibrate, write calibration.md and calibration.png, and print the plan and what is to be noted."""
    from siamtrt.calibration.calibrate import calibrate
    from siamtrt.calibration.report import as_markdown, notes, save_picture
    from siamtrt.files import write_whole

    calibration = calibrate(bundle, sources, options)
    write_whole(bundle / "calibration.md", as_markdown(calibration).encode())
    chosen = calibration.chosen
    click.echo(
        f"{bundle}: {calibration.pairs} pairs, {chosen.kept} of {len(calibration.layers)} convolutions in FP16, "
        f"{chosen.int8_share:.1%} of the search in INT8, IoU with FP32's boxes {chosen.damage.iou:.4f}"
    )
    for note in notes(calibration):
        click.echo(f"note: {note}", err=True)
    picture = bundle / "calibration.png"
    try:
        save_picture(calibration, picture)
    except MissingPackageError as error:
        picture.unlink(missing_ok=True)  # of another calibration, perhaps
        click.echo(f"no picture: {error}", err=True)
