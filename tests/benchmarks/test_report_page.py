"""The page in a real browser, without a screen: widths, schemes, contrast, errors and requests."""

from __future__ import annotations

import json

import pytest
import report_files
from browsers import CONTRASTS, LEAST_CONTRAST, WIDTHS, Seen, open_page
from click.testing import CliRunner

from siamtrt.cli import main

HOSTILE = "<script>document.title='x'</script><img src=x onerror=alert(1)>"
LONG = "a_tracker_whose_name_nobody_wanted_to_type_twice_" * 4
# Texts and marks of charts that reach out of them, and elements wider than the page outside what scrolls.
OUTSIDE = """() => {
  const found = [];
  for (const svg of document.querySelectorAll('svg.chart, svg.bars')) {
    const frame = svg.getBoundingClientRect();
    for (const part of svg.querySelectorAll('text, circle, rect, polyline')) {
      const box = part.getBoundingClientRect();
      const over = Math.max(
        frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom);
      if (over > 4) found.push([over, part.textContent]);
    }
  }
  for (const element of document.querySelectorAll('body *')) {
    if (element.closest('.scroll, pre, svg')) continue;
    const over = element.getBoundingClientRect().right - document.documentElement.clientWidth;
    if (over > 0.5) found.push([over, element.tagName]);
  }
  return found;
}"""
CLOSE_LABELS = """() => {
  const found = [];
  for (const svg of document.querySelectorAll('svg.chart, svg.bars')) {
    const texts = [...svg.querySelectorAll('.label, .value')];
    const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([name, a], index) => boxes.slice(index + 1).forEach(([other, b]) => {
      const [x, y] = [Math.min(a.right, b.right) - Math.max(a.left, b.left),
                      Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
      if (x > 1 && y > 3) found.push([name, other]);
    }));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """A page with one of everything, names that are markup, and names that are too long."""
    root = tmp_path_factory.mktemp("page")
    folder = report_files.write_all(root)
    scores = json.loads((folder / "scores.json").read_text())
    bench = json.loads((folder / "slow.json").read_text())
    bench["model"], bench["environment"]["cpu"] = LONG, HOSTILE
    for name in (HOSTILE, LONG):
        scores["trackers"].append({**scores["trackers"][0], "name": name})
    report_files.write_json(folder / "hostile.json", scores)
    report_files.write_json(folder / "slow.json", bench)
    result = CliRunner().invoke(main, ["report", str(folder), "-o", str(root / "report.html")])
    assert result.exit_code == 0, result.output
    return root / "report.html"


@pytest.fixture(scope="module")
def seen(browser, page_path):
    """Opens the page at a width and in a scheme, once each."""
    opened: dict[tuple[int, str], Seen] = {}

    def look(width: int, scheme: str) -> Seen:
        if (width, scheme) not in opened:
            opened[width, scheme] = open_page(browser, page_path.as_uri(), width, color_scheme=scheme)
        return opened[width, scheme]

    return look


SCHEMES = ("light", "dark")
LOOKS = [pytest.param(width, name, id=f"{place}-{name}") for place, width in WIDTHS.items() for name in SCHEMES]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_nothing_is_said_or_asked_for(seen, page_path, width, scheme):
    _, said, asked = seen(width, scheme)
    assert (said, asked) == ([], [page_path.as_uri()])


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_text_stands_out(seen, width, scheme):
    contrasts = seen(width, scheme).page.evaluate(CONTRASTS)
    assert len(contrasts) > 300
    assert [row for row in contrasts if row[0] < LEAST_CONTRAST] == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_nothing_reaches_out_of_the_page_or_a_chart(seen, width):
    page = seen(width, "light").page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_labels_do_not_cover_each_other(seen, width):
    assert seen(width, "light").page.evaluate(CLOSE_LABELS) == []


def test_light_and_dark_differ(seen):
    colour = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    assert min(seen(1280, "light").page.evaluate(colour)) > 200
    assert max(seen(1280, "dark").page.evaluate(colour)) < 50


def test_every_figure_is_drawn(seen):
    page = seen(1280, "light").page
    figures = page.locator("figure")
    assert figures.count() == 8  # speed against accuracy of 2 evaluations and the papers; stages; curves; precisions
    for index in range(figures.count()):
        box = figures.nth(index).locator("svg.chart, svg.bars").bounding_box()
        assert box["width"] > 300
        assert box["height"] > 100
        assert figures.nth(index).locator("svg :is(polyline, circle, rect) > title").count() > 1  # values on hovering


def test_names_that_are_markup_are_text(seen):
    page = seen(1280, "light").page
    assert page.title() == "Siamese trackers: speed and accuracy"
    assert page.locator("script, img").count() == 0
    assert page.get_by_text(HOSTILE, exact=True).count() >= 3


def test_links_lead_to_sections(seen):
    page = seen(390, "light").page
    targets = page.eval_on_selector_all("nav a", "links => links.map(a => document.querySelector(a.hash)?.tagName)")
    assert len(targets) >= 8
    assert set(targets) == {"SECTION"}


def test_the_page_is_small(page_path):
    assert page_path.stat().st_size < 1_000_000
