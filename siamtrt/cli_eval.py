"""`siamtrt eval`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="eval")
@click.option(
    "--results", required=True, type=click.Path(path_type=Path), metavar="DIR|ZIP",
    help="Result files to score, of any tracker: TRACKER/baseline/SEQUENCE/SEQUENCE_001.txt as VOT writes them, or "
    "TRACKER/SEQUENCE.txt, one x,y,w,h line a frame.",
)
@click.option(
    "--dataset", required=True, type=click.Path(path_type=Path), metavar="PATH",
    help="VOT or OTB description in pysot's form, VOT2018.json or .json.gz; or a folder of annotated sequences.",
)
@click.option(
    "--interval", nargs=2, type=click.IntRange(2), metavar="LOW HIGH",
    help="Sequence lengths of VOT's expected average overlap. Default: of the year in the description's name.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write OUTPUT.json and OUTPUT.md.")
def evaluate(results: Path, dataset: Path, interval: tuple[int, int] | None, output: Path | None) -> None:
    """Score result files against a dataset's ground truth, a line a tracker, best first.

    For VOT: expected average overlap (EAO), accuracy, robustness in failures per 100 frames, failures. Otherwise
    success AUC and precision at 20 pixels, means over sequences.

    Running a bundle over a dataset is not part of it yet.

    Example: siamtrt eval --results VOT2018.zip --dataset VOT2018.json.gz -o scores
    """
    from siamtrt.benchmarks.score_results import as_table, report_paths, save_report, score_results
    from siamtrt.files import require_place

    for path in report_paths(output) if output else ():
        require_place(path)
    evaluation = score_results(results, dataset, interval, progress=True)
    click.echo(as_table(evaluation), nl=False)
    for path in save_report(evaluation, output) if output else ():
        click.echo(f"wrote {path}")
