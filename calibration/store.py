"""A calibration put into its bundle: `calibration.json`, the INT8 graphs and the manifest, all or nothing."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto

from siamtrt.calibration.evaluation import GRAPHS, Models
from siamtrt.calibration.plan import Quantiser, layers_of
from siamtrt.calibration.record import CALIBRATION_NAME, Calibration, load_calibration
from siamtrt.errors import BundleError, CalibrationError
from siamtrt.manifest import (
    MANIFEST_NAME,
    CalibratedGraph,
    Manifest,
    load_manifest,
    save_manifest,
    sha256_of,
    verified_file,
)


def planned_graphs(models: Models, calibration: Calibration) -> dict[str, ModelProto]:
    """The graphs in INT8 but for the layers that the plan keeps, FP32-typed with Q/DQ pairs."""
    ranges = {graph: {name: row.threshold for name, row in rows.items()} for graph, rows in calibration.ranges.items()}
    kept = {(graph, name) for graph, names in calibration.kept.items() for name in names}
    return Quantiser(models, layers_of(models), ranges).without(kept)


def store(calibration: Calibration, models: Models, bundle: Path) -> None:
    """Write a calibration and its graphs `template.int8.onnx` and `search.int8.onnx`, and note both in the manifest.

    Every byte is on disk before the first rename; the manifest goes last.
    """
    graphs = planned_graphs(models, calibration)
    with tempfile.TemporaryDirectory(prefix=".calibration.", dir=bundle) as folder:
        staging = Path(folder)
        (staging / CALIBRATION_NAME).write_bytes(calibration.to_json().encode())
        calibrated = {graph: _staged(graph, model, calibration, staging) for graph, model in graphs.items()}
        manifest = load_manifest(bundle)  # again: engines may have been added meanwhile
        save_manifest(dataclasses.replace(manifest, calibrated=calibrated), staging)
        for name in (CALIBRATION_NAME, *(row.file for row in calibrated.values()), MANIFEST_NAME):
            (staging / name).replace(bundle / name)


def _staged(graph: str, model: ModelProto, calibration: Calibration, staging: Path) -> CalibratedGraph:
    path = staging / f"{graph}.int8.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return CalibratedGraph(path.name, sha256_of(path), calibration.graphs[graph], calibration.fp32[graph])


def stored(bundle: Path, manifest: Manifest) -> Calibration | None:
    """The bundle's calibration if it is of the bundle's graphs and whole; None if there is none like that."""
    try:
        calibration = load_calibration(bundle, manifest)
        for row in _complete(manifest.calibrated).values():
            verified_file(bundle, row.file, row.sha256)
    except (CalibrationError, BundleError):
        return None
    return calibration


def _complete(calibrated: Mapping[str, CalibratedGraph]) -> Mapping[str, CalibratedGraph]:
    if set(calibrated) != set(GRAPHS):
        raise CalibrationError(
            "the manifest knows no calibration", received=", ".join(calibrated) or "none",
            expected=" and ".join(GRAPHS),
            fix="calibrate again",
        )  # fmt: skip
    return calibrated
