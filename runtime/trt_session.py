"""A TensorRT or TensorRT-RTX engine behind the session contract. Needs a GPU and CuPy."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.errors import EngineError
from siamtrt.manifest import GraphSpec, Manifest, verified_file
from siamtrt.runtime.engines import select_engine
from siamtrt.runtime.session import CheckedSession, Feeds


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

        trt: Any = importlib.import_module(flavour)
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(engine_bytes)
        if self._engine is None:
            raise EngineError(
                f"{flavour} refuses the {graph} engine", received=f"{len(engine_bytes)} bytes",
                expected=f"an engine of {flavour} {trt.__version__} for this GPU", fix="build it on this machine",
            )
        self._context = self._engine.create_execution_context()
        self._buffers = {spec.name: cupy.empty(spec.shape, spec.dtype) for spec in (*spec.inputs, *spec.outputs)}
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.data.ptr)

    def _run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        for spec in self.inputs:
            self._buffers[spec.name].set(np.ascontiguousarray(feeds[spec.name]), stream=self._stream)
        if not self._context.execute_async_v3(self._stream.ptr):
            raise EngineError(
                f"{self.name} failed to run", received="an error from TensorRT", expected="a completed inference",
                fix="read TensorRT's message above; rebuild the engine if driver or TensorRT changed",
            )
        results = {spec.name: self._buffers[spec.name].get(stream=self._stream) for spec in self.outputs}
        self._stream.synchronize()
        return results

    def close(self) -> None:
        super().close()
        self._context = self._engine = self._runtime = None
        self._buffers = {}


def trt_session(bundle: Path, manifest: Manifest, graph: str) -> TrtSession:
    """Session of the bundle's fastest engine for this machine, its file's hash verified.

    Raises:
        BundleError, EngineError, MissingPackageError: see `select_engine` and `verified_file`.
    """
    record, device = select_engine(manifest, graph, bundle)
    data = verified_file(bundle, record.file, record.sha256).read_bytes()
    return TrtSession(data, device.flavour, graph, manifest.graphs[graph])
