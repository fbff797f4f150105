"""A TensorRT or TensorRT-RTX engine behind the session contracts. Needs a GPU and CuPy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siamtrt.errors import EngineError
from siamtrt.kernels.plugin import register_for_engine
from siamtrt.manifest import GraphSpec, Manifest, verified_file
from siamtrt.runtime.engines import select_engine
from siamtrt.runtime.session import CheckedSession, Feeds

if TYPE_CHECKING:
    import tensorrt as trt

    from siamtrt.kernels.cupy_device import CupyDevice
    from siamtrt.kernels.launch import Buffer


class TrtSession(CheckedSession):
    """A deserialised engine with its own stream and one device buffer per tensor.

    Args:
        engine_bytes: the serialised engine.
        flavour: "tensorrt" or "tensorrt_rtx", the package that built it.
        graph: name for messages.
        spec: its tensors, from the manifest.
    """

    def __init__(self, engine_bytes: bytes, flavour: str, graph: str, spec: GraphSpec) -> None:
        super().__init__(graph, flavour, spec)
        import cupy

        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._engine = _Engine(engine_bytes, flavour, graph)
        self._buffers = {spec.name: cupy.empty(spec.shape, spec.dtype) for spec in (*spec.inputs, *spec.outputs)}
        for name, buffer in self._buffers.items():
            self._engine.bind(name, buffer.data.ptr)

    def _run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        for spec in self.inputs:
            self._buffers[spec.name].set(np.ascontiguousarray(feeds[spec.name]), stream=self._stream)
        self._engine.enqueue(self._stream.ptr)
        results = {spec.name: self._buffers[spec.name].get(stream=self._stream) for spec in self.outputs}
        self._stream.synchronize()
        return results

    def close(self) -> None:
        super().close()
        self._engine.close()
        self._buffers = {}


class TrtDeviceSession:
    """A deserialised engine that reads and writes buffers, on the stream of a CuPy device; see `DeviceSession`.

    Args:
        engine_bytes, flavour, graph, spec: as for `TrtSession`.
        device: gives memory and stream.
    """

    def __init__(self, engine_bytes: bytes, flavour: str, graph: str, spec: GraphSpec, device: CupyDevice) -> None:
        self._engine, self._device = _Engine(engine_bytes, flavour, graph), device
        self.inputs: Mapping[str, Buffer] = {t.name: device.upload(np.zeros(t.shape, t.dtype)) for t in spec.inputs}
        self.outputs: Mapping[str, Buffer] = {t.name: device.empty(t.shape, t.dtype) for t in spec.outputs}
        for name, buffer in (*self.inputs.items(), *self.outputs.items()):
            self._engine.bind(name, buffer.pointer)

    def run(self) -> None:
        """See `DeviceSession.run`."""
        self._device.enqueue(lambda: self._engine.enqueue(self._device.stream.ptr))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `DeviceSession.capture`."""
        return self._device.capture(work)

    def close(self) -> None:
        """See `DeviceSession.close`."""
        self._engine.close()


class _Engine:
    """An engine with an execution context, ready to be enqueued once every tensor has an address."""

    def __init__(self, engine_bytes: bytes, flavour: str, graph: str) -> None:
        if not TYPE_CHECKING:
            trt = importlib.import_module(flavour)
        self._name = f"the {graph} engine ({flavour})"
        self._runtime: trt.Runtime | None = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(engine_bytes)
        if self._engine is None:
            raise EngineError(
                f"{flavour} refuses the {graph} engine", received=f"{len(engine_bytes)} bytes",
                expected=f"an engine of {flavour} {trt.__version__} for this GPU", fix="build it on this machine",
            )
        self._context: trt.IExecutionContext | None = self._engine.create_execution_context()

    def bind(self, name: str, pointer: int) -> None:
        """Say where a tensor is."""
        assert self._context is not None
        self._context.set_tensor_address(name, pointer)

    def enqueue(self, stream: int) -> None:
        """Enqueue one inference.

        Raises:
            EngineError: TensorRT refused.
        """
        if self._context is None or not self._context.execute_async_v3(stream):
            raise EngineError(
                f"{self._name} failed to run", received="an error from TensorRT", expected="a completed inference",
                fix="read TensorRT's message above; rebuild the engine if driver or TensorRT changed",
            )

    def close(self) -> None:
        """Free it, the context first."""
        self._context = self._engine = self._runtime = None


def trt_session(bundle: Path, manifest: Manifest, graph: str) -> TrtSession:
    """Session of the bundle's fastest engine for this machine, its file's hash verified.

    Raises:
        BundleError, EngineError, MissingPackageError: see `select_engine` and `verified_file`.
    """
    return TrtSession(*_fitting_engine(bundle, manifest, graph))


def trt_device_session(bundle: Path, manifest: Manifest, graph: str, device: CupyDevice) -> TrtDeviceSession:
    """The same, bound to a device's memory; errors as of `trt_session`."""
    return TrtDeviceSession(*_fitting_engine(bundle, manifest, graph), device)


def _fitting_engine(bundle: Path, manifest: Manifest, graph: str) -> tuple[bytes, str, str, GraphSpec]:
    record, device = select_engine(manifest, graph, bundle)
    register_for_engine(device.flavour, record.xcorr)
    data = verified_file(bundle, record.file, record.sha256).read_bytes()
    return data, device.flavour, graph, manifest.graphs[graph]
