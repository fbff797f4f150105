"""What a report is made of, before it is a page or Markdown: sections of figures, tables and the commands behind them.

All text here is plain, as it came; who writes a page or Markdown of it escapes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

NONE = "–"  # noqa: RUF001


@dataclass(frozen=True)
class Cell:
    """One value of a table.

    Attributes:
        share: 0..1, the length of a bar behind it; None for no bar.
        best: of its kind, so in bold.
        published: not measured here, so its bar is paler.
    """

    text: str
    share: float | None = None
    best: bool = False
    published: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a header; the first column names the row.

    Attributes:
        columns: titles; the first is that of the names.
        rows: a cell for each column.
        words: columns of text, by index, which are not aligned like numbers; the first always is text.
        narrow: of few columns, so two of them stand beside each other.
        note: a sentence below.
        folded: shown on demand, as it is long.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[int] = frozenset()
    note: str = ""
    folded: bool = False
    narrow: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        svg: safe markup, see `report_svg`.
        wide: as wide as the page, not half of it.
    """

    title: str
    svg: str
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Headline:
    """One large number of the top of the page."""

    value: str
    unit: str
    what: str


@dataclass(frozen=True)
class Section:
    """A heading and what is below it.

    Attributes:
        anchor: its name in links.
        commands: what makes its numbers again, a line each.
    """

    anchor: str
    title: str
    intro: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    summary: str
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...] = field(default=())


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many digits after the point; a dash for one that is missing or not finite."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """The same with its sign; no sign before nothing."""
    text = number(value, digits)
    return number(0.0, digits) if text.strip("-0.") == "" else f"{'+' * (value > 0)}{text}"


def bar_cell(value: float | None, most: float, digits: int = 3, best: bool = False, published: bool = False) -> Cell:
    """A number with a bar whose full length is `most`."""
    known = value is not None and math.isfinite(value) and most > 0
    share = min(max((value or 0.0) / most, 0.0), 1.0) if known else None
    return Cell(number(value, digits), share, best, published)
