"""What a GPU measurement was made on: `environment()` and the device, its driver, the commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from siamtrt.benchmarks.environment import environment


def gpu_environment(runtime: Any = None) -> dict[str, Any]:
    """`environment()`, with the device's properties under "device" and the commit of the checkout, where there is one.

    Args:
        runtime: `cupy.cuda.runtime`, the default, or what answers in its place.
    """
    if runtime is None:
        import cupy

        runtime = cupy.cuda.runtime
    return {**environment(), "device": _device(runtime), "commit": _commit()}


def _device(runtime: Any) -> dict[str, Any]:
    """Of the first device. `cuda_driver` is the newest CUDA the driver runs, `cuda` what CuPy was built for."""
    properties = runtime.getDeviceProperties(0)
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "integrated": bool(properties["integrated"]),
        "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"),
        "cuda_driver": _cuda(runtime.driverGetVersion()),
        "cuda": _cuda(runtime.runtimeGetVersion()),
    }


def _cuda(number: int) -> str:
    """12090 -> "12.9"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _commit() -> str | None:
    """Of the checkout this module is in, with "+" where files differ from it; None elsewhere."""
    here = str(Path(__file__).resolve().parent)
    name = _said("git", "-C", here, "rev-parse", "--short=12", "HEAD")
    return name and name + ("+" if _said("git", "-C", here, "status", "--porcelain", "-uno") else "")


def _said(*command: str) -> str | None:
    """A command's output, or None where it is absent, fails or says nothing."""
    if not shutil.which(command[0]):
        return None
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return None
    return (result.stdout.strip() or None) if result.returncode == 0 else None
