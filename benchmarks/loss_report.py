"""What `siamtrt.benchmarks.loss` measured, as a table and as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterable
from collections.abc import Sequence as Several

import numpy as np

from siamtrt.benchmarks.loss_scores import ON_TARGET, Absence, Measured, absences_of, false_losses, overlaps_of
from siamtrt.pictures import new_figure

COLOURS = {"locked": "#4c9f70", "uncertain": "#e0b040", "lost": "#c0504d", "invalid": "#303030"}
ABSENT, OFF = "#202020", "#a8a8a8"
ROW_INCHES = 0.26


def as_table(measured: Measured) -> str:
    """Markdown: disappearances, frames that are LOST though the target is there, the cost; then every disappearance."""
    with_gaps = [run for run in measured.sequences if not run.visible.all()]
    always = [run for run in measured.sequences if run.visible.all()]
    groups = {run.name: absences_of(run) for run in with_gaps}
    for back, absences in measured.cut_absences.items():
        groups[f"{len(absences)} cuts, the target {back}"] = absences
    lines = [
        f"{measured.model}", "",
        "| disappearances | LOST within 10 frames | LOCKED on it within 30 frames of its return "
        "| of those on it before | LOST while it is away, of the frames |",
        "|---|---|---|---|---|",
        *(_group(name, absences) for name, absences in groups.items() if absences), "",
    ]  # fmt: skip
    false, (ours, others) = false_losses(always), measured.aucs
    lines += [
        f"LOST in {false.lost} of {false.visible} frames with the target, {_share(false.lost, false.visible)}, of the "
        f"{len(always)} sequences that always have it; {false.needless}, "
        f"{_share(false.needless, false.visible)}, where the plain tracker has it.", "",
        f"Success AUC {ours:.3f} watched, {others:.3f} not; an update takes "
        f"{measured.times_ratio(False):.2f} times as long, a lost target's {measured.times_ratio(True):.2f} times.", "",
        "| disappearance | frame | on it before | LOST after | LOCKED on it after |", "|---|---|---|---|---|",
    ]  # fmt: skip
    return "\n".join(lines + [_row(name, absence) for name, group in groups.items() for absence in group])


def _group(name: str, absences: Several[Absence]) -> str:
    followed = [absence for absence in absences if absence.followed]
    away = float(np.mean([absence.lost_share for absence in absences]))
    return (
        f"| {name} | {_count(absence.noticed for absence in absences)} "
        f"| {_count(absence.regained for absence in absences)} "
        f"| {_count(absence.regained for absence in followed)} | {100 * away:.0f} % |"
    )


def _count(flags: Iterable[bool]) -> str:
    found = list(flags)
    return f"{sum(found)} of {len(found)}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _row(group: str, absence: Absence) -> str:
    cut = "" if group == absence.name else f", {group.split(', ')[-1]}"
    after = ["never" if frames is None else str(frames) for frames in (absence.lost_after, absence.locked_after)]
    return f"| {absence.name}{cut} | {absence.start} | {'yes' if absence.followed else 'no'} | {' | '.join(after)} |"


def picture_of(measured: Measured) -> bytes:
    """A PNG: a row a run, a column a frame, its colour the status; above it black where the target is away, and grey
    where it is there and the box is not on it.

    Raises:
        MissingPackageError: no matplotlib.
    """
    runs = [*measured.sequences, *(run for group in measured.cuts.values() for run in group)]
    figure = new_figure(11, 0.9 + ROW_INCHES * len(runs))
    axes = figure.subplots()
    for row, run in enumerate(runs):
        statuses, off = np.array(run.statuses), overlaps_of(run.boxes_xywh, run) <= ON_TARGET
        for status, colour in COLOURS.items():
            axes.broken_barh(_spans(statuses == status), (row - 0.05, 0.4), color=colour, lw=0)
        axes.broken_barh(_spans(~run.visible), (row - 0.35, 0.25), color=ABSENT, lw=0)
        axes.broken_barh(_spans(run.visible & off), (row - 0.35, 0.25), color=OFF, lw=0)
    axes.set_yticks(range(len(runs)), [run.name for run in runs], fontsize=7)
    axes.set(ylim=(len(runs) - 0.4, -0.6), xlim=(0, max(len(run.statuses) for run in runs)), xlabel="frame")
    marks = {**COLOURS, "target away": ABSENT, "box not on the target": OFF}
    handles = [axes.plot([], [], lw=6, color=colour, label=name)[0] for name, colour in marks.items()]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(marks), fontsize=7, frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _spans(flags: np.ndarray) -> list[tuple[float, float]]:
    """Start and length of each run of true ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [(float(start), float(stop - start)) for start, stop in edges.reshape(-1, 2)]
