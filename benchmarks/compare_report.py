"""The report of `siamtrt compare`: Markdown, a plot, and JSON with every box."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from siamtrt.benchmarks.compare import Comparison, Contender, Track
from siamtrt.benchmarks.compare_plot import plot_png
from siamtrt.files import write_whole

HEADER = (
    "| variant | success AUC | drop | precision at 20 px | IoU with FP32 | MACs in INT8 | ONNX, MB | engines, MB "
    "| update here, ms | predicted |\n|---|---|---|---|---|---|---|---|---|---|"
)
NOTES = """\
Drop is of success AUC below FP32's. IoU with FP32 is the mean over frames between the two tracks. A box decides where
the next crop is cut, so tracks drift apart after any rounding, and a sequence may be won or lost by chance: judge by
the means. MACs are the search graph's. The time of an update is the median, crop and decoding included. **FP16 and INT8
without an engine are simulated on the CPU in FP32: their times say nothing about a GPU.** Speeds are not predicted
yet."""
NONE = "–"  # noqa: RUF001


def as_markdown(comparison: Comparison, plot: str | None = None) -> str:
    """The report as people read it; `plot` is the name of a picture beside it."""
    blocks = [
        f"# {comparison.model}: {_verdict(comparison)}",
        f"{_amount(comparison)}; {_meaning(comparison)}.",
        "\n".join([HEADER, *map(_row, comparison.contenders)]),
        NOTES,
        *(f"Skipped {name}: {why}." for name, why in comparison.skipped.items()),
        *([f"![Success curves, and success AUC by sequence]({plot})"] if plot else []),
        "Success AUC by sequence:",
        "\n".join(_by_sequence(comparison, lambda track: track.success_auc)),
        "IoU with FP32's track by sequence:",
        "\n".join(_by_sequence(comparison, lambda track: track.iou_fp32)),
        _made(comparison),
        *([f"```bash\n{comparison.command}\n```"] if comparison.command else []),
    ]
    return "\n\n".join(blocks) + "\n"


def verdict_line(comparison: Comparison) -> str:
    """What lost more than the budget, in one line; "" where nothing did."""
    lost = ", ".join(f"{row.name} {row.auc_drop:.4f}" for row in comparison.over_budget)
    return f"success AUC drops by more than {comparison.max_auc_drop:g}: {lost}" if lost else ""


def _verdict(comparison: Comparison) -> str:
    return verdict_line(comparison) or f"no variant loses more than {comparison.max_auc_drop:g} of success AUC"


def _amount(comparison: Comparison) -> str:
    tracks = comparison.contenders[0].tracks
    frames = sum(len(track.boxes_xywh) for track in tracks)
    return f"{len(tracks)} sequence{'s' * (len(tracks) != 1)}, {frames:,} frames"


def _meaning(comparison: Comparison) -> str:
    other = "FP16, as in engines" if comparison.half else "FP32"
    return (
        f"in INT8 variants what is not INT8 is {other}; naive is INT8 everywhere with the min-max ranges of noise; "
        "shaken is FP32 with weights that differ by a millionth: what chance alone does"
    )


def _row(row: Contender) -> str:
    cells = [
        row.name, f"{row.success_auc:.4f}", f"{row.auc_drop:.4f}" if row.name != "fp32" else NONE,
        f"{row.precision:.4f}", f"{row.iou_fp32:.4f}",
        NONE if row.int8_share is None else f"{100 * row.int8_share:.1f} %",
        NONE if row.graph_bytes is None else f"{row.graph_bytes / 1e6:.2f}", _engine_mb(row),
        f"{row.update_ms:.2f} ({row.backend})", NONE,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _engine_mb(row: Contender) -> str:
    """Smallest and largest over flavours and architectures."""
    sizes = sorted(row.engine_bytes.values())
    shown = dict.fromkeys(f"{size / 1e6:.2f}" for size in (*sizes[:1], *sizes[-1:]))
    return " to ".join(shown) or NONE


def _by_sequence(comparison: Comparison, value: Callable[[Track], float]) -> Iterator[str]:
    """A row a sequence, a column a variant, then the means."""
    rows = comparison.contenders
    yield f"| sequence | {' | '.join(row.name for row in rows)} |"
    yield "|---" * (len(rows) + 1) + "|"
    for tracks in zip(*(row.tracks for row in rows), strict=True):
        yield f"| {tracks[0].sequence} | {' | '.join(f'{value(track):.4f}' for track in tracks)} |"
    means = [sum(map(value, row.tracks)) / len(row.tracks) for row in rows]
    yield f"| **mean** | {' | '.join(f'{mean:.4f}' for mean in means)} |"


def _made(comparison: Comparison) -> str:
    env = comparison.environment
    packages = ", ".join(f"{name} {number}" for name, number in env["packages"].items())  # type: ignore[attr-defined]
    return (
        f"{env['gpu'] or env['cpu']} ({env['cores']} cores), {env['system']}, Python {env['python']}; {packages}. "
        f"Bundle manifest sha256 {comparison.bundle_sha256[:16]}."
    )


def report_paths(stem: Path) -> tuple[Path, Path, Path]:
    """Where `save_report` writes: `<stem>.json`, `<stem>.md` and `<stem>.png`."""
    json_path, markdown, plot = (stem.with_name(stem.name + suffix) for suffix in (".json", ".md", ".png"))
    return json_path, markdown, plot


def save_report(comparison: Comparison, stem: Path) -> tuple[Path, Path, Path]:
    """Write the three files, none before all are made; returns their paths.

    Raises:
        MissingPackageError: no matplotlib.
        SiamtrtError: they cannot be written there.
    """
    paths = report_paths(stem)
    data = json.dumps(asdict(comparison), indent=1) + "\n"
    contents = data.encode(), as_markdown(comparison, paths[2].name).encode(), plot_png(comparison)
    for path, content in zip(paths, contents, strict=True):
        write_whole(path, content)
    return paths
