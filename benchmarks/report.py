"""One page and one Markdown file from what the other commands have written: `siamtrt report`."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from siamtrt.benchmarks.report_accuracy import accuracy_section, comparison_section
from siamtrt.benchmarks.report_inputs import Inputs, read_inputs
from siamtrt.benchmarks.report_markdown import as_markdown
from siamtrt.benchmarks.report_model import Report, Section
from siamtrt.benchmarks.report_overview import environment_section, headlines, tradeoff_section
from siamtrt.benchmarks.report_speed import gpu_section, papers_section, predictions_section, stages_section
from siamtrt.errors import ResultsError
from siamtrt.files import require_place, write_whole
from siamtrt.packages import import_package

if TYPE_CHECKING:
    from jinja2 import Template

TITLE = "Siamese trackers: speed and accuracy"
PAGE, STYLE, STYLE_MARK = "report_page.html", "report_page.css", "/* style */"
LARGEST_PAGE = 1_000_000  # bytes


def report_paths(page: Path) -> tuple[Path, Path]:
    """The page, and the Markdown beside it."""
    return page, page.with_suffix(".md")


def save_report(results: Sequence[Path], page: Path) -> tuple[Path, Path]:
    """Read result files and write the page and its Markdown twin, none before both are made; returns their paths.

    Raises:
        ResultsError: files that are unknown, damaged or too many for a page, or whose Markdown it would replace.
        MissingPackageError: no Jinja.
        SiamtrtError: the files cannot be written there.
    """
    import_package("jinja2", "the page")
    paths = report_paths(page)
    if page.suffix not in (".html", ".htm"):
        raise ResultsError(
            "no name for a page", received=str(page), expected="NAME.html; NAME.md is written beside it",
            fix="end the name of -o in .html",
        )  # fmt: skip
    for path in paths:
        require_place(path)
    inputs = read_inputs(results)
    if page.with_suffix(".json").resolve() in inputs.paths:
        raise ResultsError(
            "the page's Markdown would replace that of its own input", received=f"{paths[1]}, beside {page.stem}.json",
            expected="another name", fix="give the page a name of its own with -o",
        )  # fmt: skip
    report = report_of(inputs, reproduced_by(results, page))
    contents = as_page(report).encode(), as_markdown(report).encode()
    if len(contents[0]) > LARGEST_PAGE:
        raise ResultsError(
            "too much for one page", received=f"{len(contents[0]):,} bytes", expected=f"{LARGEST_PAGE:,} at most",
            fix="name fewer result files, and make several pages",
        )  # fmt: skip
    for path, content in zip(paths, contents, strict=True):
        write_whole(path, content)
    return paths


def reproduced_by(results: Iterable[Path], page: Path) -> str:
    """The command that makes the page again."""
    return shlex.join(["siamtrt", "report", *map(str, results), "-o", str(page)])


def report_of(inputs: Inputs, command: str) -> Report:
    """The whole report; parts nothing was measured for are left out.

    Args:
        command: what makes it again.
    """
    sections: list[Section | None] = [
        tradeoff_section(inputs),
        stages_section(inputs.benches) if inputs.benches else None,
        *(accuracy_section(found, index) for index, found in enumerate(inputs.evaluations, start=1)),
        *(comparison_section(found, index) for index, found in enumerate(inputs.comparisons, start=1)),
        gpu_section(inputs.gpus) if inputs.gpus else None,
        predictions_section(inputs.predictions) if inputs.predictions else None,
        papers_section(inputs.benches),
        environment_section(inputs),
    ]
    kept = [section for section in sections if section and (section.figures or section.tables)]
    kept[-1] = replace(kept[-1], commands=(*kept[-1].commands, command))
    return Report(TITLE, _summary(inputs), headlines(inputs), tuple(kept))


def _summary(inputs: Inputs) -> str:
    amounts: dict[str, Sequence[object]] = {
        "benchmark": inputs.benches, "evaluation": inputs.evaluations, "precision comparison": inputs.comparisons,
        "GPU": inputs.gpus, "prediction": inputs.predictions,
    }  # fmt: skip
    said = [f"{len(found)} {name}{'s' * (len(found) > 1)}" for name, found in amounts.items() if found]
    return f"Measured with siamtrt: {', '.join(said)}. Sections end with the commands that make their numbers again."


def as_page(report: Report) -> str:
    """One HTML file with its style and drawings inside; it needs no network and no script."""
    return _template().render(report=report) + "\n"


@functools.cache
def _template() -> Template:
    """The page with its style inside, everything else to be escaped."""
    from jinja2 import Environment, StrictUndefined

    folder = files("siamtrt.benchmarks")
    page, style = ((folder / name).read_text(encoding="utf-8") for name in (PAGE, STYLE))
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(page.replace(STYLE_MARK, style))
