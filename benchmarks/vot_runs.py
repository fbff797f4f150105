"""What is written of a VOT run: `<tracker>/<experiment>/<sequence>/<sequence>_001.txt`, and beside it its times.

Names and lines are those of VOT's toolkit for MATLAB and of pysot: `<sequence>_time.txt`, seconds a frame, and for
long-term runs `<sequence>_001_confidence.value`, a number a frame and an empty line for the first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from siamtrt.benchmarks.protocols import EXPERIMENTS, LONG_TERM
from siamtrt.benchmarks.result_files import OpenFiles
from siamtrt.benchmarks.run_files import save_times
from siamtrt.benchmarks.supervised import VotRun
from siamtrt.benchmarks.vot_files import confidences_name, read_confidences, read_trajectory, save_trajectory
from siamtrt.errors import ResultsError
from siamtrt.files import write_whole


def save_vot_run(results: Path, tracker: str, sequence: str, run: VotRun, protocol: str) -> None:
    """Write times, confidences and then the regions, which make the sequence done, each file whole."""
    save_times(vot_times_path(results / tracker, sequence, protocol), run.update_ms)
    if run.confidences is not None:
        lines = ["" if np.isnan(value) else repr(value) for value in run.confidences.tolist()]
        path = results / confidences_name(_result_name(tracker, sequence, protocol))
        write_whole(path, "".join(f"{line}\n" for line in lines).encode())
    save_trajectory(results, tracker, sequence, run.trajectory, protocol=protocol)


def vot_run_is_done(results: Path, tracker: str, sequence: str, frames: int, protocol: str) -> bool:
    """Whether a run is there; a file that is no result at all, as a full disk leaves, is not.

    Raises:
        ResultsError: it has another number of frames.
    """
    name = _result_name(tracker, sequence, protocol)
    if not (results / name).is_file():
        return False
    files = OpenFiles(results, None)
    lines = (results / name).read_bytes().count(b"\n")
    try:
        read_trajectory(files, name, lines, protocol)
        if protocol == LONG_TERM:
            read_confidences(files, confidences_name(name), lines)
    except ResultsError:
        return False
    if lines != frames:
        raise ResultsError(
            "results of another dataset", received=f"{lines} frames in {results / name}", expected=f"{frames} frames",
            fix="give another folder with -o; one dataset a folder",
        )
    return True


def vot_times_path(folder: Path, sequence: str, protocol: str) -> Path:
    """The file of a sequence's times in the folder of a tracker."""
    return folder / EXPERIMENTS[protocol] / sequence / f"{sequence}_time.txt"


def _result_name(tracker: str, sequence: str, protocol: str) -> str:
    return f"{tracker}/{EXPERIMENTS[protocol]}/{sequence}/{sequence}_001.txt"
