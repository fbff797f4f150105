"""The plugin's Python form, with TensorRT-RTX's own base classes and registry, its kernels on the host's memory.

TensorRT-RTX cannot put a plugin into a network, so that TensorRT calls these methods is for `test_plugin_engine`.
"""

from __future__ import annotations

import types

import numpy as np
import pytest
from host_device import HostDevice

from siamtrt.errors import EngineError
from siamtrt.kernels import plugin
from siamtrt.kernels.plugin import NAME, NAMESPACE, VERSION, best_form, plugin_classes, register_plugin
from siamtrt.kernels.xcorr import depthwise_xcorr_ref

trt = pytest.importorskip("tensorrt_rtx", reason="the plugin's base classes are TensorRT's")
FLOAT, HALF, INT8 = trt.DataType.FLOAT, trt.DataType.HALF, trt.DataType.INT8
LINEAR, CHW2 = trt.TensorFormat.LINEAR, trt.TensorFormat.CHW2
DTYPES = {FLOAT: np.float32, HALF: np.float16}


class HostLauncher:
    """Queues kernels on host memory and writes down what it is asked for."""

    def __init__(self):
        self.device, self.prepared, self.streams = HostDevice(), [], []

    def prepare(self, launch):
        self.prepared.append(launch.entry)

    def launch(self, launch, stream):
        self.streams.append(stream)
        self.device.launch(launch)


def desc(*dims, dtype=FLOAT, layout=LINEAR):
    tensor = trt.PluginTensorDesc()
    tensor.dims, tensor.type, tensor.format = dims, dtype, layout
    return tensor


def fields_of(*values, name="group", dtype=np.int32, kind=trt.PluginFieldType.INT32):
    return trt.PluginFieldCollection([trt.PluginField(name, np.array(values, dtype), kind)])


@pytest.fixture
def launcher():
    return HostLauncher()


@pytest.fixture
def make(launcher):
    """A plugin of the creator."""
    creator = plugin_classes(trt).creator(launcher)
    return lambda *group: creator.create_plugin("node", fields_of(*group), trt.TensorRTPhase.BUILD)


@pytest.fixture
def registered(launcher, monkeypatch):
    """The plugin in TensorRT-RTX's registry, as long as the test runs."""
    monkeypatch.setattr(plugin, "_registered", {})
    register_plugin(trt, "python", launcher=launcher)
    creator = trt.get_plugin_registry().get_creator(NAME, VERSION, NAMESPACE)
    yield creator
    trt.get_plugin_registry().deregister_creator(creator)


def test_tensorrt_finds_the_registered_creator_by_name_version_and_namespace(registered):
    assert (registered.name, registered.plugin_version, registered.plugin_namespace) == (NAME, VERSION, NAMESPACE)
    assert [field.name for field in registered.field_names] == ["group"]
    assert trt.get_plugin_registry().get_creator(NAME, VERSION, "") is None


def test_registering_again_is_nothing_and_another_form_is_refused(registered, monkeypatch):
    register_plugin(trt, "python")
    assert trt.get_plugin_registry().get_creator(NAME, VERSION, NAMESPACE) is registered
    with pytest.raises(EngineError, match=r"the form 'python', registered before"):
        register_plugin(trt, "aot", 86)
    monkeypatch.setattr(plugin, "_registered", {})
    with pytest.raises(EngineError, match="another plugin of that name"):
        register_plugin(trt, "python", launcher=HostLauncher())


def test_tensorrt_rtx_has_the_python_form_alone():
    assert best_form(trt) == "python"
    assert best_form(types.SimpleNamespace(QuickPluginCreationRequest=None)) == "aot"


@pytest.mark.parametrize(
    "kind", [(np.int32, trt.PluginFieldType.INT32), (np.int64, trt.PluginFieldType.INT64)], ids=["int32", "int64"]
)
def test_the_attribute_survives_serialisation(make, launcher, kind):
    creator = plugin_classes(trt).creator(launcher)
    built = creator.create_plugin("node", fields_of(12, dtype=kind[0], kind=kind[1]), trt.TensorRTPhase.BUILD)
    written = built.clone().attach_to_context(None).get_fields_to_serialize()
    assert [(field.name, field.data.tolist(), field.type) for field in written] == [
        ("group", [12], trt.PluginFieldType.INT32)
    ]
    loaded = creator.create_plugin("node", written, trt.TensorRTPhase.RUNTIME)
    loaded.on_shape_change([desc(3, 4, 9, 9), desc(3, 4, 5, 5)], [desc(3, 4, 5, 5)])
    with pytest.raises(ValueError, match=r"group 12; expected"):
        loaded.on_shape_change([desc(3, 3, 9, 9), desc(3, 3, 5, 5)], [desc(3, 3, 5, 5)])


def test_what_tensorrt_asks_of_a_plugin(make):
    one = make(6)
    assert (one.plugin_name, one.plugin_version, one.plugin_namespace) == (NAME, VERSION, NAMESPACE)
    assert (one.num_outputs, one.timing_cache_id) == (1, "")
    assert one.get_capability_interface(trt.PluginCapabilityType.RUNTIME) is one
    assert one.get_output_data_types([HALF, HALF]) == [HALF]


@pytest.mark.parametrize(
    ("types_", "layouts", "accepted"),
    [
        ((FLOAT, FLOAT, FLOAT), (LINEAR, LINEAR, LINEAR), (True, True, True)),
        ((HALF, HALF, HALF), (LINEAR, LINEAR, LINEAR), (True, True, True)),
        ((HALF, FLOAT, HALF), (LINEAR, LINEAR, LINEAR), (True, False, True)),
        ((FLOAT, FLOAT, HALF), (LINEAR, LINEAR, LINEAR), (True, True, False)),
        ((INT8, INT8, INT8), (LINEAR, LINEAR, LINEAR), (False, False, False)),
        ((HALF, HALF, HALF), (CHW2, LINEAR, CHW2), (False, True, False)),
    ],
)
def test_formats(make, types_, layouts, accepted):
    in_out = []
    for dtype, layout in zip(types_, layouts, strict=True):
        in_out.append(trt.DynamicPluginTensorDesc())
        in_out[-1].desc = desc(1, 2, 9, 9, dtype=dtype, layout=layout)
    one = make(2)
    assert tuple(one.supports_format_combination(pos, in_out, 2) for pos in range(3)) == accepted


def test_output_shape():
    """The arithmetic alone: only TensorRT itself makes expressions, so integers stand for them here."""
    package = types.ModuleType("integers_for_expressions")
    vars(package).update({name: getattr(trt, name) for name in dir(trt)} | {"DimsExprs": list})
    signs = {trt.DimensionOperation.SUM: 1, trt.DimensionOperation.SUB: -1}
    builder = types.SimpleNamespace(constant=int, operation=lambda op, a, b: a + signs[op] * b)
    one = plugin_classes(package).plugin(0, HostLauncher())
    assert one.get_output_shapes([[3, 8, 29, 31], [3, 8, 5, 4]], [], builder) == [[3, 8, 25, 28]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(1, 13, 29, 29, 5, 5), (3, 5, 7, 12, 3, 6), (16, 2, 11, 9, 4, 4)], ids=str)
def test_enqueue_equals_the_reference_and_only_launches(make, launcher, sizes, dtype):
    n, c, height, width, kernel_height, kernel_width = sizes
    shapes = (n, c, height, width), (n, c, kernel_height, kernel_width)
    out_shape = (n, c, height - kernel_height + 1, width - kernel_width + 1)
    descs = [desc(*shape, dtype=dtype) for shape in (*shapes, out_shape)]
    context = make(n * c).attach_to_context(None)
    assert {"xcorr_f32", "xcorr_f16"} <= set(launcher.prepared), "compiled before a stream can be captured"
    context.on_shape_change(descs[:2], descs[2:])
    assert launcher.prepared[-1] == ("xcorr_f16" if dtype == HALF else "xcorr_f32")
    prepared, rng = len(launcher.prepared), np.random.default_rng(0)
    queued = []
    for stream in (77, 78):  # two inferences in flight, with other addresses
        x, kernel = (rng.standard_normal(shape).astype(DTYPES[dtype]) for shape in shapes)
        y = np.full(out_shape, np.nan, DTYPES[dtype])
        addresses = [array.ctypes.data for array in (x, kernel, y)]
        context.enqueue(descs[:2], descs[2:], addresses[:2], addresses[2:], 0, stream)
        assert np.isnan(y).all(), "nobody waited for it"
        queued.append((x, kernel, y))
    assert launcher.streams == [77, 78]
    assert len(launcher.prepared) == prepared
    launcher.device.synchronize()
    for x, kernel, y in queued:
        expected = depthwise_xcorr_ref(x.astype(np.float64), kernel.astype(np.float64))
        limit = (1e-3 if dtype == HALF else 1e-5) * np.abs(expected).max()
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=0, atol=limit)
    assert (launcher.device.bytes_up, launcher.device.bytes_down) == (0, 0)


def test_a_captured_enqueue_is_replayed_on_what_the_buffers_hold_then(make, launcher):
    x, kernel, y = (np.full((1, 2, side, side), value, np.float32) for side, value in ((9, 1), (3, 1), (7, 0)))
    descs = [desc(*array.shape) for array in (x, kernel, y)]
    context = make(2).attach_to_context(None)
    context.on_shape_change(descs[:2], descs[2:])
    addresses = [array.ctypes.data for array in (x, kernel, y)]
    graph = launcher.device.capture(lambda: context.enqueue(descs[:2], descs[2:], addresses[:2], addresses[2:], 0, 7))
    assert not y.any()
    for value in (2.0, 3.0):
        x[...] = value
        graph()
        launcher.device.synchronize()
        assert (y == 9 * value).all()


def test_contexts_plan_apart(make, launcher):
    """Two contexts of one engine run at once, each with addresses of its own."""
    one = make(2)
    descs = [desc(1, 2, 9, 9), desc(1, 2, 3, 3), desc(1, 2, 7, 7)]
    contexts = [one.attach_to_context(None) for _ in range(2)]
    for context in contexts:
        context.on_shape_change(descs[:2], descs[2:])
    assert not np.shares_memory(*(context._launch.arguments for context in contexts))
    with pytest.raises(RuntimeError, match="enqueue before on_shape_change"):
        contexts[0].clone().enqueue(descs[:2], descs[2:], [0, 0], [0], 0, 0)


def test_errors_of_a_launch_reach_tensorrt(make, launcher, monkeypatch):
    """An exception makes TensorRT report it and the inference fail."""
    one = make()
    descs = [desc(1, 2, 9, 9), desc(1, 2, 3, 3), desc(1, 2, 7, 7)]
    one.on_shape_change(descs[:2], descs[2:])

    def refuse(launch, stream):
        raise OSError("the driver says no")

    monkeypatch.setattr(launcher, "launch", refuse)
    with pytest.raises(OSError, match="the driver says no"):
        one.enqueue(descs[:2], descs[2:], [0, 0], [0], 0, 0)


@pytest.mark.parametrize(
    ("x", "kernel"), [((1, 2, 9, 9), (1, 3, 3, 3)), ((1, 2, 9, 9), (1, 2, 3)), ((1, 2, 3, 3), (1, 2, 5, 5))]
)
def test_shapes_that_no_correlation_has_are_refused(make, x, kernel):
    with pytest.raises(ValueError, match="expected"):
        make().on_shape_change([desc(*x), desc(*kernel)], [desc(1, 2, 3, 3)])
