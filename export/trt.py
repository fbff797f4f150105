"""The TensorRT packages behind one function: ONNX bytes -> engine bytes, for a named GPU architecture."""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siamtrt.errors import BuildError
from siamtrt.manifest import FLAVOURS
from siamtrt.packages import missing_package

if TYPE_CHECKING:
    import tensorrt as trt

TENSORRT, TENSORRT_RTX = FLAVOURS

# RTX 30, 40 and 50. Turing (sm75) stays out: it refuses FP32 matrix products, and its engines carry
# up to 100 MB of precompiled kernels.
DEFAULT_TARGETS = ("sm86", "sm89", "sm120")


@dataclass(frozen=True)
class Flavour:
    """An imported TensorRT package."""

    name: str
    module: Any

    @property
    def version(self) -> str:
        return str(self.module.__version__)


def load_flavour(name: str | None = None) -> Flavour:
    """Import a TensorRT package.

    Args:
        name: "tensorrt" or "tensorrt_rtx"; by default TensorRT where there is a GPU to build for,
            else TensorRT-RTX, which needs none, else whichever is installed.

    Raises:
        BuildError: no such flavour.
        MissingPackageError: it is not installed, or its native libraries do not load.
    """
    if name is not None and name not in FLAVOURS:
        raise BuildError("unknown flavour", received=name, expected=" or ".join(FLAVOURS), fix="choose one of them")
    by_preference = (TENSORRT, TENSORRT_RTX) if gpu_target() else (TENSORRT_RTX, TENSORRT)
    wanted = (name,) if name else by_preference
    reasons = []
    for candidate in wanted:
        try:
            return Flavour(candidate, importlib.import_module(candidate))
        except (ImportError, OSError, RuntimeError) as error:  # the last two: native libraries are absent
            reasons.append(f"{candidate}: {error}")
    raise missing_package(name or TENSORRT_RTX, "building an engine", received="; ".join(reasons))


@functools.cache
def gpu_target() -> str | None:
    """Target name of the first GPU, e.g. "sm86", asked of the driver alone; None without a GPU."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    compute_capability_major, compute_capability_minor = 75, 76  # CUdevice_attribute
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), compute_capability_major, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), compute_capability_minor, device)
    )
    return None if failed else f"sm{major.value}{minor.value}"


def known_targets(flavour: Flavour) -> tuple[str, ...]:
    """Targets the flavour builds for on this machine: TensorRT-RTX lists its own, TensorRT knows the GPU here."""
    if flavour.name == TENSORRT_RTX:
        names = flavour.module.ComputeCapability.__members__
        return tuple(name.lower() for name in names if name.startswith("SM"))
    here = gpu_target()
    return (here,) if here else ()


def resolve_targets(flavour: Flavour, targets: Sequence[str] | None = None) -> tuple[str, ...]:
    """Targets to build for, each once, in order.

    By default the GPU of this machine; TensorRT-RTX without a GPU builds `DEFAULT_TARGETS`, as far as it knows them.

    Raises:
        BuildError: a target the flavour does not know, or TensorRT on a machine without a GPU.
    """
    known = known_targets(flavour)
    if not known:
        raise BuildError(
            f"{flavour.name} builds only for the GPU it runs on", received="no GPU on this machine",
            expected="an NVIDIA GPU and its driver",
            fix=f"build on the device, or for other GPUs with --flavour {TENSORRT_RTX} (pip install 'siamtrt[rtx]')",
        )  # fmt: skip
    here = gpu_target()
    wanted = targets or ((here,) if here else [name for name in DEFAULT_TARGETS if name in known])
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in wanted))
    unknown = [name for name in chosen if name not in known]
    if unknown:
        other = f"; --flavour {TENSORRT_RTX} builds for other GPUs" if flavour.name == TENSORRT else ""
        raise BuildError(
            f"{flavour.name} {flavour.version} cannot build for this target", received=", ".join(unknown),
            expected=f"one of {', '.join(known)}", fix=f"choose with --target, e.g. --target {known[-1]}{other}",
        )  # fmt: skip
    return chosen


def engine_from_onnx(
    flavour: Flavour, onnx_bytes: bytes, target: str, name: str, *, prefer_aot: bool = False
) -> bytes:
    """Build a strongly typed network: the types of the ONNX graph are the types of the engine.

    Args:
        flavour: the package to build with.
        onnx_bytes: a serialised ModelProto with its weights inside.
        target: one of `known_targets(flavour)`.
        name: what to call the graph in messages.
        prefer_aot: of a Python plugin with two forms take the one whose kernels the engine holds.

    After a refusal, TensorRT-RTX 1.7 packs the refused target's kernels (4 MB for a NanoTrack template)
    into the next engine of the process, which is larger for it.

    Raises:
        BuildError: the parser or the builder refused, in their own words.
    """
    if not TYPE_CHECKING:
        trt = flavour.module  # a type checker reads TensorRT's stubs instead
    log = _log_of(flavour.module)
    log.clear()
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(flavour.module, prefer_aot))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx_bytes):
        raise _refusal(f"{flavour.name}'s ONNX parser refused the {name} graph", _parser_errors(parser) or log.errors())
    config = builder.create_builder_config()
    if flavour.name == TENSORRT_RTX:
        _set_target(flavour.module, config, target)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _refusal(f"{flavour.name} {flavour.version} refused the {name} graph for {target}", log.errors())
    return bytes(memoryview(engine))


def _set_target(package: Any, config: Any, target: str) -> None:
    """TensorRT-RTX alone builds for another GPU; the stubs do not know it."""
    config.num_compute_capabilities = 1
    config.set_compute_capability(package.ComputeCapability.__members__[target.upper()], 0)


def _network_flags(package: Any, prefer_aot: bool) -> int:
    """TensorRT 10 asks for strong typing; from 11 on it is the only way, and the flag may go."""
    wanted = ("STRONGLY_TYPED", "PREFER_AOT_PYTHON_PLUGINS") if prefer_aot else ("STRONGLY_TYPED",)
    flags = package.NetworkDefinitionCreationFlag.__members__
    return sum(1 << int(flags[name]) for name in wanted if name in flags)


def _parser_errors(parser: trt.OnnxParser) -> list[str]:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return [f"{error.desc()} (node {error.node_name()!r}, {error.node_operator()})" for error in errors]


def _refusal(what: str, messages: Sequence[str]) -> BuildError:
    said = " | ".join(messages) or "no message"
    fix = "build for another --target or with another --flavour, or report the tracker with this message"
    if "FP32 GEMM" in said:  # Turing has none
        fix = "build in half precision with --fp16, or leave this GPU out of --target"
    return BuildError(what, received=said, expected="a graph it can compile", fix=fix)


@functools.cache
def _log_of(package: Any) -> Any:
    """The package's one log: TensorRT keeps the first logger of a process and ignores later ones."""
    if not TYPE_CHECKING:
        trt = package

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._messages: list[tuple[int, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.WARNING):
                self._messages.append((int(severity), message))

        def clear(self) -> None:
            self._messages.clear()

        def errors(self) -> list[str]:
            """Errors since the last `clear`; warnings if there were none."""
            errors = [text for severity, text in self._messages if severity <= int(trt.ILogger.Severity.ERROR)]
            return errors or [text for _, text in self._messages]

    return Log()
