"""Charts as inline SVG for a page whose style sheet colours them, by class, for light and for dark.

Written here rather than drawn by a plotting library because such a drawing has fixed colours, carries its fonts, and is
ten times as large. Elements are made with ElementTree, which escapes every text and attribute. Values are shown by the
browser on hovering: each mark has a `<title>`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

WIDTH, HEIGHT = 480, 330  # of charts that scale with the page, in their own units
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 12, 48
SERIES = 8  # looks of series in the style sheet; later ones begin again
ROW, BAR, AXIS = 52, 18, 40  # heights in pixels: a row of bars, its bar, the axis below
MOST_POINTS = 240  # of a line, which is about as many pixels long
MARKS = (10, BAR)  # heights of the first and the second mark of a bar
CHARACTER = 8.6  # width of a letter of a label in these units, about
LABEL_LENGTH = 26
BAR_LABEL_LENGTH = 22  # a phone has 330 pixels for it and the value at the other end


@dataclass(frozen=True)
class Curve:
    """A line through points, and what its name in the legend is."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True)
class Point:
    """A labelled point; `hover` says its values. `published` ones are hollow."""

    label: str
    x: float
    y: float
    hover: str
    published: bool = False


@dataclass(frozen=True)
class Bar:
    """A row of `stacked_bars`: parts one after another, and up to two marks behind them, each (name, value)."""

    label: str
    value: str
    parts: Sequence[tuple[str, float]]
    marks: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale from `low` to `high`."""

    title: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """0 at its low end, 1 at its high end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(title: str, most: float, least: float = 0.0) -> Axis:
    """From at most `least` to at least `most` in three to seven round steps."""
    span = max(most - least, 1e-9)
    unit = 10 ** math.floor(math.log10(span / 5))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= 6)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return Axis(title, first * step, last * step, [index * step for index in range(first, last + 1)])


def speed_axis(title: str, values: Sequence[float]) -> Axis:
    """Logarithmic, from below the least to above the greatest, with ticks at 1, 2 and 5 times powers of ten."""
    low, high = min(values) / 1.6, max(values) * 3.2
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    return Axis(title, low, high, [tick for tick in ticks if low <= tick <= high], logarithmic=True)


def _root(name: str, described: str, **attributes: str) -> Element:
    """An SVG that screen readers announce by its title."""
    root = Element("svg", {"class": name, "role": "img", "aria-label": described, **attributes})
    SubElement(root, "title").text = described
    return root


def _put(parent: Element, tag: str, name: str = "", title: str = "", text: str = "", **attributes: object) -> Element:
    """A child; of its attributes `_` becomes `-`, and numbers are cut to a tenth."""
    given = {"class": name} if name else {}
    for key, value in attributes.items():
        given[key.replace("_", "-")] = f"{value:.1f}" if isinstance(value, float) else str(value)
    child = SubElement(parent, tag, given)
    if title:
        SubElement(child, "title").text = title
    elif text:
        child.text = text
    return child


def _markup(root: Element) -> str:
    return tostring(root, encoding="unicode", short_empty_elements=True)


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _frame(described: str, x_axis: Axis, y_axis: Axis) -> Element:
    """An empty chart: grid, ticks and titles."""
    root = _root("chart", described, viewBox=f"0 0 {WIDTH} {HEIGHT}")
    for tick in y_axis.ticks:
        y = _y(y_axis, tick)
        _put(root, "line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        _put(root, "text", "tick", x=LEFT - 7, y=y + 4, text_anchor="end", text=f"{tick:g}")
    for tick in x_axis.ticks:
        x = _x(x_axis, tick)
        _put(root, "line", "grid", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM)
        _put(root, "text", "tick", x=x, y=HEIGHT - BOTTOM + 17, text_anchor="middle", text=f"{tick:g}")
    middle = (LEFT + WIDTH - RIGHT) / 2
    _put(root, "text", "axis", x=middle, y=HEIGHT - 8, text_anchor="middle", text=x_axis.title)
    up = (TOP + HEIGHT - BOTTOM) / 2
    _put(root, "text", "axis", x=12, y=up, text_anchor="middle", text=y_axis.title, transform=f"rotate(-90 12 {up:g})")
    return root


def curves(
    described: str, x_axis: Axis, y_axis: Axis, lines: Sequence[Curve], span: tuple[float, float] | None = None,
    marked: float | None = None,
) -> str:  # fmt: skip
    """A line chart; its legend is HTML, see `legend`.

    Args:
        span: of x, shaded: what a score is the mean over.
        marked: of x, a vertical line: where a score is read.
    """
    root = _frame(described, x_axis, y_axis)
    if span:
        start, end = _x(x_axis, span[0]), _x(x_axis, min(span[1], x_axis.high))
        _put(root, "rect", "span", x=start, y=TOP, width=end - start, height=HEIGHT - TOP - BOTTOM)
    if marked is not None:
        _put(root, "line", "marked", x1=_x(x_axis, marked), x2=_x(x_axis, marked), y1=TOP, y2=HEIGHT - BOTTOM)
    for index, line in enumerate(lines):
        known = [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(y)]
        if not known:
            continue
        drawn = [*known[:: max(1, len(known) // MOST_POINTS)], known[-1]]
        path = " ".join(f"{_x(x_axis, x):.1f},{_y(y_axis, y):.1f}" for x, y in drawn)
        _put(root, "polyline", f"line s{index % SERIES}", line.name, points=path)
        for x, y in known[:: max(1, len(known) // 10)]:
            hover = f"{line.name}: {y:.3f} at {x:g}"
            _put(root, "circle", f"dot s{index % SERIES}", hover, cx=_x(x_axis, x), cy=_y(y_axis, y), r=3)
    return _markup(root)


def legend(names: Sequence[str], look: str = "line") -> str:
    """The names of series beside their looks, "line" or "fill", to stand above a chart."""
    root = Element("ul", {"class": "legend"})
    for index, name in enumerate(names):
        item = SubElement(root, "li")
        swatch = SubElement(item, "svg", {"class": "swatch", "viewBox": "0 0 26 10", "aria-hidden": "true"})
        if look == "line":
            _put(swatch, "line", f"line s{index % SERIES}", x1=1, x2=25, y1=5, y2=5)
        else:
            _put(swatch, "rect", f"fill s{index % SERIES}", width=26, height=10)
        SubElement(item, "span").text = name
    return _markup(root)


def scatter(described: str, x_axis: Axis, y_axis: Axis, points: Sequence[Point], marked: float | None = None) -> str:
    """Labelled points; a label that finds no room is left to hovering and to the table."""
    root = _frame(described, x_axis, y_axis)
    if marked is not None and x_axis.low < marked < x_axis.high:
        x = _x(x_axis, marked)
        _put(root, "line", "marked", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM)
        _put(root, "text", "tick", x=x + 4, y=HEIGHT - BOTTOM - 6, text=f"{marked:g} FPS")
    places = [(_x(x_axis, point.x), _y(y_axis, point.y)) for point in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for index, (point, (x, y)) in enumerate(zip(points, places, strict=True)):
        look = "published" if point.published else f"s{index % SERIES}"
        _put(root, "circle", f"point {look}", point.hover, cx=x, cy=y, r=6)
        label = shortened(point.label)
        if room := _room(label, x, y, taken):
            taken.append(room)
            anchor = "end" if room[2] < x else "start" if room[0] > x else "middle"
            at = {"end": room[2], "start": room[0], "middle": (room[0] + room[2]) / 2}[anchor]
            _put(root, "text", "label", x=at, y=room[3] - 4, text_anchor=anchor, text=label)
    return _markup(root)


Rectangle = tuple[float, float, float, float]


def _room(label: str, x: float, y: float, taken: Sequence[Rectangle]) -> Rectangle | None:
    """A free place for a label beside, above or below its point: left, top, right, bottom."""
    wide = len(label) * CHARACTER
    for left, top in (
        (x + 9, y - 8), (x - 9 - wide, y - 8), (x - wide / 2, y - 25), (x - wide / 2, y + 9), (x + 6, y - 22),
        (x - 6 - wide, y - 22), (x + 6, y + 7), (x - 6 - wide, y + 7),
    ):  # fmt: skip
        box = left, top, left + wide, top + 16
        inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
        if inside and not any(_meet(box, other) for other in taken):
            return box
    return None


def _meet(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def shortened(name: str, length: int = LABEL_LENGTH) -> str:
    """A name that fits beside a mark."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def stacked_bars(described: str, axis: Axis, rows: Sequence[Bar], series: Sequence[str]) -> str:
    """A bar a row, its text above it; as wide as the page without its text growing or shrinking.

    Args:
        series: names of parts, in the order of their colours.
    """
    height = len(rows) * ROW + AXIS
    bottom = height - AXIS
    root = _root("bars", described, width="100%", height=str(height))
    across = _percent(axis)
    for tick in axis.ticks:
        _put(root, "line", "grid", x1=across(tick), x2=across(tick), y1=4, y2=bottom)
        anchor = "start" if tick == axis.ticks[0] else "end" if tick == axis.ticks[-1] else "middle"
        _put(root, "text", "tick", x=across(tick), y=bottom + 16, text_anchor=anchor, text=f"{tick:g}")
    _put(root, "text", "axis", x="50%", y=height - 5, text_anchor="middle", text=axis.title)
    for index, row in enumerate(rows):
        top = index * ROW + 24
        _put(root, "text", "label", x="0", y=top - 7, text=shortened(row.label, BAR_LABEL_LENGTH))
        _put(root, "text", "value", x="100%", y=top - 7, text_anchor="end", text=row.value)
        start = axis.low
        for name, value in row.parts:
            look = f"fill s{series.index(name) % SERIES}"
            hover = f"{row.label}: {name} {value:.3f}"
            _put(root, "rect", look, hover, x=across(start), width=across(value), y=top, height=BAR)
            start += value
        _put_marks(root, row, axis, start, top)
    return _markup(root)


def _put_marks(root: Element, row: Bar, axis: Axis, start: float, top: int) -> None:
    """A whisker from the bar's end to the last mark, or to the axis's end where that is further out."""
    across = _percent(axis)
    end = min(max((value for _, value in row.marks), default=start), axis.high)
    middle = top + BAR // 2
    _put(root, "line", "whisker", x1=across(min(start, end)), x2=across(end), y1=middle, y2=middle)
    for (name, value), tall in zip(row.marks, MARKS, strict=False):
        if value <= axis.high:
            hover, y = f"{row.label}: {name} {value:.3f}", top + (BAR - tall) // 2
            _put(root, "rect", "mark", hover, x=across(value), width=3, y=y, height=tall)


def _percent(axis: Axis) -> Callable[[float], str]:
    return lambda value: f"{100 * axis.share(value):.2f}%"
