"""The TensorRT plugin `siamtrt::DepthwiseXCorr`, version 1: our correlation kernel as one layer of an engine.

It has two forms, and a process registers one of them, for TensorRT knows a plugin by name, version and namespace:

* "aot" (`plugin_aot.py`, TensorRT 10.9 and later): the engine holds the kernel and how to launch it, and runs without
  Python.
* "python" (TensorRT 10.0 and later): a Python object, which launches through CuPy. An engine that holds it can be
  deserialised only where it is registered.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from siamtrt.errors import EngineError
from siamtrt.kernels.launch import Launch
from siamtrt.kernels.sources import source_of
from siamtrt.kernels.xcorr import XcorrShape, xcorr_launch
from siamtrt.packages import import_package

if TYPE_CHECKING:
    import tensorrt as trt

NAME, VERSION, NAMESPACE = "DepthwiseXCorr", "1", "siamtrt"
GROUP = "group"
Form = Literal["python", "aot"]


class Launcher(Protocol):
    """What the plugin needs of a GPU."""

    def prepare(self, launch: Launch) -> None:
        """Compile and load the launch's kernel, so that `launch` does neither."""
        ...

    def launch(self, launch: Launch, stream: int) -> None:
        """Enqueue it on a CUDA stream, given by its handle."""
        ...


class CupyLauncher:
    """Launches through CuPy, which keeps compiled kernels on disk.

    Raises:
        MissingPackageError: no CuPy.
    """

    def __init__(self) -> None:
        self._cupy = import_package("cupy", f"a launch of the plugin {NAME}")
        self._modules: dict[str, Any] = {}
        self._functions: dict[str, Any] = {}

    def prepare(self, launch: Launch) -> None:
        """See `Launcher.prepare`."""
        if launch.name not in self._modules:
            self._modules[launch.name] = self._cupy.RawModule(code=source_of(launch.name), options=("--std=c++17",))
        if launch.entry not in self._functions:
            self._functions[launch.entry] = self._modules[launch.name].get_function(launch.entry)

    def launch(self, launch: Launch, stream: int) -> None:
        """See `Launcher.launch`."""
        with self._cupy.cuda.ExternalStream(stream):
            self._functions[launch.entry](launch.grid, launch.block, (launch.arguments,))


class PluginClasses(NamedTuple):
    """The plugin, made of (group, launcher), and its creator, made of (launcher)."""

    plugin: Callable[[int, Launcher], trt.IPluginV3]
    creator: Callable[[Launcher], trt.IPluginCreatorV3One]


@functools.cache
def plugin_classes(package: ModuleType) -> PluginClasses:
    """The "python" form's classes, whose bases exist only once TensorRT is imported.

    Args:
        package: `tensorrt`, or `tensorrt_rtx`, which has these classes too but no way to put a plugin in a network.
    """
    if not TYPE_CHECKING:
        trt = package  # a type checker reads TensorRT's stubs instead

    class DepthwiseXCorr(  # type: ignore[misc]  # each base has an interface_info of its own
        trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime
    ):
        """x (N, C, H, W), k (N, C, h, w) -> (N, C, H-h+1, W-w+1), all FP32 or all FP16, linear.

        Args:
            group: N * C, as the ONNX node has it for its function; 0 if not given.
            launcher: of the kernels.
        """

        def __init__(self, group: int, launcher: Launcher) -> None:
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)  # type: ignore[misc, arg-type]  # pybind11 wants each to be called
            self.plugin_name, self.plugin_version, self.plugin_namespace = NAME, VERSION, NAMESPACE
            self.num_outputs, self.timing_cache_id = 1, ""  # equal nodes are timed once
            self._group, self._launcher = group, launcher
            self._launch: Launch | None = None
            self._fields = _Fields(trt, [group])

        def get_capability_interface(self, type: Any) -> Any:  # noqa: A002  # TensorRT's name
            return self

        def clone(self) -> DepthwiseXCorr:
            return DepthwiseXCorr(self._group, self._launcher)

        def get_output_data_types(self, input_types: list[trt.DataType]) -> list[trt.DataType]:
            return [input_types[0]]

        def get_output_shapes(
            self, inputs: list[trt.DimsExprs], shape_inputs: list[trt.DimsExprs], expr_builder: trt.IExprBuilder
        ) -> list[trt.DimsExprs]:
            x, kernel = inputs
            sides = []
            for axis in (2, 3):
                less = expr_builder.operation(trt.DimensionOperation.SUB, x[axis], kernel[axis])
                sides.append(expr_builder.operation(trt.DimensionOperation.SUM, less, expr_builder.constant(1)))
            return [trt.DimsExprs([x[0], x[1], *sides])]

        def supports_format_combination(
            self, pos: int, in_out: list[trt.DynamicPluginTensorDesc], num_inputs: int
        ) -> bool:
            tensor, dtypes = in_out[pos].desc, (trt.DataType.FLOAT, trt.DataType.HALF)
            same = tensor.type == in_out[0].desc.type
            return same and tensor.type in dtypes and tensor.format == trt.TensorFormat.LINEAR

        def configure_plugin(
            self, in_: list[trt.DynamicPluginTensorDesc], out: list[trt.DynamicPluginTensorDesc]
        ) -> None:
            """Nothing: the sizes are known in `on_shape_change`."""

        def attach_to_context(self, resource_context: Any) -> DepthwiseXCorr:
            """A copy for an execution context; the kernels are compiled before the first stream may be captured."""
            for entry in ("xcorr_f32", "xcorr_f16"):
                self._launcher.prepare(_planned(entry, XcorrShape(1, 1, 1, 1, 1, 1)))
            return self.clone()

        def on_shape_change(self, in_: list[trt.PluginTensorDesc], out: list[trt.PluginTensorDesc]) -> None:
            """Plan the launch, so that `enqueue` fills in three addresses and launches.

            Raises:
                ValueError: sizes that no correlation has, or another number of planes than `group`.
            """
            entry = "xcorr_f16" if in_[0].type == trt.DataType.HALF else "xcorr_f32"
            self._launch = _planned(entry, _shape_of(in_[0].dims, in_[1].dims, self._group))
            self._launcher.prepare(self._launch)

        def enqueue(
            self, input_desc: list[trt.PluginTensorDesc], output_desc: list[trt.PluginTensorDesc],
            inputs: list[int], outputs: list[int], workspace: int, stream: int,
        ) -> None:  # fmt: skip
            """Launch on TensorRT's stream. What is raised here, TensorRT reports, and the inference fails."""
            if self._launch is None:
                raise RuntimeError(f"{NAME}: enqueue before on_shape_change")
            entry = self._launch.arguments["entries"][0]
            entry["x"], entry["kernel"], entry["y"] = *inputs, *outputs
            self._launcher.launch(self._launch, stream)

        def get_fields_to_serialize(self) -> Any:
            return self._fields.collection

        def set_tactic(self, tactic: int) -> None:
            """There is one."""

    class Creator(trt.IPluginCreatorV3One):
        """Makes plugins of an ONNX node's attributes, or of what an engine holds."""

        def __init__(self, launcher: Launcher) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = NAME, VERSION, NAMESPACE
            self._fields, self._launcher = _Fields(trt, []), launcher
            self.field_names: Any = self._fields.collection

        def create_plugin(self, name: str, field_collection: Any, phase: Any) -> DepthwiseXCorr:
            given = [field.data for field in field_collection if field.name == GROUP and field.size]
            return DepthwiseXCorr(int(given[0][0]) if given else 0, self._launcher)

    return PluginClasses(DepthwiseXCorr, Creator)


class _Fields:
    """The plugin's attribute as TensorRT's fields, which hold no more than the address of their values."""

    def __init__(self, package: Any, group: list[int]) -> None:
        self._values = np.array(group, np.int32)
        self._field = package.PluginField(GROUP, self._values, package.PluginFieldType.INT32)
        self.collection = package.PluginFieldCollection([self._field])


def _shape_of(x_dims: Any, kernel_dims: Any, group: int) -> XcorrShape:
    x, kernel = tuple(x_dims), tuple(kernel_dims)
    if len(x) != 4 or len(kernel) != 4 or x[:2] != kernel[:2] or group not in (0, x[0] * x[1]):
        raise ValueError(f"{NAME}: x {x}, k {kernel}, group {group}; expected (N, C, H, W), (N, C, h, w), N * C")
    return XcorrShape(*x, *kernel[2:])


def _planned(entry: str, shape: XcorrShape) -> Launch:
    """Without addresses."""
    arguments, grid, block = xcorr_launch([shape])
    return Launch("xcorr", entry, grid, block, arguments)


_registered: dict[str, tuple[Form, object]] = {}


def best_form(package: ModuleType) -> Form:
    """ "aot" where TensorRT has it."""
    return "aot" if hasattr(package, "QuickPluginCreationRequest") else "python"


def register_plugin(package: ModuleType, form: Form, architecture: int = 0, launcher: Launcher | None = None) -> None:
    """Make the plugin known to TensorRT; again is nothing.

    Args:
        package: `tensorrt`.
        form: see the module.
        architecture: for "aot", compute capability times 10 of the GPU that the engines are for.
        launcher: for "python", by default through CuPy.

    Raises:
        EngineError: the other form, or another plugin of the name, is registered in this process.
        MissingPackageError: no CuPy for "python".
    """
    done = _registered.get(package.__name__)
    if done and done[0] == form:
        return
    if done:
        raise _refused(f"the form {done[0]!r}, registered before")
    if form == "aot":
        from siamtrt.kernels.plugin_aot import register_aot

        kept: object = register_aot(package, f"{NAMESPACE}::{NAME}", architecture)
    else:
        kept = creator = plugin_classes(package).creator(launcher or CupyLauncher())
        if not package.get_plugin_registry().register_creator(creator, NAMESPACE):
            raise _refused("another plugin of that name")
    _registered[package.__name__] = form, kept  # TensorRT keeps no reference to a creator


def register_for_engine(flavour: str, xcorr: str) -> None:
    """What an engine needs before it is deserialised: see `EngineRecord.xcorr`.

    Args:
        flavour: "tensorrt", the package to import.
        xcorr: how the engine correlates; only "plugin" needs anything.

    Raises:
        EngineError, MissingPackageError: see `register_plugin`.
    """
    if xcorr == "plugin":
        register_plugin(importlib.import_module(flavour), "python")


def _refused(received: str) -> EngineError:
    return EngineError(
        f"TensorRT takes one plugin {NAMESPACE}::{NAME}", received=received, expected="none of that name",
        fix="run it in a process of its own",
    )  # fmt: skip
