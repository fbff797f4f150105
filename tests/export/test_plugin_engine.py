"""Engines with the plugin, built and run: needs TensorRT, CuPy and a GPU. It has not been run yet, for want of one.

A process has one form of the plugin, and the one that runs an engine is not the one that built it: so each is a Python
of its own.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from siamtrt.kernels.plugin import best_form
from siamtrt.runtime.engines import find_devices

pytestmark = pytest.mark.gpu

BUILD = """
import sys
from siamtrt.export import lowering
from siamtrt.export.engine import build_engines
from siamtrt.runtime.engine_timing import engine_ms

bundle, precision, form, xcorr = sys.argv[1:]
lowering.best_form = lambda package: form
template, search = build_engines(bundle, precision, None, "tensorrt", xcorr=xcorr, timer=engine_ms)
plugin = "plugin_aot" if form == "aot" else "plugin"
assert (template.xcorr, template.xcorr_ms) == ("native", None), template
if xcorr == "plugin":
    assert (search.xcorr, search.xcorr_ms) == (plugin, None), search
else:
    assert set(search.xcorr_ms) == {"native", plugin}, search
    assert search.xcorr_ms[search.xcorr] == min(search.xcorr_ms.values()), search
"""
RUN = """
import sys
import numpy as np
from siamtrt.runtime import open_session

bundle, limit = sys.argv[1], float(sys.argv[2])
with open_session(bundle, "search", "tensorrt") as ours, open_session(bundle, "search", "onnxruntime") as reference:
    rng = np.random.default_rng(0)
    for _ in range(2):
        feeds = {spec.name: rng.uniform(0, 1, spec.shape).astype(spec.dtype) for spec in ours.inputs}
        expected = reference.run(feeds)
        for name, found in ours.run(feeds).items():
            error = np.abs(found - expected[name]).max() / np.abs(expected[name]).max()
            assert error <= limit, (name, error)
"""


@pytest.fixture(autouse=True, scope="module")
def _gpu():
    if all(device.flavour != "tensorrt" for device in find_devices()):
        pytest.skip("no GPU with CuPy and TensorRT to build and run plugins on")


def _python(code: str, *arguments: object) -> None:
    result = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.parametrize("form", ["aot", "python"])
@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-3), ("fp16", 2e-2)])
@pytest.mark.parametrize("xcorr", ["plugin", "auto"])
def test_an_engine_with_the_plugin_equals_onnx_runtime(toy_bundle, form, precision, limit, xcorr):
    if form == "aot" and best_form(pytest.importorskip("tensorrt")) != "aot":
        pytest.skip("this TensorRT has no ahead-of-time plugins")
    _python(BUILD, toy_bundle, precision, form, xcorr)
    _python(RUN, toy_bundle, limit)
