"""Memory and launches through PyCUDA, where CuPy is absent, on the current context. Needs a GPU and nvcc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from siamtrt.kernels.launch import Sides
from siamtrt.kernels.sources import source_of


class PycudaBuffer:
    """Device memory with a shape and a dtype; freed with the object."""

    def __init__(self, driver: Any, shape: Sequence[int], dtype: Any) -> None:
        self._driver = driver
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._memory = driver.mem_alloc(max(1, int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize))

    @property
    def pointer(self) -> int:
        """Device address."""
        return int(self._memory)

    def get(self) -> np.ndarray:
        """See `Buffer.get`."""
        array = np.empty(self.shape, self.dtype)
        self._driver.memcpy_dtoh(array, self._memory)
        return array

    def set(self, array: np.ndarray) -> None:
        """See `Buffer.set`."""
        self._driver.memcpy_htod(self._memory, np.ascontiguousarray(array, self.dtype).reshape(self.shape))


class PycudaDevice:
    """See `Device`. nvcc compiles a kernel at its first launch; PyCUDA keeps the result on disk."""

    def __init__(self) -> None:
        import pycuda.autoprimaryctx
        import pycuda.driver

        self._driver = pycuda.driver
        self._modules: dict[str, Any] = {}

    def empty(self, shape: Sequence[int], dtype: Any) -> PycudaBuffer:
        """See `Device.empty`."""
        return PycudaBuffer(self._driver, shape, dtype)

    def upload(self, array: np.ndarray) -> PycudaBuffer:
        """See `Device.upload`."""
        buffer = self.empty(array.shape, array.dtype)
        buffer.set(array)
        return buffer

    def launch(self, name: str, entry: str, grid: Sides, block: Sides, arguments: np.ndarray) -> None:
        """See `Device.launch`."""
        if name not in self._modules:
            from pycuda.compiler import SourceModule

            self._modules[name] = SourceModule(source_of(name), options=["-std=c++17"], no_extern_c=True)
        self._modules[name].get_function(entry)(arguments[()], grid=grid, block=block)
