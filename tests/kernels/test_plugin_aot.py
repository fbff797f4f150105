"""What an engine is to hold of the plugin's ahead-of-time form.

TensorRT-RTX has no `tensorrt.plugin`, so a recorder stands for its decorators here: that TensorRT takes what it is
given, and launches it, is for `test_plugin_engine`.
"""

from __future__ import annotations

import re
import sys
import types
import typing

import pytest

from siamtrt.errors import MissingPackageError
from siamtrt.kernels import compiler
from siamtrt.kernels.plugin_aot import aot_kernel, register_aot
from siamtrt.kernels.xcorr import PLAIN_INTEGERS, XcorrShape, xcorr_launch

SHAPE = XcorrShape(3, 13, 29, 29, 5, 5)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    try:
        compiler.include_folder()
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("half", "entry"), [(False, "xcorr_plain_f32"), (True, "xcorr_plain_f16")])
def test_the_ptx_takes_inputs_then_integers_then_the_output(half, entry):
    kernel = aot_kernel(SHAPE, half, 86)
    assert kernel.entry == entry
    assert re.search(r"^\.target sm_86$", kernel.ptx, re.M)
    assert set(re.findall(r"\.entry (\w+)\(", kernel.ptx)) == {"xcorr_plain_f32", "xcorr_plain_f16"}
    parameters = re.search(rf"\.entry {entry}\((.*?)\)", kernel.ptx, re.S)[1]
    assert re.findall(r"\.param \.(\w+)", parameters) == ["u64", "u64", *["u32"] * len(kernel.integers), "u64"]


def test_the_launch_is_that_of_the_other_form():
    kernel = aot_kernel(SHAPE, False, 90)
    arguments, grid, block = xcorr_launch([SHAPE])
    assert (kernel.grid, kernel.block) == (grid, block)
    entry = arguments["entries"][0]
    assert kernel.integers == (39, *(int(entry[name]) for name in PLAIN_INTEGERS[1:]))


@pytest.mark.parametrize("architecture", [75, 87, 120])
def test_ptx_is_of_the_gpu_asked_for(architecture):
    assert f".target sm_{architecture}\n" in aot_kernel(SHAPE, True, architecture).ptx


class Desc:
    """A tensor as `tensorrt.plugin` describes it, with integers for symbols."""

    def __init__(self, shape, dtype="float"):
        self.shape, self.shape_expr, self.dtype = tuple(shape), list(shape), dtype

    def like(self):
        return Desc(self.shape, self.dtype)


class Params(tuple):
    """Grid and block."""

    def __new__(cls, *sides):
        return super().__new__(cls, sides)


class Integers(tuple):
    """Of a kernel."""

    @classmethod
    def from_tuple(cls, values):
        return cls(values)


@pytest.fixture
def recorded(monkeypatch):
    """The decorated functions by decorator and identity."""
    functions = {}

    def decorator(name):
        return lambda identity: lambda function: functions.setdefault((name, identity), function)

    recorder = types.SimpleNamespace(
        register=decorator("register"), aot_impl=decorator("aot_impl"), TensorDesc=Desc, KernelLaunchParams=Params,
        SymIntExprs=Integers, SymInt32=lambda value: ("int32", value),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "recorder.plugin", recorder)
    package = types.SimpleNamespace(__name__="recorder", DataType=types.SimpleNamespace(HALF="half"))
    register_aot(package, "siamtrt::DepthwiseXCorr", 86)
    return functions


def test_the_description_gives_the_output(recorded):
    describe = recorded["register", "siamtrt::DepthwiseXCorr"]
    assert typing.get_type_hints(describe) == {"x": Desc, "k": Desc, "return": Desc}
    assert describe(Desc((3, 8, 29, 31), "half"), Desc((3, 8, 5, 4))).shape_expr == [3, 8, 25, 28]


@pytest.mark.parametrize("dtype", ["half", "float"])
def test_the_implementation_gives_kernel_and_launch(recorded, dtype):
    implement = recorded["aot_impl", "siamtrt::DepthwiseXCorr"]
    entry, ptx, sides, integers = implement(Desc((3, 13, 29, 29), dtype), Desc((3, 13, 5, 5), dtype), None, None)
    expected = aot_kernel(SHAPE, dtype == "half", 86)
    assert (entry, ptx, sides) == (expected.entry, expected.ptx, (*expected.grid, *expected.block))
    assert integers == tuple(("int32", value) for value in expected.integers)
    assert typing.get_type_hints(implement)["return"] == tuple[str, str, Params, Integers]


def test_a_shape_that_is_not_known_is_refused(recorded):
    with pytest.raises(ValueError, match="at least 1"):
        recorded["aot_impl", "siamtrt::DepthwiseXCorr"](Desc((-1, 13, 29, 29)), Desc((-1, 13, 5, 5)), None, None)
