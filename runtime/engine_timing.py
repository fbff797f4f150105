"""How long an engine takes on this machine's GPU, to choose between two of the same graph."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from siamtrt.errors import EngineError, MissingPackageError

if TYPE_CHECKING:
    import tensorrt as trt

WARM_UP, RUNS = 20, 100


def engine_ms(engine_bytes: bytes, flavour: str) -> float:
    """Median milliseconds of an inference on inputs of zeros, between two events on the GPU.

    Args:
        engine_bytes: the serialised engine, with static shapes.
        flavour: the package that built it, "tensorrt" or "tensorrt_rtx".

    Raises:
        MissingPackageError: no CuPy, or no GPU that it can use.
        EngineError: the engine cannot be loaded or does not run.
    """
    cupy = _cupy()
    if not TYPE_CHECKING:
        trt = importlib.import_module(flavour)
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(engine_bytes)
    context = engine.create_execution_context() if engine else None
    if context is None:
        raise _failed(flavour, f"{len(engine_bytes)} bytes that it cannot load")
    buffers = _buffers(cupy, engine, trt)
    for name, buffer in buffers.items():
        context.set_tensor_address(name, buffer.data.ptr)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()  # the zeros have been written
    samples = []
    for _ in range(WARM_UP + RUNS):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record(stream)
        if not context.execute_async_v3(stream.ptr):
            raise _failed(flavour, "an engine that does not run")
        end.record(stream)
        end.synchronize()
        samples.append(cupy.cuda.get_elapsed_time(begin, end))
    return float(np.median(samples[WARM_UP:]))


def _cupy() -> Any:
    try:
        import cupy

        cupy.cuda.Device().compute_capability  # noqa: B018  # asks the driver
    except Exception as error:  # CuPy without a driver has errors of its own
        raise MissingPackageError(
            "engines are timed through CuPy", received=error, expected="CuPy and a GPU",
            fix="pip install 'siamtrt[cuda]', or choose --xcorr native or plugin",
        ) from error  # fmt: skip
    return cupy


def _buffers(cupy: Any, engine: trt.ICudaEngine, package: Any) -> dict[str, Any]:
    """Zeros for each input and output."""
    buffers = {}
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        shape: Any = engine.get_tensor_shape(name)  # iterable, unlike in the stubs
        buffers[name] = cupy.zeros(tuple(shape), package.nptype(engine.get_tensor_dtype(name)))
    return buffers


def _failed(flavour: str, received: str) -> EngineError:
    return EngineError(
        f"{flavour} cannot time an engine", received=received, expected="one built for this GPU",
        fix="read TensorRT's message above, or choose --xcorr native",
    )  # fmt: skip
