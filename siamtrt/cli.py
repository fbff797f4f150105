"""The command line: each command parses, calls one library function and prints its result."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from siamtrt import __version__
from siamtrt.backends import Backend
from siamtrt.cli_bench import bench
from siamtrt.cli_compare import compare
from siamtrt.cli_eval import evaluate
from siamtrt.cli_precision import calibrate, calibrate_and_report
from siamtrt.cli_predict import predict
from siamtrt.cli_report import report
from siamtrt.cli_serve import serve
from siamtrt.cli_source import source_options
from siamtrt.cli_train import train
from siamtrt.cli_trax import trax
from siamtrt.cli_view import view
from siamtrt.errors import SiamtrtError
from siamtrt.packages import EXTRAS, missing_package
from siamtrt.precision import DEFAULT_IOU_DROP

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from siamtrt.boxes import BoxXywh

BAD_INPUT = 2
MOST_TARGETS = 64  # of one search; the graph's memory grows with it
QUIET_DECODERS = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}  # our own line says what failed
PathArgument = click.Path(path_type=Path)


class ReportingGroup(click.Group):
    """Turns the errors a user can repair into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SiamtrtError as error:
            click.echo(f"siamtrt: {error}", err=True)
            sys.exit(BAD_INPUT)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            missing = missing_package(error.name, "this command", more="; `siamtrt doctor` lists everything")
            click.echo(f"siamtrt: {missing}", err=True)
            sys.exit(BAD_INPUT)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has gone; click ends quietly
                raise
            click.echo(f"siamtrt: {_refused(error)}", err=True)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt:
            click.echo("siamtrt: interrupted, nothing half-written", err=True)
            sys.exit(130)


def _refused(error: OSError) -> SiamtrtError:
    return SiamtrtError(
        "the operating system refused a file", received=f"{error.filename}: {error.strerror}",
        expected="files this user may read and write", fix="check name, permissions and free space",
    )


@click.group(cls=ReportingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="siamtrt")
def main() -> None:
    """Siamese trackers on NVIDIA edge hardware.

    The usual order: `export` a checkpoint to a bundle, `build` engines from it, `track` a video, `bench` the speed.
    """
    for name, value in QUIET_DECODERS.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's stop cleans up like Ctrl-C


@main.command()
@click.argument("checkpoint", required=False, type=PathArgument)
@click.option("-o", "--output", "bundle", required=True, type=PathArgument, help="Bundle directory to write.")
@click.option("--model", help="Preset name; needed only where the parameter names fit several.")
@click.option("--batch", type=click.IntRange(1, MOST_TARGETS), default=1, show_default=True, help="Targets a search.")
def export(checkpoint: Path | None, bundle: Path, model: str | None, batch: int) -> None:
    """Split a PyTorch CHECKPOINT into template.onnx, search.onnx and what else its tracker runs.

    Without CHECKPOINT it is the tracker that comes with siamtrt.

    A bundle with --batch N is for Python's MultiTracker, which follows up to N targets with one search a frame.

    Example: siamtrt export nanotrackv2.pth -o nanotrack_v2
    """
    from siamtrt.default_tracker import WEIGHTS
    from siamtrt.export.bundle import export_bundle

    report = functools.partial(click.echo, err=True)
    manifest = export_bundle(checkpoint or WEIGHTS, bundle, model, lambda step: report(f"{step} ..."), batch)
    worst = max(manifest.parity.values())
    click.echo(f"{bundle}: {manifest.model}, equal to PyTorch within {worst:.1e} of the largest output")


@main.command()
@click.argument("bundle", type=PathArgument)
@click.argument("fit", type=PathArgument)
def loss(bundle: Path, fit: Path) -> None:
    """Put the loss detection that was fitted to a BUNDLE's tracker into its manifest, in the place of another.

    FIT is the JSON of `python -m siamtrt.training.loss_fit BUNDLE --data DIR -o FIT`. It must be of the same model and
    of the same checkpoint, by its SHA-256: other weights have other scores. The tracker needs a proposal head and no
    other strategy.

    Graphs, calibration and engines stay as they are. `siamtrt export` writes the preset's loss detection again.

    Example: siamtrt loss out/mine/bundle out/fit.json
    """
    from siamtrt.fitted_loss import put_into_bundle

    put_into_bundle(fit, bundle)
    click.echo(f"{bundle}: loss detection of {fit}")


@main.command()
@click.argument("bundle", type=PathArgument)
@click.option("--fp32", "precision", flag_value="fp32", help="Keep single precision.")
@click.option("--fp16", "precision", flag_value="fp16", default="fp16", help="Half precision inside (default).")
@click.option("--int8", "precision", flag_value="int8", help="INT8 where the calibration allows it, else half.")
@click.option(
    "--calib", "sources", multiple=True, metavar="SOURCE",
    help="Calibrate first, as `siamtrt calibrate` does; may be given several times.",
)
@click.option(
    "--max-iou-drop", type=click.FloatRange(0, 1), default=DEFAULT_IOU_DROP, show_default=True,
    help="With --calib: most that INT8 may take from the boxes' IoU with FP32's.",
)
@click.option("--target", help="GPU architectures, e.g. sm86,sm89; default: this GPU, or common ones without a GPU.")
@click.option("--flavour", type=click.Choice(["tensorrt", "tensorrt_rtx"]), help="Which TensorRT; default: installed.")
@click.option(
    "--xcorr", type=click.Choice(["native", "plugin", "auto"]), default="native", show_default=True,
    help="The correlation: TensorRT's own layers, siamtrt's kernel as a plugin, or the faster of both.",
)
def build(
    bundle: Path, precision: str, sources: tuple[str, ...], max_iou_drop: float, target: str | None,
    flavour: str | None, xcorr: str,
) -> None:  # fmt: skip
    """Build TensorRT engines for the graphs of a BUNDLE.

    TensorRT-RTX builds for GPUs this machine does not have; TensorRT builds for the GPU it runs on.

    INT8 needs ranges measured on real pairs: --calib, or `siamtrt calibrate` before.

    Examples: siamtrt build nanotrack_v2 --fp16 --target sm86,sm89;
    siamtrt build nanotrack_v2 --int8 --calib flights/
    """
    from siamtrt.export.engine import build_engines
    from siamtrt.runtime.engine_timing import engine_ms

    if sources:
        from siamtrt.calibration.calibrate import Options

        calibrate_and_report(bundle, sources, Options(max_iou_drop=max_iou_drop, progress=True))
    targets = [name.strip() for name in target.split(",") if name.strip()] if target else None
    for record in build_engines(bundle, precision, targets, flavour, True, xcorr, engine_ms):
        click.echo(f"{record.file}: {record.size_bytes / 1e6:.1f} MB in {record.build_seconds:.1f} s")


@main.command()
@source_options
@click.option("--init", help="The target in the first frame: x,y,w,h in pixels. Without it, draw it with the mouse.")
@click.option("--save", type=PathArgument, help="Annotated video to write (.mp4, .avi, .mkv).")
@click.option("--boxes", type=PathArgument, help="CSV to write: frame,x,y,w,h,score,polygon,status.")
@click.option("--show", is_flag=True, help="Show the frames in a window; q ends.")
@click.option("--max-frames", type=click.IntRange(2), help="Stop after this many frames.")
@click.option(
    "--watch/--no-watch", default=True, show_default=True,
    help="Notice when the target is gone and look for it, with a tracker that can tell.",
)
def track(
    bundle: Path, source: str, backend: Backend, threads: int | None, checkpoint: Path | None, init: str | None,
    save: Path | None, boxes: Path | None, show: bool, max_frames: int | None, watch: bool,
) -> None:  # fmt: skip
    """Track a target through SOURCE: a video file, a folder of images, a camera index, a URL or a GStreamer pipeline.

    Without BUNDLE the tracker that comes with siamtrt is taken.

    Examples: siamtrt track flight.mp4; siamtrt track nanotrack_v2 flight.mp4 --init 120,80,64,48 --save out.mp4
    """
    from siamtrt.runtime.sinks import require_display
    from siamtrt.runtime.sources import open_source
    from siamtrt.runtime.track import Outputs, track_source
    from siamtrt.runtime.tracker import Tracker
    from siamtrt.runtime.watched import WatchedTracker

    choose_box = _box_chooser(init)
    if show or init is None:
        require_display()
    frames = open_source(source, _tell_fault)
    kind = WatchedTracker if watch else Tracker
    with kind.load(bundle, backend, threads=threads, checkpoint=checkpoint) as tracker:
        summary = track_source(tracker, frames, choose_box, Outputs(save, boxes, show), max_frames=max_frames)
    click.echo(f"{summary.frames} frames, tracker {summary.fps:.1f} fps, mean score {summary.mean_score:.3f}")
    for path in filter(None, (save, boxes)):
        click.echo(f"wrote {path}")


def _tell_fault(kind: str, detail: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"siamtrt: {kind}: {detail}", file=sys.stderr)  # beside the progress bar


def _box_chooser(init: str | None) -> Callable[[np.ndarray], BoxXywh]:
    from siamtrt.boxes import parse_box
    from siamtrt.runtime.sinks import draw_box_with_mouse

    if init is None:
        return draw_box_with_mouse
    box = parse_box(init)
    return lambda frame: box


@main.command()
def models() -> None:
    """List the trackers: paper, crops, parameters, GMACs, and how each was verified."""
    from siamtrt.models.table import as_table, model_rows

    click.echo(as_table(model_rows()))


@main.command()
@click.argument("bundle", type=PathArgument)
def info(bundle: Path) -> None:
    """Describe a BUNDLE: tracker, tensors, parity, engines; checks every file's hash."""
    from siamtrt.info import describe_bundle

    click.echo(describe_bundle(bundle))


@main.command()
def doctor() -> None:
    """Say what is installed, what is missing, and the exact command that installs it."""
    from siamtrt.info import describe_installation

    click.echo(describe_installation())


main.add_command(bench)
main.add_command(calibrate)
main.add_command(compare)
main.add_command(evaluate)
main.add_command(predict)
main.add_command(report)
main.add_command(serve)
main.add_command(train)
main.add_command(trax)
main.add_command(view)

if __name__ == "__main__":
    main()
