"""A calibration put into its bundle: `calibration.json`, the INT8 graphs and the manifest, all or nothing."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto

from siamtrt.calibration.evaluation import GRAPHS, Models
from siamtrt.calibration.plan import Quantiser, layers_of
from siamtrt.calibration.record import CALIBRATION_NAME, Calibration, load_calibration, thresholds_of
from siamtrt.errors import BundleError, CalibrationError
from siamtrt.manifest import (
    MANIFEST_NAME,
    CalibratedGraph,
    EngineRecord,
    Manifest,
    load_manifest,
    save_manifest,
    sha256_of,
    verified_file,
)


def planned_graphs(models: Models, calibration: Calibration) -> dict[str, ModelProto]:
    """The graphs in INT8 but for the layers that the plan keeps, FP32-typed with Q/DQ pairs."""
    kept = {(graph, name) for graph, names in calibration.kept.items() for name in names}
    return Quantiser(models, layers_of(models), thresholds_of(calibration.ranges)).without(kept)


def store(calibration: Calibration, models: Models, bundle: Path) -> None:
    """Write a calibration and its graphs `template.int8.onnx` and `search.int8.onnx`, and note both in the manifest.

    Every byte is on disk before the first rename; the manifest goes last, so that `stored` knows an interrupted one.
    Engines of an earlier calibration that this one would build differently are removed.
    """
    graphs = planned_graphs(models, calibration)
    with tempfile.TemporaryDirectory(prefix=".calibration.", dir=bundle) as folder:
        staging = Path(folder)
        (staging / CALIBRATION_NAME).write_bytes(calibration.to_json().encode())
        calibrated = {graph: _staged(graph, model, calibration, staging) for graph, model in graphs.items()}
        manifest = load_manifest(bundle)  # again: engines may have been added meanwhile
        stale = [engine for engine in manifest.engines if _is_stale(engine, manifest.calibrated, calibrated)]
        engines = tuple(engine for engine in manifest.engines if engine not in stale)
        save_manifest(dataclasses.replace(manifest, calibrated=calibrated, engines=engines), staging)
        for name in (*(row.file for row in calibrated.values()), CALIBRATION_NAME, MANIFEST_NAME):
            (staging / name).replace(bundle / name)
    for engine in stale:
        (bundle / engine.file).unlink(missing_ok=True)


def _staged(graph: str, model: ModelProto, calibration: Calibration, staging: Path) -> CalibratedGraph:
    path = staging / f"{graph}.int8.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return CalibratedGraph(path.name, sha256_of(path), calibration.graphs[graph], calibration.fp32[graph])


def _is_stale(
    engine: EngineRecord, old: Mapping[str, CalibratedGraph], new: Mapping[str, CalibratedGraph]
) -> bool:  # fmt: skip
    """Whether an engine is of a calibration that is being replaced: INT8 of another graph, or other nodes in FP32."""
    if engine.graph not in new or engine.precision == "fp32":
        return False
    before, after = old.get(engine.graph), new[engine.graph]
    if engine.precision == "int8":
        return before != after
    return (before.fp32_nodes if before else ()) != after.fp32_nodes


def stored(bundle: Path, manifest: Manifest) -> Calibration | None:
    """The bundle's calibration if it is of the bundle's graphs and whole; None if there is none like that.

    One that is damaged is like none: whoever asks goes on to calibrate, and `store` replaces all of it.
    """
    try:
        calibration = load_calibration(bundle, manifest)
        for row in manifest.calibrated.values():
            verified_file(bundle, row.file, row.sha256)
    except (CalibrationError, BundleError):
        return None
    noted = {graph: (row.graph_sha256, row.fp32_nodes) for graph, row in manifest.calibrated.items()}
    wanted = {graph: (calibration.graphs[graph], calibration.fp32[graph]) for graph in GRAPHS}
    return calibration if noted == wanted else None
