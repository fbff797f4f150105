"""Memory and launches through CuPy, on its current device and stream. Needs a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from siamtrt.kernels.launch import Launch
from siamtrt.kernels.sources import source_of


class CupyBuffer:
    """Bytes of a CuPy array, read as any dtype: CuPy's own arrays know no structured ones.

    Args:
        memory: one-dimensional CuPy array of bytes that owns or views the memory.
        shape, dtype: how to read it.
    """

    def __init__(self, memory: Any, shape: Sequence[int], dtype: Any) -> None:
        self.memory = memory
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    @property
    def pointer(self) -> int:
        """Device address."""
        return int(self.memory.data.ptr)

    def get(self) -> np.ndarray:
        """See `Buffer.get`."""
        return self.memory.get().view(self.dtype).reshape(self.shape)

    def set(self, array: np.ndarray) -> None:
        """See `Buffer.set`."""
        self.memory.set(_bytes(np.ascontiguousarray(array, self.dtype).reshape(self.shape)))


    def rows(self, first: int, count: int) -> CupyBuffer:
        """See `Buffer.rows`."""
        step = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        return CupyBuffer(self.memory[first * step : (first + count) * step], (count, *self.shape[1:]), self.dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.pointer, False), "version": 3}


class CupyDevice:
    """See `Device`. NVRTC compiles a kernel at its first launch; CuPy keeps the result on disk by source, options,
    architecture and version."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._modules: dict[str, Any] = {}

    def empty(self, shape: Sequence[int], dtype: Any) -> CupyBuffer:
        """See `Device.empty`."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return CupyBuffer(self._cupy.empty(size, np.uint8), shape, dtype)

    def upload(self, array: np.ndarray) -> CupyBuffer:
        """See `Device.upload`."""
        return CupyBuffer(self._cupy.asarray(_bytes(array)), array.shape, array.dtype)

    def copy(self, source: Any, target: Any) -> None:
        """See `Device.copy`."""
        target.memory[...] = source.memory

    def launch(self, launch: Launch) -> None:
        """See `Device.launch`; an NVTX range carries the entry's name."""
        if launch.name not in self._modules:
            self._modules[launch.name] = self._cupy.RawModule(code=source_of(launch.name), options=("--std=c++17",))
        self._cupy.cuda.nvtx.RangePush(launch.entry)
        try:
            self._modules[launch.name].get_function(launch.entry)(launch.grid, launch.block, (launch.arguments,))
        finally:
            self._cupy.cuda.nvtx.RangePop()

    def synchronize(self) -> None:
        """See `Device.synchronize`."""
        self._cupy.cuda.get_current_stream().synchronize()


def _bytes(array: np.ndarray) -> np.ndarray:
    """The array's memory as (n,) uint8."""
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
