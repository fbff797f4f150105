"""Memory and launches through PyCUDA, where CuPy is absent, on the current context. Needs a GPU and nvcc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from siamtrt.kernels.frames import Adopted, not_on_device
from siamtrt.kernels.launch import Launch
from siamtrt.kernels.sources import source_of


class PycudaBuffer:
    """Device memory with a shape and a dtype; freed with the last buffer on it.

    Args:
        driver: `pycuda.driver`.
        memory: the allocation.
        offset: of the buffer in it, in bytes.
    """

    def __init__(self, driver: Any, memory: Any, shape: Sequence[int], dtype: Any, offset: int = 0) -> None:
        self._driver, self._memory, self._offset = driver, memory, offset
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    @property
    def pointer(self) -> int:
        """Device address."""
        return int(self._memory) + self._offset

    @property
    def size_bytes(self) -> int:
        """Of the buffer."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def get(self) -> np.ndarray:
        """See `Buffer.get`."""
        array = np.empty(self.shape, self.dtype)
        self._driver.memcpy_dtoh(array, self.pointer)
        return array

    def set(self, array: np.ndarray) -> None:
        """See `Buffer.set`."""
        self._driver.memcpy_htod(self.pointer, np.ascontiguousarray(array, self.dtype).reshape(self.shape))

    def rows(self, first: int, count: int) -> PycudaBuffer:
        """See `Buffer.rows`."""
        offset = self._offset + first * self.size_bytes // self.shape[0]
        return PycudaBuffer(self._driver, self._memory, (count, *self.shape[1:]), self.dtype, offset)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.pointer, False), "version": 3}


class PycudaDevice:
    """See `Device`. nvcc compiles a kernel at its first launch; PyCUDA keeps the result on disk.

    Everything is on the default stream, and PyCUDA has no graphs: what is captured is simply enqueued again.
    """

    def __init__(self) -> None:
        import pycuda.autoprimaryctx
        import pycuda.driver

        self._driver = pycuda.driver
        self._modules: dict[str, Any] = {}
        device = pycuda.driver.Context.get_device()
        self._flags = pycuda.driver.host_alloc_flags.DEVICEMAP
        self.integrated = bool(device.get_attribute(pycuda.driver.device_attribute.INTEGRATED))

    def empty(self, shape: Sequence[int], dtype: Any) -> PycudaBuffer:
        """See `Device.empty`."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return PycudaBuffer(self._driver, self._driver.mem_alloc(max(1, size)), shape, dtype)

    def upload(self, array: np.ndarray) -> PycudaBuffer:
        """See `Device.upload`."""
        buffer = self.empty(array.shape, array.dtype)
        buffer.set(array)
        return buffer

    def copy(self, source: Any, target: Any) -> None:
        """See `Device.copy`."""
        self._driver.memcpy_dtod(target.pointer, source.pointer, source.size_bytes)

    def launch(self, launch: Launch) -> None:
        """See `Device.launch`."""
        if launch.name not in self._modules:
            from pycuda.compiler import SourceModule

            self._modules[launch.name] = SourceModule(source_of(launch.name), options=["-std=c++17"], no_extern_c=True)
        self._modules[launch.name].get_function(launch.entry)(
            launch.arguments[()], grid=launch.grid, block=launch.block
        )

    def enqueue(self, work: Callable[[], None]) -> None:
        """See `Device.enqueue`."""
        work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Device.capture`."""
        return work

    def page_locked(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """See `Device.page_locked`."""
        return self._driver.pagelocked_empty(tuple(shape), np.dtype(dtype), mem_flags=self._flags)

    def send(self, source: np.ndarray, target: Any) -> None:
        """See `Device.send`."""
        self._driver.memcpy_htod_async(target.pointer, source)

    def fetch(self, source: Any, target: np.ndarray) -> Callable[[], None]:
        """See `Device.fetch`."""
        self._driver.memcpy_dtoh_async(target, source.pointer)
        return self._driver.Event().record().synchronize  # type: ignore[no-any-return]

    def wrap(self, pointer: int, shape: Sequence[int], dtype: Any, owner: Any) -> PycudaBuffer:
        """See `Device.wrap`."""
        return PycudaBuffer(self._driver, _Foreign(pointer, owner), shape, dtype)

    def adopt(self, array: Any) -> Adopted:
        """See `Device.adopt`; waits for the device, and takes no DLPack."""
        found = getattr(array, "__cuda_array_interface__", None)
        if found is None:
            raise not_on_device(array, "no __cuda_array_interface__")
        self.synchronize()
        shape, dtype = tuple(found["shape"]), np.dtype(found["typestr"])
        strides = found.get("strides") or np.empty(shape, dtype).strides
        return Adopted(int(found["data"][0]), shape, tuple(strides), dtype, array)

    def synchronize(self) -> None:
        """See `Device.synchronize`."""
        self._driver.Context.synchronize()


class _Foreign:
    """Somebody else's memory, as PyCUDA's own allocations look from here."""

    def __init__(self, pointer: int, owner: Any) -> None:
        self._pointer, self.owner = pointer, owner

    def __int__(self) -> int:
        return self._pointer
