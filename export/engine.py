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
    MANIFEST_NAME,
    EngineRecord,
    Manifest,
    load_manifest,
    save_manifest,
    sha256_of,
    verified_file,
)

ENGINES = "engines"
Precision = Literal["fp32", "fp16"]


def build_engines(
    bundle: Path | str,
    precision: str = "fp16",
    targets: Sequence[str] | None = None,
    flavour: str | None = None,
    progress: bool = False,
    xcorr: str = "auto",
    timer: Timer | None = None,
) -> list[EngineRecord]:
    """Build an engine of each graph for each target and record them in the manifest.

    Engines with the same graph, precision, flavour, version and target are replaced. A build that
    fails leaves the bundle as it was.

    Args:
        bundle: a directory with a manifest; the hashes of its ONNX files are checked.
        precision: "fp32" or "fp16"; the inputs and outputs of an engine are FP32 in both.
        targets: GPU architectures such as "sm86"; see `resolve_targets` for the default.
        flavour: "tensorrt" or "tensorrt_rtx"; see `load_flavour` for the default.
        progress: show a bar on stderr.
        xcorr: how the engine is to correlate: "native", "plugin", or "auto", whichever is faster; see `lowering.build`.
        timer: times an engine on this machine's GPU, for "auto".

    Returns:
        The new records: graphs in the manifest's order, targets in the order given.

    Raises:
        BundleError: no bundle, or an ONNX file that was changed after its export.
        BuildError: an unknown precision, flavour, target or lowering, or a refusal by TensorRT.
        MissingPackageError: no TensorRT is installed, or nothing that the plugin asked for can be compiled with.
    """
    if precision not in get_args(Precision):
        raise BuildError(
            "unknown precision", received=repr(precision), expected=" or ".join(get_args(Precision)),
            fix="choose --fp32 or --fp16",
        )  # fmt: skip
    folder = Path(bundle)
    manifest = load_manifest(folder)
    sources = {name: verified_file(folder, graph.file, graph.sha256) for name, graph in manifest.graphs.items()}
    package = load_flavour(flavour)
    choice = require_choice(xcorr, package)
    chosen = resolve_targets(package, targets)
    with (
        tempfile.TemporaryDirectory(prefix=f".{ENGINES}.", dir=folder) as staging,
        tqdm(total=len(sources) * len(chosen), unit="engine", disable=None if progress else True) as bar,
    ):
        records = []
        for name, source in sources.items():
            onnx_bytes = _typed_onnx(source, precision)
            for target in chosen:
                bar.set_description(f"{name} {precision} {target}")
                built = build(package, onnx_bytes, target, f"{precision} {name}", choice, timer)
                records.append(_staged(manifest, name, built, precision, package, target, Path(staging)))
                bar.update()
        _commit(folder, Path(staging), records)
    return records


def _typed_onnx(source: Path, precision: str) -> bytes:
    """The graph in the types the engine is to have."""
    return source.read_bytes() if precision == "fp32" else fp16_from_fp32(onnx.load(source)).SerializeToString()


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
