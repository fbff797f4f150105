"""Frame rate of a tracker by stage: the measurement behind `siamtrt bench`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from siamtrt.benchmarks.environment import environment
from siamtrt.errors import SourceError
from siamtrt.files import write_whole
from siamtrt.manifest import MANIFEST_NAME, Manifest, sha256_of
from siamtrt.runtime.sources import FrameSource
from siamtrt.runtime.track import tracked_frames
from siamtrt.runtime.tracker import StageTimes, Tracker

WARM_UP = 20
PERCENTILES = (50, 90, 99)
EXTRA = "mask, template update"
STAGES = {
    "crop_ms": "crop", "network_ms": "network", "decode_ms": "decode", "extra_ms": EXTRA, "total_ms": "whole update",
}  # fmt: skip


@dataclass(frozen=True)
class StageSummary:
    """Percentiles of one stage in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True)
class BenchReport:
    """One benchmark: what ran, on what, how fast. `fps` is 1000 / median of the whole update."""

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


def bench_source(
    tracker: Tracker, source: FrameSource, box_xywh: Sequence[float], bundle: Path, warm_up: int = WARM_UP,
    max_frames: int | None = None, progress: bool = True,
) -> BenchReport:  # fmt: skip
    """Track through a source, frames decoded as they come, and time every update after the warm-up.

    Args:
        bundle: for its hash.
        warm_up: updates left out of the figures.
        max_frames: stop early, e.g. on a camera.

    Raises:
        SourceError: too few frames for warm-up and one measured update.
    """
    times: list[StageTimes] = []
    frame_size = (0, 0)
    with tqdm(total=source.length, unit="frame", disable=None if progress else True) as bar:
        for index, frame, _, result in tracked_frames(tracker, source, lambda frame: box_xywh):
            bar.update()
            if result is not None:
                times.append(result.times)
            frame_size = (frame.shape[1], frame.shape[0])
            if max_frames and index + 1 >= max_frames:
                break
    measured = times[warm_up:]
    if not measured:
        raise SourceError(
            "source too short to measure", received=f"{len(times)} updates", expected=f"more than {warm_up}",
            fix="use a longer video, or a smaller --warm-up",
        )
    return _report(tracker, source.name, frame_size, warm_up, measured, bundle)


def _report(
    tracker: Tracker, source: str, frame_size: tuple[int, int], warm_up: int, measured: list[StageTimes], bundle: Path
) -> BenchReport:
    samples, strategies = np.array(measured), tracker.manifest.strategies
    columns = {label: samples[:, StageTimes._fields.index(field)] for field, label in STAGES.items()}
    stages = {
        label: StageSummary(*np.percentile(column, PERCENTILES).tolist())
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
        *(f"| {name} | {s.p50_ms:.3f} | {s.p90_ms:.3f} | {s.p99_ms:.3f} |" for name, s in report.stages.items()),
        "",
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
