"""`siamtrt predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from siamtrt.benchmarks.devices import Precision

DEFAULT_FPS = 30.0


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--device", default="all", show_default=True, metavar="NAME", help="A device of the table, or all.")
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp16", show_default=True,
    help="Of the run; INT8 layer by layer where the bundle is calibrated.",
)  # fmt: skip
@click.option("--list", "only_reaching", is_flag=True, help="Only devices that reach --fps, the least first.")
@click.option(
    "--fps", type=click.FloatRange(0, min_open=True), default=DEFAULT_FPS, show_default=True, help="Wanted, for --list."
)
@click.option(
    "--host-ms", type=click.FloatRange(0),
    help="An update's time on the CPU: crop and decode of `siamtrt bench`, 0 for DeviceTracker. Default: what "
    "published trackers take, 4.8 ms.",
)  # fmt: skip
@click.option("--layers", is_flag=True, help="Show the costliest kernels of the device.")
@click.option("--figures", is_flag=True, help="Show every published figure beside its prediction.")
@click.option("--json", "json_output", is_flag=True, help="Print JSON instead.")
def predict(
    bundle: Path, device: str, precision: Precision, only_reaching: bool, fps: float, host_ms: float | None,
    layers: bool, figures: bool, json_output: bool,
) -> None:  # fmt: skip
    """Predict the frame rate of a BUNDLE on GPUs that are not here.

    A roofline a layer: arithmetic or memory traffic, whichever takes longer, and a kernel's overhead. With its error,
    the spread of prediction / published over the figures known. Not a measurement: `siamtrt bench` measures.

    Examples: siamtrt predict nanotrack_v2 --device jetson-orin-nano --layers;
    siamtrt predict nanotrack_v2 --list --fps 60
    """
    from siamtrt.benchmarks.devices import DEVICES, find_device
    from siamtrt.benchmarks.predict import as_json, bundle_work, known_figures, ranked, report
    from siamtrt.benchmarks.published_speeds import published_overheads, spread

    devices = DEVICES if device.lower() == "all" else (find_device(device),)
    if layers and len(devices) > 1:
        raise click.UsageError("--layers shows one device; name it with --device")
    work = bundle_work(bundle, precision)
    known = known_figures()
    host = published_overheads().host_ms if host_ms is None else host_ms
    predictions = ranked(work, devices, host, spread(known))
    if only_reaching:
        predictions = [one for one in predictions if one.fps >= fps]
    if json_output:
        click.echo(as_json(work, predictions, known), nl=False)
        return
    click.echo(report(work, predictions, known, host_ms=host, layers=layers, figures=figures), nl=False)
