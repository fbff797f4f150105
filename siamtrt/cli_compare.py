"""`siamtrt compare`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from siamtrt.precision import DEFAULT_AUC_DROP

OVER_BUDGET = 1  # exit code


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--source", "sources", required=True, multiple=True, metavar="SEQUENCES",
    help="Folder of sequences (OTB, GOT-10k, name.mp4 beside name.txt), or one of them; may be given several times.",
)
@click.option(
    "--variants", metavar="NAME,...",
    help="Of fp32, fp16, int8, mixed, naive, shaken and engine:fp32, engine:fp16, engine:int8. Default: fp32, fp16, "
    "after `siamtrt calibrate` int8 and mixed, and every engine of the bundle that runs here.",
)
@click.option(
    "--max-auc-drop", type=click.FloatRange(0, 1), default=DEFAULT_AUC_DROP, show_default=True,
    help="Most success AUC that any variant but naive and shaken may lose.",
)
@click.option(
    "--half/--no-half", default=True, show_default=True,
    help="What is not INT8 in int8, mixed and naive: FP16, as engines have it, or FP32.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write OUTPUT.md, OUTPUT.json, OUTPUT.png.")
def compare(
    bundle: Path, sources: tuple[str, ...], variants: str | None, max_auc_drop: float, half: bool, output: Path | None
) -> None:
    """Track labelled SEQUENCES with every precision of a BUNDLE and compare accuracy with FP32's.

    \b
    fp16    every layer in FP16 but those the calibration keeps in FP32
    int8    every convolution in INT8, calibrated ranges
    mixed   the calibration's plan: the worst convolutions stay in FP16
    naive   every convolution in INT8, min-max ranges of noise: what to avoid
    shaken  FP32 with weights that differ by a millionth: what chance alone does

    These are simulated by ONNX Runtime with the graph's own roundings, so no GPU is needed; engine:NAME runs an
    engine, where there is the GPU it was built for. Use other sequences than those you calibrated on.

    Exit code 1 where a variant loses more than --max-auc-drop, so that a build pipeline can stop; 2 for bad input.

    Example: siamtrt compare nanotrack_v2 --source sequences --variants fp16,mixed -o report
    """
    from siamtrt.benchmarks.compare import compare as compared
    from siamtrt.benchmarks.compare_report import as_markdown, report_paths, save_report, verdict_line
    from siamtrt.files import require_place
    from siamtrt.packages import import_package
    from siamtrt.runtime.sequences import open_sequences

    if output:
        import_package("matplotlib.figure", "the plot", ", or leave out --output")  # it is drawn last
        for path in report_paths(output):
            require_place(path)
    names = [name.strip() for name in variants.split(",") if name.strip()] if variants else None
    comparison = compared(
        bundle, open_sequences(sources), names, half=half, max_auc_drop=max_auc_drop, progress=True,
        command=_command(bundle, sources, variants, max_auc_drop, half),
    )  # fmt: skip
    click.echo(as_markdown(comparison), nl=False)
    for path in save_report(comparison, output) if output else ():
        click.echo(f"wrote {path}")
    if comparison.over_budget:
        click.echo(f"siamtrt: {verdict_line(comparison)}", err=True)
        sys.exit(OVER_BUDGET)


def _command(bundle: Path, sources: tuple[str, ...], variants: str | None, max_auc_drop: float, half: bool) -> str:
    """What gives the same report again."""
    named = [part for source in sources for part in ("--source", source)]
    chosen = ["--variants", variants] if variants else []
    rest = ["--max-auc-drop", f"{max_auc_drop:g}", *([] if half else ["--no-half"])]
    return shlex.join(["siamtrt", "compare", str(bundle), *named, *chosen, *rest])
