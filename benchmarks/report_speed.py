"""The report's sections on speed: stages of an update, GPUs measured, devices predicted, the papers beside ours."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from siamtrt.benchmarks.gpu_table import KERNEL_COLUMNS, UPDATE_COLUMNS, XCORR_COLUMNS
from siamtrt.benchmarks.harness import OURS, BenchReport
from siamtrt.benchmarks.report_inputs import Found, Predictions
from siamtrt.benchmarks.report_model import NONE, Cell, Figure, Section, Table, bar_cell, number
from siamtrt.benchmarks.report_svg import Bar, legend, linear_axis, stacked_bars
from siamtrt.papers import SPEEDS, SURVEY, SURVEY_COLUMNS, SURVEY_LEGEND, SURVEY_SOURCE

WHOLE = "whole update"
WHISKERS = 4  # times the longest median; a mark beyond would leave no room for the bars
PERCENTILES = ("p50", "p90", "p99")


def bench_names(benches: Sequence[Found[BenchReport]]) -> list[str]:
    """A name for each: its model; of several alike with the backend, and if need be the file's name."""
    names = [found.content.model for found in benches]
    for more in (lambda found: found.content.backend, lambda found: found.path.stem, lambda found: str(found.path)):
        alike = Counter(names)
        names = [
            f"{name}, {more(found)}" if alike[name] > 1 else name for name, found in zip(names, benches, strict=True)
        ]
    return names


def machine_of(environment: dict[str, Any]) -> str:
    """The GPU, or the CPU with its cores."""
    device = environment.get("device")
    if isinstance(device, dict):
        return str(device.get("name") or "unknown GPU")
    return str(environment.get("gpu") or f"{environment.get('cpu')} ({environment.get('cores')} cores)")


def stages_section(benches: Sequence[Found[BenchReport]]) -> Section:
    """Bars of the stages' medians, and every percentile."""
    names = bench_names(benches)
    ordered = sorted(zip(names, benches, strict=True), key=lambda row: -row[1].content.fps)
    stages = list(dict.fromkeys(stage for _, found in ordered for stage in found.content.stages if stage != WHOLE))
    bars = [_bar(name, found.content) for name, found in ordered]
    medians = max(sum(part for _, part in bar.parts) for bar in bars)
    most = max(medians, *(value for bar in bars for _, value in bar.marks if value < WHISKERS * medians))
    drawing = stacked_bars("Milliseconds of an update by stage", linear_axis("ms of an update", most), bars, stages)
    figure = Figure(
        "Where the time goes", legend(stages, "fill") + drawing,
        "Bars are medians (p50) of the stages; the two marks are p90 and p99 of the whole update, where they fit.",
        wide=True,
    )  # fmt: skip
    tables = [_stage_table(name, found.content) for name, found in ordered]
    tables += [_rivals_table(name, found.content) for name, found in ordered if found.content.contenders]
    intro = "Frames per second are 1000 / median of a whole update: crop, network and decoding, not reading frames."
    commands = tuple(bench_command(found) for _, found in ordered)
    return Section("stages", "Frames per second by stage", intro, (figure,), tuple(tables), commands)


def _bar(name: str, report: BenchReport) -> Bar:
    parts = [(stage, times.p50_ms) for stage, times in report.stages.items() if stage != WHOLE]
    whole = report.stages.get(WHOLE)
    marks = [("p90", whole.p90_ms), ("p99", whole.p99_ms)] if whole else []
    tail = f", p99 {number(whole.p99_ms, 1)} ms" if whole else ""
    return Bar(name, f"{number(report.fps, 1)} FPS{tail}", parts, marks)


def _stage_table(name: str, report: BenchReport) -> Table:
    most = max(times.p50_ms for times in report.stages.values())
    rows = tuple(
        (
            Cell(stage), bar_cell(times.p50_ms, most), Cell(number(times.p90_ms)), Cell(number(times.p99_ms)),
            Cell(number(1e3 / times.p50_ms if times.p50_ms > 0 else None, 1)),
        )
        for stage, times in report.stages.items()
    )  # fmt: skip
    width, height = report.frame_size
    note = (
        f"{report.updates:,} updates after {report.warm_up} of warm-up, {report.source} at {width}x{height}, backend "
        f"{report.backend}, on {machine_of(report.environment)}."
    )
    columns = ("stage", *(f"{percentile}, ms" for percentile in PERCENTILES), "FPS at p50")
    return Table(f"{name}: {number(report.fps, 1)} FPS", columns, rows, note=note, narrow=True)


def _rivals_table(name: str, report: BenchReport) -> Table:
    """Others on the same frames, in turns with ours, fastest first."""
    ranked = sorted(report.contenders, key=lambda row: row.update.p50_ms)
    most = max(row.update.p50_ms for row in ranked)
    rows = tuple(
        (
            Cell(row.name, best=row.name == OURS), bar_cell(row.update.p50_ms, most, published=row.name != OURS),
            Cell(number(row.update.p90_ms)), Cell(number(row.update.p99_ms)), Cell(number(row.ratio, 2)),
            Cell(number(row.mean_iou)), Cell(number(row.success_auc)), Cell(row.software),
        )
        for row in ranked
    )  # fmt: skip
    columns = ("tracker", *(f"{percentile}, ms" for percentile in PERCENTILES), "times our median", "IoU with ours",
               "success AUC", "software")  # fmt: skip
    note = "The same frames from the same box, in turns, whole updates timed from outside."
    return Table(f"{name} beside others", columns, rows, frozenset({7}), note)


def bench_command(found: Found[BenchReport]) -> str:
    """What measures it again; a report without its command names what only its user knows in capitals."""
    report = found.content
    if report.command:
        return report.command
    options = ["--init", "X,Y,W,H", "--backend", report.backend, "--warm-up", str(report.warm_up)]
    return shlex.join(["siamtrt", "bench", f"BUNDLE_OF_{report.model}", report.source, *options, "-o", found.path.stem])


def gpu_section(gpus: Sequence[Found[dict[str, Any]]]) -> Section:
    """The tables of `siamtrt.benchmarks.gpu_table`."""
    tables = []
    for found in gpus:
        report, device = found.content, machine_of(found.content["environment"])
        crops = [row for row in report["kernels"] if row["kernel"] == "crop"]
        decodes = {(row["dtype"], row["targets"]): row for row in report["kernels"] if row["kernel"] == "decode"}
        updates = {(row["tracker"], row["dtype"], row["slots"]): row for row in report["updates"]}
        for title, columns, rows, others in (
            ("whole updates", UPDATE_COLUMNS, report["updates"], updates),
            ("correlation", XCORR_COLUMNS, report["xcorr"], {}), ("crop and decode", KERNEL_COLUMNS, crops, decodes),
        ):  # fmt: skip
            cells = tuple(tuple(Cell(cell(row, others).strip("`")) for _, cell in columns) for row in rows)
            tables.append(Table(f"{device}: {title}", tuple(name.replace("`", "") for name, _ in columns), cells))
    commands = tuple(f"python -m siamtrt.benchmarks.gpu -o {shlex.quote(found.path.name)}" for found in gpus)
    return Section("gpus", "Measured on GPUs", "Medians; every kernel is checked first.", (), tuple(tables), commands)


def predictions_section(files: Sequence[Found[Predictions]]) -> Section:
    """A table a file, fastest first."""
    tables, commands = [], []
    for content in (found.content for found in files):
        ranked = sorted(content.predictions, key=lambda row: -row.fps)
        most = max((row.fps for row in ranked), default=0.0)
        rows = tuple(
            (
                Cell(row.device), bar_cell(row.fps, most, 0, published=True),
                Cell(" to ".join(number(value, 0) for value in row.fps_range)),
                Cell(max(row.bound_by, key=lambda name: row.bound_by[name]) if row.bound_by else NONE),
            )
            for row in ranked
        )  # fmt: skip
        columns = ("device", "FPS", "range", "mostly bound by")
        caption = f"{content.model}, {content.precision}"
        tables.append(Table(caption, columns, rows, frozenset({2, 3}), narrow=len(files) > 1))
        bundle = f"BUNDLE_OF_{content.model}"
        commands.append(shlex.join(["siamtrt", "predict", bundle, "--precision", content.precision, "--json"]))
    intro = (
        "Not measured: a roofline of each layer and the CPU's part of published trackers. The range is the spread of "
        "prediction over publication wherever both are known."
    )
    return Section("devices", "Predicted for devices", intro, (), tuple(tables), tuple(commands))


def papers_section(benches: Sequence[Found[BenchReport]]) -> Section:
    """What the papers say beside ours, fastest first, and the survey."""
    ours = [(name, found.content) for name, found in zip(bench_names(benches), benches, strict=True)]
    fastest = max([row.fps for row in SPEEDS] + [report.fps for _, report in ours])
    rows = [
        (row.fps, (
            Cell(row.tracker), Cell(f"{'over ' * row.at_least}{row.fps:g}", row.fps / fastest, published=True),
            Cell(row.hardware), Cell(row.source),
        ))
        for row in SPEEDS
    ]  # fmt: skip
    rows += [
        (report.fps, (
            Cell(f"ours: {name}", best=True), bar_cell(report.fps, fastest, 1, best=True),
            Cell(machine_of(report.environment)), Cell(_against_paper(report)),
        ))
        for name, report in ours
    ]  # fmt: skip
    ranked = tuple(cells for _, cells in sorted(rows, key=lambda row: -row[0]))
    speeds = Table("Frames per second as published, and ours", ("tracker", "FPS", "on", "source"), ranked,
                   frozenset({2, 3}))  # fmt: skip
    intro = "Papers and we measured on different hardware: a rate without its device says little."
    commands = tuple(map(bench_command, benches))
    return Section("papers", "The papers' numbers beside ours", intro, (), (speeds, survey_table()), commands)


def _against_paper(report: BenchReport) -> str:
    paper = report.paper or {}
    fps = paper.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not fps > 0:
        return f"measured, {report.backend}; no published rate"
    where = f"{paper.get('hardware')}, {paper.get('source')}"
    return f"measured, {report.backend}; {report.fps / fps:.2f} times its paper's {fps:g} ({where})"


def survey_table() -> Table:
    """The survey's table, whole and as printed."""
    rows = tuple(
        (Cell(row.tracker), *(Cell(NONE if text == "-" else text.replace("-", NONE)) for text in row.results))
        for row in SURVEY
    )
    note = f"{SURVEY_SOURCE}. {SURVEY_LEGEND}."
    return Table("The survey's table", ("tracker", *SURVEY_COLUMNS), rows, note=note)
