"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "siamtrt", "numpy", "opencv-python", "onnxruntime", "torch", "tensorrt", "tensorrt-rtx", "cupy-cuda12x",
    "cupy-cuda13x",
)  # fmt: skip


def environment() -> dict[str, object]:
    """CPU, cores usable by this process, operating system, Python and the versions of what is installed."""
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "gpu": gpu_name(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed_version(name))},
    }


def installed_version(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Model of the processor, as the kernel or the Jetson's device tree names it."""
    for path, key in ((Path("/proc/device-tree/model"), ""), (Path("/proc/cpuinfo"), "model name")):
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith(key):
                    return line.partition(":")[2].strip() if key else line.strip("\0 ")
    return platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """Name of the first CUDA device, or None without CuPy or a GPU."""
    try:
        import cupy

        return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    except (ImportError, RuntimeError):
        return None
