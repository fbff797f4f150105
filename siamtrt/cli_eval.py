"""`siamtrt eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from siamtrt.errors import SiamtrtError

if TYPE_CHECKING:
    from siamtrt.backends import Backend
    from siamtrt.benchmarks.score_results import Evaluation

BACKENDS = ("auto", "onnxruntime", "tensorrt")
MOST_WORKERS = 256
SCORES = "scores"  # RESULTS_DIR/scores.json and .md


@click.command(name="eval")
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path), metavar="[BUNDLE]...")
@click.option(
    "--results", type=click.Path(path_type=Path), metavar="DIR|ZIP",
    help="Instead of bundles, result files to score, of any tracker: TRACKER/baseline/SEQUENCE/SEQUENCE_001.txt as VOT "
    "writes them, or TRACKER/SEQUENCE.txt, one x,y,w,h line a frame.",
)
@click.option(
    "--dataset", required=True, type=click.Path(path_type=Path), metavar="PATH",
    help="Folder of sequences: OTB, DTB70, UAV123, LaSOT, GOT-10k, TrackingNet, NfS, TLP or TColor128 as they unpack, "
    "or videos beside their boxes. With --results also a VOT or OTB description in pysot's form, .json or .json.gz.",
)
@click.option("--layout", metavar="NAME", help="Of a folder that holds several, the one to take: NfS30, UAV20L, ...")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="For bundles.")
@click.option(
    "--workers", type=click.IntRange(1, MOST_WORKERS), default=1, show_default=True,
    help="Processes, one sequence each at a time; the results are the same at any number.",
)
@click.option(
    "--interval", nargs=2, type=click.IntRange(2), metavar="LOW HIGH",
    help="Sequence lengths of VOT's expected average overlap. Default: of the year in the description's name.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path),
    help="With bundles, the folder for their results, needed; with --results, also write OUTPUT.json and OUTPUT.md.",
)
def evaluate(
    bundles: tuple[Path, ...], results: Path | None, dataset: Path, layout: str | None, backend: str, workers: int,
    interval: tuple[int, int] | None, output: Path | None,
) -> None:  # fmt: skip
    """Run BUNDLEs over a dataset, or score result files: a line a tracker, best first.

    Every sequence is tracked once from its first box, and its boxes go to OUTPUT/TRACKER/SEQUENCE.txt as soon as it is
    done. The same command again goes on where an interrupted one ended. Scores: success AUC, precision at 20 pixels,
    normalised precision, means over sequences; for GOT-10k AO and SR, over frames.

    Result files of VOT: expected average overlap (EAO), accuracy, robustness in failures per 100 frames, failures.

    Examples: siamtrt eval nanotrack_v2 nanotrack_v3 --dataset OTB2015 --workers 4 -o results;
    siamtrt eval --results VOT2018.zip --dataset VOT2018.json.gz -o scores
    """
    if bool(bundles) == bool(results):
        raise _usage("both bundles and --results" if bundles else "neither bundles nor --results")
    if results:
        _score(results, dataset, interval, layout, output)
    elif output is None or interval:
        raise _usage("bundles without -o" if output is None else "bundles and --interval, which is VOT's")
    else:
        _run(bundles, dataset, output, cast("Backend", backend), workers, layout)


def _score(
    results: Path, dataset: Path, interval: tuple[int, int] | None, layout: str | None, output: Path | None
) -> None:
    from siamtrt.benchmarks.score_results import report_paths, score_results
    from siamtrt.files import require_place

    for path in report_paths(output) if output else ():
        require_place(path)
    _show(score_results(results, dataset, interval, progress=True, layout=layout), output)


def _run(
    bundles: tuple[Path, ...], dataset: Path, output: Path, backend: Backend, workers: int, layout: str | None
) -> None:
    from siamtrt.benchmarks.evaluate import Options, evaluate_bundles

    evaluation = evaluate_bundles(bundles, dataset, output, Options(backend, workers, layout, progress=True))
    if evaluation is None:
        click.echo(f"{output}: boxes only: the dataset keeps its ground truth for its evaluation server")
    else:
        _show(evaluation, output / SCORES)


def _show(evaluation: Evaluation, stem: Path | None) -> None:
    from siamtrt.benchmarks.score_results import as_table, save_report

    click.echo(as_table(evaluation), nl=False)
    for path in save_report(evaluation, stem) if stem else ():
        click.echo(f"wrote {path}")


def _usage(received: str) -> SiamtrtError:
    return SiamtrtError(
        "nothing to evaluate", received=received,
        expected="BUNDLE... --dataset PATH -o RESULTS_DIR, or --results DIR|ZIP --dataset PATH",
        fix="give one of these; siamtrt eval --help explains both",
    )
