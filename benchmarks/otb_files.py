"""OTB's files: a description with one box a frame, or annotated folders, and results of one line a frame.

The description is a JSON object in pysot's form, gzipped or not: for each sequence `gt_rect`, `x,y,w,h` a frame.
Results are `<tracker>/<sequence>.txt`, or GOT-10k's, see `got_files`; letters' case, and `-` or `.` for `_`, do not
matter in a sequence's name, as the toolkits write `CarDark` and `carDark`, `Jogging-1` and `jogging_1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from siamtrt.benchmarks.attributes import named_attributes
from siamtrt.benchmarks.got_files import boxes_name, is_run
from siamtrt.benchmarks.one_pass import Truth
from siamtrt.benchmarks.otb_subsets import SUBSETS, name_key, split_subset
from siamtrt.benchmarks.regions import format_region
from siamtrt.benchmarks.result_files import OpenFiles, ResultFiles
from siamtrt.benchmarks.vot_files import bad_result, require_all
from siamtrt.errors import ResultsError
from siamtrt.files import write_whole
from siamtrt.runtime.sequences import Sequence, find_sequences

LAYOUT = "<tracker>/<sequence>.txt"
OTB = "OTB"


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
    """The sequences of a layout, or of one of OTB's subsets, or all; their files' names can be told from each other.

    Raises:
        ResultsError: none of the layout, a subset that is not whole, or two sequences of one name.
    """
    layouts = sorted({sequence.layout or "video" for sequence in found})
    wanted = OTB if layout in SUBSETS else layout
    chosen = [sequence for sequence in found if wanted in (None, sequence.layout or "video")]
    if not chosen:
        raise ResultsError(
            "no sequence of that layout", received=f"--layout {layout} for {root}", expected=", ".join(layouts),
            fix="choose one of these, or leave it out",
        )
    if layout in SUBSETS:
        names = _whole_subset([sequence.name for sequence in chosen], layout, root)
        chosen = [sequence for sequence in chosen if sequence.name in names]
    keys = [name_key(sequence.name) for sequence in chosen]
    if twice := sorted({sequence.name for sequence, key in zip(chosen, keys, strict=True) if keys.count(key) > 1}):
        fix = f"choose one of them: --layout {' or '.join(layouts)}" if len(layouts) > 1 else None
        raise _ambiguous(twice, root, fix)
    return chosen


def _whole_subset(sequences: Iterable[str], subset: str, root: Path) -> list[str]:
    chosen, missing = split_subset(sequences, subset)
    if missing:
        raise ResultsError(
            f"{subset} is not whole", received=f"{root} without {', '.join(missing)}",
            expected=f"a sequence of each of its {len(SUBSETS[subset])} folders", fix="unpack what is missing",
        )  # fmt: skip
    return chosen


def truths_of_description(content: Any, source: Path, layout: str | None = None) -> dict[str, Truth]:
    """By name, from a parsed description, whose frames count as OTB's toolkit and pysot's count them.

    Args:
        layout: one of OTB's subsets, or None for all sequences.

    Raises:
        ResultsError: as `boxes_of_description`; another layout, or a subset that is not whole.
    """
    boxes = boxes_of_description(content, source)
    if layout not in (None, OTB, *SUBSETS):
        raise ResultsError(
            "a description has no layouts", received=f"--layout {layout} for {source}", expected=", ".join(SUBSETS),
            fix="choose one of these, or leave it out",
        )
    chosen = _whole_subset(boxes, layout, source) if layout in SUBSETS else boxes
    return {name: Truth(boxes[name], OTB, attributes=_attributes(name, content[name], source)) for name in chosen}


def _attributes(name: str, entry: Any, source: Path) -> tuple[str, ...]:
    try:
        return named_attributes(entry.get("attr", []))
    except TypeError as error:
        raise _bad_description(name, str(error), source) from error


def boxes_of_description(content: Any, source: Path) -> dict[str, np.ndarray]:
    """(F, 4) boxes by name, from a parsed description.

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
        raise _bad_description(name, missing, source) from error
    _require_present(name, boxes, source)
    return boxes


def _bad_description(name: str, received: str, source: Path) -> ResultsError:
    return ResultsError(
        "bad description of a dataset", received=f"{received} in sequence {name!r} of {source}",
        expected="a JSON object of sequences with gt_rect, four numbers a frame; for VOT also width and height",
        fix="use the JSON files that the pysot toolkit uses",
    )


def _require_present(name: str, boxes: np.ndarray, source: Path) -> None:
    if not np.isfinite(boxes).all(axis=1).any():
        raise ResultsError(
            "a sequence without a target", received=f"no box in any frame of {name!r} of {source}",
            expected="a box in the first frame at least", fix="leave the sequence out",
        )  # fmt: skip


def find_boxes(files: ResultFiles, wanted: list[str]) -> dict[str, dict[str, str]]:
    """The file of each tracker and sequence, of several runs the first; see `find_runs`."""
    found = find_runs(files, wanted)
    return {tracker: {name: paths[0] for name, paths in runs.items()} for tracker, runs in found.items()}


def find_runs(files: ResultFiles, wanted: list[str]) -> dict[str, dict[str, list[str]]]:
    """The files of each tracker and sequence, one a run; sequences that are not wanted are left out.

    Raises:
        ResultsError: no result in the layout, two files for a run, or a tracker without some of the sequences.
    """
    names = {name_key(name): name for name in wanted}
    if len(names) < len(wanted):
        raise _ambiguous(sorted(set(wanted) - set(names.values())), files.root)
    trackers: dict[str, dict[str, list[str]]] = {}
    for titled, path in files.titled:
        parts = PurePosixPath(titled)
        place = parts.parent if is_run(parts) else parts.with_suffix("")
        if sequence := names.get(name_key(place.name)):
            found = trackers.setdefault(place.parent.name, {}).setdefault(sequence, [])
            if found and not (is_run(parts) and PurePosixPath(found[0]).parent == PurePosixPath(path).parent):
                raise _ambiguous([*found, path], files.root)
            found.append(path)
    if not trackers:
        raise ResultsError(
            "no results of these sequences", received=f"{files.root} with {files.names[0]}", expected=LAYOUT,
            fix="name the folder or .zip that holds the trackers' folders, and the dataset they were made on",
        )
    for tracker, runs in trackers.items():
        require_all(tracker, wanted, runs, files.root)
    return trackers


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


def read_runs(files: OpenFiles, names: Iterable[str], frames: int) -> np.ndarray:
    """(R, F, 4) boxes of a sequence's runs; see `read_boxes`."""
    return np.stack([read_boxes(files, name, frames) for name in names])


def save_boxes(root: Path, tracker: str, boxes: Mapping[str, np.ndarray], layout: str = "") -> list[Path]:
    """Write (F, 4) boxes of each sequence below `root` where `find_boxes` looks for them; they read back identically.

    Args:
        layout: of the dataset, whose toolkit's files these are.

    Raises:
        OSError: the folder cannot be made.
        SiamtrtError: a file cannot be written.
    """
    paths = [root / tracker / boxes_name(name, layout) for name in boxes]
    for path, rows in zip(paths, boxes.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{format_region(row)}\n" for row in rows.tolist()).encode())
    return paths
