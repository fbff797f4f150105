"""A `Device` whose memory is the host's and whose kernels are compiled by g++: the launchers without a GPU."""

from __future__ import annotations

import ctypes
import functools
import tempfile
from pathlib import Path

import numpy as np
from host_kernels import compile_for_host


@functools.cache
def _library(name: str) -> ctypes.CDLL:
    path = Path(tempfile.mkdtemp(prefix="siamtrt-host-")) / f"{name}.so"
    compile_for_host(name, path, ())
    return ctypes.CDLL(str(path))


class HostBuffer:
    """A NumPy array as a device buffer."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def pointer(self) -> int:
        return self.array.ctypes.data

    def get(self) -> np.ndarray:
        return self.array.copy()

    def set(self, array: np.ndarray) -> None:
        self.array[...] = array

    def rows(self, first: int, count: int) -> HostBuffer:
        return HostBuffer(self.array[first : first + count])

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


class HostDevice:
    """See `siamtrt.kernels.launch.Device`."""

    def empty(self, shape, dtype) -> HostBuffer:
        return HostBuffer(np.zeros(shape, dtype))

    def upload(self, array: np.ndarray) -> HostBuffer:
        return HostBuffer(np.array(array, order="C"))

    def copy(self, source, target) -> None:
        target.array[...] = source.array

    def launch(self, launch) -> None:
        sides = [(ctypes.c_uint * 3)(*side) for side in (launch.grid, launch.block)]
        entry = getattr(_library(launch.name), f"{launch.entry}_on_host")
        entry(ctypes.c_void_p(launch.arguments.ctypes.data), *sides)

    def synchronize(self) -> None:
        """Launches have finished when they return."""
