"""Real builds with TensorRT-RTX, which needs no GPU to build; that an engine loads and runs is for the GPU tests."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import snapshot
from rtx import RTX, needs_rtx

from siamtrt.errors import BuildError, BundleError, MissingPackageError
from siamtrt.export import engine as engine_module
from siamtrt.export import trt as trt_module
from siamtrt.export.engine import build_engines
from siamtrt.export.trt import TENSORRT, TENSORRT_RTX, Flavour, load_flavour, resolve_targets
from siamtrt.manifest import EngineRecord, load_manifest, save_manifest, sha256_of


def build_rtx(bundle: Path, precision: str, *targets: str) -> list[EngineRecord]:
    return build_engines(bundle, precision, targets, TENSORRT_RTX)


@needs_rtx
def test_fp16_engines_are_written_and_recorded(toy_bundle: Path) -> None:
    records = build_rtx(toy_bundle, "fp16", "sm75", "sm86")
    manifest = load_manifest(toy_bundle)
    assert list(manifest.engines) == records
    assert [(record.graph, record.target) for record in records] == [
        ("template", "sm75"), ("template", "sm86"), ("search", "sm75"), ("search", "sm86"),
    ]  # fmt: skip
    for record in records:
        path = toy_bundle / record.file
        assert path.name == f"{record.graph}.fp16.{TENSORRT_RTX}-{record.version}.{record.target}.engine"
        assert (record.sha256, record.size_bytes) == (sha256_of(path), path.stat().st_size)
        assert record.graph_sha256 == sha256_of(toy_bundle / f"{record.graph}.onnx")
        assert record.build_seconds > 0
    engines = {record.file for record in records}
    assert set(snapshot(toy_bundle)) == {"manifest.json", "template.onnx", "search.onnx", "engines", *engines}


@needs_rtx
def test_refused_target_names_the_way_out_and_changes_nothing(toy_bundle: Path) -> None:
    before = snapshot(toy_bundle)
    with pytest.raises(BuildError, match=r"(?s)search graph for sm75.*FP32 GEMM is not supported.*--fp16"):
        build_rtx(toy_bundle, "fp32", "sm86", "sm75")
    assert snapshot(toy_bundle) == before


@needs_rtx
def test_rebuilding_replaces_its_own_records_only(toy_bundle: Path) -> None:
    first = build_rtx(toy_bundle, "fp16", "sm86")
    other = build_rtx(toy_bundle, "fp32", "sm86")
    stale = tuple(dataclasses.replace(record, sha256="0" * 64) for record in first)
    save_manifest(dataclasses.replace(load_manifest(toy_bundle), engines=(*stale, *other)), toy_bundle)
    again = build_rtx(toy_bundle, "fp16", "sm86")
    assert list(load_manifest(toy_bundle).engines) == [*other, *again]
    assert all(sha256_of(toy_bundle / record.file) == record.sha256 for record in (*other, *again))


@needs_rtx
def test_unknown_target_lists_the_known_ones(toy_bundle: Path) -> None:
    before = snapshot(toy_bundle)
    with pytest.raises(BuildError, match=r"received sm53; expected one of sm75, .*sm86") as error:
        build_rtx(toy_bundle, "fp16", "sm86", "sm53")
    assert "--target" in error.value.fix
    assert snapshot(toy_bundle) == before


@needs_rtx
def test_unknown_operator_is_refused_in_the_parsers_words(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = engine_module._typed_onnx

    def with_unknown_operator(*arguments: Any) -> bytes:
        return typed(*arguments).replace(b"HardSigmoid", b"NoSuchOp___")

    monkeypatch.setattr(engine_module, "_typed_onnx", with_unknown_operator)
    with pytest.raises(BuildError, match=r"ONNX parser refused the fp32 search graph.*NoSuchOp___"):
        build_rtx(toy_bundle, "fp32", "sm86")


@needs_rtx
def test_targets_are_taken_once_and_in_any_case() -> None:
    assert RTX is not None
    assert resolve_targets(RTX, ["SM89", "sm86", " sm89"]) == ("sm89", "sm86")


@needs_rtx
@pytest.mark.parametrize(("gpu", "expected"), [(None, ("sm86", "sm89", "sm120")), ("sm75", ("sm75",))])
def test_default_targets(gpu: str | None, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert RTX is not None
    monkeypatch.setattr(trt_module, "gpu_target", lambda: gpu)
    assert resolve_targets(RTX) == expected


def test_full_tensorrt_builds_for_the_gpu_here_only(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Flavour(TENSORRT, SimpleNamespace(__version__="10.9"))
    monkeypatch.setattr(trt_module, "gpu_target", lambda: "sm87")
    assert resolve_targets(full) == resolve_targets(full, ["sm87"]) == ("sm87",)
    with pytest.raises(BuildError, match=r"received sm86; expected one of sm87.*--flavour tensorrt_rtx"):
        resolve_targets(full, ["sm86"])
    monkeypatch.setattr(trt_module, "gpu_target", lambda: None)
    with pytest.raises(BuildError, match=r"only for the GPU it runs on: received no GPU"):
        resolve_targets(full)


@pytest.mark.parametrize(("flavour", "extra"), [(None, "rtx"), (TENSORRT, "tensorrt"), (TENSORRT_RTX, "rtx")])
def test_missing_package_names_the_command(flavour: str | None, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(trt_module.importlib, "import_module", absent)
    with pytest.raises(MissingPackageError) as error:
        load_flavour(flavour)
    assert error.value.fix == f"pip install 'siamtrt[{extra}]'"


@pytest.mark.parametrize(("gpu", "first"), [(None, TENSORRT_RTX), ("sm86", TENSORRT)])
def test_preferred_flavour(gpu: str | None, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_module, "gpu_target", lambda: gpu)
    monkeypatch.setattr(trt_module.importlib, "import_module", lambda name: SimpleNamespace(__version__="1"))
    assert load_flavour().name == first


@pytest.mark.parametrize(("precision", "flavour"), [("int4", None), ("fp16", "openvino")])
def test_unknown_choices_are_refused(toy_bundle: Path, precision: str, flavour: str | None) -> None:
    with pytest.raises(BuildError, match=r"unknown (precision|flavour).*expected \w+ or \w+"):
        build_engines(toy_bundle, precision, None, flavour)


def test_edited_onnx_is_refused(toy_bundle: Path) -> None:
    (toy_bundle / "search.onnx").write_bytes(b"not the exported graph")
    before = snapshot(toy_bundle)
    with pytest.raises(BundleError, match=r"search\.onnx was changed"):
        build_engines(toy_bundle, "fp16", ["sm86"])
    assert snapshot(toy_bundle) == before
