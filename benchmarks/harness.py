"""Frame rate of a tracker by stage, beside others where wanted: the measurement behind `siamtrt bench`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from siamtrt.benchmarks.environment import environment
from siamtrt.benchmarks.race import (
    ContenderSummary,
    StageSummary,
    cells,
    contenders_table,
    percentiles,
    run_race,
    summaries,
)
from siamtrt.benchmarks.rivals import Contender, TrackerContender
from siamtrt.errors import SourceError
from siamtrt.files import write_whole
from siamtrt.manifest import MANIFEST_NAME, Manifest, sha256_of
from siamtrt.runtime.sources import FrameSource
from siamtrt.runtime.tracker import StageTimes, Tracker

OURS = "siamtrt"
WARM_UP = 20
EXTRA = "mask, template update"
STAGES = {
    "crop_ms": "crop", "network_ms": "network", "decode_ms": "decode", "extra_ms": EXTRA, "total_ms": "whole update",
}  # fmt: skip


@dataclass(frozen=True)
class BenchReport:
    """One benchmark: what ran, on what, how fast. `fps` is 1000 / median of the whole update.

    `contenders`: ours first, where it was compared. `command`: what measures it again, where a command did.
    """

    model: str
    bundle_sha256: str
    backend: str
    source: str
    frame_size: tuple[int, int]
    warm_up: int
    updates: int
    fps: float
    stages: dict[str, StageSummary]
    paper: dict[str, object] | None
    environment: dict[str, object]
    raw_ms: dict[str, list[float]]
    contenders: tuple[ContenderSummary, ...] = ()
    command: str = ""


def bench_source(
    tracker: Tracker, source: FrameSource, box_xywh: Sequence[float], bundle: Path, warm_up: int = WARM_UP,
    max_frames: int | None = None, progress: bool = True, rivals: Sequence[Contender] = (),
    truth_xywh: np.ndarray | None = None, threads: int | None = None,
) -> BenchReport:  # fmt: skip
    """Track through a source, frames decoded as they come, and time every update after the warm-up.

    Args:
        bundle: for its hash.
        warm_up: updates left out of the figures.
        max_frames: stop early, e.g. on a camera.
        rivals: get the same frames and the same first box, in turns with ours.
        truth_xywh: (F, 4), to score everyone by.
        threads: the tracker's, for the report.

    Raises:
        SourceError: too few frames for warm-up and one measured update.
        SiamtrtError: what stopped a contender.
    """
    ours = TrackerContender(OURS, tracker, tracker.backend, threads)
    race = run_race([ours, *rivals], source, box_xywh, max_frames, progress)
    if len(race.times_ms) <= warm_up:
        raise SourceError(
            "source too short to measure", received=f"{len(race.times_ms)} updates", expected=f"more than {warm_up}",
            fix="use a longer video, or a smaller --warm-up",
        )
    report = _report(tracker, source.name, race.frame_size, warm_up, ours.times[warm_up:], bundle)
    if not rivals:
        return report
    return dataclasses.replace(report, contenders=summaries([ours, *rivals], race, warm_up, truth_xywh))


def _report(
    tracker: Tracker, source: str, frame_size: tuple[int, int], warm_up: int, measured: list[StageTimes], bundle: Path
) -> BenchReport:
    samples, strategies = np.array(measured), tracker.manifest.strategies
    columns = {label: samples[:, StageTimes._fields.index(field)] for field, label in STAGES.items()}
    stages = {
        label: percentiles(column)
        for label, column in columns.items()
        if label != EXTRA or strategies.template or strategies.mask
    }
    raw = dict(zip(StageTimes._fields, samples.T.round(4).tolist(), strict=True))
    return BenchReport(
        model=tracker.manifest.model, bundle_sha256=sha256_of(bundle / MANIFEST_NAME), backend=tracker.backend,
        source=Path(source).name, frame_size=frame_size, warm_up=warm_up, updates=len(measured),
        fps=1e3 / stages["whole update"].p50_ms, stages=stages, paper=_paper(tracker.manifest),
        environment=environment(), raw_ms=raw,
    )  # fmt: skip


def _paper(manifest: Manifest) -> dict[str, object] | None:
    return asdict(manifest.paper_figure) if manifest.paper_figure else None


def as_markdown(report: BenchReport) -> str:
    """The report as people read it."""
    env = report.environment
    paper = report.paper
    published = f"{paper['fps']:.0f} on {paper['hardware']} ({paper['source']})" if paper else "none published"
    width, height = report.frame_size
    packages = ", ".join(f"{name} {number}" for name, number in env["packages"].items())  # type: ignore[attr-defined]
    lines = [
        f"# {report.model}: {report.fps:.1f} frames per second",
        "",
        f"{report.updates} updates after {report.warm_up} of warm-up, {report.source} at {width}x{height}, "
        f"backend {report.backend}.",
        "",
        "| stage | p50 ms | p90 ms | p99 ms |",
        "|---|---|---|---|",
        *(f"| {name} | {cells(stage)} |" for name, stage in report.stages.items()),
        "",
        *(contenders_table(report.contenders) if report.contenders else ()),
        "| | frames per second |",
        "|---|---|",
        f"| here, {env['gpu'] or env['cpu']} ({env['cores']} cores) | {report.fps:.1f} |",
        f"| paper | {published} |",
        "",
        f"{env['system']}, Python {env['python']}; {packages}. Bundle manifest sha256 {report.bundle_sha256[:16]}.",
    ]
    return "\n".join(lines) + "\n"


def report_paths(stem: Path) -> tuple[Path, Path]:
    """Where `save_report` writes: `<stem>.json` and `<stem>.md`."""
    return stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".md")


def save_report(report: BenchReport, stem: Path) -> tuple[Path, Path]:
    """Write `<stem>.json` (with the raw samples) and `<stem>.md`; returns both paths."""
    paths = report_paths(stem)
    write_whole(paths[0], (json.dumps(asdict(report), indent=1) + "\n").encode())
    write_whole(paths[1], as_markdown(report).encode())
    return paths
