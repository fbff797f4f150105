"""What `siamtrt compare` compares: a bundle's graphs in other precisions, and its engines, as open sessions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from siamtrt.calibration.evaluation import Models
from siamtrt.calibration.halves import simulated
from siamtrt.calibration.record import Calibration
from siamtrt.calibration.variants import CALIBRATED, VARIANTS, int8_share, variant_models
from siamtrt.errors import EngineError, MissingPackageError, SiamtrtError
from siamtrt.manifest import EngineRecord, Manifest
from siamtrt.runtime.engines import PRECISIONS, select_engine
from siamtrt.runtime.ort_session import OrtSession
from siamtrt.runtime.session import Session

REFERENCE = "fp32"
CONTRASTS = ("naive", "shaken")  # what the others avoid, and what chance does; no budget is for them
ENGINE = "engine:"  # before the precision of an engine
ENGINES = tuple(ENGINE + precision for precision in PRECISIONS)
BUILT_AS = {"fp32": "fp32", "fp16": "fp16", "mixed": "int8"}  # the precision of the engines a variant is built to


@dataclass(frozen=True)
class Opened:
    """What a variant is before it runs."""

    sessions: dict[str, Session]
    int8_share: float | None
    graph_bytes: int | None
    engine_bytes: dict[str, int]


def chosen_variants(variants: Iterable[str] | None, manifest: Manifest, calibrated: bool) -> tuple[str, ...]:
    """FP32, then the others in the order given, each once."""
    if variants is None:
        built = {engine.precision for engine in manifest.engines}
        engines = (ENGINE + precision for precision in PRECISIONS if precision in built)
        variants = ("fp16", *(CALIBRATED if calibrated else ()), *engines)
    names = tuple(dict.fromkeys((REFERENCE, *variants)))
    known = (*VARIANTS, *ENGINES)
    if strangers := [name for name in names if name not in known]:
        raise SiamtrtError(
            "no such variant", received=", ".join(map(repr, strangers)), expected=", ".join(known),
            fix="correct the name",
        )  # fmt: skip
    return names


def runnable_variants(
    bundle: Path, manifest: Manifest, names: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The variants that can run here, and why the others cannot.

    Raises:
        SiamtrtError: there is nothing left to compare with FP32.
    """
    skipped = {}
    for name in names:
        if name in ENGINES:
            try:
                _engines_here(bundle, manifest, name)
            except (EngineError, MissingPackageError) as error:
                skipped[name] = f"{error.what}: {error.received}"
    left = tuple(name for name in names if name not in skipped)
    if skipped and left == (REFERENCE,):
        raise SiamtrtError(
            "nothing to compare with FP32", received="; ".join(f"{name}: {why}" for name, why in skipped.items()),
            expected="a variant that runs here", fix="name an ONNX variant too, or run this where the engines run",
        )  # fmt: skip
    return left, skipped


def _engines_here(bundle: Path, manifest: Manifest, name: str) -> list[EngineRecord]:
    """The engines of one precision that fit this machine, one a graph; errors of `select_engine`."""
    only = _with_engines_of(manifest, name)
    return [select_engine(only, graph, bundle)[0] for graph in manifest.graphs]


def _with_engines_of(manifest: Manifest, name: str) -> Manifest:
    precision = name.removeprefix(ENGINE)
    engines = tuple(engine for engine in manifest.engines if engine.precision == precision)
    return dataclasses.replace(manifest, engines=engines)


@contextmanager
def opened_variant(
    name: str, bundle: Path, manifest: Manifest, models: Models, calibration: Calibration | None, half: bool,
    threads: int | None,
) -> Iterator[Opened]:  # fmt: skip
    """A variant with open sessions."""
    sessions: dict[str, Session] = {}
    try:
        if name in ENGINES:
            opened = _open_engines(name, bundle, manifest, sessions)
        else:
            graphs = variant_models(name, models, calibration, manifest, half, threads)
            for graph, model in graphs.items():
                data = simulated(model).SerializeToString()
                sessions[graph] = OrtSession(data, manifest.graphs[graph], threads, graph)
            size = sum(len(model.SerializeToString()) for model in graphs.values())
            opened = Opened(sessions, int8_share(name, models, calibration), size, _engine_bytes(manifest, name))
        yield opened
    finally:
        for session in sessions.values():
            session.close()


def _open_engines(name: str, bundle: Path, manifest: Manifest, sessions: dict[str, Session]) -> Opened:
    from siamtrt.runtime.trt_session import trt_session

    records = _engines_here(bundle, manifest, name)
    for graph in manifest.graphs:
        sessions[graph] = trt_session(bundle, _with_engines_of(manifest, name), graph)
    share = None if name == ENGINE + "int8" else 0.0
    return Opened(sessions, share, None, {_place(records[0]): sum(record.size_bytes for record in records)})


def _engine_bytes(manifest: Manifest, name: str) -> dict[str, int]:
    """Sizes of what a variant was built to, by place, where every graph was."""
    engines = [
        engine for engine in manifest.engines
        if engine.precision == BUILT_AS.get(name) and engine.graph_sha256 == manifest.graphs[engine.graph].sha256
    ]  # fmt: skip
    places = {_place(engine): [row for row in engines if _place(row) == _place(engine)] for engine in engines}
    whole = {place: rows for place, rows in places.items() if len(rows) == len(manifest.graphs)}
    return {place: sum(row.size_bytes for row in rows) for place, rows in whole.items()}


def _place(engine: EngineRecord) -> str:
    return f"{engine.flavour} {engine.version} {engine.target}"
