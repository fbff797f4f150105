"""The files a report is made from, recognised by what they hold: what the other commands have written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import dacite

from siamtrt.benchmarks.compare import Comparison
from siamtrt.benchmarks.gpu_table import gpu_table
from siamtrt.benchmarks.harness import BenchReport
from siamtrt.benchmarks.metrics import SUCCESS_THRESHOLDS
from siamtrt.benchmarks.result_files import read_json
from siamtrt.benchmarks.score_results import Evaluation, TrackerScores
from siamtrt.errors import ResultsError
from siamtrt.manifest import as_float

MOST_CHARACTERS = 2000  # of one text; names and commands are shorter
LONGEST_MS, LARGEST_SCORE, LARGEST_NUMBER = 1e9, 1e12, 1 << 63
MOST_FILES = 10_000  # .json files looked at below a folder
NOT_WHOLE = (
    dacite.DaciteError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
KNOWN = "what `siamtrt bench`, `eval`, `compare`, `predict --json` or `python -m siamtrt.benchmarks.gpu` write as JSON"
T = TypeVar("T")


@dataclass(frozen=True)
class Prediction:
    """A device of `siamtrt predict --json`."""

    device: str
    precision: str
    fps: float
    fps_range: tuple[float, float]
    bound_by: dict[str, float]


@dataclass(frozen=True)
class Predictions:
    """A whole file of them."""

    model: str
    precision: str
    targets: int
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Found(Generic[T]):
    """A file's content, and where it was."""

    path: Path
    content: T


@dataclass(frozen=True)
class Inputs:
    """Everything found, by kind, in the order named; files of one folder by path."""

    benches: list[Found[BenchReport]] = field(default_factory=list)
    evaluations: list[Found[Evaluation]] = field(default_factory=list)
    comparisons: list[Found[Comparison]] = field(default_factory=list)
    gpus: list[Found[dict[str, Any]]] = field(default_factory=list)
    predictions: list[Found[Predictions]] = field(default_factory=list)

    @property
    def paths(self) -> set[Path]:
        """Of all files, resolved."""
        groups: tuple[list[Any], ...] = self.benches, self.evaluations, self.comparisons, self.gpus, self.predictions
        return {found.path.resolve() for group in groups for found in group}


def read_inputs(paths: Iterable[Path]) -> Inputs:
    """Read result files, and all that folders hold; in folders other JSON files are left alone.

    Raises:
        ResultsError: no such file, a named one of no known kind, a folder without any, a damaged or incomplete one.
    """
    inputs = Inputs()
    seen: set[Path] = set()
    for path in paths:
        files = list(_below(path)) if path.is_dir() else [path]
        taken = [file for file in files if _take(file, inputs, seen, named=not path.is_dir())]
        if not taken:
            raise _unknown(path, f"none of {len(files)} .json files" if path.is_dir() else "nothing known")
    return inputs


def _below(folder: Path) -> Iterator[Path]:
    """Its .json files, but hidden ones, sorted."""
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(where) / name for name in files if name.endswith(".json") and not name.startswith(".")]
        if len(found) > MOST_FILES:
            raise _unknown(folder, f"more than {MOST_FILES:,} .json files")
    return (path for path in sorted(found) if path.is_file())


def _take(path: Path, inputs: Inputs, seen: set[Path], named: bool) -> bool:
    """Read a file into the list of its kind, unless that was done before; whether it is of a known kind."""
    if path.resolve() in seen:
        return True
    if named and not path.is_file():
        raise _unknown(path, "no such file")
    content = read_json(path)
    kind = next((kind for kind in KINDS if isinstance(content, dict) and kind.keys <= content.keys()), None)
    if kind is None:
        if named:
            raise _unknown(path, "something else")
        return False
    try:
        getattr(inputs, kind.name).append(Found(path, kind.parse(_clean(content))))
    except NOT_WHOLE as error:
        raise ResultsError(
            "a result file that is not whole", received=f"{path}: {error}", expected=KNOWN,
            fix="run the command again to its end, with the same version of siamtrt",
        ) from error  # fmt: skip
    seen.add(path.resolve())
    return True


def _unknown(path: Path, received: str) -> ResultsError:
    return ResultsError(
        "nothing to report", received=f"{received}: {path}", expected=KNOWN,
        fix="name such files, or folders that hold them",
    )


def _clean(value: Any) -> Any:
    """The same without what no page should show: control characters, lone surrogates, changes of direction."""
    if isinstance(value, str):
        shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in value[:MOST_CHARACTERS])
        return shown + "…" * (len(value) > MOST_CHARACTERS)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ValueError("a number that is none of ours")
    return value


def _parsed(kind: type[T], content: Mapping[str, Any]) -> T:
    return dacite.from_dict(kind, content, dacite.Config(cast=[tuple], type_hooks={float: as_float}))


def _bench(content: dict[str, Any]) -> BenchReport:
    report = _parsed(BenchReport, content)
    measured = [*report.stages.values(), *(row.update for row in report.contenders)]
    times = [ms for stage in measured for ms in (stage.p50_ms, stage.p90_ms, stage.p99_ms)]
    if not report.stages or not all(0 <= ms < LONGEST_MS for ms in times) or not 0 < report.fps < math.inf:
        raise ValueError("no times, or some that are none")
    return report


def _comparison(content: dict[str, Any]) -> Comparison:
    for contender in content["contenders"]:
        for track in contender["tracks"]:
            track["boxes_xywh"] = []  # not shown, and most of the file
    comparison = _parsed(Comparison, content)
    tracks = [row.tracks for row in comparison.contenders]
    if not tracks or not tracks[0] or len({tuple(one.sequence for one in row) for row in tracks}) > 1:
        raise ValueError("no variant, no sequence, or not the same ones for all")
    if {len(one.success) for row in tracks for one in row} != {len(SUCCESS_THRESHOLDS)}:
        raise ValueError(f"a success curve that has not {len(SUCCESS_THRESHOLDS)} values")
    return comparison


def _gpu(content: dict[str, Any]) -> dict[str, Any]:
    gpu_table({"": content})  # raises where a part or a number is missing
    return content


def _predictions(content: dict[str, Any]) -> Predictions:
    return _parsed(Predictions, content)


def _evaluation(content: dict[str, Any]) -> Evaluation:
    """The inverse of what `score_results.save_report` writes."""
    of_trackers = {one.name for one in fields(TrackerScores)} - {"scores"}
    columns = tuple(key for key in content["trackers"][0] if key not in of_trackers)
    trackers = tuple(_tracker(row, columns) for row in content["trackers"])
    if not columns or len({row.name for row in trackers}) < len(trackers):
        raise ValueError("no score" if not columns else "two trackers of one name")
    evaluation = _parsed(Evaluation, {**content, "columns": columns, "trackers": ()})
    return replace(evaluation, trackers=trackers)


def _tracker(row: dict[str, Any], columns: tuple[str, ...]) -> TrackerScores:
    def scores(values: dict[str, Any]) -> tuple[float, ...]:
        return tuple(_float(values[name]) for name in columns)

    by_sequence, by_attribute = (
        {name: scores(values) for name, values in row.get(part, {}).items()} for part in ("sequences", "attributes")
    )
    times = {name: _float(value) for name, value in row.get("update_ms", {}).items()}
    curve = [_float(value) for value in row.get("curve", [])]
    if not isinstance(row["name"], str):
        raise TypeError("a tracker without a name")
    return TrackerScores(row["name"], scores(row), by_sequence, curve, times, by_attribute)


def _float(value: Any) -> float:
    """None, as NaN is written, is NaN."""
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} where a number belongs")
    if LARGEST_SCORE < abs(value) < math.inf:
        raise ValueError(f"a score of {value:g}")
    return float(value)


@dataclass(frozen=True)
class Kind:
    """One kind of file: the list of `Inputs` it belongs to, the keys that tell it, and its reader."""

    name: str
    keys: frozenset[str]
    parse: Callable[[dict[str, Any]], Any]


KINDS = (
    Kind("benches", frozenset({"model", "backend", "stages", "raw_ms", "environment"}), _bench),
    Kind("evaluations", frozenset({"trackers", "dataset", "results", "frames"}), _evaluation),
    Kind("comparisons", frozenset({"model", "contenders", "max_auc_drop"}), _comparison),
    Kind("gpus", frozenset({"environment", "checks", "sanitizer", "xcorr", "kernels", "updates"}), _gpu),
    Kind("predictions", frozenset({"model", "precision", "targets", "predictions"}), _predictions),
)
