"""A bundle's graphs on this machine's GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from siamtrt.errors import MissingPackageError, SiamtrtError
from siamtrt.manifest import Manifest
from siamtrt.runtime.engines import can_run_engines, find_devices

if TYPE_CHECKING:
    from siamtrt.kernels.cupy_device import CupyDevice
    from siamtrt.runtime.device import DeviceSession

DeviceBackend = Literal["auto", "tensorrt", "torch"]
GRAPHS = ("template", "search")


def open_device() -> CupyDevice:
    """This machine's GPU through CuPy.

    Raises:
        MissingPackageError: no GPU, no driver or no CuPy.
    """
    try:
        from siamtrt.kernels.cupy_device import CupyDevice

        return CupyDevice()
    except Exception as error:  # CuPy without a driver raises its own kinds
        raise MissingPackageError(
            "no GPU to track on", received=f"{type(error).__name__}: {error}", expected="an NVIDIA GPU and CuPy",
            fix="pip install 'siamtrt[cuda]' on a machine with a GPU, or use Tracker or MultiTracker",
        ) from error


def open_device_sessions(
    bundle: Path, manifest: Manifest, device: CupyDevice, backend: DeviceBackend, checkpoint: Path | str | None
) -> dict[str, DeviceSession]:
    """The template and search graphs, bound to the device's memory.

    Raises:
        SiamtrtError: unknown backend.
        BundleError, EngineError, MissingPackageError: the backend cannot run here.
    """
    if backend not in get_args(DeviceBackend):
        raise SiamtrtError(
            "no such backend on a GPU", received=repr(backend), expected=" or ".join(get_args(DeviceBackend)),
            fix="correct the name",
        )
    if backend == "auto":
        backend = "tensorrt" if can_run_engines(manifest) or checkpoint is None else "torch"
    if backend == "torch":
        return _torch_sessions(manifest, device, checkpoint)
    return _engine_sessions(bundle, manifest, device)


def _torch_sessions(
    manifest: Manifest, device: CupyDevice, checkpoint: Path | str | None
) -> dict[str, DeviceSession]:
    from siamtrt.runtime.torch_session import TorchDeviceSession, load_module

    module = load_module(manifest, checkpoint).to("cuda").eval()
    return {name: TorchDeviceSession(module, name, manifest.graphs[name], device) for name in GRAPHS}


def _engine_sessions(bundle: Path, manifest: Manifest, device: CupyDevice) -> dict[str, DeviceSession]:
    from siamtrt.runtime.trt_session import trt_device_session

    if not find_devices():
        raise MissingPackageError(
            "engines cannot run here", received="no TensorRT", expected="the TensorRT the engines were built with",
            fix="pip install 'siamtrt[tensorrt]', or pass backend='torch' and the checkpoint",
        )
    sessions: dict[str, DeviceSession] = {}
    try:
        for name in GRAPHS:
            sessions[name] = trt_device_session(bundle, manifest, name, device)
    except BaseException:
        for session in sessions.values():
            session.close()
        raise
    return sessions
