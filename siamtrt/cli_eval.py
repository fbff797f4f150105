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
PROTOCOLS = ("one-pass", "supervised", "realtime", "long-term")
MOST_WORKERS = 256
SLOWEST_FPS, FASTEST_FPS = 20, 30  # at which frames come in real time
SCORES = "scores"  # RESULTS_DIR/scores.json and .md, with the protocol and "watched" between where they are not usual


@click.command(name="eval")
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path), metavar="[BUNDLE]...")
@click.option(
    "--results", type=click.Path(path_type=Path), metavar="DIR|ZIP",
    help="Instead of bundles, result files to score, of any tracker: TRACKER/baseline/SEQUENCE/SEQUENCE_001.txt as VOT "
    "writes them (realtime and longterm for baseline), or TRACKER/SEQUENCE.txt, one x,y,w,h line a frame.",
)
@click.option(
    "--dataset", required=True, type=click.Path(path_type=Path), metavar="PATH",
    help="Folder of sequences: VOT, OTB, DTB70, UAV123, LaSOT, GOT-10k, TrackingNet, NfS, TLP or TColor128 as they "
    "unpack, or videos beside their boxes. With --results also a VOT or OTB description in pysot's form, .json or "
    ".json.gz.",
)
@click.option("--layout", metavar="NAME", help="Of a folder that holds several, the one to take: NfS30, UAV20L, ...")
@click.option(
    "--protocol", type=click.Choice(PROTOCOLS),
    help="Default: supervised for VOT, long-term for VOT's long-term sequences, else one-pass.",
)
@click.option(
    "--fps", type=click.FloatRange(SLOWEST_FPS, FASTEST_FPS),
    help=f"Rate at which frames come, for realtime.  [default: {SLOWEST_FPS}]",
)
@click.option(
    "--latency-ms", type=click.FloatRange(0, min_open=True),
    help="What every update takes, for realtime. Default: what it takes here, for which --workers 1 is fair.",
)
@click.option(
    "--watch/--no-watch", default=False, show_default=True,
    help="Follow as `siamtrt track` does: notice when the target is gone and look for it. The tracker is then called "
    "BUNDLE_watched, beside BUNDLE; one that cannot tell is refused.",
)
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="For bundles.")
@click.option(
    "--workers", type=click.IntRange(1, MOST_WORKERS), default=1, show_default=True,
    help="Processes, one sequence each at a time; the results are the same at any number.",
)
@click.option(
    "--ray", metavar="ADDRESS",
    help="Instead of --workers, the cores of a Ray cluster: HOST:PORT, ray://HOST:PORT, or auto on a machine of it. "
    "The dataset has to be at the same path on every machine; bundles go there and results come back by themselves.",
)
@click.option(
    "--interval", nargs=2, type=click.IntRange(2), metavar="LOW HIGH",
    help="Sequence lengths of VOT's expected average overlap. Default: of the year in the dataset's name.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path),
    help="With bundles, the folder for their results, needed; with --results, also write OUTPUT.json and OUTPUT.md.",
)
def evaluate(
    bundles: tuple[Path, ...], results: Path | None, dataset: Path, layout: str | None, protocol: str | None,
    fps: float | None, latency_ms: float | None, watch: bool, backend: str, workers: int, ray: str | None,
    interval: tuple[int, int] | None, output: Path | None,
) -> None:  # fmt: skip
    """Run BUNDLEs over a dataset, or score result files: a line a tracker, best first.

    Each sequence's results go to OUTPUT/TRACKER as soon as it is done. The same command again goes on where an
    interrupted one ended.

    \b
    one-pass    tracked once from the first box: success AUC, precision at 20
                pixels, normalised precision, means over sequences; for
                GOT-10k AO and SR, over frames
    supervised  given the target again five frames after each loss: VOT's
                expected average overlap (EAO), accuracy, robustness in
                failures per 100 frames, failures
    realtime    the same; frames that come while the tracker is busy are
                skipped and keep the last region
    long-term   tracked once, with confidences, 0 while a watched target is
                lost: F-score, precision, recall

    Examples: siamtrt eval nanotrack_v2 nanotrack_v3 --dataset OTB2015 --workers 4 -o results;
    siamtrt eval nanotrack_v3 --dataset VOT2018 --protocol realtime --latency-ms 14 -o results;
    siamtrt eval nanotrack_v3 --dataset VOT2018-LT --watch -o results;
    siamtrt eval --results VOT2018.zip --dataset VOT2018.json.gz -o scores
    """
    if bool(bundles) == bool(results):
        raise _usage("both bundles and --results" if bundles else "neither bundles nor --results")
    if results:
        if fps or latency_ms or ray or watch:
            raise _usage("--results and --fps, --latency-ms, --ray or --watch, which are for bundles")
        _score(results, dataset, interval, layout, protocol, output)
        return
    if output is None:
        raise _usage("bundles without -o")
    if ray and workers > 1:
        raise _usage("both --workers and --ray")
    from siamtrt.benchmarks.evaluate import Options, evaluate_bundles

    options = Options(
        cast("Backend", backend), workers, ray, layout, protocol, fps, latency_ms, interval or None, watch,
        progress=True,
    )  # fmt: skip
    evaluation = evaluate_bundles(bundles, dataset, output, options)
    if evaluation is None:
        click.echo(f"{output}: boxes only: the dataset keeps its ground truth for its evaluation server")
    else:
        parts = [evaluation.protocol] * (evaluation.protocol != PROTOCOLS[0]) + ["watched"] * evaluation.watched
        _show(evaluation, output / "_".join([SCORES, *parts]))


def _score(
    results: Path, dataset: Path, interval: tuple[int, int] | None, layout: str | None, protocol: str | None,
    output: Path | None,
) -> None:  # fmt: skip
    from siamtrt.benchmarks.score_results import report_paths, score_results
    from siamtrt.files import require_place

    for path in report_paths(output) if output else ():
        require_place(path)
    evaluation = score_results(results, dataset, interval, progress=True, layout=layout, protocol=protocol)
    _show(evaluation, output)


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
