"""The README's table of GPUs, from committed reports of `siamtrt.benchmarks.gpu` and nothing else.

`python -m siamtrt.benchmarks.gpu_table` prints it; with `--write README.md` it replaces what is between the marks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from siamtrt.errors import SiamtrtError
from siamtrt.files import write_whole

RESULTS = Path("benchmarks/results")
REGION = re.compile(r"(?<=<!-- gpu-table -->\n).*?(?=<!-- /gpu-table -->)", re.S)
SHOWN_PACKAGES = ("siamtrt", "torch", "cupy-cuda12x", "cupy-cuda13x", "tensorrt", "numpy")
NOTHING = (
    "No GPU has been measured yet: none was at hand.\n"
    "`python -m siamtrt.benchmarks.gpu -o benchmarks/results/NAME.json` measures one,\n"
    "`python -m siamtrt.benchmarks.gpu_table --write README.md` puts its table here.\n"
)

Report = dict[str, Any]
Row = dict[str, Any]


def read_reports(folder: Path) -> dict[str, Report]:
    """The reports of a folder by file name.

    Raises:
        SiamtrtError: a JSON file that is no whole report of a GPU.
    """
    reports = {}
    for path in sorted(folder.glob("*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            name = report["environment"]["device"]["name"]
            whole = name and all(report[part] for part in ("checks", "sanitizer", "xcorr", "kernels", "updates"))
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise SiamtrtError(
                "not a report of a GPU", received=str(path), expected="what `python -m siamtrt.benchmarks.gpu` writes",
                fix="run it again to its end, or move the file elsewhere",
            )  # fmt: skip
        reports[path.name] = report
    return reports


def gpu_table(reports: dict[str, Report]) -> str:
    """Markdown, one section a report; a sentence where there is none."""
    return "\n".join(_section(name, report) for name, report in reports.items()) or NOTHING


def _section(name: str, report: Report) -> str:
    kernels, first = report["kernels"], report["updates"][0]
    parts = [
        f"**{_device(report['environment'])}** ([{name}]({(RESULTS / name).as_posix()})): {_proven(report)}.\n",
        _table(XCORR_COLUMNS, report["xcorr"], {}),
        _table(KERNEL_COLUMNS, [row for row in kernels if row["kernel"] == "crop"], _by_case(kernels, "decode")),
        _table(UPDATE_COLUMNS, report["updates"], {_update(row): row for row in report["updates"]}),
        f"Copied in an update of one target: {first['bytes_up']} bytes up, {first['bytes_down']} down.\n",
    ]
    return "\n".join(parts)


def _device(environment: Report) -> str:
    device, packages = environment["device"], environment["packages"]
    versions = [f"{name} {packages[name]}" for name in SHOWN_PACKAGES if name in packages]
    driver, commit = device["driver"] or "unknown", environment["commit"] or "unknown"
    parts = [device["name"], f"driver {driver}", f"CUDA {device['cuda']}", *versions, f"commit {commit}"]
    return ", ".join(parts)


def _proven(report: Report) -> str:
    """What the checks and the sanitizer said."""
    checks, runs = report["checks"], report["sanitizer"]
    wrong = [check["kernel"] for check in checks if not check["error"] <= check["limit"]]
    said = f"wrong kernels: {', '.join(wrong)}" if wrong else f"{len(checks)} kernels equal their references"
    if "absent" in runs[0]:
        return f"{said}; compute-sanitizer was absent"
    tools = ", ".join(f"{run['tool']} {_errors(run)}" for run in runs)
    return f"{said}; errors of compute-sanitizer {runs[0]['version']}: {tools}"


def _errors(run: Row) -> str:
    ended = run["errors"] is not None and (run["errors"] or run["exit_code"] == 0)
    return str(run["errors"]) if ended else f"failed (exit code {run['exit_code']})"


def _by_case(rows: Sequence[Row], kernel: str) -> dict[Any, Row]:
    return {(row["dtype"], row["targets"]): row for row in rows if row["kernel"] == kernel}


def _update(row: Row) -> tuple[str, str, int]:
    return row["tracker"], row["dtype"], row["slots"]


def _against_one(row: Row, rows: dict[Any, Row]) -> str:
    one = rows.get((row["tracker"], row["dtype"], 1))
    return f"{row['device_ms'] / one['device_ms']:.2f}x" if one else ""


def _against_eager(row: Row, _: Any) -> str:
    return f"{row['eager_ms'] / row['device_ms']:.1f}x ({row['eager_ms']:.2f} ms)" if row["slots"] == 1 else ""


def _paper(row: Row, _: Any) -> str:
    paper = row["paper"]
    return f"{paper['fps']:g} on {paper['hardware']} ({paper['source']})" if paper and row["slots"] == 1 else ""


Column = tuple[str, Callable[[Row, dict[Any, Row]], str]]
CASE: tuple[Column, ...] = (
    ("precision", lambda row, _: row["dtype"]), ("targets", lambda row, _: str(row["targets"])),
)  # fmt: skip
XCORR_COLUMNS: tuple[Column, ...] = (
    *CASE, ("correlation of SiamRPN++'s six maps, one launch, ms", lambda row, _: f"{row['ours_ms']:.4f}"),
    ("six grouped `conv2d`, ms", lambda row, _: f"{row['grouped_ms']:.4f}"),
    ("times faster", lambda row, _: f"{row['times_faster']:.1f}x"),
    ("of a copy's speed", lambda row, _: f"{row['roofline_share']:.0%}"),
)  # fmt: skip
KERNEL_COLUMNS: tuple[Column, ...] = (
    *CASE, ("crop, ms", lambda row, _: f"{row['ms']:.4f}"),
    ("decode, ms", lambda row, decode: f"{decode[row['dtype'], row['targets']]['ms']:.4f}"),
)  # fmt: skip
UPDATE_COLUMNS: tuple[Column, ...] = (
    ("whole update, network in PyTorch", lambda row, _: f"`{row['tracker']}`"), CASE[0],
    ("targets", lambda row, _: str(row["slots"])), ("ms", lambda row, _: f"{row['device_ms']:.3f}"),
    ("frames/s", lambda row, _: f"{1e3 / row['device_ms']:.0f}"), ("time of one target", _against_one),
    ("faster than eager FP32 with CPU crop and decode", _against_eager), ("the paper's frames/s", _paper),
)  # fmt: skip


def _table(columns: Sequence[Column], rows: Sequence[Row], others: dict[Any, Row]) -> str:
    cells = [[cell(row, others) for _, cell in columns] for row in rows]
    lines = [[name for name, _ in columns], ["---"] * len(columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_table(text: str, table: str) -> str:
    """The text with the table between its marks.

    Raises:
        SiamtrtError: there are no marks, or more than one pair.
    """
    found = len(REGION.findall(text))
    if found != 1:
        raise SiamtrtError(
            "no place for the table", received=f"{found} regions", expected="one, marked by gpu-table comments",
            fix="put <!-- gpu-table --> and <!-- /gpu-table --> on lines of their own",
        )  # fmt: skip
    return REGION.sub(lambda _: table, text)


@click.command()
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="File with the marks.")
def main(results: Path, write: Path | None) -> None:
    """Print the table of the GPUs measured so far, or put it into a file."""
    try:
        table = gpu_table(read_reports(results))
        if write:
            write_whole(write, with_table(write.read_text(encoding="utf-8"), table).encode())
    except SiamtrtError as error:
        raise click.ClickException(str(error)) from error
    if not write:
        click.echo(table, nl=False)


if __name__ == "__main__":
    main()
