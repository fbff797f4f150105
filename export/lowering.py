"""Which lowering of the correlation an engine gets: TensorRT's own layers, our plugin, or whichever is faster."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import onnx

from siamtrt.errors import BuildError, SiamtrtError
from siamtrt.export.operator import has_operator, with_plugin_nodes
from siamtrt.export.trt import TENSORRT, Flavour, engine_from_onnx
from siamtrt.kernels.plugin import best_form, register_plugin
from siamtrt.manifest import Xcorr

Choice = Literal["native", "plugin", "auto"]
Lowering = Literal["native", "plugin"]
Timer = Callable[[bytes, str], float]
"""An engine's bytes and its flavour -> milliseconds of one inference."""


@dataclass(frozen=True)
class Built:
    """An engine and how it was chosen: see `EngineRecord` for the last three."""

    engine: bytes
    seconds: float
    xcorr: Xcorr
    xcorr_ms: dict[str, float] | None = None


def require_choice(choice: str, flavour: Flavour) -> Choice:
    """The choice, if there is such a one.

    Raises:
        BuildError: there is none, or it is the plugin and the flavour cannot take it.
    """
    if choice not in get_args(Choice):
        raise BuildError(
            "unknown lowering of the correlation", received=repr(choice), expected=" or ".join(get_args(Choice)),
            fix="choose one with --xcorr",
        )  # fmt: skip
    if choice == "plugin" and not _takes_plugin(flavour):
        raise BuildError(
            f"{flavour.name} {flavour.version} cannot take the plugin", received="--xcorr plugin",
            expected="--xcorr native or auto, or TensorRT 10 or later",
            fix=f"leave --xcorr out, or build on the device with --flavour {TENSORRT}",
        )  # fmt: skip
    return cast(Choice, choice)


def _takes_plugin(flavour: Flavour) -> bool:
    """TensorRT-RTX has the classes but no layer for them; TensorRT 8 has neither."""
    return flavour.name == TENSORRT and hasattr(flavour.module, "IPluginV3")


def lowerings(flavour: Flavour, onnx_bytes: bytes, choice: Choice, can_time: bool) -> tuple[Lowering, ...]:
    """What is to be built: both only where there is something to choose and a way to time it."""
    if choice == "native" or not _takes_plugin(flavour) or not has_operator(onnx.load_from_string(onnx_bytes)):
        return ("native",)
    if choice == "plugin":
        return ("plugin",)
    return ("native", "plugin") if can_time else ("native",)


def build(
    flavour: Flavour, onnx_bytes: bytes, target: str, name: str, choice: Choice = "auto", timer: Timer | None = None
) -> Built:
    """Build a graph for a target, and of two engines keep the faster one.

    Args:
        onnx_bytes, target, name: see `engine_from_onnx`.
        choice: "plugin" is native where the graph has no correlation; "auto" without a timer, too.
        timer: runs an engine on this machine's GPU.

    With "auto" the native engine is the answer, with a warning, where the plugin cannot be built or timed.

    Raises:
        BuildError: see `engine_from_onnx`.
        EngineError, MissingPackageError: the plugin is asked for and cannot be registered.
    """
    wanted = lowerings(flavour, onnx_bytes, choice, timer is not None)
    if len(wanted) == 1 or timer is None:
        return _built(flavour, onnx_bytes, target, name, wanted[0])
    native = _built(flavour, onnx_bytes, target, name, "native")
    try:
        plugin = _built(flavour, onnx_bytes, target, name, "plugin")
        return faster((native, plugin), [timer(one.engine, flavour.name) for one in (native, plugin)])
    except SiamtrtError as error:
        warnings.warn(f"the {name} graph is built without the plugin: {error}", stacklevel=2)
        return native


def faster(built: Sequence[Built], milliseconds: Sequence[float]) -> Built:
    """The engine with the least time, the first of equals; it carries the times of all.

    Raises:
        ValueError: other than one time an engine, or none.
    """
    times = dict(zip((one.xcorr for one in built), milliseconds, strict=True))
    best = min(built, key=lambda one: times[one.xcorr])
    return Built(best.engine, best.seconds, best.xcorr, _rounded(times))


def _rounded(times: Mapping[Xcorr, float]) -> dict[str, float]:
    return {xcorr: round(milliseconds, 4) for xcorr, milliseconds in times.items()}


def _built(flavour: Flavour, onnx_bytes: bytes, target: str, name: str, lowering: Lowering) -> Built:
    xcorr: Xcorr = "native"
    if lowering == "plugin":
        form = best_form(flavour.module)
        register_plugin(flavour.module, form, int(target.removeprefix("sm")))
        onnx_bytes = with_plugin_nodes(onnx.load_from_string(onnx_bytes)).SerializeToString()
        xcorr = "plugin_aot" if form == "aot" else "plugin"
    started = time.perf_counter()
    engine = engine_from_onnx(flavour, onnx_bytes, target, name, prefer_aot=xcorr == "plugin_aot")
    return Built(engine, time.perf_counter() - started, xcorr)
