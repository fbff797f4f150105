"""`siamtrt report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="PAGE.html",
    help="Page to write; PAGE.md is written beside it.",
)  # fmt: skip
def report(results: tuple[Path, ...], output: Path) -> None:
    """One page from RESULTS: speed, accuracy, precisions, the papers' numbers beside them.

    RESULTS are files, or folders that hold them, in any order: JSON that `bench`, `eval`, `compare`, `predict --json`
    and `python -m siamtrt.benchmarks.gpu` have written. Success and precision plots are drawn where the boxes and the
    dataset of an evaluation are still where they were.

    The page is one file: no network, no script, light and dark, desktop and phone.

    Example: siamtrt report results/ bench.json -o report.html
    """
    from siamtrt.benchmarks.report import save_report

    for path in save_report(results, output):
        click.echo(f"wrote {path}")
