"""OTB's files: a description with one box a frame, or annotated folders, and results of one line a frame.

The description is a JSON object in pysot's form, gzipped or not: for each sequence `gt_rect`, `x,y,w,h` a frame.
Results are `<tracker>/<sequence>.txt`; letters' case, and `-` or `.` for `_`, do not matter in a sequence's name, as
the toolkits write `CarDark` and `carDark`, `Jogging-1` and `jogging_1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from siamtrt.benchmarks.regions import format_region
from siamtrt.benchmarks.result_files import OpenFiles, ResultFiles
from siamtrt.benchmarks.vot_files import bad_result, require_all
from siamtrt.errors import ResultsError
from siamtrt.files import write_whole
from siamtrt.runtime.sequences import Sequence, find_sequences

LAYOUT = "<tracker>/<sequence>.txt"


def sequences_of_folder(root: Path, layout: str | None = None) -> list[Sequence]:
    """The annotated sequences below a folder, or those of one layout.

    Raises:
        SourceError: as `find_sequences`.
        ResultsError: none of the layout, two sequences of one name, or one whose target is never there.
    """
    found = of_layout(find_sequences(root), layout, root)
    for sequence in found:
        _require_present(sequence.name, sequence.truth_xywh, root)
    return found


def of_layout(found: list[Sequence], layout: str | None, root: Path) -> list[Sequence]:
    """The sequences of a layout, or all; their result files have names that no other's could be taken for.

    Raises:
        ResultsError: none of the layout, or two sequences of one name.
    """
    layouts = sorted({sequence.layout or "video" for sequence in found})
    chosen = [sequence for sequence in found if layout in (None, sequence.layout or "video")]
    if not chosen:
        raise ResultsError(
            "no sequence of that layout", received=f"--layout {layout} for {root}", expected=", ".join(layouts),
            fix="choose one of these, or leave it out",
        )
    keys = [_key(sequence.name) for sequence in chosen]
    if twice := sorted({sequence.name for sequence, key in zip(chosen, keys, strict=True) if keys.count(key) > 1}):
        fix = f"choose one of them: --layout {' or '.join(layouts)}" if len(layouts) > 1 else None
        raise _ambiguous(twice, root, fix)
    return chosen


def boxes_of_description(content: Any, source: Path) -> dict[str, np.ndarray]:
    """The same from a parsed description.

    Raises:
        ResultsError: no sequence, one without one box a frame, or one whose target is never there.
    """
    entries = content if isinstance(content, dict) and content else {"": content}
    return {name: _boxes(name, entry, source) for name, entry in entries.items()}


def _boxes(name: str, entry: Any, source: Path) -> np.ndarray:
    try:
        boxes = np.array(entry["gt_rect"], np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) or np.isinf(boxes).any():
            raise ValueError(f"gt_rect of shape {boxes.shape}")
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ResultsError(
            "bad description of a dataset", received=f"{missing} in sequence {name!r} of {source}",
            expected="a JSON object of sequences with gt_rect, four numbers a frame; for VOT also width and height",
            fix="use the JSON files that the pysot toolkit uses",
        ) from error
    _require_present(name, boxes, source)
    return boxes


def _require_present(name: str, boxes: np.ndarray, source: Path) -> None:
    if not np.isfinite(boxes).all(axis=1).any():
        raise ResultsError(
            "a sequence without a target", received=f"no box in any frame of {name!r} of {source}",
            expected="a box in the first frame at least", fix="leave the sequence out",
        )  # fmt: skip


def find_boxes(files: ResultFiles, wanted: list[str]) -> dict[str, dict[str, str]]:
    """The file of each tracker and sequence; sequences that are not wanted are left out.

    Raises:
        ResultsError: no result in the layout, two files for a sequence, or a tracker without some of the sequences.
    """
    names = {_key(name): name for name in wanted}
    if len(names) < len(wanted):
        raise _ambiguous(sorted(set(wanted) - set(names.values())), files.root)
    trackers: dict[str, dict[str, str]] = {}
    for titled, path in files.titled:
        parts = PurePosixPath(titled)
        if sequence := names.get(_key(parts.stem)):
            found = trackers.setdefault(parts.parent.name, {})
            if sequence in found:
                raise _ambiguous([found[sequence], path], files.root)
            found[sequence] = path
    if not trackers:
        raise ResultsError(
            "no results of these sequences", received=f"{files.root} with {files.names[0]}", expected=LAYOUT,
            fix="name the folder or .zip that holds the trackers' folders, and the dataset they were made on",
        )
    for tracker, found in trackers.items():
        require_all(tracker, wanted, found, files.root)
    return trackers


def _key(name: str) -> str:
    return re.sub(r"[-. ]", "_", name).casefold()


def _ambiguous(names: list[str], root: Path, fix: str | None = None) -> ResultsError:
    return ResultsError(
        "a sequence twice", received=f"{', '.join(names)} in {root}", expected="every sequence and tracker once",
        fix=fix or "name a folder that holds only one of them",
    )


def read_boxes(files: OpenFiles, name: str, frames: int) -> np.ndarray:
    """(F, 4) xywh pixels; commas, tabs, semicolons or spaces separate.

    Raises:
        ResultsError: unreadable, a line that is not four finite numbers, or not a line a frame.
    """
    where = files.root / name
    lines = files.read(name).rstrip().splitlines()
    if len(lines) != frames:
        raise bad_result(where, f"{len(lines)} lines", f"{frames}, one for each frame")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(part) for part in re.split(r"[,;\s]+", line.strip())]
        except ValueError:
            row = []
        if len(row) != 4 or not np.isfinite(row).all():
            raise bad_result(where, f"line {number} {line[:60]!r}", "four finite numbers a line: x,y,w,h")
        rows.append(row)
    return np.array(rows)


def save_boxes(root: Path, tracker: str, boxes: Mapping[str, np.ndarray]) -> list[Path]:
    """Write (F, 4) boxes of each sequence below `root` where `find_boxes` looks for them; they read back identically.

    Raises:
        OSError: the folder cannot be made.
        SiamtrtError: a file cannot be written.
    """
    folder = root / tracker
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.txt" for name in boxes]
    for path, rows in zip(paths, boxes.values(), strict=True):
        write_whole(path, "".join(f"{format_region(row)}\n" for row in rows.tolist()).encode())
    return paths
