"""`calibration.json`: what was measured on real pairs, and the precision plan that follows from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dacite

from siamtrt.calibration.evaluation import GRAPHS, Damage
from siamtrt.errors import CalibrationError
from siamtrt.manifest import Manifest, as_float

SCHEMA_VERSION = 1
CALIBRATION_NAME = "calibration.json"
DIGITS = 6  # significant: beyond them, sums in another order may differ


@dataclass(frozen=True)
class Range:
    """A tensor's INT8 range.

    Attributes:
        threshold: T; the scale is T / 127.
        method: the estimator that gave it.
        proposed: T by each estimator.
        errors: of those that were tried, the mean squared error of the graph's outputs as a share of their variance.
    """

    threshold: float
    method: str
    proposed: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)


def thresholds_of(ranges: Mapping[str, Mapping[str, Range]]) -> dict[str, dict[str, float]]:
    """T of every tensor, by graph."""
    return {graph: {name: row.threshold for name, row in rows.items()} for graph, rows in ranges.items()}


@dataclass(frozen=True)
class LayerDamage:
    """What INT8 in one convolution alone does to the tracker."""

    graph: str
    layer: str
    macs: int
    damage: Damage


@dataclass(frozen=True)
class PlanPoint:
    """A plan that was tried: the `kept` worst convolutions in FP16, the others in INT8.

    Attributes:
        kept: their number.
        int8_share: of the search graph's multiply-accumulates, 0..1.
        damage: of everything that is INT8 together.
    """

    kept: int
    int8_share: float
    damage: Damage


@dataclass(frozen=True)
class Settings:
    """What a calibration was asked for; with the same settings and graphs its result is the same."""

    sources: tuple[str, ...]
    source_sha256: tuple[str, ...]
    pairs: int
    seed: int
    ranges: str
    max_iou_drop: float


@dataclass(frozen=True)
class Calibration:
    """The parsed `calibration.json`.

    Attributes:
        graphs: SHA-256 of each graph that was calibrated.
        settings: see there.
        pairs: how many were used.
        ranges: of every quantised tensor by graph.
        layers: damage of each convolution alone, first what FP16 is worth most for.
        points: plans that were tried, by the number of convolutions kept in FP16.
        kept: names of the convolutions that the plan keeps in FP16, by graph.
        fp32: names of the nodes that FP16 graphs keep in FP32, by graph.
        largest: the largest magnitudes of each graph's tensors, largest first.
        zero: names of the tensors that were zero on every pair, by graph.
        skipped: names of the sources that gave no pair.

    Raises:
        ValueError: parts that do not belong together.
    """

    graphs: dict[str, str]
    settings: Settings
    pairs: int
    ranges: dict[str, dict[str, Range]]
    layers: tuple[LayerDamage, ...]
    points: tuple[PlanPoint, ...]
    kept: dict[str, tuple[str, ...]]
    fp32: dict[str, tuple[str, ...]]
    largest: dict[str, dict[str, float]]
    zero: dict[str, tuple[str, ...]]
    skipped: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for part in (self.graphs, self.ranges, self.kept, self.fp32, self.largest, self.zero):
            if set(part) != set(GRAPHS):
                raise ValueError(f"of the graphs {', '.join(part) or 'none'}")
        if self._chosen is None:
            raise ValueError(f"no plan keeps {self._count} convolutions")

    @property
    def _count(self) -> int:
        return sum(map(len, self.kept.values()))

    @property
    def _chosen(self) -> PlanPoint | None:
        return next((point for point in self.points if point.kept == self._count), None)

    @property
    def chosen(self) -> PlanPoint:
        """The plan."""
        assert self._chosen is not None  # __post_init__ saw to it
        return self._chosen

    def to_json(self) -> str:
        """Serialise; the same calibration gives the same bytes."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    def rounded(self) -> Calibration:
        """What was measured, with `DIGITS` significant digits; the settings stay as they were given."""
        fields = dataclasses.asdict(self)
        return _parsed({**{name: _rounded(value) for name, value in fields.items()}, "settings": fields["settings"]})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _parsed(raw: object) -> Calibration:
    """Raises ValueError, TypeError or DaciteError."""
    if not isinstance(raw, dict):
        raise TypeError(f"{type(raw).__name__} where an object belongs")
    if raw.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"schema {raw.get('schema_version')!r}")
    return dacite.from_dict(Calibration, raw, dacite.Config(strict=True, cast=[tuple], type_hooks={float: as_float}))


def load_calibration(bundle: Path, manifest: Manifest) -> Calibration:
    """Read `calibration.json` of a bundle.

    Raises:
        CalibrationError: there is none, it cannot be read, or its graphs are not the bundle's.
    """
    path = bundle / CALIBRATION_NAME
    again = f"siamtrt calibrate {bundle} --calib SOURCE"
    try:
        calibration = _parsed(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CalibrationError(
            "the bundle is not calibrated", received=f"no {CALIBRATION_NAME} in {bundle}", expected="one", fix=again
        ) from error
    except (OSError, ValueError, TypeError, RecursionError, dacite.DaciteError) as error:
        raise CalibrationError(
            "unreadable calibration", received=f"{path}: {error}", expected=f"schema {SCHEMA_VERSION}", fix=again
        ) from error
    require_same_graphs(calibration.graphs, manifest, bundle)
    return calibration


def require_same_graphs(calibrated: Mapping[str, str], manifest: Manifest, bundle: Path) -> None:
    """Raise unless the calibrated graphs are the bundle's.

    Raises:
        CalibrationError: another graph than the manifest's was calibrated.
    """
    changed = [name for name in GRAPHS if calibrated.get(name) != manifest.graphs[name].sha256]
    if changed:
        raise CalibrationError(
            "the calibration is of another graph",
            received=f"{CALIBRATION_NAME} of other {' and '.join(changed)} graphs",
            expected=f"those of {bundle}", fix=f"calibrate again: siamtrt calibrate {bundle} --calib SOURCE",
        )  # fmt: skip
