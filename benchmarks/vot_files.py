"""VOT's files: a description of the dataset in pysot's form, and results in the toolkit's layout.

The description is a JSON object, gzipped or not: for each sequence `gt_rect` (a rectangle or polygon a frame), `width`,
`height` and, a 0 or 1 a frame, VOT's attributes. Results are `<tracker>/<experiment>/<sequence>/<sequence>_001.txt` and
so on, a file a repetition; long-term ones have a `<sequence>_001_confidence.value` beside each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.benchmarks.protocols import EXPERIMENTS, LONG_TERM, SUPERVISED
from siamtrt.benchmarks.regions import (
    Region,
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
from siamtrt.runtime.sequence import Sequence

LAYOUT = "<tracker>/{}/<sequence>/<sequence>_001.txt"
RESULT = r"(?:.*/)?([^/]+)/{}/([^/]+)/\2_(\d{{3}})\.txt"
CONFIDENCES = "_confidence.value"
ABSENT = re.compile(r"^.*nan.*$", re.I | re.M)
ATTRIBUTES = ("camera_motion", "illum_change", "motion_change", "size_change", "occlusion")
LARGEST_SIDE = 1 << 15  # pixels of a frame
SHOWN = 5  # names in an error


@dataclass(frozen=True)
class VotSequence:
    """One sequence of F frames.

    Attributes:
        name: as in the description.
        truth: (F, V, 2) corners in pixels; NaN where the target is absent.
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


def sequences_of(content: Mapping[str, Any], source: Path, protocol: str = SUPERVISED) -> list[VotSequence]:
    """The sequences of a parsed description, in its order.

    Raises:
        ResultsError: a sequence without ground truth or frame size, or with one that cannot be.
    """
    return [_sequence(name, entry, source, protocol) for name, entry in content.items()]


def sequences_of_videos(videos: list[Sequence], protocol: str = SUPERVISED) -> list[VotSequence]:
    """The same of sequences with images; the first of each is read for its size.

    Raises:
        ResultsError: a sequence of which only the first box is known, or one whose target is absent where the protocol
            does not allow for it.
        SourceError: an image that cannot be read.
    """
    for video in videos:
        absent = np.flatnonzero(np.isnan(video.truth_xywh).any(axis=1))
        if video.init_only or (absent.size and (absent[0] == 0 or protocol != LONG_TERM)):
            received = "the first box alone" if video.init_only else f"frame {absent[0] + 1} without the target"
            raise ResultsError(
                f"{protocol} evaluation needs more truth", received=f"{received} in {video.name}",
                expected="a region in the first frame" if protocol == LONG_TERM else "a region in every frame",
                fix="choose another --protocol: long-term, or one-pass",
            )  # fmt: skip
    return [VotSequence(video.name, truth_of(video), video.frame_size, video.tags) for video in videos]


def truth_of(video: Sequence) -> np.ndarray:
    """(F, V, 2) corners of a sequence's truth in pixels; NaN where the target is absent."""
    return corners_of(video.regions or [tuple(box) if np.isfinite(box).all() else () for box in video.truth_xywh])


def _sequence(name: str, entry: Any, source: Path, protocol: str) -> VotSequence:
    try:
        regions = [_region(values, protocol) for values in entry["gt_rect"]]
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


def _region(values: list[float], protocol: str) -> Region:
    if protocol == LONG_TERM and any(value != value for value in values):
        return ()
    return parse_region(",".join(map(str, values)))


def find_trajectories(
    files: ResultFiles, sequences: list[VotSequence], protocol: str = SUPERVISED
) -> dict[str, dict[str, list[str]]]:
    """The files of each tracker and sequence, a file a repetition; sequences that are not wanted are left out.

    Raises:
        ResultsError: no result in the layout, a tracker twice, or one without some of the sequences.
    """
    pattern = re.compile(RESULT.format(EXPERIMENTS[protocol]))
    numbered: dict[str, dict[str, dict[str, str]]] = {}
    for titled, name in files.titled:
        if match := pattern.fullmatch(titled):
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
            "no VOT results", received=f"{files.root} with {files.names[0]}",
            expected=LAYOUT.format(EXPERIMENTS[protocol]),
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


def read_trajectory(files: OpenFiles, name: str, frames: int, protocol: str = SUPERVISED) -> Trajectory:
    """One run. A long-term tracker may say nan where it does not see the target.

    Raises:
        ResultsError: unreadable, a line that is no region or that cannot be where it is, or not a line a frame.
    """
    where, text = files.root / name, files.read(name)
    try:
        trajectory = parse_trajectory(ABSENT.sub("0", text) if protocol == LONG_TERM else text)
    except RegionTextError as error:
        raise bad_result(where, str(error), "1, 2, 0, a rectangle or a polygon a line") from error
    if len(trajectory.regions) != frames:
        raise bad_result(where, f"{len(trajectory.regions)} lines", f"{frames}, one for each frame")
    return trajectory


def confidences_name(result: str) -> str:
    """The file of confidences that belongs to a long-term result."""
    return result.removesuffix(".txt") + CONFIDENCES


def read_confidences(files: OpenFiles, name: str, frames: int) -> np.ndarray:
    """(F,) confidences; an empty line, as toolkits write for the first frame, is 0, as they read it.

    Raises:
        ResultsError: unreadable, a line that is no number, or not a line a frame.
    """
    where, lines = files.root / name, files.read(name).splitlines()
    if len(lines) != frames:
        raise bad_result(where, f"{len(lines)} lines", f"{frames}, one for each frame")
    try:
        return np.array([float(line) if line.strip() else 0.0 for line in lines])
    except ValueError as error:
        raise bad_result(where, str(error), "a confidence a line") from error


def bad_result(where: Path, received: str, expected: str) -> ResultsError:
    """The error of a result file that cannot be scored."""
    return ResultsError("bad result file", received=f"{where}: {received}", expected=expected, fix="run it again")


def without_experiments(files: ResultFiles) -> ResultFiles:
    """The files without those of VOT's experiments, which may lie in a tracker's folder beside others."""
    experiments = {*EXPERIMENTS.values()}
    others = tuple(name for name in files.names if experiments.isdisjoint(name.split("/")))
    return replace(files, names=others or files.names)


def save_trajectory(
    root: Path, tracker: str, sequence: str, trajectory: Trajectory, repetition: int = 1, protocol: str = SUPERVISED
) -> Path:
    """Write one run below `root` where `find_trajectories` and other toolkits look for it; it reads back identically.

    Raises:
        OSError: the folder cannot be made.
        SiamtrtError: the file cannot be written.
    """
    path = root / tracker / EXPERIMENTS[protocol] / sequence / f"{sequence}_{repetition:03d}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, format_trajectory(trajectory).encode())
    return path
