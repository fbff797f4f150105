"""The report's sections on accuracy: datasets by tracker, sequence and attribute, curves, and precisions compared."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from siamtrt.benchmarks.compare import Comparison, Contender
from siamtrt.benchmarks.compare_report import verdict_line
from siamtrt.benchmarks.metrics import PRECISION_PIXELS, SUCCESS_THRESHOLDS
from siamtrt.benchmarks.protocols import ONE_PASS
from siamtrt.benchmarks.report_curves import PIXELS, TrackerCurves, curves_of
from siamtrt.benchmarks.report_inputs import Found
from siamtrt.benchmarks.report_model import Cell, Figure, Section, Table, bar_cell, number, signed
from siamtrt.benchmarks.report_svg import Axis, Curve, Point, curves, legend, linear_axis, scatter
from siamtrt.benchmarks.run_files import WATCHED
from siamtrt.benchmarks.score_results import Evaluation
from siamtrt.errors import SiamtrtError

LOWER_IS_BETTER = ("robustness", "lost number")
NOTE = (
    "IoU with FP32 is the mean over frames between the two tracks. One different rounding can decide a hard sequence, "
    "so judge by the means, and beside shaken where it is there: FP32 with weights that differ by a millionth. FP16 "
    "and INT8 without an engine are simulated on the CPU: their times say nothing about a GPU."
)
FOLDED_ROWS = 25  # longer tables are shown on demand
MOST_CELLS = 6000  # of a table by sequence; about 0.4 MB of the page
TENTHS = [index / 10 for index in range(11)]
SHARE = Axis("share of frames", 0.0, 1.0, TENTHS[::2])


def dataset_name(evaluation: Evaluation) -> str:
    """Of the folder or description."""
    return Path(evaluation.dataset).name.removesuffix(".gz").removesuffix(".json") or evaluation.dataset


def accuracy_section(found: Found[Evaluation], index: int) -> Section:
    """An evaluation: its table, its curves, and its scores by attribute and sequence."""
    evaluation = found.content
    tables = [_score_table(evaluation)]
    figures, missing = _curve_figures(found)
    if evaluation.attributes:
        tables.append(_attribute_table(evaluation))
    if evaluation.trackers[0].sequences:
        tables.append(_sequence_table(evaluation))
    amount = f"{evaluation.sequences:,} sequences, {evaluation.frames:,} frames"
    title = f"Accuracy on {dataset_name(evaluation)}"
    if evaluation.protocol != ONE_PASS:
        title += f", {evaluation.protocol}"
    if evaluation.watched:
        title += ", watched"
    span = evaluation.interval and (
        f" EAO is over sequences of {evaluation.interval[0]} to {evaluation.interval[1]} frames; robustness is "
        "failures per 100 frames, less is better."
    )
    return Section(
        f"accuracy-{index}", title, f"{amount}.{span or ''}{missing}", figures, tuple(tables),
        (eval_command(evaluation),),
    )  # fmt: skip


def eval_command(evaluation: Evaluation) -> str:
    """What scores it again; of bundles run here, folders are named like their trackers."""
    dataset = ["--dataset", evaluation.dataset]
    if evaluation.protocol != ONE_PASS:
        dataset += ["--protocol", evaluation.protocol]
    if any(row.update_ms for row in evaluation.trackers):
        dataset += ["--watch"] * evaluation.watched
        bundles = sorted(row.name.removesuffix(WATCHED * evaluation.watched) for row in evaluation.trackers)
        return shlex.join(["siamtrt", "eval", *bundles, *dataset, "-o", evaluation.results])
    if evaluation.interval:
        dataset += ["--interval", *map(str, evaluation.interval)]
    return shlex.join(["siamtrt", "eval", "--results", evaluation.results, *dataset, "-o", "scores"])


def _score_table(evaluation: Evaluation) -> Table:
    by_score = zip(*(row.scores for row in evaluation.trackers), strict=True)
    columns = [_compared(values, name) for values, name in zip(by_score, evaluation.columns, strict=True)]
    paired = zip(evaluation.trackers, zip(*columns, strict=True), strict=True)
    rows = tuple((Cell(row.name), *cells) for row, cells in paired)
    return Table("Scores, best first", ("tracker", *evaluation.columns), rows)


def _best(values: Sequence[float], column: str) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    if len(values) < 2 or not known:
        return None
    return min(known) if column in LOWER_IS_BETTER else max(known)


def _longest(values: Sequence[float], column: str) -> float:
    """What fills a cell: 1 for shares, the greatest of failures."""
    if column not in LOWER_IS_BETTER:
        return 1.0
    return max((value for value in values if math.isfinite(value)), default=1.0)


def _attribute_table(evaluation: Evaluation) -> Table:
    """The first score over the sequences of each attribute."""
    names, column = [row.name for row in evaluation.trackers], evaluation.columns[0]
    rows = []
    for attribute, count in evaluation.attributes.items():
        values = [row.attributes.get(attribute, (math.nan,))[0] for row in evaluation.trackers]
        rows.append((Cell(attribute), Cell(str(count)), *_compared(values, column)))
    note = "Means over the sequences that have it, as the dataset says."
    return Table(f"{column} by attribute", ("attribute", "sequences", *names), tuple(rows), note=note)


def _sequence_table(evaluation: Evaluation) -> Table:
    """The first score by sequence, hardest first; of very many sequences, only these."""
    names = [row.name for row in evaluation.trackers]
    column = evaluation.columns[0]
    scored = {
        sequence: [row.sequences.get(sequence, (math.nan,))[0] for row in evaluation.trackers]
        for sequence in evaluation.trackers[0].sequences
    }
    ordered = sorted(scored, key=lambda sequence: (_mean(scored[sequence]), sequence))
    shown = ordered[: max(MOST_CELLS // (len(names) + 1), 1)]
    rows = tuple((Cell(sequence), *_compared(scored[sequence], column)) for sequence in shown)
    left = len(ordered) - len(shown)
    note = f"Hardest first.{f' The {left:,} easiest are left out; the file of the evaluation has them.' * bool(left)}"
    return Table(f"{column} by sequence", ("sequence", *names), rows, note=note, folded=len(rows) > FOLDED_ROWS)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.inf


def _compared(values: Sequence[float], column: str) -> tuple[Cell, ...]:
    best, most = _best(values, column), _longest(values, column)
    return tuple(bar_cell(value, most, best=value == best) for value in values)


def _curve_figures(found: Found[Evaluation]) -> tuple[tuple[Figure, ...], str]:
    """Success and precision plots, or VOT's expected overlap; and why there are none."""
    evaluation = found.content
    if any(row.curve for row in evaluation.trackers):
        return (_overlap_figure(evaluation),), ""
    try:
        lines = curves_of(evaluation, found.path.parent)
    except SiamtrtError as error:
        return (), f" No success and precision plots: {error.received}."
    except OSError as error:  # a name no file can have
        return (), f" No success and precision plots: {error.strerror}."
    return (_success_figure(lines), _precision_figure(lines)), ""


def _success_figure(lines: Sequence[TrackerCurves]) -> Figure:
    named = [f"{line.name}  {line.success.mean():.3f}" for line in lines]
    successes = [line.success.tolist() for line in lines]
    drawn = [Curve(name, SUCCESS_THRESHOLDS.tolist(), ys) for name, ys in zip(named, successes, strict=True)]
    drawing = curves("Success plot", Axis("IoU with the truth above", 0.0, 1.0, TENTHS[::2]), SHARE, drawn)
    return Figure("Success", legend(named) + drawing, "Mean of sequences; the number is the area, success AUC.")


def _precision_figure(lines: Sequence[TrackerCurves]) -> Figure:
    at = int(PRECISION_PIXELS)
    named = [f"{line.name}  {line.precision[at]:.3f}" for line in lines]
    drawn = [Curve(name, PIXELS.tolist(), line.precision.tolist()) for name, line in zip(named, lines, strict=True)]
    axis = linear_axis("pixels between the centres, at most", float(PIXELS[-1]))
    drawing = curves("Precision plot", axis, SHARE, drawn, marked=PRECISION_PIXELS)
    return Figure("Precision", legend(named) + drawing, f"Mean of sequences; the number is that at {at} px.")


def _overlap_figure(evaluation: Evaluation) -> Figure:
    named = [f"{row.name}  {number(row.scores[0])}" for row in evaluation.trackers]
    longest = max(len(row.curve) for row in evaluation.trackers)
    drawn = [
        Curve(name, range(1, len(row.curve) + 1), row.curve)
        for name, row in zip(named, evaluation.trackers, strict=True)
    ]
    axes = linear_axis("frames of a sequence", longest), Axis("expected overlap", 0.0, 1.0, TENTHS[::2])
    drawing = curves("Expected average overlap", *axes, drawn, span=evaluation.interval)
    return Figure("Expected overlap", legend(named) + drawing, "The number is EAO, the mean over the shaded lengths.")


def comparison_section(found: Found[Comparison], index: int) -> Section:
    """A tracker's precisions: what each loses, and their success curves."""
    comparison = found.content
    verdict = verdict_line(comparison) or f"no variant loses more than {comparison.max_auc_drop:g} of success AUC"
    tracks = comparison.contenders[0].tracks
    rows = tuple(
        (
            Cell(row.name), bar_cell(row.success_auc, 1.0, 4), Cell(signed(-row.auc_drop, 4)),
            bar_cell(row.precision, 1.0, 4), bar_cell(row.iou_fp32, 1.0, 4),
            Cell(number(None if row.int8_share is None else 100 * row.int8_share, 1)),
            Cell(_megabytes(row)),
            Cell(number(row.update_ms, 2)), Cell(row.backend),
        )
        for row in comparison.contenders
    )  # fmt: skip
    columns = ("variant", "success AUC", "against FP32", "precision at 20 px", "IoU with FP32", "MACs in INT8, %",
               "MB", "update here, ms", "run by")  # fmt: skip
    table = Table("Precisions", columns, rows, frozenset({8}), note=NOTE)
    skipped = "".join(f" Skipped {name}: {why}." for name, why in comparison.skipped.items())
    intro = f"{len(tracks)} sequences; {verdict}.{skipped}"
    commands = (comparison.command,) if comparison.command else ()
    figures = _variants_figure(comparison), *_sizes_figure(comparison)
    tables = table, _variant_sequences(comparison)
    return Section(f"precisions-{index}", f"Precisions of {comparison.model}", intro, figures, tables, commands)


def contender_bytes(row: Contender) -> int | None:
    """What a variant takes on disk: its graphs, or its engines, of several the smallest; None where unknown."""
    return row.graph_bytes if row.graph_bytes is not None else min(row.engine_bytes.values(), default=None)


def _megabytes(row: Contender) -> str:
    size = contender_bytes(row)
    return number(None if size is None else size / 1e6, 2)


def _sizes_figure(comparison: Comparison) -> tuple[Figure, ...]:
    """Size against accuracy, where sizes are known."""
    points = []
    for row in comparison.contenders:
        size = contender_bytes(row)
        if size is not None and math.isfinite(row.success_auc):
            hover = f"{row.name}: {size / 1e6:.2f} MB, success AUC {row.success_auc:.4f}"
            points.append(Point(row.name, size / 1e6, row.success_auc, hover))
    if len(points) < 2:
        return ()
    sizes, scores = [point.x for point in points], [point.y for point in points]
    axes = (
        linear_axis("MB of the graphs or engines", 1.15 * max(sizes)),
        linear_axis("success AUC", max(scores) + 0.01, max(min(scores) - 0.01, 0.0)),
    )
    note = "Up and to the left is better."
    return (Figure("Size against accuracy", scatter("Size against success AUC by precision", *axes, points), note),)


def _variants_figure(comparison: Comparison) -> Figure:
    named = [f"{row.name}  {number(row.success_auc)}" for row in comparison.contenders]
    means = [np.mean([track.success for track in row.tracks], axis=0).tolist() for row in comparison.contenders]
    drawn = [Curve(name, SUCCESS_THRESHOLDS.tolist(), mean) for name, mean in zip(named, means, strict=True)]
    drawing = curves("Success plot by precision", Axis("IoU with the truth above", 0.0, 1.0, TENTHS[::2]), SHARE, drawn)
    return Figure("Success by precision", legend(named) + drawing, "Mean of sequences; the number is success AUC.")


def _variant_sequences(comparison: Comparison) -> Table:
    names = [row.name for row in comparison.contenders]
    rows = tuple(
        (Cell(tracks[0].sequence), *_compared([track.success_auc for track in tracks], ""))
        for tracks in zip(*(row.tracks for row in comparison.contenders), strict=True)
    )
    return Table("Success AUC by sequence", ("sequence", *names), rows, folded=len(rows) > FOLDED_ROWS)
