"""What makes a sequence hard, as its dataset says, and scores over the sequences that have it in common.

The toolkits of OTB, UAV123 and LaSOT keep a file a sequence, `att/<sequence>.txt`, one line of zeros and ones; the
names of the columns are in their scripts (perfPlot.m of OTB and UAV123, run_tracker_performance_evaluation.m of LaSOT).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from siamtrt.benchmarks.otb_subsets import name_key, split_subset
from siamtrt.runtime.sequence import Sequence
from siamtrt.runtime.truth_files import read_table, unreadable

OTB_ATTRIBUTES = (
    "illumination variation", "out-of-plane rotation", "scale variation", "occlusion", "deformation", "motion blur",
    "fast motion", "in-plane rotation", "out of view", "background clutter", "low resolution",
)  # fmt: skip
UAV_ATTRIBUTES = (
    "scale variation", "aspect ratio change", "low resolution", "fast motion", "full occlusion", "partial occlusion",
    "out of view", "background clutter", "illumination variation", "viewpoint change", "camera motion",
    "similar object",
)  # fmt: skip
LASOT_ATTRIBUTES = (
    "illumination variation", "partial occlusion", "deformation", "motion blur", "camera motion", "rotation",
    "background clutter", "viewpoint change", "scale variation", "full occlusion", "fast motion", "out of view",
    "low resolution", "aspect ratio change",
)  # fmt: skip
COLUMNS = {
    "OTB": OTB_ATTRIBUTES, "LaSOT": LASOT_ATTRIBUTES,
    **dict.fromkeys(("UAV123", "UAV20L", "UAV123_10fps"), UAV_ATTRIBUTES),
}  # fmt: skip
LEVELS = 4  # from the frames up to the dataset's folder: LaSOT's are `<category>/<sequence>/img`


def attributes_of(sequence: Sequence) -> tuple[str, ...]:
    """The attributes of a sequence; none where the dataset's folder has no file of them.

    The files are looked for in `att`, `anno/att`, `annos/att` and `anno/<layout>/att` beside or above the sequence.

    Raises:
        SourceError: such a file has not one line of zeros and ones, one a column.
    """
    columns = COLUMNS.get(sequence.layout)
    if columns is None or (sequence.layout == "OTB" and not split_subset([sequence.name], "OTB-2015")[0]):
        return ()  # DTB70 is laid out as OTB, its attributes are others
    path = _file(sequence)
    if path is None:
        return ()
    rows = read_table(path, len(columns), f"{len(columns)} columns of 0 or 1 on one line")
    if len(rows) != 1 or not np.isin(rows, (0, 1)).all():
        raise unreadable(path, f"{len(rows)} lines, {rows[0].tolist()}", f"one line of {len(columns)} times 0 or 1")
    return tuple(name for name, flag in zip(columns, rows[0], strict=True) if flag)


def _file(sequence: Sequence) -> Path | None:
    frames = sequence.frames.absolute()
    places = ("att", "anno/att", "annos/att", f"anno/{sequence.layout}/att")
    for folder in (above / place for above in list(frames.parents)[:LEVELS] for place in places):
        if folder.is_dir():
            names = {name_key(path.stem): path for path in sorted(folder.glob("*.txt"))}
            return names.get(name_key(sequence.name))
    return None


def named_attributes(value: object) -> tuple[str, ...]:
    """The `attr` of a sequence in a description of pysot's form.

    Raises:
        TypeError: not a list of texts.
    """
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"attr {str(value)[:60]!r}, no list of names")
    return tuple(value)


def grouped(attributes: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The sequences of each attribute, from the attributes of each sequence."""
    groups: dict[str, list[str]] = {}
    for name, found in attributes.items():
        for attribute in found:
            groups.setdefault(attribute, []).append(name)
    return dict(sorted(groups.items()))


def scores_by_attribute(
    rows: Mapping[str, tuple[float, ...]], groups: Mapping[str, list[str]]
) -> dict[str, tuple[float, ...]]:
    """Means of scores over the sequences of each attribute, as the toolkits' plots by attribute have them.

    Args:
        rows: scores by sequence.
    """
    return {name: tuple(np.nanmean([rows[one] for one in members], axis=0)) for name, members in groups.items()}


def attribute_table(
    score: str, counts: Mapping[str, int], trackers: Mapping[str, Mapping[str, tuple[float, ...]]]
) -> str:
    """Markdown: a line an attribute with its number of sequences and each tracker's first score, named `score`.

    Args:
        trackers: scores by attribute, by tracker.
    """
    lines = [f"| {score} | sequences | {' | '.join(trackers)} |", f"|---|---|{'---|' * len(trackers)}"]
    for attribute, count in counts.items():
        scores = [f"{rows[attribute][0]:.3f}" for rows in trackers.values()]
        lines.append(f"| {attribute} | {count} | {' | '.join(scores)} |")
    return "\n".join(lines)
