"""CPU time of an evaluation by part: `python -m siamtrt.benchmarks.eval_overhead BUNDLE --dataset DIR`.

The evaluation is `evaluate_bundles` itself in this process, one worker, into a new folder. CPU time of this thread is
taken around every opening of the tracker, every init and update, and every frame that is decoded; what remains is the
evaluation's own: finding sequences, the loop, result files, scores. It has no other threads: those are the decoders' of
videos and OpenCV's, and have a line of their own. Imports come before.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np

from siamtrt.benchmarks.evaluate import Options, evaluate_bundles
from siamtrt.runtime import sources
from siamtrt.runtime.tracker import Tracker

OPENING, TRACKING, DECODING = "opening the tracker", "init and update", "decoding frames"
THREADS = "other threads: decoders, OpenCV"


@dataclass
class Meter:
    """Seconds of this thread's CPU time by part."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys((OPENING, TRACKING, DECODING), 0.0))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add what happens inside to a part."""
        begin = time.thread_time()
        try:
            yield
        finally:
            self.seconds[name] += time.thread_time() - begin

    def calls(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose calls count for a part."""

        def measured(*args: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*args, **named)

        return measured

    def frames(self, name: str, function: Callable[..., Iterator[np.ndarray]]) -> Callable[..., Iterator[np.ndarray]]:
        """The same of a generator function, whose every step counts."""

        def measured(*args: Any) -> Iterator[np.ndarray]:
            steps = function(*args)
            while True:
                with self.part(name):
                    frame = next(steps, None)
                if frame is None:
                    return
                yield frame

        return measured


@dataclass(frozen=True)
class Overhead:
    """CPU seconds of a whole evaluation, all threads, and of its parts by name."""

    total_s: float
    parts_s: dict[str, float]

    @property
    def other_s(self) -> float:
        """What is in no part: the evaluation's own."""
        return self.total_s - sum(self.parts_s.values())


def measure_overhead(bundle: Path, dataset: Path, results: Path) -> Overhead:
    """Evaluate a bundle on a dataset into a new folder.

    Raises:
        SiamtrtError: as `evaluate_bundles`.
    """
    meter = Meter()
    with ExitStack() as stack:
        for name in ("init", "update"):
            stack.enter_context(patch.object(Tracker, name, meter.calls(TRACKING, getattr(Tracker, name))))
        stack.enter_context(patch.object(Tracker, "load", meter.calls(OPENING, Tracker.load)))
        for name in ("_read", "_read_images"):
            stack.enter_context(patch.object(sources, name, meter.frames(DECODING, getattr(sources, name))))
        begin = time.process_time(), time.thread_time()
        evaluate_bundles([bundle], dataset, results, Options(backend="onnxruntime"))
        total, of_this_thread = time.process_time() - begin[0], time.thread_time() - begin[1]
    return Overhead(total, {**meter.seconds, THREADS: total - of_this_thread})


def as_table(overhead: Overhead) -> str:
    """Markdown: a line a part with seconds and share."""
    rows = {**overhead.parts_s, "**all else**": overhead.other_s, "whole evaluation": overhead.total_s}
    lines = [f"| {name} | {seconds:.3f} | {seconds / overhead.total_s:.1%} |" for name, seconds in rows.items()]
    return "\n".join(["| part | CPU s | share |", "|---|---|---|", *lines])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, type=click.Path(path_type=Path), help="What `siamtrt eval` takes.")
def main(bundle: Path, dataset: Path) -> None:
    """Print what an evaluation of BUNDLE costs beside tracking and decoding.

    Example: python -m siamtrt.benchmarks.eval_overhead out/nanotrack_v2 --dataset OTB2015
    """
    with tempfile.TemporaryDirectory() as folder:
        click.echo(as_table(measure_overhead(bundle, dataset, Path(folder) / "results")))


if __name__ == "__main__":
    main()
