"""Track a target through a source: the loop behind `siamtrt track`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from siamtrt.boxes import BoxXywh, check_box
from siamtrt.errors import SiamtrtError
from siamtrt.runtime.crop import check_frame
from siamtrt.runtime.sinks import Shown, Sink, WindowSink, boxes_sink, video_sink
from siamtrt.runtime.sources import FrameSource, too_short
from siamtrt.runtime.tracker import Tracker, TrackResult

FPS_WINDOW = 30  # updates over which the frame rate shown is averaged


class TrackedFrame(NamedTuple):
    """A frame and its result; `result` is None for the frame of initialisation."""

    number: int
    frame: np.ndarray
    box_xywh: BoxXywh
    result: TrackResult | None


@dataclass(frozen=True)
class TrackSummary:
    """What a run did: frames seen, and updates a second of tracker time."""

    frames: int
    fps: float
    mean_score: float


@dataclass(frozen=True)
class Outputs:
    """Which results to keep."""

    video: Path | None = None
    boxes: Path | None = None
    show: bool = False


def tracked_frames(
    tracker: Tracker, source: Iterable[np.ndarray], choose_box: Callable[[np.ndarray], Sequence[float]]
) -> Iterator[TrackedFrame]:
    """Initialise on the first frame and update on the others.

    Args:
        choose_box: given the first frame, returns the target as xywh pixels.

    Raises:
        SourceError, FrameError, BoxError: see `FrameSource` and `Tracker`.
    """
    for index, frame in enumerate(source):
        if index == 0:
            box = check_box(choose_box(frame), check_frame(frame))
            tracker.init(frame, box)
            yield TrackedFrame(0, frame, box, None)
        else:
            result = tracker.update(frame)
            yield TrackedFrame(index, frame, result.box_xywh, result)


def track_source(
    tracker: Tracker, source: FrameSource, choose_box: Callable[[np.ndarray], Sequence[float]],
    outputs: Outputs | None = None, progress: bool = True, max_frames: int | None = None,
) -> TrackSummary:  # fmt: skip
    """Track through a source and write the outputs, each whole or absent.

    A live source has no end of its own: Ctrl-C ends it, and what was recorded is kept. Its frames are numbered as they
    were tracked; those that came meanwhile are in no output.

    Args:
        progress: show a progress bar with the tracker's frame rate.
        max_frames: stop after so many.

    Raises:
        SourceError, FrameError, BoxError, SiamtrtError: see `tracked_frames` and `Outputs`' sinks.
    """
    outputs = outputs or Outputs()
    _require_distinct(source, outputs)
    recent: deque[float] = deque(maxlen=FPS_WINDOW)
    frames, spent_ms, score_sum = 0, 0.0, 0.0
    with ExitStack() as stack:
        sinks = _open_sinks(stack, outputs, source.fps)
        total = min(filter(None, (source.length, max_frames)), default=None)
        bar = stack.enter_context(tqdm(total=total, unit="frame", disable=None if progress else True))
        with suppress(KeyboardInterrupt) if source.live else nullcontext():
            for index, frame, box, result in islice(tracked_frames(tracker, source, choose_box), max_frames):
                if result is not None:
                    recent.append(result.times.total_ms)
                    spent_ms += result.times.total_ms
                    score_sum += result.score
                fps = 1e3 * len(recent) / sum(recent) if recent else 0.0
                bar.update()
                bar.set_postfix_str(f"tracker {fps:.0f} fps", refresh=False)
                shown = Shown(box, result.score, result.status, fps, result.polygon) if result else Shown(box)
                answers = [sink.write(index, frame, shown) for sink in sinks]
                frames += 1
                if not all(answers):
                    break
        updates = frames - 1
        if updates < 1:
            raise too_short(source.name, frames)
    return TrackSummary(frames, 1e3 * updates / spent_ms, score_sum / updates)


def _require_distinct(source: FrameSource, outputs: Outputs) -> None:
    paths = [path.resolve() for path in (Path(source.name), outputs.video, outputs.boxes) if path]
    if len(set(paths)) < len(paths):
        raise SiamtrtError(
            "one file twice among source and outputs", received=", ".join(map(str, paths)),
            expected="a name of its own for each", fix="choose another --save or --boxes",
        )


def _open_sinks(stack: ExitStack, outputs: Outputs, fps: float) -> list[Sink]:
    sinks: list[Sink] = []
    if outputs.show:
        sinks.append(stack.enter_context(closing(WindowSink())))
    if outputs.video:
        sinks.append(stack.enter_context(video_sink(outputs.video, fps)))
    if outputs.boxes:
        sinks.append(stack.enter_context(boxes_sink(outputs.boxes)))
    return sinks
