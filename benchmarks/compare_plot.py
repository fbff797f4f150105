"""The plot of `siamtrt compare`: success curves, and success AUC by sequence."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from siamtrt.benchmarks.contenders import REFERENCE
from siamtrt.benchmarks.metrics import SUCCESS_THRESHOLDS
from siamtrt.packages import import_package
from siamtrt.pictures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from siamtrt.benchmarks.compare import Comparison

WIDTH, CURVES_HEIGHT, ROW_HEIGHT = 4.6, 2.9, 0.28  # inches; 9 pt text stays readable at half a page's width
DPI = 220


class Look(NamedTuple):
    """How a variant is drawn, in every plot."""

    colour: str
    marker: str
    dashes: str | tuple[int, tuple[int, ...]]


# Colours of M. Okabe and K. Ito, "Color Universal Design", 2008, told apart by people who lack any one kind of cone.
LOOKS = {
    "fp32": Look("#8c8c8c", "o", "-"), "fp16": Look("#0072B2", "D", "-"), "int8": Look("#E69F00", "s", "--"),
    "mixed": Look("#009E73", "v", "-."),
    "naive": Look("#CC79A7", "^", ":"), "shaken": Look("#7F6A00", "X", (0, (1, 3))),
    "engine:fp32": Look("#000000", "P", (0, (1, 1))), "engine:fp16": Look("#56B4E9", "h", (0, (8, 2))),
    "engine:int8": Look("#D55E00", "*", (0, (5, 1, 1, 1, 1, 1))),
}  # fmt: skip
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
    "figure.facecolor": "white", "axes.facecolor": "white",
}  # fmt: skip


def plot_png(comparison: Comparison) -> bytes:
    """The plot as a PNG file; no display is needed.

    Raises:
        MissingPackageError: no matplotlib.
    """
    sequences = len(comparison.contenders[0].tracks)
    dots_height = 0.55 + ROW_HEIGHT * (sequences + 1)
    with import_package("matplotlib", "the plot").rc_context(STYLE):
        figure = new_figure(WIDTH, CURVES_HEIGHT + dots_height, DPI)
        top, bottom = figure.subplots(2, 1, height_ratios=(CURVES_HEIGHT, dots_height))
        _draw_curves(top, comparison)
        _draw_dots(bottom, comparison)
        data = io.BytesIO()
        figure.savefig(data, format="png")
    return data.getvalue()


def _draw_curves(axes: Axes, comparison: Comparison) -> None:
    """Means over sequences; FP32 wide and behind, so that it shows where others cover it."""
    for row in comparison.contenders:
        curve = np.mean([track.success for track in row.tracks], axis=0)
        look, behind = LOOKS[row.name], row.name == REFERENCE
        axes.plot(
            SUCCESS_THRESHOLDS, curve, lw=5.0 if behind else 1.6, ls=look.dashes, color=look.colour,
            alpha=0.55 if behind else 1.0, label=f"{row.name}  {row.success_auc:.3f}",
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="IoU with the truth above", ylabel="share of frames")
    axes.set_title(f"{comparison.model}: success, mean of sequences", loc="left")
    axes.legend(title="success AUC", loc="lower left", handlelength=2.8, alignment="left")


def _draw_dots(axes: Axes, comparison: Comparison) -> None:
    """A row a sequence, the mean last; dots of one row a little apart, so that equal ones can be seen."""
    rows = comparison.contenders
    names = [*(track.sequence for track in rows[0].tracks), "mean"]
    places = np.arange(len(names), dtype=float)
    apart = np.linspace(-0.32, 0.32, len(rows)) if len(rows) > 1 else np.zeros(1)
    for index, row in enumerate(rows):
        values, look = [*(track.success_auc for track in row.tracks), row.success_auc], LOOKS[row.name]
        axes.plot(values, places + apart[index], look.marker, ms=4.2, mew=0, color=look.colour, label=row.name)
    axes.axhline(len(names) - 1.5, color="#9a9a9a", lw=0.8)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel="success AUC")
    axes.set_yticks(places, names)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(len(rows), 5), handletextpad=0.1,
                columnspacing=1.0)  # fmt: skip
