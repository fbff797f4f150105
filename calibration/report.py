"""A calibration to read and to look at: tables in Markdown, and accuracy lost against cost saved as a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from siamtrt.calibration.evaluation import GRAPHS
from siamtrt.calibration.ranges import ZERO_TENSOR_THRESHOLD
from siamtrt.calibration.record import Calibration, LayerDamage, PlanPoint
from siamtrt.files import staged_file
from siamtrt.pictures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORST = 20  # layers in the table and the picture
INK, KEPT, QUANTISED = "#333333", "#d55e00", "#0072b2"  # Okabe and Ito: told apart by the colour-blind


def as_markdown(calibration: Calibration) -> str:
    """The plan, the plans tried, the worst layers, the estimators and the largest magnitudes."""
    settings, chosen = calibration.settings, calibration.chosen
    share = f"{chosen.int8_share:.1%}"
    parts = [
        "# Calibration\n",
        f"{calibration.pairs} pairs of {', '.join(settings.sources)}; "
        f"seed {settings.seed}, ranges {settings.ranges}.\n",
        *(f"Note: {note}.\n" for note in notes(calibration)),
        f"The plan keeps **{chosen.kept} of {len(calibration.layers)} convolutions** in FP16: {share} of the search "
        f"graph's multiplications are INT8, and one step's box has a mean IoU of **{chosen.damage.iou:.4f}** with "
        f"FP32's (budget {1 - settings.max_iou_drop:.4f}).\n",
        _table(
            ("in FP16", "INT8, search", "IoU", "response correlation", "peak moves, px"),
            [(*_point(point), "**" if point == chosen else "") for point in calibration.points],
        ),
        f"The {min(WORST, len(calibration.layers))} convolutions that hurt most when they alone are INT8:\n",
        _table(
            ("graph", "convolution", "MMAC", "IoU", "response correlation", "plan"),
            [
                (
                    row.graph, row.layer, f"{row.macs / 1e6:.2f}", f"{row.damage.iou:.4f}",
                    f"{row.damage.correlation:.4f}", "FP16" if row.layer in calibration.kept[row.graph] else "INT8", "",
                )
                for row in _worst(calibration)
            ],
        ),
        _table(("range by", "template", "search"), [(*row, "") for row in _estimators(calibration)]),
        _table(
            ("graph", "tensor", "largest magnitude"),
            [(graph, *row, "") for graph in GRAPHS for row in _magnitudes(calibration.largest[graph])],
        ),
        _kept_in_fp32(calibration),
    ]  # fmt: skip
    return "\n".join(parts)


def notes(calibration: Calibration) -> list[str]:
    """What calibration did in place of what was asked for or is usual, a clause each."""
    rows = []
    if calibration.pairs < calibration.settings.pairs:
        rows.append(f"{calibration.settings.pairs} pairs were asked for, the sources have {calibration.pairs}")
    if calibration.skipped:
        rows.append(f"no pair in {', '.join(calibration.skipped)}, where the target is absent")
    for graph, names in calibration.zero.items():
        if names:
            rows.append(f"zero on every pair, range {ZERO_TENSOR_THRESHOLD:g} taken, in {graph}: {', '.join(names)}")
    return rows


def _worst(calibration: Calibration) -> list[LayerDamage]:
    """The layers that do most damage, worst first."""
    return sorted(calibration.layers, key=lambda row: row.damage.iou)[:WORST]


def _point(point: PlanPoint) -> tuple[str, ...]:
    damage = point.damage
    cells = point.kept, f"{point.int8_share:.1%}", f"{damage.iou:.4f}", f"{damage.correlation:.4f}"
    return (*map(str, cells), f"{damage.displacement_px:.2f}")


def _estimators(calibration: Calibration) -> list[tuple[str, str, str]]:
    counts = {graph: Counter(row.method for row in calibration.ranges[graph].values()) for graph in GRAPHS}
    methods = sorted(set().union(*counts.values()))
    return [(method, *(str(counts[graph][method]) for graph in GRAPHS)) for method in methods]  # type: ignore[misc]


def _magnitudes(largest: dict[str, float]) -> list[tuple[str, str]]:
    return [(name, f"{value:.4g}") for name, value in largest.items()]


def _kept_in_fp32(calibration: Calibration) -> str:
    kept = [f"{graph}: {', '.join(names)}" for graph, names in calibration.fp32.items() if names]
    return f"FP16 would overflow or lose too much; kept in FP32: {'; '.join(kept) or 'nothing'}.\n"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows carry a last cell that is put around each of the others, such as `**`."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(f"{row[-1]}{cell}{row[-1]}" for cell in row[:-1]) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def save_picture(calibration: Calibration, path: Path) -> None:
    """A PNG: every plan tried, IoU against the share in INT8, and the worst convolutions.

    Raises:
        MissingPackageError: no matplotlib.
        SiamtrtError: the file cannot be written.
    """
    figure = new_figure(9, 4.2, dpi=150)
    plans, layers = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_plans(plans, calibration)
    _draw_layers(layers, calibration)
    with staged_file(path) as staging:
        figure.savefig(staging, format="png")


def _draw_plans(axes: Axes, calibration: Calibration) -> None:
    points, chosen = calibration.points, calibration.chosen
    budget = 1 - calibration.settings.max_iou_drop
    axes.plot([100 * p.int8_share for p in points], [p.damage.iou for p in points], "o-", color=QUANTISED, markersize=4)
    axes.plot(100 * chosen.int8_share, chosen.damage.iou, "o", color=KEPT, markersize=9)
    axes.annotate(
        f"the plan: {chosen.kept} in FP16", (100 * chosen.int8_share, chosen.damage.iou), (-8, 10),
        textcoords="offset points", ha="right", color=KEPT,
    )  # fmt: skip
    axes.axhline(budget, color=INK, linewidth=0.8, linestyle="--")
    axes.annotate("budget", (0, budget), (4, 4), textcoords="offset points", color=INK)
    axes.set(
        xlabel="search graph's multiplications in INT8, %", ylabel="mean IoU with FP32's box, one step", xlim=(-3, 103)
    )
    _plain(axes)


def _draw_layers(axes: Axes, calibration: Calibration) -> None:
    rows = _worst(calibration)[::-1]
    colours = [KEPT if row.layer in calibration.kept[row.graph] else QUANTISED for row in rows]
    axes.barh(range(len(rows)), [row.damage.drop for row in rows], color=colours)
    axes.set_yticks(range(len(rows)), [f"{row.graph} {row.layer}" for row in rows], fontsize=6)
    axes.set(xlabel="IoU lost, alone in INT8 (orange: FP16 in the plan)")
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
