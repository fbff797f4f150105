"""VOT's files: a description of the dataset in pysot's form, and results in the toolkit's supervised layout.

The description is a JSON object, gzipped or not: for each sequence `gt_rect` (a rectangle or polygon a frame), `width`,
`height` and, a 0 or 1 a frame, VOT's attributes. Results are `<tracker>/baseline/<sequence>/<sequence>_001.txt` and so
on, a file a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.benchmarks.regions import (
    RegionTextError,
    Trajectory,
    corners_of,
    format_trajectory,
    parse_region,
    parse_trajectory,
)
from siamtrt.benchmarks.result_files import OpenFiles, ResultFiles
from siamtrt.errors import ResultsError
from siamtrt.files import write_whole

EXPERIMENT = "baseline"
LAYOUT = f"<tracker>/{EXPERIMENT}/<sequence>/<sequence>_001.txt"
RESULT = re.compile(rf"(?:.*/)?([^/]+)/{EXPERIMENT}/([^/]+)/\2_(\d{{3}})\.txt")
ATTRIBUTES = ("camera_motion", "illum_change", "motion_change", "size_change", "occlusion")
LARGEST_SIDE = 1 << 15  # pixels of a frame
SHOWN = 5  # names in an error


@dataclass(frozen=True)
class VotSequence:
    """One sequence of F frames.

    Attributes:
        name: as in the description.
        truth: (F, V, 2) corners in pixels.
        frame_size: width and height in pixels.
        attributes: for each of `ATTRIBUTES` that the description has for it, (F,) whether it holds in a frame.
    """

    name: str
    truth: np.ndarray
    frame_size: tuple[int, int]
    attributes: Mapping[str, np.ndarray]


def is_vot_description(content: Any) -> bool:
    """Whether parsed JSON describes a VOT dataset rather than boxes alone: frame sizes are known."""
    return isinstance(content, dict) and any(
        isinstance(entry, dict) and {"width", "height"} & entry.keys() for entry in content.values()
    )


def sequences_of(content: Mapping[str, Any], source: Path) -> list[VotSequence]:
    """The sequences of a parsed description, in its order.

    Raises:
        ResultsError: a sequence without ground truth or frame size, or with one that cannot be.
    """
    return [_sequence(name, entry, source) for name, entry in content.items()]


def _sequence(name: str, entry: Any, source: Path) -> VotSequence:
    try:
        regions = [parse_region(",".join(map(str, region))) for region in entry["gt_rect"]]
        if not regions or any(len(region) == 1 for region in regions):
            raise ValueError("no region" if not regions else "a frame without a region")
        width, height = int(entry["width"]), int(entry["height"])
        if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
            raise ValueError(f"frames of {width}x{height}")
        attributes = {key: np.array(entry[key], bool) for key in ATTRIBUTES if entry.get(key)}
        if any(values.shape != (len(regions),) for values in attributes.values()):
            raise ValueError("an attribute that is not one value a frame")
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ResultsError(
            "bad description of a dataset", received=f"{missing} in sequence {name} of {source}",
            expected="gt_rect (a rectangle or polygon a frame), width and height, and attributes of 0 or 1",
            fix="use the JSON files that the pysot toolkit uses",
        ) from error
    return VotSequence(name, corners_of(regions), (width, height), attributes)


def find_trajectories(files: ResultFiles, sequences: list[VotSequence]) -> dict[str, dict[str, list[str]]]:
    """The files of each tracker and sequence, a file a repetition; sequences that are not wanted are left out.

    Raises:
        ResultsError: no result in the layout, a tracker twice, or one without some of the sequences.
    """
    numbered: dict[str, dict[str, dict[str, str]]] = {}
    for titled, name in files.titled:
        if match := RESULT.fullmatch(titled):
            tracker, sequence, repetition = match.groups()
            repetitions = numbered.setdefault(tracker, {}).setdefault(sequence, {})
            if repetition in repetitions:
                raise ResultsError(
                    "a tracker twice", received=f"{repetitions[repetition]} and {name} in {files.root}",
                    expected="one folder a tracker", fix="name the folder of one of them",
                )  # fmt: skip
            repetitions[repetition] = name
    if not numbered:
        raise ResultsError(
            "no VOT results", received=f"{files.root} with {files.names[0]}", expected=LAYOUT,
            fix="name the folder or .zip that holds the trackers' folders, and the dataset they were made on",
        )
    wanted = [sequence.name for sequence in sequences]
    for tracker, found in numbered.items():
        require_all(tracker, wanted, found, files.root)
    return {
        tracker: {sequence: [path for _, path in sorted(found[sequence].items())] for sequence in wanted}
        for tracker, found in numbered.items()
    }


def require_all(tracker: str, wanted: list[str], found: Mapping[str, Any], root: Path) -> None:
    """Raise a ResultsError that names the sequences a tracker has no results of."""
    missing = [name for name in wanted if name not in found]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise ResultsError(
            f"sequences missing in the results of {tracker}",
            received=f"no {', '.join(missing[:SHOWN])}{more} in {root}",
            expected=f"all {len(wanted)} sequences of the dataset", fix="add them, or name the dataset they belong to",
        )  # fmt: skip


def read_trajectory(files: OpenFiles, name: str, sequence: VotSequence) -> Trajectory:
    """One run.

    Raises:
        ResultsError: unreadable, a line that is no region or that cannot be where it is, or not a line a frame.
    """
    where, frames = files.root / name, len(sequence.truth)
    try:
        trajectory = parse_trajectory(files.read(name))
    except RegionTextError as error:
        raise bad_result(where, str(error), "1, 2, 0, a rectangle or a polygon a line") from error
    if len(trajectory.regions) != frames:
        raise bad_result(where, f"{len(trajectory.regions)} lines", f"{frames}, one for each frame of {sequence.name}")
    return trajectory


def bad_result(where: Path, received: str, expected: str) -> ResultsError:
    """The error of a result file that cannot be scored."""
    return ResultsError("bad result file", received=f"{where}: {received}", expected=expected, fix="run it again")


def save_trajectory(root: Path, tracker: str, sequence: str, trajectory: Trajectory, repetition: int = 1) -> Path:
    """Write one run below `root` where `find_trajectories` and other toolkits look for it; it reads back identically.

    Raises:
        OSError: the folder cannot be made.
        SiamtrtError: the file cannot be written.
    """
    path = root / tracker / EXPERIMENT / sequence / f"{sequence}_{repetition:03d}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, format_trajectory(trajectory).encode())
    return path
