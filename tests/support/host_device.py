"""A `Device` whose memory is the host's and whose kernels are compiled by g++: the launchers without a GPU."""

from __future__ import annotations

import ctypes
import functools
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from host_kernels import compile_for_host

from siamtrt.kernels.frames import Adopted, not_on_device


@functools.cache
def _library(name: str) -> ctypes.CDLL:
    path = Path(tempfile.mkdtemp(prefix="siamtrt-host-")) / f"{name}.so"
    compile_for_host(name, path, ())
    return ctypes.CDLL(str(path))


class HostBuffer:
    """A NumPy array as a device buffer."""

    def __init__(self, array: np.ndarray, device: HostDevice) -> None:
        self.array, self._device = array, device
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def pointer(self) -> int:
        return self.array.ctypes.data

    def get(self) -> np.ndarray:
        self._device.synchronize()
        self._device.bytes_down += self.array.nbytes
        return self.array.copy()

    def set(self, array: np.ndarray) -> None:
        self._device.synchronize()
        self._device.bytes_up += self.array.nbytes
        self.array[...] = array

    def rows(self, first: int, count: int) -> HostBuffer:
        return HostBuffer(self.array[first : first + count], self._device)

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


class HostDevice:
    """See `siamtrt.kernels.launch.Device`. Work waits in a queue, as on a GPU, until somebody waits for it.

    Attributes:
        bytes_up, bytes_down: what would have crossed the bus.
        replays: how often something captured was enqueued.
    """

    def __init__(self, integrated: bool = False) -> None:
        self.integrated = integrated
        self.bytes_up = self.bytes_down = self.replays = 0
        self._queue = deque()
        self._captured = None

    def empty(self, shape, dtype) -> HostBuffer:
        return HostBuffer(np.zeros(shape, dtype), self)

    def upload(self, array: np.ndarray) -> HostBuffer:
        self.bytes_up += array.nbytes
        return HostBuffer(np.array(array, order="C"), self)

    def copy(self, source, target) -> None:
        self._do(lambda: np.copyto(target.array, source.array))

    def launch(self, launch) -> None:
        sides = [(ctypes.c_uint * 3)(*side) for side in (launch.grid, launch.block)]
        entry = getattr(_library(launch.name), f"{launch.entry}_on_host")
        arguments = launch.arguments.copy()  # as they are now, as CUDA takes them
        self._do(lambda: entry(ctypes.c_void_p(arguments.ctypes.data), *sides))

    def enqueue(self, work) -> None:
        self._do(work)

    def _do(self, work) -> None:
        (self._queue if self._captured is None else self._captured).append(work)

    def capture(self, work):
        self._captured = []
        try:
            work()
            recorded = self._captured
        finally:
            self._captured = None

        def replay() -> None:
            self.replays += 1
            self._queue.extend(recorded)

        return replay

    def page_locked(self, shape, dtype) -> np.ndarray:
        return np.full(shape, 0x5A, np.uint8) if np.dtype(dtype) == np.uint8 else np.zeros(shape, dtype)

    def send(self, source, target) -> None:
        """On a GPU this may happen at any time from now until its turn, so it happens at both."""
        self.bytes_up += source.nbytes
        np.copyto(target.array, source)
        self._do(lambda: np.copyto(target.array, source))

    def fetch(self, source, target):
        self.bytes_down += target.nbytes
        arrived = []

        def copy() -> None:
            np.copyto(target, source.array)
            arrived.append(True)

        self._do(copy)

        def wait() -> None:
            while not arrived:
                self._queue.popleft()()

        return wait

    def wrap(self, pointer, shape, dtype, owner) -> HostBuffer:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * size).from_address(pointer)
        memory.owner = owner
        return HostBuffer(np.frombuffer(memory, np.uint8).view(dtype).reshape(shape), self)

    def adopt(self, array) -> Adopted:
        if not hasattr(array, "__dlpack__"):
            raise not_on_device(array, "no DLPack")
        ours = np.from_dlpack(array)
        return Adopted(ours.ctypes.data, ours.shape, ours.strides, ours.dtype, ours)

    def synchronize(self) -> None:
        while self._queue:
            self._queue.popleft()()
