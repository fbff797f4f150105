"""Bundles that are incomplete, edited, hostile, or of another version; and where a bundle may be written."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
import torch

from siamtrt.errors import BundleError, EngineError, SiamtrtError
from siamtrt.export import bundle as bundle_module
from siamtrt.manifest import load_manifest
from siamtrt.runtime import engines
from siamtrt.runtime.session import open_session
from siamtrt.runtime.tracker import Tracker

NAN, INFINITY = float("nan"), float("inf")


def put(*path_and_value):
    """A change of the manifest: `put("decoding", "stride", 0)`."""
    *path, last, value = path_and_value

    def change(manifest):
        for key in path:
            manifest = manifest[key]
        manifest[last] = value

    return change


@pytest.mark.parametrize("command", [("info",), ("track", "video", "--init=1,1,9,9"), ("build",)], ids=lambda c: c[0])
def test_no_bundle(fails, short_video, work, command):
    if command[0] == "build":
        pytest.importorskip("siamtrt.export.engine")
    rest = [short_video.path if word == "video" else word for word in command[1:]]
    assert fails(command[0], work / "absent", *rest).startswith("not a bundle: received")
    (work / "file").write_text("")
    assert fails(command[0], work / "file", *rest).startswith("not a bundle: received")


@pytest.mark.parametrize("name", ["template.onnx", "search.onnx"])
def test_missing_file(fails, refused, bundle, name):
    (bundle / name).unlink()
    assert name in fails("info", bundle)
    with refused(BundleError, f"no {name} in"):
        Tracker.load(bundle, "onnxruntime")


@pytest.mark.parametrize("name", ["template.onnx", "search.onnx"])
def test_one_edited_byte(fails, refused, bundle, short_video, work, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    message = fails("track", bundle, short_video.path, "--init", short_video.init, "--boxes", work / "boxes.csv")
    assert message.startswith(f"bundle file {name} was changed: received sha256")
    assert fails("info", bundle).startswith(f"bundle file {name} was changed")
    with refused(BundleError, f"restore {name}"):
        open_session(bundle, name.removesuffix(".onnx"), "onnxruntime")


def test_file_linked_from_outside(refused, bundle, tmp_path):
    """The hash alone would accept it."""
    (bundle / "search.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "search.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with refused(BundleError, "search.onnx"):
        Tracker.load(bundle, "onnxruntime")


@pytest.mark.parametrize("version", [3, 1, 0, None, "2"])
def test_another_schema(fails, edit_manifest, version):
    message = fails("info", edit_manifest(put("schema_version", version)))
    assert f"schema_version {version!r} in" in message
    assert "expected schema_version 2" in message
    assert "pip install -U siamtrt" in message


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "3", '"text"', "{}", '{"schema_version": 2}', "\udcff\udcfe", "[" * 100_000],
    ids=["empty", "cut", "null", "list", "number", "text", "no fields", "version only", "bytes", "deep"],
)
def test_garbage_manifest(fails, bundle, text):
    (bundle / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "manifest.json" in fails("info", bundle)


@pytest.mark.parametrize("name", ["../x.onnx", "a/../../x.onnx", "/etc/passwd", "..\\x.onnx", "", ".", "a\0b"])
def test_path_that_leaves_the_bundle(fails, edit_manifest, name):
    message = fails("info", edit_manifest(put("graphs", "search", "file", name)))
    assert message.startswith("invalid manifest")
    assert repr(name) in message
    assert "leaves the bundle" in message


LONG_TERM = {"sizes": [831], "low": 0.8, "high": 0.998, "window_influence": 0.001, "kind": "long_term"}
DISTRACTORS = {
    "kernel": "kernel2", "similarity": "kernel0", "threshold": 0.5, "nms_iou": 0.3, "top_k": 20, "limit": 2,
    "weight": 0.5, "kind": "distractor_aware",
}  # fmt: skip
BAD_VALUES = {
    "no graphs": put("graphs", {}),
    "graphs a list": put("graphs", []),
    "unknown field": put("colour", "red"),
    "model a number": put("model", 3),
    "stride a text": put("decoding", "stride", "8"),
    "stride zero": put("decoding", "stride", 0),
    "score_size negative": put("decoding", "score_size", -21),
    "score_size of another map": put("decoding", "score_size", 25),
    "ratio zero": put("decoding", "ratios", [0.33, 0.5, 1.0, 2.0, 0.0]),
    "ratio NaN": put("decoding", "ratios", [0.33, 0.5, 1.0, 2.0, NAN]),
    "no ratios": put("decoding", "ratios", []),
    "one scale too many": put("decoding", "scales", [8.0, 16.0]),
    "kind unknown": put("decoding", "kind", "circle"),
    "lr NaN": put("tracking", "lr", NAN),
    "lr a truth value": put("tracking", "lr", True),
    "penalty_k infinite": put("tracking", "penalty_k", INFINITY),
    "window_influence negative": put("tracking", "window_influence", -0.1),
    "min_side zero": put("tracking", "min_side", 0.0),
    "context_amount NaN": put("preprocessing", "context_amount", NAN),
    "channel order": put("preprocessing", "channel_order", "gbr"),
    "search_size negative": put("preprocessing", "search_size", -287),
    "search_size of a terabyte": put("preprocessing", "search_size", 1 << 20),
    "parity empty": put("parity", {}),
    "parity NaN": put("parity", {"cls": NAN}),
    "no inputs": put("graphs", "search", "inputs", []),
    "no outputs": put("graphs", "search", "outputs", []),
    "template outputs": put("graphs", "template", "outputs", []),
    "dtype": put("graphs", "template", "inputs", [{"name": "z", "shape": [1, 3, 127, 127], "dtype": "float33"}]),
    "shape negative": put("graphs", "template", "inputs", [{"name": "z", "shape": [-1, 3, 127, 127]}]),
    "shape of texts": put("graphs", "template", "inputs", [{"name": "z", "shape": ["1", "3", "127", "127"]}]),
    "engines a dict": put("engines", {"file": "x"}),
    "constants of another decoding": put("tracking", {"scale_penalty": 0.9, "window_influence": 0.2, "scale_lr": 0.5}),
    "constants of nothing": put("tracking", {}),
    "strategy unknown": put("strategies", "hope", {}),
    "wide search without a graph": put("strategies", "search", LONG_TERM),
    "wide search of no size": put("strategies", "search", {**LONG_TERM, "sizes": []}),
    "wide search of a negative size": put("strategies", "search", {**LONG_TERM, "sizes": [-831]}),
    "wide search that returns too early": put("strategies", "search", {**LONG_TERM, "low": 0.999}),
    "wide search threshold NaN": put("strategies", "search", {**LONG_TERM, "low": NAN}),
    "window alone while lost": put("strategies", "search", {**LONG_TERM, "window_influence": 1.0}),
    "mask without a graph": put("strategies", "mask", {"threshold": 0.3}),
    "mask threshold NaN": put("strategies", "mask", {"threshold": NAN}),
    "update without a graph": put("strategies", "template", {"kind": "transform"}),
    "distractors without their kernel": put("strategies", "template", DISTRACTORS),
    "blend of more than all": put("strategies", "template", {"first_share": 1.5, "rate": 0.1, "kind": "blended"}),
    "spatial mask without an input": put("strategies", "spatial_mask", {"threshold": 1.5, "side": 6}),
    "a graph nothing runs": lambda manifest: manifest["graphs"].update(refine=manifest["graphs"]["search"]),
}


@pytest.mark.parametrize("change", BAD_VALUES.values(), ids=BAD_VALUES)
def test_hostile_manifest(fails, edit_manifest, change):
    message = fails("info", edit_manifest(change))
    assert message.startswith("invalid manifest")
    assert "expected schema 2" in message


def test_untouched_copy_loads(bundle, edit_manifest):
    """The edits above fail for what they change, not for being rewritten."""
    assert load_manifest(edit_manifest(lambda manifest: None)) == load_manifest(bundle)


def with_hash(bundle, name, data):
    """Replace a graph and its hash, as someone who knows the format would."""
    import hashlib

    (bundle / f"{name}.onnx").write_bytes(data)
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["graphs"][name]["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(manifest))


def test_rehashed_garbage_graph(refused, bundle):
    with_hash(bundle, "search", b"not a graph")
    with refused(BundleError, "search.onnx"):
        open_session(bundle, "search", "onnxruntime")


def test_rehashed_graph_of_another_tracker(refused, bundle):
    with_hash(bundle, "search", (bundle / "template.onnx").read_bytes())
    with refused(BundleError, "manifest and graph disagree"):
        open_session(bundle, "search", "onnxruntime")


def test_consistent_manifest_of_another_size(refused, edit_manifest, bundle):
    """Tensors that fit each other but not the file."""

    def change(manifest):
        for graph, tensors in (("template", "outputs"), ("search", "inputs")):
            manifest["graphs"][graph][tensors][-1]["shape"] = [1, 128, 6, 6]

    edit_manifest(change)
    with refused(BundleError, "manifest and graph disagree"):
        open_session(bundle, "template", "onnxruntime")


def engine(**changes):
    record = {
        "file": "engines/search.engine", "graph": "search", "sha256": "0", "graph_sha256": "", "flavour": "tensorrt",
        "version": "10.3.0", "precision": "fp16", "target": "sm87", "build_seconds": 1.0, "size_bytes": 1,
    }  # fmt: skip
    return {**record, **changes}


@pytest.mark.parametrize(
    "changes",
    [{"version": "10.4.0"}, {"target": "sm86"}, {"flavour": "tensorrt_rtx"}, {"graph_sha256": "1"}, {"precision": "?"}],
    ids=lambda changes: next(iter(changes)),
)
def test_engine_of_another_version(refused, edit_manifest, monkeypatch, changes):
    """The GPU is a pretended one: only the selection is tested here, no engine is loaded."""
    device = engines.Device("tensorrt", "10.3.0", "sm87")
    monkeypatch.setattr(engines, "find_devices", lambda: [device])

    def change(manifest):
        fitting = engine(graph_sha256=manifest["graphs"]["search"]["sha256"])
        manifest["engines"] = [{**fitting, **changes}]
        manifest["note"] = json.dumps(fitting)

    bundle = edit_manifest(change)
    manifest = load_manifest(bundle)
    with refused(EngineError, "no search engine for this machine") as caught:
        engines.select_engine(manifest, "search", bundle)
    assert "expected tensorrt 10.3.0 sm87" in str(caught.value)
    assert not engines.can_run_engines(manifest)
    edit_manifest(lambda raw: raw.update(engines=[json.loads(raw["note"])]))
    assert engines.select_engine(load_manifest(bundle), "search", bundle)[1] == device


@pytest.mark.parametrize("kind", ["file", "notes", "other manifest"])
def test_export_onto_what_is_not_a_bundle(fails, tiny_checkpoint, work, kind):
    target = work / "precious"
    if kind == "file":
        target.write_text("keep")
    else:
        target.mkdir()
        (target / "notes.txt").write_text("keep")
        if kind == "other manifest":  # of a browser's extension, say
            (target / "manifest.json").write_text('{"manifest_version": 3, "name": "x"}')
    message = fails("export", tiny_checkpoint, "-o", target)
    assert message.startswith("will not overwrite what is not a bundle")
    assert str(target) in message


def test_export_below_a_file(fails, tiny_checkpoint, work):
    (work / "file").write_text("keep")
    assert "file/out" in fails("export", tiny_checkpoint, "-o", work / "file" / "out")


@pytest.mark.parametrize("older", [False, True], ids=["new", "over an older bundle"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt], ids=["parity", "interrupt"])
def test_failing_export_leaves_nothing(fails, tiny_checkpoint, work, monkeypatch, older, error):
    """Torch's exporter is replaced by a stub: what fails here is the comparison, after files were written."""
    target = work / "new" / "folder" / "out"
    if older:
        target.mkdir(parents=True)
        (target / "manifest.json").write_text('{"schema_version": 0, "graphs": {}}')
    graph = SimpleNamespace(model=bundle_module.onnx.ModelProto(), inputs=(), outputs=())
    monkeypatch.setattr(bundle_module, "export_graphs", lambda *_: {"template": graph, "search": graph})

    def parity(network, staging, batch):
        assert (staging / "search.onnx").is_file()
        if error:
            raise error
        return {"cls": 1e-6, "loc": NAN}

    monkeypatch.setattr(bundle_module, "measure_parity", parity)
    if error is None:
        message = fails("export", tiny_checkpoint, "-o", target)
        assert message.startswith("the exported siamrpn_alex_tiny does not reproduce PyTorch: received loc off by nan")
        return
    before = sorted(work.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        bundle_module.export_bundle(tiny_checkpoint, target)
    assert sorted(work.rglob("*")) == before


def test_network_that_computes_nan(fails, tiny_checkpoint, work):
    """Finite weights, but a negative variance: refused by the comparison, through the real export."""
    state = torch.load(tiny_checkpoint, weights_only=True)
    name = next(key for key in state if key.endswith("running_var"))
    state[name] -= 2.0
    torch.save(state, work / "negative.pth")
    assert "does not reproduce PyTorch" in fails("export", work / "negative.pth", "-o", work / "deep" / "out")


@pytest.mark.skipif(os.name != "posix", reason="needs a working directory that can be renamed")
def test_export_to_the_working_directory(tiny_checkpoint, work, monkeypatch):
    """`-o .` has no name of its own; it is replaced like any other directory."""
    inside = work / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    graph = SimpleNamespace(model=bundle_module.onnx.ModelProto(), inputs=(), outputs=())
    monkeypatch.setattr(bundle_module, "export_graphs", lambda *_: {"template": graph, "search": graph})
    monkeypatch.setattr(bundle_module, "measure_parity", lambda *_: {"cls": 1.0})
    with pytest.raises(SiamtrtError, match="does not reproduce"):
        bundle_module.export_bundle(tiny_checkpoint, ".")
    assert [path.name for path in work.rglob("*")] == ["inside"]
