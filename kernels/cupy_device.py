"""Memory and launches through CuPy, on its current device. Needs a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from siamtrt.kernels.frames import Adopted, not_on_device
from siamtrt.kernels.launch import Launch
from siamtrt.kernels.sources import source_of


class CupyBuffer:
    """Bytes of a CuPy array, read as any dtype: CuPy's own arrays know no structured ones.

    Args:
        memory: one-dimensional CuPy array of bytes that owns or views the memory.
        shape, dtype: how to read it.
        stream: CuPy's, on which it is used.
    """

    def __init__(self, memory: Any, shape: Sequence[int], dtype: Any, stream: Any) -> None:
        self.memory, self._stream = memory, stream
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    @property
    def pointer(self) -> int:
        """Device address."""
        return int(self.memory.data.ptr)

    def get(self) -> np.ndarray:
        """See `Buffer.get`."""
        return self.memory.get(stream=self._stream).view(self.dtype).reshape(self.shape)

    def set(self, array: np.ndarray) -> None:
        """See `Buffer.set`."""
        self.memory.set(_bytes(np.ascontiguousarray(array, self.dtype).reshape(self.shape)), stream=self._stream)
        self._stream.synchronize()  # the bytes are a temporary

    def rows(self, first: int, count: int) -> CupyBuffer:
        """See `Buffer.rows`."""
        step = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        part = self.memory[first * step : (first + count) * step]
        return CupyBuffer(part, (count, *self.shape[1:]), self.dtype, self._stream)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.pointer, False), "version": 3}


class CupyDevice:
    """See `Device`. NVRTC compiles a kernel at its first launch; CuPy keeps the result on disk by source, options,
    architecture and version.

    Attributes:
        stream: the CUDA stream that everything is enqueued on; copies from the host have one of their own.
    """

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._modules: dict[str, Any] = {}
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._copies = cupy.cuda.Stream(non_blocking=True)
        self.integrated = bool(cupy.cuda.Device().attributes["Integrated"])

    def empty(self, shape: Sequence[int], dtype: Any) -> CupyBuffer:
        """See `Device.empty`."""
        with self.stream:
            return CupyBuffer(self._cupy.empty(_size(shape, dtype), np.uint8), shape, dtype, self.stream)

    def upload(self, array: np.ndarray) -> CupyBuffer:
        """See `Device.upload`."""
        buffer = self.empty(array.shape, array.dtype)
        buffer.set(array)
        return buffer

    def copy(self, source: Any, target: Any) -> None:
        """See `Device.copy`."""
        with self.stream:
            target.memory[...] = source.memory

    def launch(self, launch: Launch) -> None:
        """See `Device.launch`; an NVTX range carries the entry's name."""
        if launch.name not in self._modules:
            self._modules[launch.name] = self._cupy.RawModule(code=source_of(launch.name), options=("--std=c++17",))
        self._cupy.cuda.nvtx.RangePush(launch.entry)
        try:
            with self.stream:
                self._modules[launch.name].get_function(launch.entry)(launch.grid, launch.block, (launch.arguments,))
        finally:
            self._cupy.cuda.nvtx.RangePop()

    def enqueue(self, work: Callable[[], None]) -> None:
        """See `Device.enqueue`; CuPy's current stream is ours meanwhile."""
        with self.stream:
            work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Device.capture`."""
        with self.stream:
            self.stream.begin_capture()
            try:
                work()
            finally:  # a capture that is left open makes every later call on the stream fail
                graph = self.stream.end_capture()
        return lambda: graph.launch(stream=self.stream)

    def page_locked(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """See `Device.page_locked`."""
        size = _size(shape, dtype)
        memory = self._cupy.cuda.alloc_pinned_memory(max(1, size))  # freed with the last array on it
        return np.frombuffer(memory, np.uint8, size).view(dtype).reshape(tuple(shape))

    def send(self, source: np.ndarray, target: Any) -> None:
        """See `Device.send`."""
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(
            target.pointer, source.ctypes.data, source.nbytes, runtime.memcpyHostToDevice, self._copies.ptr
        )
        self.stream.wait_event(self._recorded(self._copies))

    def fetch(self, source: Any, target: np.ndarray) -> Callable[[], None]:
        """See `Device.fetch`."""
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(
            target.ctypes.data, source.pointer, target.nbytes, runtime.memcpyDeviceToHost, self.stream.ptr
        )
        return self._recorded(self.stream).synchronize  # type: ignore[no-any-return]

    def _recorded(self, stream: Any) -> Any:
        """An event that everything enqueued on a stream so far comes before."""
        event = self._cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def wrap(self, pointer: int, shape: Sequence[int], dtype: Any, owner: Any) -> CupyBuffer:
        """See `Device.wrap`."""
        cupy, size = self._cupy, _size(shape, dtype)
        memory = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(pointer, size, owner), 0)
        return CupyBuffer(cupy.ndarray((size,), np.uint8, memory), shape, dtype, self.stream)

    def adopt(self, array: Any) -> Adopted:
        """See `Device.adopt`."""
        with self.stream:  # DLPack's producer and CuPy make this stream wait for the array
            try:
                ours = self._cupy.from_dlpack(array) if hasattr(array, "__dlpack__") else self._adopted(array)
            except (TypeError, ValueError, RuntimeError, BufferError) as error:
                raise not_on_device(array, str(error)) from error
        return Adopted(int(ours.data.ptr), ours.shape, ours.strides, ours.dtype, ours)

    def _adopted(self, array: Any) -> Any:
        if not hasattr(array, "__cuda_array_interface__"):  # cupy.asarray would upload it
            raise TypeError("neither DLPack nor __cuda_array_interface__")
        return self._cupy.asarray(array)

    def synchronize(self) -> None:
        """See `Device.synchronize`; other libraries' streams too, whose work is timed beside ours."""
        self._cupy.cuda.Device().synchronize()


def _size(shape: Sequence[int], dtype: Any) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _bytes(array: np.ndarray) -> np.ndarray:
    """The array's memory as (n,) uint8."""
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
