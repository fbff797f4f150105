"""One contract, every backend."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from siamtrt.errors import SessionError
from siamtrt.export.engine import build_engines
from siamtrt.manifest import GRAPHS, load_manifest
from siamtrt.runtime.engines import find_devices
from siamtrt.runtime.session import open_session

BACKENDS = ["onnxruntime", "torch", pytest.param("tensorrt", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def bundle_with_engines(tiny_bundle, tmp_path_factory):
    """The tiny bundle with FP32 engines for the GPU of this machine."""
    devices = find_devices()
    if not devices:
        pytest.skip("no GPU with CuPy and TensorRT to run an engine on")
    bundle = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("engines") / "bundle")
    build_engines(bundle, "fp32", [devices[0].target], devices[0].flavour)
    return bundle


@pytest.fixture(params=BACKENDS)
def open_graph(request, tiny_bundle, tiny_checkpoint):
    """Opens a graph of the tiny bundle with one backend."""
    bundle = request.getfixturevalue("bundle_with_engines") if request.param == "tensorrt" else tiny_bundle
    checkpoint = tiny_checkpoint if request.param == "torch" else None
    return lambda graph: open_session(bundle, graph, request.param, checkpoint=checkpoint)


def _feeds(session, seed=0):
    rng = np.random.default_rng(seed)
    return {spec.name: rng.uniform(0, 255, spec.shape).astype(spec.dtype) for spec in session.inputs}


@pytest.mark.parametrize("graph", GRAPHS)
def test_specs_are_the_manifest_s_in_order(open_graph, tiny_bundle, graph):
    spec = load_manifest(tiny_bundle).graphs[graph]
    with open_graph(graph) as session:
        assert session.inputs == spec.inputs
        assert session.outputs == spec.outputs


@pytest.mark.parametrize("graph", GRAPHS)
def test_outputs_are_as_declared_and_deterministic(open_graph, graph):
    with open_graph(graph) as session:
        feeds = _feeds(session)
        first = {name: value.copy() for name, value in session.run(feeds).items()}
        second = session.run(feeds)
    assert list(first) == [spec.name for spec in session.outputs]
    for spec in session.outputs:
        assert (first[spec.name].shape, str(first[spec.name].dtype)) == (spec.shape, spec.dtype)
        np.testing.assert_array_equal(first[spec.name], second[spec.name])


@pytest.mark.parametrize("graph", GRAPHS)
def test_backends_agree_with_onnx_runtime(open_graph, tiny_bundle, graph):
    with open_graph(graph) as session, open_session(tiny_bundle, graph, "onnxruntime", threads=1) as reference:
        feeds = _feeds(session, seed=1)
        found, expected = session.run(feeds), reference.run(feeds)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= 1e-4 * np.abs(value).max()


def test_inputs_are_not_changed(open_graph):
    with open_graph("search") as session:
        feeds = _feeds(session)
        copies = {name: value.copy() for name, value in feeds.items()}
        session.run(feeds)
    for name, value in copies.items():
        np.testing.assert_array_equal(feeds[name], value)


@pytest.mark.parametrize("fault", ["missing", "extra", "renamed", "shape", "dtype"])
def test_wrong_feeds_are_refused(open_graph, fault):
    with open_graph("search") as session:
        feeds = _feeds(session)
        if fault == "missing":
            del feeds["kernel0"]
        elif fault == "extra":
            feeds["other"] = feeds["x"]
        elif fault == "renamed":
            feeds["image"] = feeds.pop("x")
        elif fault == "shape":
            feeds["x"] = feeds["x"][..., :-1]
        else:
            feeds["x"] = feeds["x"].astype(np.float64)
        with pytest.raises(SessionError, match="expected x float32"):
            session.run(feeds)


def test_closed_sessions_refuse_to_run_and_close_twice(open_graph):
    session = open_graph("template")
    feeds = _feeds(session)
    session.close()
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session.run(feeds)


def test_auto_falls_back_to_onnx_runtime(tiny_bundle):
    if find_devices():
        pytest.skip("this machine has a GPU")
    with open_session(tiny_bundle, "search") as session:
        assert session.backend == "onnxruntime"
