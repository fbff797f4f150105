"""How a run went: a table, and a picture of it where matplotlib is there."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from siamtrt.errors import MissingPackageError
from siamtrt.files import staged_file, write_whole
from siamtrt.pictures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, PICTURE = "curve.csv", "curve.png"
COLUMNS = ("step", "rate", "cls_loss", "loc_loss", "held_cls_loss", "held_loc_loss", "held_iou", "pairs_per_s")
TRAINED, HELD, INK = "#2f6f9f", "#c8553d", "#444444"


class Curve:
    """The rows of a run's checks, whole on disk after each.

    Args:
        folder: of both files.
        step: the run goes on from here; rows of later steps, which will come again, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self.rows = [row for row in read_curve(folder / TABLE) if row[0] <= step]

    def add(self, row: Sequence[float]) -> None:
        """Append the values of `COLUMNS` and write both files."""
        self.rows.append(tuple(row))
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        writer.writerows([str(int(row[0])), *(f"{value:.6g}" for value in row[1:])] for row in self.rows)
        write_whole(self.folder / TABLE, text.getvalue().encode())
        try:
            save_picture(self.rows, self.folder / PICTURE)
        except MissingPackageError:
            (self.folder / PICTURE).unlink(missing_ok=True)  # of another run, perhaps


def read_curve(path: Path) -> list[tuple[float, ...]]:
    """Rows of `COLUMNS`; those that a person or a crash has left incomplete are skipped."""
    if not path.is_file():
        return []
    rows = []
    for line in csv.reader(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            row = tuple(float(value) for value in line)
        except ValueError:
            continue
        if len(row) == len(COLUMNS):
            rows.append(row)
    return rows


def save_picture(rows: Sequence[Sequence[float]], path: Path) -> None:
    """A PNG of losses and IoU over the steps.

    Raises:
        MissingPackageError: no matplotlib.
    """
    figure = new_figure(9, 4.2)
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    losses, overlap = figure.subplots(1, 2)
    for prefix, colour, name in (("", TRAINED, "training"), ("held_", HELD, "held back")):
        losses.plot(columns["step"], columns[f"{prefix}cls_loss"], ".-", color=colour, label=f"{name}, class")
        losses.plot(columns["step"], columns[f"{prefix}loc_loss"], ".--", color=colour, label=f"{name}, box")
    losses.set(xlabel="step", ylabel="loss", ylim=(0, None))
    losses.legend(frameon=False)
    overlap.plot(columns["step"], columns["held_iou"], ".-", color=HELD)
    overlap.set(xlabel="step", ylabel="mean IoU of the best box, held back", ylim=(0, 1))
    _add_rate(overlap.twinx(), columns)
    with staged_file(path) as staging:
        figure.savefig(staging, format="png")


def _add_rate(axes: Axes, columns: dict[str, tuple[float, ...]]) -> None:
    axes.plot(columns["step"], columns["rate"], color=INK, linewidth=0.8)
    axes.set(ylabel="learning rate", ylim=(0, None))
