"""The ahead-of-time form of the plugin: an engine holds the kernel's PTX and its launch, and runs without Python.

`tensorrt.plugin` passes a kernel its inputs, then 32-bit integers, then its outputs, as `xcorr_plain_f32` takes them.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from siamtrt.kernels.compiler import ptx_of
from siamtrt.kernels.launch import Sides
from siamtrt.kernels.xcorr import XcorrShape, xcorr_plain_launch


@dataclass(frozen=True)
class AotKernel:
    """One kernel and its launch: the entry of `ptx`, its integers in order, grid and block."""

    entry: str
    ptx: str
    integers: tuple[int, ...]
    grid: Sides
    block: Sides


def aot_kernel(shape: XcorrShape, half: bool, architecture: int) -> AotKernel:
    """What the engine is to hold for one correlation.

    Args:
        shape: of its tensors.
        half: FP16 instead of FP32.
        architecture: compute capability times 10 of the GPU.

    Raises:
        NvrtcError, MissingPackageError: see `ptx_of`.
    """
    integers, grid, block = xcorr_plain_launch(shape)
    ptx = ptx_of("xcorr", architecture, "XCORR_PLAIN_ONLY")
    return AotKernel(f"xcorr_plain_{'f16' if half else 'f32'}", ptx, integers, grid, block)


def register_aot(package: ModuleType, identity: str, architecture: int) -> object:
    """Register the plugin with `tensorrt.plugin`, without attributes: the ONNX node's `group` follows from the shapes.

    Args:
        package: `tensorrt` 10.9 or later.
        identity: namespace and name, as `namespace::name`; the version is "1".
        architecture: compute capability times 10 of the GPU that the engines are for.
    """
    trtp: Any = importlib.import_module(f"{package.__name__}.plugin")
    half = package.DataType.HALF

    def describe(x: Any, k: Any) -> Any:
        response = x.like()
        for axis in (2, 3):
            response.shape_expr[axis] = x.shape_expr[axis] - k.shape_expr[axis] + 1
        return response

    def implement(x: Any, k: Any, outputs: Any, tactic: Any) -> Any:
        """Raises `ValueError` for shapes that are not known: how the work is split depends on them."""
        kernel = aot_kernel(XcorrShape(*x.shape, *tuple(k.shape)[2:]), x.dtype == half, architecture)
        launch = trtp.KernelLaunchParams(*kernel.grid, *kernel.block)
        integers = trtp.SymIntExprs.from_tuple(tuple(map(trtp.SymInt32, kernel.integers)))
        return kernel.entry, kernel.ptx, launch, integers

    # `tensorrt.plugin` reads annotations, and wants classes there, not their names.
    describe.__annotations__ = {"x": trtp.TensorDesc, "k": trtp.TensorDesc, "return": trtp.TensorDesc}
    implement.__annotations__ = {"return": tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]}
    return trtp.register(identity)(describe), trtp.aot_impl(identity)(implement)
