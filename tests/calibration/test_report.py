"""The report says what the record says."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import cv2
import pytest

from siamtrt.calibration import report
from siamtrt.calibration.evaluation import Damage
from siamtrt.calibration.record import Calibration, LayerDamage, PlanPoint, Range, Settings
from siamtrt.calibration.report import as_markdown, notes, save_picture
from siamtrt.errors import MissingPackageError, SiamtrtError


def made(**changes: object) -> Calibration:
    """Of numbers that are all different."""
    layers = tuple(
        LayerDamage(
            "search" if i % 3 else "template",
            f"layer{i}",
            1_000_000 * (i + 1),
            Damage(0.95 - i / 100, i, 0.7 + i / 100),
        )
        for i in range(23)
    )
    points = (
        PlanPoint(0, 1.0, Damage(0.91, 3.25, 0.8123)), PlanPoint(2, 0.8765, Damage(0.97, 1.5, 0.9871)),
        PlanPoint(23, 0.0, Damage(1.0, 0.0, 1.0)),
    )  # fmt: skip
    rows = {"a": Range(2.5, "mse", {"mse": 2.5}, {}), "b": Range(3.5, "mse", {"mse": 3.5}, {})}
    whole = Calibration(
        graphs={"template": "0", "search": "1"},
        settings=Settings(("Man", "Car"), ("2", "3"), 64, 7, "auto", 0.02), pairs=64,
        ranges={"template": rows, "search": {**rows, "c": Range(1.0, "entropy", {"entropy": 1.0}, {})}},
        layers=layers, points=points, kept={"template": ("layer0",), "search": ("layer1",)},
        fp32={"template": (), "search": ("exp_1", "mul_2")},
        largest={"template": {"a": 123.4567}, "search": {"b": 70123.4}}, zero={"template": (), "search": ()},
        skipped=(),
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def tables(text: str) -> list[list[list[str]]]:
    """Cells of every Markdown table, header first, without the rule."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[table[0], *table[2:]] for table in found if table]


def test_the_tables() -> None:
    calibration = made()
    plans, layers, estimators, largest = tables(as_markdown(calibration))
    assert plans[1:] == [
        ["0", "100.0%", "0.8123", "0.9100", "3.25"],
        ["**2**", "**87.6%**", "**0.9871**", "**0.9700**", "**1.50**"],
        ["23", "0.0%", "1.0000", "1.0000", "0.00"],
    ]
    assert len(layers) == 1 + 20
    for row, cells in zip(calibration.layers, layers[1:], strict=False):
        plan = "FP16" if row.layer in ("layer0", "layer1") else "INT8"
        damage = f"{row.damage.iou:.4f}", f"{row.damage.correlation:.4f}"
        assert cells == [row.graph, row.layer, f"{row.macs / 1e6:.2f}", *damage, plan]
    assert estimators[1:] == [["entropy", "0", "1"], ["mse", "2", "2"]]
    assert largest[1:] == [["template", "a", "123.5"], ["search", "b", "7.012e+04"]]
    assert all(len(row) == len(table[0]) for table in (plans, layers, estimators, largest) for row in table)


def test_the_text() -> None:
    text = " ".join(as_markdown(made()).split())
    assert "64 pairs of Man, Car; seed 7, ranges auto." in text
    assert "keeps **2 of 23 convolutions** in FP16: 87.6% of the search graph's multiplications are INT8" in text
    assert "mean IoU of **0.9871** with FP32's (budget 0.9800)" in text
    assert "kept in FP32: search: exp_1, mul_2." in text
    assert "Note" not in text
    assert "kept in FP32: nothing." in as_markdown(made(fp32={"template": (), "search": ()}))


def test_notes() -> None:
    assert notes(made()) == []
    calibration = made(
        pairs=60, skipped=("Tree", "Sky"), zero={"template": ("kernel0",), "search": ("kernel0", "gated")}
    )
    assert notes(calibration) == [
        "64 pairs were asked for, the sources have 60",
        "no pair in Tree, Sky, where the target is absent",
        "zero on every pair, range 1 taken, in template: kernel0",
        "zero on every pair, range 1 taken, in search: kernel0, gated",
    ]
    assert all(f"Note: {note}." in as_markdown(calibration) for note in notes(calibration))


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    save_picture(made(), tmp_path / "plan.png")
    image = cv2.imread(str(tmp_path / "plan.png"))
    assert image.shape == (round(4.2 * 150), 9 * 150, 3)
    for colour in (report.KEPT, report.QUANTISED):  # both are drawn
        bgr = [int(colour[i : i + 2], 16) for i in (5, 3, 1)]
        assert (abs(image.astype(int) - bgr).max(axis=2) < 8).sum() > 100
    assert [path.name for path in tmp_path.iterdir()] == ["plan.png"]


def test_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points, budget and bars at the record's numbers."""
    figure_module = pytest.importorskip("matplotlib.figure")
    kept = []

    class Figure(figure_module.Figure):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)
            kept.append(self)

    monkeypatch.setattr(figure_module, "Figure", Figure)
    calibration = made()
    save_picture(calibration, tmp_path / "plan.png")
    plans, layers = kept[0].axes
    curve, chosen, budget = plans.lines
    assert list(curve.get_xdata()) == pytest.approx([100, 87.65, 0])
    assert list(curve.get_ydata()) == [0.8123, 0.9871, 1.0]
    assert (list(chosen.get_xdata()), list(chosen.get_ydata())) == (pytest.approx([87.65]), [0.9871])
    assert set(budget.get_ydata()) == {0.98}
    widths = [bar.get_width() for bar in layers.patches][::-1]  # the worst on top
    assert widths == pytest.approx([row.damage.drop for row in calibration.layers[:20]])
    names = [label.get_text() for label in layers.get_yticklabels()][::-1]
    assert names == [f"{row.graph} {row.layer}" for row in calibration.layers[:20]]


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"the picture needs matplotlib.*pip install 'siamtrt\[report\]'"):
        save_picture(made(), tmp_path / "plan.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(SiamtrtError, match="cannot write the output"):
        save_picture(made(), tmp_path / "absent" / "plan.png")


def test_a_network_without_convolutions(tmp_path: Path) -> None:
    nothing = {"template": (), "search": ()}
    point = PlanPoint(0, 0.0, Damage(1.0, 0.0, 1.0))
    bare = made(layers=(), kept=nothing, points=(point,), ranges={"template": {}, "search": {}})
    assert "keeps **0 of 0 convolutions**" in as_markdown(bare)
    pytest.importorskip("matplotlib")
    save_picture(bare, tmp_path / "plan.png")
    assert cv2.imread(str(tmp_path / "plan.png")) is not None
