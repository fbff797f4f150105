"""The choice of the correlation's lowering.

Engines are TensorRT-RTX's, which has no plugins and is always native. That TensorRT builds the other lowering, and that
times decide, is for a GPU: `test_plugin_engine`.
"""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from folders import snapshot

from siamtrt.cli import main
from siamtrt.errors import BuildError, MissingPackageError
from siamtrt.export import lowering
from siamtrt.export.engine import build_engines
from siamtrt.export.lowering import Built, faster, lowerings, require_choice
from siamtrt.export.operator import with_plugin_nodes
from siamtrt.export.trt import TENSORRT, TENSORRT_RTX, Flavour, _network_flags, engine_from_onnx, load_flavour
from siamtrt.info import describe_bundle
from siamtrt.manifest import EngineRecord, load_manifest

FULL, RTX = (Flavour(name, SimpleNamespace(__version__="10", IPluginV3=None)) for name in (TENSORRT, TENSORRT_RTX))
EIGHT = Flavour(TENSORRT, SimpleNamespace(__version__="8.5"))


@pytest.fixture
def rtx() -> Flavour:
    try:
        return load_flavour(TENSORRT_RTX)
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("flavour", "graph", "choice", "can_time", "expected"),
    [
        (FULL, "search", "native", True, ("native",)),
        (FULL, "search", "plugin", True, ("plugin",)),
        (FULL, "search", "plugin", False, ("plugin",)),
        (FULL, "search", "auto", True, ("native", "plugin")),
        (FULL, "search", "auto", False, ("native",)),
        (FULL, "template", "plugin", True, ("native",)),
        (FULL, "template", "auto", True, ("native",)),
        (RTX, "search", "auto", True, ("native",)),
        (EIGHT, "search", "auto", True, ("native",)),
    ],
)
def test_what_is_built(toy_graphs, flavour, graph, choice, can_time, expected):
    assert lowerings(flavour, toy_graphs[graph].SerializeToString(), choice, can_time) == expected


def test_the_faster_engine_is_kept_with_the_times_of_both():
    native, plugin = Built(b"n", 1.0, "native"), Built(b"p", 2.0, "plugin_aot")
    assert faster((native, plugin), (0.5, 0.25)) == Built(b"p", 2.0, "plugin_aot", {"native": 0.5, "plugin_aot": 0.25})
    assert faster((native, plugin), (0.1, 0.2)).engine == b"n"
    assert faster((native, plugin), (0.2, 0.2)).xcorr == "native"
    with pytest.raises(ValueError, match="zip"):
        faster((native, plugin), (0.2,))


def test_without_the_plugin_the_native_engine_is_kept_with_a_warning(toy_graphs, monkeypatch):
    """The order of things alone, without engines."""

    def built(flavour, onnx_bytes, target, name, lowering):
        if lowering == "plugin":
            raise MissingPackageError("no CuPy", received="none", expected="one", fix="install it")
        return Built(b"n", 1.0, "native")

    monkeypatch.setattr(lowering, "_built", built)
    search = toy_graphs["search"].SerializeToString()
    with pytest.warns(UserWarning, match="the fp16 search graph is built without the plugin: no CuPy"):
        assert lowering.build(FULL, search, "sm86", "fp16 search", "auto", lambda *_: 1.0) == Built(b"n", 1.0, "native")
    with pytest.raises(MissingPackageError, match="no CuPy"):
        lowering.build(FULL, search, "sm86", "fp16 search", "plugin")


def test_tensorrt_rtx_has_no_plugins(rtx, toy_bundle):
    before = snapshot(toy_bundle)
    with pytest.raises(BuildError, match=r"tensorrt_rtx \S+ cannot take the plugin.*native or auto.*--flavour"):
        build_engines(toy_bundle, "fp16", ["sm86"], TENSORRT_RTX, xcorr="plugin")
    assert snapshot(toy_bundle) == before
    with pytest.raises(BuildError, match=r"received 'fast'; expected native or plugin or auto"):
        require_choice("fast", FULL)
    with pytest.raises(BuildError, match=r"tensorrt 8\.5 cannot take the plugin"):
        require_choice("plugin", EIGHT)


def test_the_command_line_refuses_it_in_one_line(rtx, toy_bundle):
    command = ["build", str(toy_bundle), "--target", "sm86", "--flavour", TENSORRT_RTX, "--xcorr", "plugin"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line.startswith("siamtrt: tensorrt_rtx ")
    assert "Fix: leave --xcorr out" in line


def test_tensorrt_rtx_builds_native_and_times_nothing(rtx, toy_bundle):
    def timer(engine: bytes, flavour: str) -> float:
        raise AssertionError("there is nothing to choose")

    records = build_engines(toy_bundle, "fp16", ["sm86"], TENSORRT_RTX, timer=timer)
    assert [(record.graph, record.xcorr, record.xcorr_ms) for record in records] == [
        ("template", "native", None), ("search", "native", None),
    ]  # fmt: skip
    assert load_manifest(toy_bundle).engines == tuple(records)
    assert "correlation" not in describe_bundle(toy_bundle)


def test_the_plugin_lowering_leaves_the_parser_no_body_to_take(rtx, toy_graphs):
    plugin = with_plugin_nodes(toy_graphs["search"]).SerializeToString()
    with pytest.raises(BuildError, match=r"ONNX parser refused the fp32 search graph.*DepthwiseXCorr"):
        engine_from_onnx(rtx, plugin, "sm86", "fp32 search")
    assert engine_from_onnx(rtx, toy_graphs["search"].SerializeToString(), "sm86", "fp32 search")


def test_choice_and_times_are_in_the_manifest_and_older_ones_load(rtx, toy_bundle):
    build_engines(toy_bundle, "fp16", ["sm86"], TENSORRT_RTX)
    path = toy_bundle / "manifest.json"
    raw = json.loads(path.read_text())
    raw["engines"][1] |= {"xcorr": "plugin_aot", "xcorr_ms": {"native": 0.5, "plugin_aot": 0.25}}
    for key in ("xcorr", "xcorr_ms"):
        del raw["engines"][0][key]  # as it was before there was a choice
    path.write_text(json.dumps(raw))
    old, new = load_manifest(toy_bundle).engines
    assert isinstance(old, EngineRecord)
    assert (old.xcorr, old.xcorr_ms) == ("native", None)
    assert (new.xcorr, new.xcorr_ms) == ("plugin_aot", {"native": 0.5, "plugin_aot": 0.25})
    lines = describe_bundle(toy_bundle).splitlines()
    assert lines[-1].endswith(", correlation plugin_aot of native 0.500 ms, plugin_aot 0.250 ms")
    assert "correlation" not in lines[-2]


@pytest.mark.parametrize(
    ("members", "plain", "with_aot"),
    [
        ({"STRONGLY_TYPED": 1, "PREFER_AOT_PYTHON_PLUGINS": 3}, 0b10, 0b1010),  # 10.13
        ({"STRONGLY_TYPED": 0, "PREFER_AOT_PYTHON_PLUGINS": 2}, 0b1, 0b101),  # 11
        ({"STRONGLY_TYPED": 1}, 0b10, 0b10),  # 10.3
        ({}, 0, 0),
    ],
)
def test_network_flags_by_what_the_version_has(members, plain, with_aot):
    package = SimpleNamespace(NetworkDefinitionCreationFlag=enum.IntEnum("Flag", members))
    assert (_network_flags(package, False), _network_flags(package, True)) == (plain, with_aot)
