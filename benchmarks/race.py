"""Several trackers on the same frames from the same box: the comparison behind `siamtrt bench --compare`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from siamtrt.benchmarks.metrics import success_auc
from siamtrt.benchmarks.rivals import Contender
from siamtrt.boxes import BoxXywh, check_box, iou
from siamtrt.errors import SourceError
from siamtrt.runtime.crop import check_frame
from siamtrt.runtime.layouts import sequences_below, videos
from siamtrt.runtime.sources import FrameSource, list_images, open_source
from siamtrt.runtime.tracker import require_same_size

REST_S = 0.005  # before each contender: PyTorch's threads spin for 4 ms after a network, OpenCV's for 1, on two cores
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class StageSummary:
    """Percentiles of one stage in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True)
class ContenderSummary:
    """One tracker of several on the same frames, from the same box.

    Attributes:
        software, threads: see `Contender`.
        update: of a whole update, timed from outside.
        ratio: its median to ours.
        mean_iou: of its boxes with ours, over all updates.
        success_auc: over all frames; None without ground truth.
        lost: updates without a box, for which the last one counts.
        raw_ms: every update after the warm-up.
    """

    name: str
    software: str
    threads: int | None
    update: StageSummary
    ratio: float
    mean_iou: float
    success_auc: float | None
    lost: int
    raw_ms: list[float]


@dataclass(frozen=True)
class Race:
    """What N contenders did in F frames: times (F - 1, N) in ms, boxes (F, N, 4), updates without a box (N,)."""

    frame_size: tuple[int, int]
    times_ms: np.ndarray
    boxes_xywh: np.ndarray
    lost: np.ndarray


def open_annotated(source: str) -> tuple[FrameSource, np.ndarray | None]:
    """Frames as `open_source` has them, and their (F, 4) boxes: of a video with its .txt, or the folder of a sequence.

    Raises:
        SourceError: missing, unreadable or empty; a folder of several sequences.
    """
    path = Path(source)
    if source.isdecimal() or not path.exists():
        return open_source(source), None
    found = sequences_below(path) if path.is_dir() else videos([path])
    if path.is_dir() and list_images(path):
        found = [sequence for sequence in found if sequence.frames == path]
    if len(found) > 1:
        raise SourceError(
            "several sequences", received=f"{', '.join(s.name for s in found[:3])}, ... in {source}", expected="one",
            fix="name the folder of one, or of one's images",
        )
    if not found:
        return open_source(source), None
    frames = dataclasses.replace(found[0].open(), name=source)
    return frames, None if found[0].init_only else found[0].truth_xywh


def run_race(
    contenders: Sequence[Contender], source: FrameSource, box_xywh: Sequence[float], max_frames: int | None,
    progress: bool,
) -> Race:  # fmt: skip
    """Give every frame to every contender, one after the other, in `running_order`.

    Raises:
        SourceError, FrameError, BoxError: see `FrameSource` and `Tracker`.
        SiamtrtError: what stopped a contender.
    """
    count = len(contenders)
    times: list[list[float]] = []
    boxes: list[list[BoxXywh]] = []
    lost, frame_size = np.zeros(count, int), (0, 0)
    total = min(filter(None, (source.length, max_frames)), default=None)
    watched = tqdm(islice(source, max_frames), total=total, unit="frame", disable=None if progress else True)
    for index, frame in enumerate(watched):
        if index == 0:
            frame_size = check_frame(frame)
            box = check_box(box_xywh, frame_size)
            for contender in contenders:
                contender.init(frame, box)
            boxes.append([box] * count)
            continue
        require_same_size(frame, frame_size)
        row, found = [0.0] * count, list(boxes[-1])
        for which in running_order(index - 1, count):
            if count > 1:
                time.sleep(REST_S)
            start = time.perf_counter()
            answer = contenders[which].update(frame)
            row[which] = 1e3 * (time.perf_counter() - start)
            found[which] = answer or found[which]
            lost[which] += answer is None
        times.append(row)
        boxes.append(found)
    return Race(frame_size, np.array(times).reshape(-1, count), np.array(boxes), lost)


def running_order(update: int, count: int) -> list[int]:
    """Who runs when: in 2N updates each of N has every place, and follows every other, equally often.

    Source: E. J. Williams, Experimental designs balanced for the estimation of residual effects of treatments, 1949.
    """
    zigzag = [place // 2 if place % 2 == 0 else -(place // 2) - 1 for place in range(count)]
    row = [(place + update) % count for place in zigzag]
    return row[::-1] if update // count % 2 else row


def summaries(
    contenders: Sequence[Contender], race: Race, warm_up: int, truth_xywh: np.ndarray | None
) -> tuple[ContenderSummary, ...]:
    """Times after the warm-up, and boxes of the whole race beside the first contender's and the ground truth."""
    samples = race.times_ms[warm_up:]
    medians = np.median(samples, axis=0)
    ours = race.boxes_xywh[1:, 0]
    summaries = []
    for which, contender in enumerate(contenders):
        boxes, column = race.boxes_xywh[:, which], samples[:, which]
        auc = None if truth_xywh is None else success_auc(boxes, truth_xywh[: len(boxes)])
        summary = ContenderSummary(
            contender.name, contender.software, contender.threads, percentiles(column),
            ratio=float(medians[which] / medians[0]), mean_iou=float(iou(boxes[1:], ours).mean()),
            success_auc=None if auc is None or np.isnan(auc) else auc, lost=int(race.lost[which]),
            raw_ms=column.round(4).tolist(),
        )  # fmt: skip
        summaries.append(summary)
    return tuple(summaries)


def percentiles(samples: np.ndarray) -> StageSummary:
    """Of (N,) milliseconds."""
    return StageSummary(*np.percentile(samples, PERCENTILES).tolist())


def cells(stage: StageSummary) -> str:
    """A row's three numbers."""
    return f"{stage.p50_ms:.3f} | {stage.p90_ms:.3f} | {stage.p99_ms:.3f}"


def contenders_table(contenders: Sequence[ContenderSummary]) -> list[str]:
    """Lines of Markdown."""
    scored = any(row.success_auc is not None for row in contenders)
    lines = [
        "The same frames from the same box, in turns; in an order that changes every frame, each after "
        f"{1e3 * REST_S:.0f} ms of rest:", "",
        "| tracker | p50 ms | p90 ms | p99 ms | times our median | IoU with ours |" + " success AUC |" * scored,
        "|---|---|---|---|---|---|" + "---|" * scored,
    ]  # fmt: skip
    for row in contenders:
        auc = f" {row.success_auc:.3f} |" if row.success_auc is not None else " |" * scored
        lines.append(f"| {row.name} | {cells(row.update)} | {row.ratio:.2f} | {row.mean_iou:.3f} |{auc}")
    parts = (f"{row.name}: {row.software}, {_threads(row)}" for row in contenders)
    silent = [f"{row.name} in {row.lost} updates" for row in contenders if row.lost]
    kept = f" No box, so the last one counts: {', '.join(silent)}." if silent else ""
    return [*lines, "", "; ".join(parts) + "." + kept, ""]


def _threads(row: ContenderSummary) -> str:
    if row.threads is None:
        return "threads by network size"
    return f"{row.threads} thread{'s' * (row.threads != 1)}"
