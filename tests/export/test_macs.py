"""The count of multiply-accumulates, against small graphs counted by hand and against PyTorch's own count."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import parser
from torch.utils.flop_counter import FlopCounterMode

from siamtrt.errors import SiamtrtError
from siamtrt.export.macs import graph_macs
from siamtrt.export.operator import with_operator_function
from siamtrt.models.presets import PRESETS


def _model(inputs, output, body):
    header = '<ir_version: 10, opset_import: ["" : 20, "siamtrt" : 1]>'
    return parser.parse_model(f"{header} g ({inputs}) => ({output}) {{ {body} }}")


@pytest.mark.parametrize(
    ("inputs", "output", "body", "macs"),
    [
        ("float[2,3,8,8] x, float[4,3,3,3] w", "float[2,4,6,6] y", "y = Conv(x, w)", 2 * 4 * 36 * 3 * 9),
        (
            "float[1,4,8,8] x, float[6,2,3,3] w", "float[1,6,4,4] y",
            "y = Conv<group = 2, strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)", 6 * 16 * 2 * 9,
        ),
        (
            "float[1,4,5,5] x, float[4,3,2,2] w", "float[1,6,10,10] y",
            "y = ConvTranspose<group = 2, strides = [2, 2]>(x, w)", 4 * 25 * 3 * 4,
        ),
        ("float[2,5,3,7] a, float[7,4] b", "float[2,5,3,4] y", "y = MatMul(a, b)", 2 * 5 * 3 * 4 * 7),
        ("float[7] a, float[7] b", "float y", "y = MatMul(a, b)", 7),
        ("float[7,2] a, float[5,7] b", "float[2,5] y", "y = Gemm<transA = 1, transB = 1>(a, b)", 2 * 5 * 7),
        ("float[2,7] a, float[7,5] b", "float[2,5] y", "y = Gemm(a, b)", 2 * 5 * 7),
        ("float[2,3,4] a, float[3,5,4] b", "float[2,5] y", 'y = Einsum<equation = "nij,ikj->nk">(a, b)', 2 * 3 * 4 * 5),
        ("float[1,4,5,5] x", "float[1,4,5,5] y", "r = Relu(x) y = Mul(r, x)", 0),
    ],
)  # fmt: skip
def test_operators(inputs, output, body, macs):
    assert graph_macs(_model(inputs, output, body)) == macs


@pytest.mark.parametrize("lowering", [with_operator_function, lambda model: model], ids=["native", "plugin"])
def test_correlation_operator(lowering):
    inputs = "float[2,3,7,9] x, float[2,3,2,4] k"
    model = _model(inputs, "float[2,3,6,6] y", "y = siamtrt.DepthwiseXCorr<group = 6>(x, k)")
    assert graph_macs(lowering(model)) == 2 * 3 * 6 * 6 * 2 * 4


def test_shapes_in_between_are_inferred():
    """Nothing but inputs and output has a shape, and one is computed by the graph itself."""
    body = (
        "c = siamtrt.DepthwiseXCorr<group = 3>(x, k) d = Conv(c, w) "
        "side = Shape<start = 2>(d) rows = Constant<value_ints: ints = [2]>() to = Concat<axis = 0>(rows, side) "
        "e = Reshape(d, to) y = MatMul(e, b)"
    )
    inputs = "float[1,3,7,7] x, float[1,3,3,3] k, float[2,3,1,1] w, float[5,4] b"
    model = with_operator_function(_model(inputs, "float[2,5,4] y", body))
    assert graph_macs(model) == 3 * 25 * 9 + 2 * 25 * 3 + 2 * 5 * 4 * 5


@pytest.mark.parametrize(
    ("inputs", "output", "body", "message"),
    [
        ("float[1,3,H,8] x, float[4,3,3,3] w", "float[A,B,C,D] y", "y = Conv(x, w)", "no static shape of x, y"),
        (
            "float[1,3,8,8] x, float[1,3,3,3] k, float[4,3,3,3] w", "float[A,B,C,D] y",
            "r = Relu(x) c = siamtrt.DepthwiseXCorr<group = 3>(r, k) y = Conv(c, w)", "that gives c: .* shape of c;",
        ),
        ("float[2,3] a, float[2,3] b", "float[2] y", 'y = Einsum<equation = "...a,...a->...">(a, b)', "an Einsum"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_an_error(inputs, output, body, message):
    with pytest.raises(SiamtrtError, match=message):
        graph_macs(_model(inputs, output, body))


def test_alexnet_tracker_costs_what_pytorch_counts(tiny_bundle):
    """AlexNet gains nothing from the rewrites but merging, which saves no multiplication."""
    network = PRESETS["siamrpn_alex_tiny"].build().eval()
    graphs = {name: graph_macs(onnx.load(tiny_bundle / f"{name}.onnx")) for name in ("template", "search")}
    with torch.no_grad():
        with FlopCounterMode(display=False) as template:
            kernels = network.template(torch.zeros(1, 3, 127, 127))
        with FlopCounterMode(display=False) as search:
            network.search(torch.zeros(1, 3, 287, 287), *kernels)
    assert 2 * graphs["template"] == template.get_total_flops()
    assert 2 * graphs["search"] == search.get_total_flops()
