"""Which engine of a bundle this machine can run."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from siamtrt.errors import EngineError, MissingPackageError
from siamtrt.manifest import FLAVOURS, EngineRecord, Manifest

PRECISIONS = ("int8", "fp16", "fp32")  # fastest first


@dataclass(frozen=True)
class Device:
    """The GPU and the TensorRT that would run an engine."""

    flavour: str
    version: str
    target: str


def can_run_engines(manifest: Manifest) -> bool:
    """Whether this machine has a GPU, CuPy and a TensorRT that fit an engine of each graph."""
    devices = find_devices()
    return any(all(_fitting(manifest, graph, device) for graph in manifest.graphs) for device in devices)


def find_devices() -> list[Device]:
    """One entry per installed TensorRT flavour; empty without CuPy or a GPU."""
    cupy = _import("cupy")
    if cupy is None:
        return []
    try:
        target = f"sm{cupy.cuda.Device().compute_capability}"
    except cupy.cuda.runtime.CUDARuntimeError:
        return []
    modules = {name: _import(name) for name in FLAVOURS}
    return [Device(name, module.__version__, target) for name, module in modules.items() if module is not None]


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):  # a package whose native libraries are absent
        return None


def select_engine(manifest: Manifest, graph: str, bundle: Path) -> tuple[EngineRecord, Device]:
    """The fastest engine of a graph that fits this machine.

    Raises:
        MissingPackageError: no GPU, CuPy or TensorRT here.
        EngineError: every engine is for another GPU, another TensorRT, or another graph.
    """
    devices = find_devices()
    if not devices:
        raise MissingPackageError(
            "engines cannot run here", received="no CUDA GPU, CuPy or TensorRT", expected="all three",
            fix="pip install 'siamtrt[cuda,tensorrt]' on a machine with a GPU, or use --backend onnxruntime",
        )
    for device in devices:
        found = _fitting(manifest, graph, device)
        if found:
            return found[0], device
    built = ", ".join(f"{e.precision} {e.flavour} {e.version} {e.target}" for e in manifest.engines if e.graph == graph)
    here = ", ".join(f"{device.flavour} {device.version} {device.target}" for device in devices)
    raise EngineError(
        f"no {graph} engine for this machine", received=built or "no engines", expected=here,
        fix=f"build one here: siamtrt build {bundle} --fp16 --target {devices[0].target}",
    )


def _fitting(manifest: Manifest, graph: str, device: Device) -> list[EngineRecord]:
    """Engines that fit: same flavour, version and target, built from the graph as it is; fastest precision first."""
    found = [
        engine for engine in manifest.engines
        if (engine.graph, engine.flavour, engine.version, engine.target)
        == (graph, device.flavour, device.version, device.target)
        and engine.graph_sha256 == manifest.graphs[graph].sha256 and engine.precision in PRECISIONS
    ]  # fmt: skip
    return sorted(found, key=lambda engine: PRECISIONS.index(engine.precision))
