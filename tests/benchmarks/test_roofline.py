"""Predicted times of hand-computed graphs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the export extra")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from siamtrt.benchmarks.devices import DEVICES, PRECISIONS, Device  # noqa: E402
from siamtrt.benchmarks.onnx_work import graph_work  # noqa: E402
from siamtrt.benchmarks.roofline import (  # noqa: E402
    Group,
    GroupTime,
    Model,
    Operation,
    bound_shares,
    fused,
    group_time,
    times,
    unfused,
)
from siamtrt.errors import SiamtrtError  # noqa: E402

# 1 GHz, 4 SMs, 1 TFLOPS in FP32, 10 in FP16, 20 in INT8, 100 GB/s; the model without losses.
DEVICE = Device("toy", "Toy", "8.7", 4, 1000, 1, 10, 20, 100, ("nowhere",))
IDEAL = Model(compute=1, memory=1, launch_cycles=0, tile=64)
SIDE, CHANNELS = 16, 64
MAP = CHANNELS * SIDE * SIDE
WEIGHT = CHANNELS * CHANNELS * 9
MACS = MAP * CHANNELS * 9


def _graph(nodes, outputs=("y",), constants=None):
    """A graph on `x` (1, 64, 16, 16); weights `w` (64, 64, 3, 3), `d` (64, 1, 3, 3), `b` (64)."""
    shapes = {"w": (CHANNELS, CHANNELS, 3, 3), "d": (CHANNELS, 1, 3, 3), "b": (CHANNELS,), **(constants or {})}
    used = {name for node in nodes for name in node.input}
    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()
               if name in used]  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, CHANNELS, SIDE, SIDE))
    ys = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "toy", [x], ys, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _conv(x, y, weight="w", bias=(), **attributes):
    return helper.make_node("Conv", [x, weight, *bias], [y], name=f"conv_{y}", pads=[1, 1, 1, 1], **attributes)


def _node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{op}_{output}", **attributes)


def _described(groups):
    return [("+".join(operation.op for operation in group.operations), group.read, group.written, group.weights)
            for group in groups]  # fmt: skip


def _ms(group, precision="fp32", device=DEVICE, model=IDEAL):
    return group_time(group, device, precision, model)


def test_one_convolution_by_hand():
    (group,) = fused(graph_work(_graph([_conv("x", "y", bias=("b",))])))
    assert (group.macs, group.read, group.written, group.weights) == (MACS, MAP, MAP, WEIGHT + CHANNELS)
    row = _ms(group)
    assert row.compute_ms == pytest.approx(1e3 * MACS / 0.5e12)  # 4 blocks of 64x64 fill the 4 SMs
    assert row.bytes_moved == 4 * (2 * MAP + WEIGHT + CHANNELS)
    assert row.memory_ms == pytest.approx(1e3 * row.bytes_moved / 100e9)
    assert (row.launch_ms, row.ms, row.bound) == (0, row.compute_ms, "compute")


def test_losses_and_overhead():
    (group,) = fused(graph_work(_graph([_conv("x", "y")])))
    ideal, real = _ms(group), _ms(group, model=Model(compute=0.5, memory=0.25, launch_cycles=2000))
    assert real.compute_ms == pytest.approx(2 * ideal.compute_ms)
    assert real.memory_ms == pytest.approx(4 * ideal.memory_ms)
    assert real.launch_ms == pytest.approx(2e-3)  # at 1 GHz
    assert real.ms == pytest.approx(max(real.compute_ms, real.memory_ms) + 2e-3)


@pytest.mark.parametrize(("precision", "rate", "size"), [("fp32", 0.5e12, 4), ("fp16", 5e12, 2), ("int8", 1e13, 1)])
def test_precisions_take_rate_and_bytes(precision, rate, size):
    (group,) = fused(graph_work(_graph([_conv("x", "y")])))
    row = _ms(group, precision)
    assert row.compute_ms == pytest.approx(1e3 * MACS / rate)
    assert row.bytes_moved == size * (2 * MAP + WEIGHT)


@pytest.mark.parametrize(("sms", "slower"), [(1, 4), (4, 1), (3, 2), (5, 1), (8, 1)])
def test_the_last_wave_leaves_sms_idle(sms, slower):
    """4 blocks on 3 SMs take two turns, on 5 as long as on 4; the device's rate is that of 4 SMs, scaled."""
    (group,) = fused(graph_work(_graph([_conv("x", "y")])))
    device = dataclasses.replace(DEVICE, sms=sms, fp32_tflops=sms / 4)
    assert _ms(group, device=device).compute_ms == pytest.approx(slower * _ms(group).compute_ms)


def test_activation_joins_the_convolution():
    nodes = [_conv("x", "a"), _node("Relu", ["a"], "y")]
    work = graph_work(_graph(nodes))
    assert _described(fused(work)) == [("Conv+Relu", MAP, MAP, WEIGHT)]
    assert _described(unfused(work)) == [("Conv", MAP, MAP, WEIGHT), ("Relu", MAP, MAP, 0)]


def test_a_tensor_with_two_readers_or_an_output_ends_its_group():
    nodes = [_conv("x", "a"), _node("Relu", ["a"], "y"), _node("Sigmoid", ["a"], "z")]
    groups = fused(graph_work(_graph(nodes, ("y", "z"))))
    assert _described(groups) == [("Conv", MAP, MAP, WEIGHT), ("Relu", MAP, MAP, 0), ("Sigmoid", MAP, MAP, 0)]
    groups = fused(graph_work(_graph([_conv("x", "a"), _node("Relu", ["a"], "y")], ("a", "y"))))
    assert [group[0] for group in _described(groups)] == ["Conv", "Relu"]


def test_residual_sum_joins_the_last_convolution():
    convolutions = [_conv("x", "a"), _conv("x", "s"), _conv("a", "t")]
    nodes = [*convolutions, _node("Add", ["s", "t"], "c"), _node("Relu", ["c"], "y")]
    groups = fused(graph_work(_graph(nodes)))
    assert _described(groups) == [
        ("Conv", MAP, MAP, WEIGHT), ("Conv", MAP, MAP, WEIGHT), ("Conv+Add+Relu", 2 * MAP, MAP, WEIGHT),
    ]  # fmt: skip


def test_nothing_joins_pooling_and_a_gate_needs_a_kernel_of_its_own():
    pool = _node("MaxPool", ["x"], "a", kernel_shape=[2, 2], strides=[2, 2])
    assert len(fused(graph_work(_graph([pool, _node("Relu", ["a"], "y")])))) == 2
    gate = [
        _conv("x", "f"), _node("Relu", ["f"], "r"), _node("ReduceMean", ["r"], "m", axes=[2, 3]),
        helper.make_node("Conv", ["m", "g"], ["s"], name="gate"), _node("Sigmoid", ["s"], "t"),
        _node("Mul", ["r", "t"], "y"),
    ]  # fmt: skip
    groups = fused(graph_work(_graph(gate, constants={"g": (CHANNELS, CHANNELS, 1, 1)})))
    assert [group[0] for group in _described(groups)] == ["Conv+Relu", "ReduceMean", "Conv+Sigmoid", "Mul"]


def test_depthwise_does_not_use_tensor_cores():
    work = graph_work(_graph([_conv("x", "y", "d", group=CHANNELS)]))
    (group,) = fused(work)
    assert (group.first.kind, group.macs, group.weights) == ("plain", MAP * 9, CHANNELS * 9)
    assert _ms(group, "fp16").compute_ms == _ms(group, "fp32").compute_ms == pytest.approx(1e3 * MAP * 9 / 0.5e12)
    assert _ms(group, "fp16").memory_ms == pytest.approx(_ms(group, "fp32").memory_ms / 2)
    assert _ms(group, device=dataclasses.replace(DEVICE, sms=400)).compute_ms == _ms(group).compute_ms


def test_correlation_and_wide_groups():
    node = helper.make_node("DepthwiseXCorr", ["x", "k"], ["y"], domain="siamtrt", name="xcorr")
    model = helper.make_model(helper.make_graph(
        [node], "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, CHANNELS, SIDE, SIDE)),
         helper.make_tensor_value_info("k", TensorProto.FLOAT, (1, CHANNELS, 5, 5))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, CHANNELS, 12, 12))],
    ), opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("siamtrt", 1)])  # fmt: skip
    (operation,) = graph_work(model).operations
    assert (operation.kind, operation.macs, operation.weights) == ("plain", CHANNELS * 144 * 25, 0)
    assert graph_work(model).elements == {"x": MAP, "k": CHANNELS * 25, "y": CHANNELS * 144}
    groups = graph_work(_graph([_conv("x", "y", "h", group=2)], constants={"h": (CHANNELS, CHANNELS // 2, 3, 3)}))
    assert groups.operations[0].kind == "matrix"


def test_views_and_constants_are_no_kernels():
    nodes = [
        _conv("x", "a"), _node("Identity", ["a"], "v"), _node("Relu", ["v"], "r"), _node("Sqrt", ["b"], "c"),
        _node("Unsqueeze", ["c", "axes"], "u"), _node("Mul", ["r", "u"], "y"),
    ]  # fmt: skip
    model = _graph(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2]), "axes"))
    assert _described(fused(graph_work(model))) == [("Conv+Relu+Mul", MAP, MAP, WEIGHT + CHANNELS)]


def _quantized():
    """x -> Q/DQ -> conv (INT8) -> conv without a pair."""
    nodes = []
    for name, source in (("xq", "x"), ("wq", "w")):
        nodes += [_node("QuantizeLinear", [source, "scale", "zero"], name + "8"),
                  _node("DequantizeLinear", [name + "8", "scale", "zero"], name)]  # fmt: skip
    model = _graph([*nodes, _conv("xq", "a", "wq"), _conv("a", "m", "v"), _node("Relu", ["m"], "y")],
                   constants={"v": (CHANNELS, CHANNELS, 3, 3)})  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "scale"))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    return model


def test_precision_by_layer_of_a_calibrated_graph():
    first, second = fused(graph_work(_quantized()))
    assert (first.weights, first.read, second.read) == (WEIGHT, MAP, MAP)
    assert [_ms(group, "int8").precision for group in (first, second)] == ["int8", "fp16"]
    assert [_ms(group, "fp32").precision for group in (first, second)] == ["fp32", "fp32"]
    work = graph_work(_quantized(), fp32_nodes={"conv_m", "conv_a"})
    assert [_ms(group, "int8").precision for group in fused(work)] == ["int8", "fp32"]


def test_int8_run_without_pairs_leaves_what_does_not_multiply_in_fp16():
    nodes = [_conv("x", "a"), _node("MaxPool", ["a"], "p", kernel_shape=[2, 2]), _conv("p", "y", "d", group=CHANNELS)]
    groups = fused(graph_work(_graph(nodes)))
    assert [_ms(group, "int8").precision for group in groups] == ["int8", "fp16", "int8"]
    kept = graph_work(_graph(nodes), fp32_nodes=["conv_a"])
    assert [_ms(group, "fp16").precision for group in fused(kept)] == ["fp32", "fp16", "fp16"]


def test_unknown_shapes_are_an_error():
    model = _graph([_node("Relu", ["x"], "y")])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    with pytest.raises(SiamtrtError, match="cannot count the traffic of the Relu Relu_y: received no static"):
        graph_work(model)


def _some_groups():
    nodes = [
        _conv("x", "a"), _node("Relu", ["a"], "r"), _conv("r", "d1", "d", group=CHANNELS), _conv("d1", "c"),
        _node("Add", ["c", "r"], "s"), _node("MaxPool", ["s"], "y", kernel_shape=[2, 2]),
    ]  # fmt: skip
    return fused(graph_work(_graph(nodes)))


def _total(device, precision):
    return sum(row.ms for row in times(_some_groups(), device, precision))


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_more_is_never_slower(device):
    for precision in PRECISIONS:
        base = _total(device, precision)
        assert _total(dataclasses.replace(device, bandwidth_gbs=2 * device.bandwidth_gbs), precision) <= base
        assert _total(dataclasses.replace(device, fp32_tflops=2 * device.fp32_tflops), precision) <= base
        assert _total(dataclasses.replace(device, clock_mhz=2 * device.clock_mhz), precision) < base
    assert _total(device, "int8") <= _total(device, "fp16") <= _total(device, "fp32")


def test_shares_and_bounds():
    group = Group((Operation("a", "Conv", "matrix", (), ()),), 0, 0)
    rows = [GroupTime(group, "fp32", 0, *parts) for parts in ((3, 1, 1), (1, 2, 0), (0.1, 0.2, 1.8))]
    assert [row.bound for row in rows] == ["compute", "memory", "launch"]
    assert [row.ms for row in rows] == [4, 2, 2]
    assert bound_shares(rows) == {"compute": 0.5, "memory": 0.25, "launch": 0.25}
    assert bound_shares([]) == {"compute": 0, "memory": 0, "launch": 0}
