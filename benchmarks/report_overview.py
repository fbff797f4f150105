"""The report's beginning and end: headlines, speed against accuracy, where it was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from siamtrt.benchmarks.contenders import CONTRASTS
from siamtrt.benchmarks.harness import BenchReport
from siamtrt.benchmarks.report_accuracy import contender_bytes, dataset_name, eval_command
from siamtrt.benchmarks.report_inputs import LONGEST_MS, Found, Inputs
from siamtrt.benchmarks.report_model import NONE, Cell, Figure, Headline, Section, Table, number, signed
from siamtrt.benchmarks.report_speed import bench_command, bench_names, machine_of
from siamtrt.benchmarks.report_svg import Axis, Point, linear_axis, scatter, speed_axis
from siamtrt.benchmarks.score_results import Evaluation, TrackerScores
from siamtrt.papers import SURVEY, SURVEY_SOURCE

LEAST_MS = 1e-6
VIDEO_FPS = 30.0  # of a camera; what "real time" means in the scatter
SPEED_TITLE = "frames per second (logarithmic)"


def headlines(inputs: Inputs) -> tuple[Headline, ...]:
    """The fastest and the most accurate, and what a precision costs."""
    found = []
    if inputs.benches:
        fps, name = max(zip((one.content.fps for one in inputs.benches), bench_names(inputs.benches), strict=True))
        found.append(Headline(number(fps, 1), "FPS", f"fastest measured: {name}"))
    for evaluation in (one.content for one in inputs.evaluations[:2]):
        winner = evaluation.trackers[0]
        what = f"best on {dataset_name(evaluation)}: {winner.name}"
        found.append(Headline(number(winner.scores[0]), evaluation.columns[0], what))
    for comparison in (one.content for one in inputs.comparisons[:1]):
        kept = [row for row in comparison.contenders if row.name not in CONTRASTS and row not in comparison.over_budget]
        sizes = {row.name: size for row in kept if (size := contender_bytes(row))}
        if sizes:
            least = min(kept, key=lambda row: sizes.get(row.name, math.inf))
            what = f"{comparison.model} as {least.name}, success AUC {signed(-least.auc_drop, 4)} against FP32"
            found.append(Headline(number(sizes[least.name] / 1e6, 2), "MB", what))
    return tuple(found)


def tracker_fps(row: TrackerScores, benches: Sequence[Found[BenchReport]]) -> tuple[float, str]:
    """A tracker's speed and where it is from: the bench of its name, if there is just one, else its evaluation."""
    named = [found.content.fps for found in benches if found.content.model == row.name]
    if len(named) == 1:
        return named[0], "bench"
    times = sorted(value for value in row.update_ms.values() if LEAST_MS < value < LONGEST_MS)
    if not times:
        return math.nan, NONE
    return 1e3 / times[len(times) // 2], "evaluation"


def tradeoff_section(inputs: Inputs) -> Section:
    """Speed against accuracy: ours, a figure a dataset, and as published."""
    pairs = [pair for found in inputs.evaluations if (pair := _ours(found, inputs.benches))]
    figures, tables = (tuple(part) for part in zip(*pairs, strict=True)) if pairs else ((), ())
    intro = f"Up and to the right is better. The dashed line is a camera's {VIDEO_FPS:g} frames per second."
    if figures:
        intro += " Ours and the published ones are on axes of their own: other sequences, other hardware."
    commands = [eval_command(found.content) for found in inputs.evaluations] if figures else []
    commands += [bench_command(found) for found in inputs.benches] if figures else []
    return Section("tradeoff", "Speed against accuracy", intro, (*figures, _published()), tables, tuple(commands))


def _ours(found: Found[Evaluation], benches: Sequence[Found[BenchReport]]) -> tuple[Figure, Table] | None:
    evaluation = found.content
    points, rows, column = [], [], evaluation.columns[0]
    for row in evaluation.trackers:
        fps, origin = tracker_fps(row, benches)
        score = row.scores[0]
        if math.isfinite(fps) and math.isfinite(score):
            points.append(Point(row.name, fps, score, f"{row.name}: {fps:.1f} FPS, {column} {score:.3f}"))
            rows.append((Cell(row.name), Cell(number(fps, 1)), Cell(number(score)), Cell(origin)))
    if not points:
        return None
    drawing = scatter(
        f"Speed against {column}", speed_axis(SPEED_TITLE, [point.x for point in points] + [VIDEO_FPS]),
        _score_axis(evaluation, points), points, VIDEO_FPS,
    )  # fmt: skip
    title = f"Here, on {dataset_name(evaluation)}"
    table = Table(title, ("tracker", "FPS", column, "FPS from"), tuple(rows), frozenset({3}), narrow=True)
    return Figure(title, drawing, "Values are in the table below."), table


def _score_axis(evaluation: Evaluation, points: Sequence[Point]) -> Axis:
    scores = [point.y for point in points]
    return linear_axis(evaluation.columns[0], max(scores) + 0.05, max(min(scores) - 0.05, 0.0))


def _published() -> Figure:
    points = []
    for row in SURVEY:
        fps, auc = row.value("FPS"), row.value("OTB2015 AUC/Prec.")
        if math.isfinite(auc):
            hover = f"{row.tracker}: {row.results[-1]} FPS, success AUC {auc:.3f}"
            points.append(Point(row.tracker, fps, auc, hover, published=True))
    drawing = scatter(
        "Speed against success AUC on OTB2015, as published", speed_axis(SPEED_TITLE, [point.x for point in points]),
        linear_axis("success AUC", max(point.y for point in points) + 0.01, min(point.y for point in points) - 0.01),
        points, VIDEO_FPS,
    )  # fmt: skip
    return Figure("As published, on OTB2015", drawing, f"{SURVEY_SOURCE}.")


def environment_section(inputs: Inputs) -> Section:
    """Every machine, and which results are from it."""
    machines: dict[tuple[Any, ...], list[str]] = {}
    named = [(found.path.name, found.content.environment) for found in inputs.benches]
    named += [(found.path.name, found.content.environment) for found in inputs.comparisons]
    named += [(found.path.name, found.content["environment"]) for found in inputs.gpus]
    for name, environment in named:
        machines.setdefault((machine_of(environment), *_facts(environment)), []).append(name)
    tables = tuple(
        Table(name, ("part", "value"), tuple((Cell(key), Cell(value)) for key, value in facts), frozenset({1}),
              note=f"Of {', '.join(files)}.")
        for (name, *facts), files in machines.items()
    )  # fmt: skip
    return Section("environment", "Measured on", tables=tables)


def _part(environment: dict[str, Any], name: str) -> dict[str, Any]:
    found = environment.get(name)
    return found if isinstance(found, dict) else {}


def _facts(environment: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    device, packages = (_part(environment, name) for name in ("device", "packages"))
    known = {
        "GPU": device.get("name") or environment.get("gpu"), "driver": device.get("driver"), "CUDA": device.get("cuda"),
        "compute capability": device.get("compute_capability"), "CPU": environment.get("cpu"),
        "cores": environment.get("cores"), "system": environment.get("system"), "Python": environment.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "commit": environment.get("commit"),
    }  # fmt: skip
    return tuple((name, str(value or NONE)) for name, value in known.items() if value or name in ("GPU", "CPU"))
