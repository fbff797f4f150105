"""A report as Markdown: its tables and commands; figures are the page's alone."""

from __future__ import annotations

import re

from siamtrt.benchmarks.report_model import Cell, Report, Section, Table

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


def as_markdown(report: Report) -> str:
    """The report as people read it beside their code."""
    blocks = [f"# {escaped(report.title)}", escaped(report.summary)]
    if report.headlines:
        lines = (f"- **{escaped(f'{one.value} {one.unit}')}** {escaped(one.what)}" for one in report.headlines)
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, *(_section(section) for section in report.sections if section.tables)]) + "\n"


def _section(section: Section) -> str:
    blocks = [f"## {escaped(section.title)}", *([escaped(section.intro)] if section.intro else [])]
    blocks += [_table(table) for table in section.tables]
    if section.commands:
        longest = max((len(run) for command in section.commands for run in re.findall("`+", command)), default=0)
        fence = "`" * max(3, longest + 1)  # no command can end its own block
        blocks.append("\n".join([f"{fence}bash", *section.commands, fence]))
    return "\n\n".join(blocks)


def _table(table: Table) -> str:
    marks = ["---" if index == 0 or index in table.words else "---:" for index in range(len(table.columns))]
    lines = [
        f"**{escaped(table.caption)}**", "", _line([escaped(name) for name in table.columns]), _line(marks),
        *(_line([_cell(cell) for cell in row]) for row in table.rows),
    ]  # fmt: skip
    return "\n".join([*lines, *(["", escaped(table.note)] if table.note else [])])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    return f"**{text}**" if cell.best and text else text


def escaped(text: str) -> str:
    """Text that Markdown and the HTML in it show as it is."""
    return SPECIAL.sub(r"\\\1", text)
