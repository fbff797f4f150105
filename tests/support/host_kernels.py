"""Runs a kernel's `.cu` file on the CPU, compiled as C++ with AddressSanitizer and UndefinedBehaviorSanitizer.

The sanitizers must be in the process from its start, so each run is a Python of its own; arrays travel in a pickle
between this file's two halves.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")
CTYPES = {int: ctypes.c_int32, float: ctypes.c_float}


@functools.cache
def _library(name: str) -> Path:
    """`kernels/<name>.cu` as a shared library with the sanitizers."""
    path = Path(tempfile.mkdtemp(prefix="siamtrt-kernels-")) / f"{name}.so"
    compile_for_host(name, path, SANITIZERS)
    return path


def compile_for_host(name: str, path: Path, extra: tuple[str, ...]) -> None:
    """Compile `kernels/<name>.cu` to a shared library; skips the test without a compiler, fails it on a warning."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile kernels for the host with")
    options = ["-x", "c++", "-std=c++20", "-O1", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
    command = [compiler, *options, *extra, str(KERNELS / f"{name}.cu"), "-o", str(path), "-lpthread"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, f"warnings:\n{result.stderr}"


def run_on_host(
    name: str, kernel: str, arguments: dict[str, np.ndarray | int | float | list[np.ndarray]],
    grid: tuple[int, int, int], block: tuple[int, int, int],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Run one launch and return the arrays as the kernel left them.

    Args:
        name: `kernels/<name>.cu`.
        kernel: the function with a `HOST_ENTRY`.
        arguments: the fields of its struct in order: an array becomes a pointer, a list of arrays an array of pointers
            inside the struct, an int an int32_t, a float a float.

    Fails the test on a sanitizer's report.
    """
    folder = Path(tempfile.mkdtemp(prefix="siamtrt-run-"))
    job = {"library": str(_library(name)), "kernel": kernel, "arguments": arguments, "grid": grid, "block": block}
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    environment = {
        **os.environ, "LD_PRELOAD": str(Path(runtime).resolve()), "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1",
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, __file__, str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-4000:]
    found = pickle.loads((folder / "result.pickle").read_bytes())
    shutil.rmtree(folder)
    return found


def _work(folder: Path) -> None:
    job = pickle.loads((folder / "job.pickle").read_bytes())
    values, kept = job["arguments"], []

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        assert array.flags.c_contiguous
        kept.append(array)
        return ctypes.c_void_p(array.ctypes.data)

    fields, given = [], []
    for key, value in values.items():
        if isinstance(value, np.ndarray):
            fields.append((key, ctypes.c_void_p))
            given.append(pointer(value))
        elif isinstance(value, list):
            kind = ctypes.c_void_p * len(value)
            fields.append((key, kind))
            given.append(kind(*(pointer(array).value for array in value)))
        else:
            fields.append((key, CTYPES[type(value)]))
            given.append(value)
    struct = type("Arguments", (ctypes.Structure,), {"_fields_": fields})(*given)
    entry = getattr(ctypes.CDLL(job["library"]), f"{job['kernel']}_on_host")
    sides = [(ctypes.c_uint * 3)(*job[name]) for name in ("grid", "block")]
    entry(ctypes.byref(struct), *sides)
    (folder / "result.pickle").write_bytes(
        pickle.dumps({key: value for key, value in values.items() if isinstance(value, np.ndarray | list)})
    )


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
