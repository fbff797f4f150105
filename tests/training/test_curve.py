"""The curve of a run that goes on, with and without matplotlib."""

from __future__ import annotations

import sys

import cv2
import pytest

from siamtrt.training.curve import COLUMNS, PICTURE, TABLE, Curve, read_curve

ROWS = [(step, 0.001, 0.5, 0.4, 0.6, 0.3, 0.7, 12.5) for step in (500, 1000, 1_500_000)]


@pytest.fixture
def undrawn(monkeypatch):
    """As without the report extra."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


def test_rows_come_back_and_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs the report extra")
    curve = Curve(tmp_path, 0)
    for row in ROWS:
        curve.add(row)
    assert read_curve(tmp_path / TABLE) == ROWS
    assert (tmp_path / TABLE).read_text().splitlines()[0] == ",".join(COLUMNS)
    assert cv2.imread(str(tmp_path / PICTURE)).std() > 0
    assert len(list(tmp_path.iterdir())) == 2


def test_rows_after_the_checkpoint_are_dropped(tmp_path, undrawn):
    """They come again; a row that was there before them is not doubled."""
    for row in ROWS:
        Curve(tmp_path, int(row[0])).add(row)
    curve = Curve(tmp_path, 1000)
    curve.add((1500, *ROWS[0][1:]))
    assert [row[0] for row in read_curve(tmp_path / TABLE)] == [500, 1000, 1500]
    Curve(tmp_path, 0).add(ROWS[0])
    assert read_curve(tmp_path / TABLE) == ROWS[:1]


def test_broken_rows_are_skipped(tmp_path, undrawn):
    curve = Curve(tmp_path, 0)
    curve.add(ROWS[0])
    with (tmp_path / TABLE).open("ab") as file:
        file.write(b"\xff\xfe,1\n\n1000,0.001,0.5\nabc\n2000,1,2,3,4,5,6")
    assert read_curve(tmp_path / TABLE) == ROWS[:1]


def test_without_matplotlib_the_old_picture_goes(tmp_path, undrawn):
    (tmp_path / PICTURE).write_bytes(b"of another run")
    Curve(tmp_path, 0).add(ROWS[0])
    assert [path.name for path in tmp_path.iterdir()] == [TABLE]
