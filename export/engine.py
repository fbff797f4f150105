"""A bundle's ONNX graphs -> TensorRT engines, recorded in its manifest: all of a call's engines or none."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import onnx
from tqdm import tqdm

from siamtrt.errors import BuildError
from siamtrt.export.lowering import Built, Timer, build, require_choice
from siamtrt.export.precision import fp16_from_fp32
from siamtrt.export.trt import Flavour, load_flavour, resolve_targets
from siamtrt.manifest import (
    GRAPHS,
    MANIFEST_NAME,
    CalibratedGraph,
    EngineRecord,
    Manifest,
    load_manifest,
    save_manifest,
    sha256_of,
    verified_file,
)

ENGINES = "engines"
Precision = Literal["fp32", "fp16", "int8"]


def build_engines(
    bundle: Path | str,
    precision: str = "fp16",
    targets: Sequence[str] | None = None,
    flavour: str | None = None,
    progress: bool = False,
    xcorr: str = "native",
    timer: Timer | None = None,
) -> list[EngineRecord]:
    """Build an engine of each graph for each target and record them in the manifest.

    Engines with the same graph, precision, flavour, version and target are replaced. A build that
    fails leaves the bundle as it was.

    Args:
        bundle: a directory with a manifest; the hashes of its ONNX files are checked.
        precision: "fp32", "fp16", or "int8": the convolutions of the calibration's plan in INT8, the rest in FP16;
            graphs beside template and search are not calibrated and stay FP16. What a calibration found too large
            for FP16 is FP32. The inputs and outputs of an engine are FP32 in all.
        targets: GPU architectures such as "sm86"; see `resolve_targets` for the default.
        flavour: "tensorrt" or "tensorrt_rtx"; see `load_flavour` for the default.
        progress: show a bar on stderr.
        xcorr: how the engine is to correlate: "native", "plugin", or "auto", whichever is faster; see `lowering.build`.
        timer: times an engine on this machine's GPU, for "auto".

    Returns:
        The new records: graphs in the manifest's order, targets in the order given.

    Raises:
        BundleError: no bundle, or an ONNX file that was changed after its export.
        BuildError: an unknown precision, flavour, target or lowering, INT8 without a calibration of these graphs,
            or a refusal by TensorRT.
        MissingPackageError: no TensorRT is installed, or nothing that the plugin asked for can be compiled with.
    """
    if precision not in get_args(Precision):
        raise BuildError(
            "unknown precision", received=repr(precision), expected=" or ".join(get_args(Precision)),
            fix="choose --fp32, --fp16 or --int8",
        )  # fmt: skip
    folder = Path(bundle)
    manifest = load_manifest(folder)
    sources = {name: _source(folder, manifest, name, precision) for name in manifest.graphs}
    package = load_flavour(flavour)
    choice = require_choice(xcorr, package)
    chosen = resolve_targets(package, targets)
    with (
        tempfile.TemporaryDirectory(prefix=f".{ENGINES}.", dir=folder) as staging,
        tqdm(total=len(sources) * len(chosen), unit="engine", disable=None if progress else True) as bar,
    ):
        records = []
        for name, source in sources.items():
            onnx_bytes = _typed_onnx(source, precision, manifest.calibrated.get(name))
            for target in chosen:
                bar.set_description(f"{name} {precision} {target}")
                built = build(package, onnx_bytes, target, f"{precision} {name}", choice, timer)
                records.append(_staged(manifest, name, built, precision, package, target, Path(staging)))
                bar.update()
        _commit(folder, Path(staging), records)
    return records


def _source(bundle: Path, manifest: Manifest, graph: str, precision: str) -> Path:
    """The ONNX file an engine is made of, its hash verified."""
    spec, calibrated = manifest.graphs[graph], manifest.calibrated.get(graph)
    path = verified_file(bundle, spec.file, spec.sha256)
    if precision == "fp32" or (calibrated is None and not (precision == "int8" and graph in GRAPHS)):
        return path
    if calibrated is None or calibrated.graph_sha256 != spec.sha256:
        raise BuildError(
            f"{bundle} has no calibration of its {graph} graph", received="another graph's" if calibrated else "none",
            expected="ranges measured on real pairs", fix=f"siamtrt calibrate {bundle} --calib SOURCE",
        )  # fmt: skip
    return verified_file(bundle, calibrated.file, calibrated.sha256) if precision == "int8" else path


def _typed_onnx(source: Path, precision: str, calibrated: CalibratedGraph | None) -> bytes:
    """The graph in the types the engine is to have."""
    if precision == "fp32":
        return source.read_bytes()
    kept = calibrated.fp32_nodes if calibrated else ()
    return fp16_from_fp32(onnx.load(source), kept).SerializeToString()


def _staged(
    manifest: Manifest, graph: str, built: Built, precision: str, package: Flavour, target: str, staging: Path
) -> EngineRecord:
    name = f"{graph}.{precision}.{package.name}-{package.version}.{target}.engine"
    (staging / name).write_bytes(built.engine)
    return EngineRecord(
        file=f"{ENGINES}/{name}", graph=graph, sha256=sha256_of(staging / name),
        graph_sha256=manifest.graphs[graph].sha256, flavour=package.name, version=package.version,
        precision=precision, target=target, build_seconds=round(built.seconds, 3), size_bytes=len(built.engine),
        xcorr=built.xcorr, xcorr_ms=built.xcorr_ms,
    )  # fmt: skip


def _commit(bundle: Path, staging: Path, records: Sequence[EngineRecord]) -> None:
    """Move the engines in, the manifest last. Every byte is on disk before the first rename."""
    manifest = load_manifest(bundle)  # again: another build may have added engines meanwhile
    save_manifest(dataclasses.replace(manifest, engines=_merged(manifest.engines, records)), staging)
    (bundle / ENGINES).mkdir(exist_ok=True)
    for record in records:
        (staging / Path(record.file).name).replace(bundle / record.file)
    (staging / MANIFEST_NAME).replace(bundle / MANIFEST_NAME)


def _merged(old: Iterable[EngineRecord], new: Sequence[EngineRecord]) -> tuple[EngineRecord, ...]:
    replaced = {_identity(record) for record in new}
    return (*(record for record in old if _identity(record) not in replaced), *new)


def _identity(record: EngineRecord) -> tuple[str, ...]:
    return record.graph, record.precision, record.flavour, record.version, record.target
