"""Update speed beside OpenCV's TrackerNano: `python -m siamtrt.benchmarks.vs_opencv BUNDLE --sequences DIR ...`."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import click
import cv2
import numpy as np
from tqdm import tqdm

from siamtrt.errors import MissingPackageError
from siamtrt.runtime.sequences import Sequence, find_sequences
from siamtrt.runtime.tracker import Tracker

WARM_UP = 10
PathOption = click.Path(exists=True, path_type=Path)


def opencv_nano(backbone: Path, head: Path) -> Any:
    """OpenCV's tracker on its two ONNX files.

    Raises:
        MissingPackageError: an OpenCV without TrackerNano.
    """
    if not hasattr(cv2, "TrackerNano_create"):
        raise MissingPackageError(
            "this OpenCV has no TrackerNano", received=cv2.__version__, expected="4.7 or later with the video module",
            fix="pip install -U opencv-python",
        )
    parameters = cv2.TrackerNano_Params()  # type: ignore[attr-defined]
    parameters.backbone, parameters.neckhead = str(backbone), str(head)
    return cv2.TrackerNano_create(parameters)  # type: ignore[attr-defined]


def update_times(ours: Tracker, theirs: Any, sequence: Sequence) -> np.ndarray:
    """(F, 2) milliseconds of each update, ours first; the trackers alternate, and so does who begins."""
    times = []
    for index, frame in enumerate(sequence.open()):
        if index == 0:
            box = sequence.truth_xywh[0].tolist()
            ours.init(frame, box)
            theirs.init(frame, tuple(int(value) for value in box))
            continue
        row = [0.0, 0.0]
        for which in (0, 1) if index % 2 else (1, 0):
            start = perf_counter()
            (ours, theirs)[which].update(frame)
            row[which] = 1e3 * (perf_counter() - start)
        times.append(row)
    return np.array(times[WARM_UP:])


@click.command()
@click.argument("bundle", type=PathOption)
@click.option("--sequences", required=True, type=PathOption, help="Folder of annotated sequences.")
@click.option("--backbone", required=True, type=PathOption, help="OpenCV's nanotrack backbone ONNX.")
@click.option("--head", required=True, type=PathOption, help="OpenCV's nanotrack head ONNX.")
@click.option("--only", help="Comma-separated sequence names.")
@click.option("--threads", type=click.IntRange(1), help="ONNX Runtime threads; default as in Tracker.load.")
def main(bundle: Path, sequences: Path, backbone: Path, head: Path, only: str | None, threads: int | None) -> None:
    """Alternate both trackers on the same frames and print the ratio of median update times."""
    chosen = [s for s in find_sequences(sequences) if only is None or s.name in only.split(",")]
    ratios = []
    click.echo("| sequence | siamtrt ms | OpenCV ms | ratio |\n|---|---|---|---|")
    for sequence in tqdm(chosen, unit="sequence", disable=None):
        with Tracker.load(bundle, "onnxruntime", threads=threads) as ours:
            medians = np.median(update_times(ours, opencv_nano(backbone, head), sequence), axis=0)
        ratios.append(medians[1] / medians[0])
        click.echo(f"| {sequence.name} | {medians[0]:.2f} | {medians[1]:.2f} | {ratios[-1]:.2f} |")
    click.echo(f"median ratio {np.median(ratios):.2f}, OpenCV {cv2.__version__} with {cv2.getNumThreads()} threads")


if __name__ == "__main__":
    main()
