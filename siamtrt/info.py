"""Text for `siamtrt info` and `siamtrt doctor`."""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
from pathlib import Path
from typing import Any

from siamtrt.benchmarks.environment import installed_version
from siamtrt.manifest import EngineRecord, Manifest, TensorSpec, load_manifest, verified_file
from siamtrt.packages import PACKAGES, Package


def describe_installation() -> str:
    """A line a package: version, or what is lost without it and the command that installs it."""
    lines = [f"Python {platform.python_version()} on {platform.system()} {platform.machine()}", ""]
    for package in PACKAGES:
        found = _installed(package)
        name = package.distributions[0]
        if found:
            lines.append(f"  ok       {name:<14} {found:<14} {package.purpose}")
        else:
            extra = f"[{package.extra}]" if package.extra else ""
            lines.append(f"  missing  {name:<14} {'':<14} {package.purpose}: pip install 'siamtrt{extra}'")
    if _is_jetson():
        lines += ["", "A Jetson's TensorRT and OpenCV come with JetPack, not from pip: see docs/jetson.md"]
    return "\n".join([*lines, "", f"GPU: {_gpu()}"])


def _is_jetson() -> bool:
    return Path("/etc/nv_tegra_release").is_file()


def _installed(package: Package) -> str | None:
    if importlib.util.find_spec(package.module) is None:
        return None
    return next(filter(None, map(installed_version, package.distributions)), "installed")


def _gpu() -> str:
    from siamtrt.runtime.engines import find_devices

    devices = find_devices()
    if not devices:
        return "none usable (needs a CUDA device, CuPy and TensorRT); tracking runs on the CPU"
    return "; ".join(f"{device.target} with {device.flavour} {device.version}" for device in devices)


def describe_bundle(bundle: Path) -> str:
    """What a bundle holds.

    Raises:
        BundleError: the manifest is unreadable, or a file is missing or edited.
    """
    manifest = load_manifest(bundle)
    for graph in manifest.graphs.values():
        verified_file(bundle, graph.file, graph.sha256)
    for engine in manifest.engines:
        verified_file(bundle, engine.file, engine.sha256)
    for calibrated in manifest.calibrated.values():
        verified_file(bundle, calibrated.file, calibrated.sha256)
    parts = _head(manifest), _graphs(manifest, bundle), _calibrated(manifest, bundle), _engines(manifest)
    return "\n\n".join("\n".join(part) for part in parts)


def _head(manifest: Manifest) -> list[str]:
    crop, decoding = manifest.preprocessing, manifest.decoding
    strategies = [item for item in vars(manifest.strategies).values() if item is not None]
    lines = [
        f"{manifest.model}: {manifest.paper}",
        f"from      {manifest.source.checkpoint}, sha256 {manifest.source.sha256[:16]}",
        f"crops     template {crop.template_size} px, search {crop.search_size} px, context {crop.context_amount}",
        f"decoding  {_fields(decoding)}",
        f"tracking  {_fields(manifest.tracking)}",
        f"parity    {max(manifest.parity.values()):.1e} of the largest output, against PyTorch",
    ]
    lines += [f"targets   {manifest.batch} a search, for MultiTracker"] if manifest.batch > 1 else []
    lines += [f"strategy  {_fields(strategy)}" for strategy in strategies]
    if manifest.paper_figure:
        figure = manifest.paper_figure
        lines.append(f"paper     {figure.fps:.0f} fps on {figure.hardware} ({figure.source})")
    return lines + ([f"note      {manifest.note}"] if manifest.note else [])


def _fields(item: Any) -> str:
    """A dataclass in words: its kind, then its other fields."""
    values = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    shown = [f"{name} {_shown(value)}" for name, value in values.items() if name != "kind"]
    return ", ".join([values["kind"], *shown] if "kind" in values else shown)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _graphs(manifest: Manifest, bundle: Path) -> list[str]:
    lines = []
    for name, graph in manifest.graphs.items():
        lines.append(f"{name:<9} {graph.file}, {(bundle / graph.file).stat().st_size / 1e6:.1f} MB, hash verified")
        lines += [f"  in      {_tensor(tensor)}" for tensor in graph.inputs]
        lines += [f"  out     {_tensor(tensor)}" for tensor in graph.outputs]
    return lines


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} {'x'.join(map(str, spec.shape))}"


def _calibrated(manifest: Manifest, bundle: Path) -> list[str]:
    if not manifest.calibrated:
        return ["INT8      not calibrated; `siamtrt calibrate` measures it on real pairs"]
    return [
        f"INT8      {row.file}, {(bundle / row.file).stat().st_size / 1e6:.1f} MB, hash verified, "
        + ("of this graph" if row.graph_sha256 == manifest.graphs[name].sha256 else "OF ANOTHER GRAPH: calibrate again")
        for name, row in manifest.calibrated.items()
    ]


def _engines(manifest: Manifest) -> list[str]:
    if not manifest.engines:
        return ["engines   none; build them with `siamtrt build`"]
    return ["engines"] + [
        f"  {engine.graph:<9} {engine.precision} {engine.target} {engine.flavour} {engine.version}, "
        f"{engine.size_bytes / 1e6:.1f} MB in {engine.build_seconds:.1f} s{_correlation(engine)}"
        for engine in manifest.engines
    ]


def _correlation(engine: EngineRecord) -> str:
    """How an engine correlates, where that was a choice."""
    times = ", ".join(f"{name} {milliseconds:.3f} ms" for name, milliseconds in (engine.xcorr_ms or {}).items())
    if times:
        return f", correlation {engine.xcorr} of {times}"
    return "" if engine.xcorr == "native" else f", correlation {engine.xcorr}"
