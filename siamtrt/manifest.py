"""The bundle's manifest: everything downstream of `export` may know about a tracker."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import dacite

from siamtrt.consistency import require_usable
from siamtrt.errors import BundleError
from siamtrt.files import write_whole
from siamtrt.tracking import Constants, Decoding, Preprocessing, Strategies, require_numbers

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
GRAPHS = ("template", "search")  # of every bundle; strategies may add others
FLAVOURS = ("tensorrt", "tensorrt_rtx")
Xcorr = Literal["native", "plugin", "plugin_aot"]
TENSOR_DTYPES = ("float32", "float16", "int32", "int64", "int8", "uint8", "bool")
Fields = TypeVar("Fields")


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor of a graph: static shape (batch first) and NumPy dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in TENSOR_DTYPES:
            raise ValueError(f"dtype {self.dtype!r} of {self.name} is none of {', '.join(TENSOR_DTYPES)}")
        if not self.shape or min(self.shape) <= 0:
            raise ValueError(f"shape {self.shape} of {self.name} must have positive sides")


@dataclass(frozen=True)
class GraphSpec:
    """One ONNX file of the bundle, its hash, and its tensors in order."""

    file: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class PaperFigure:
    """A published speed, with the hardware it was measured on."""

    fps: float
    hardware: str
    source: str


@dataclass(frozen=True)
class Source:
    """The checkpoint a bundle was exported from."""

    checkpoint: str
    sha256: str


@dataclass(frozen=True)
class EngineRecord:
    """One built engine: which graph, for which flavour, version, precision and target.

    `xcorr` is how it correlates: by TensorRT's own layers, by our plugin, which Python must register before the engine
    is deserialised, or by our kernel, which it holds. `xcorr_ms` are the times of an inference that it was chosen by.
    """

    file: str
    graph: str
    sha256: str
    graph_sha256: str
    flavour: str
    version: str
    precision: str
    target: str
    build_seconds: float
    size_bytes: int
    xcorr: Xcorr = "native"
    xcorr_ms: dict[str, float] | None = None


@dataclass(frozen=True)
class CalibratedGraph:
    """The INT8 form of a graph, FP32-typed with Q/DQ pairs, made by a calibration of the graph `graph_sha256`.

    `fp32_nodes` are those that FP16 cannot hold.
    """

    file: str
    sha256: str
    graph_sha256: str
    fp32_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The parsed `manifest.json` of a bundle; its search graph takes `batch` targets at once."""

    model: str
    paper: str
    source: Source
    graphs: dict[str, GraphSpec]
    preprocessing: Preprocessing
    decoding: Decoding
    tracking: Constants
    parity: dict[str, float]
    versions: dict[str, str]
    paper_figure: PaperFigure | None = None
    note: str | None = None
    strategies: Strategies = field(default_factory=Strategies)
    batch: int = 1
    engines: tuple[EngineRecord, ...] = field(default=())
    calibrated: dict[str, CalibratedGraph] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        files = [row.file for row in self.engines] + [row.file for row in self.calibrated.values()]
        for name in (*(row.file for row in self.graphs.values()), *files):
            _require_inside(name)
        require_numbers("parity", 0.0, *self.parity.values())
        require_usable(self.graphs, self.preprocessing, self.decoding, self.tracking, self.strategies, self.batch)

    def to_json(self) -> str:
        """Serialise, with a trailing newline."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def _require_inside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise ValueError(f"file {name!r} leaves the bundle")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle of any schema, whole or not; other software writes a manifest.json too."""
    try:
        raw = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(raw, dict) and "schema_version" in raw and "graphs" in raw


def load_manifest(bundle: Path | str) -> Manifest:
    """Read and validate `manifest.json`.

    Raises:
        BundleError: no such bundle, not JSON, another schema version, or a field that is
            missing, unknown, of the wrong type or outside its range.
    """
    path = Path(bundle) / MANIFEST_NAME
    again = "export the checkpoint again with `siamtrt export`"
    if not path.is_file():
        raise BundleError(
            "not a bundle", received=str(bundle), expected=f"a directory holding {MANIFEST_NAME}", fix=again
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise BundleError("unreadable manifest", received=f"{path}: {error}", expected="JSON", fix=again) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            "unknown manifest schema",
            received=f"schema_version {version!r} in {path}",
            expected=f"schema_version {SCHEMA_VERSION}",
            fix="upgrade siamtrt (`pip install -U siamtrt`) or export the bundle again with this version",
        )
    return _parse(raw, path, again)


def _parse(raw: dict[str, Any], path: Path, again: str) -> Manifest:
    try:
        return from_plain(Manifest, raw)
    except ValueError as error:
        raise BundleError(
            "invalid manifest", received=f"{path}: {error}", expected=f"schema {SCHEMA_VERSION}", fix=again
        ) from error


def from_plain(kind: type[Fields], raw: dict[str, Any]) -> Fields:
    """A dataclass of what was read from JSON, strictly.

    Raises:
        ValueError: a field that is missing, unknown, of the wrong type or outside its range.
    """
    config = dacite.Config(strict=True, cast=[tuple], type_hooks={float: as_float, int: _as_int})
    try:
        return dacite.from_dict(kind, raw, config)
    except (dacite.DaciteError, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def as_float(value: object) -> object:
    """JSON writes 255.0 as 255 in other languages; take whole numbers for floats, but not booleans."""
    if isinstance(value, bool):
        raise ValueError(f"{value} where a number belongs")
    return float(value) if isinstance(value, int) else value


def _as_int(value: object) -> object:
    if isinstance(value, bool):  # which Python takes for 1, and NumPy for no size
        raise ValueError(f"{value} where a number belongs")
    return value


def save_manifest(manifest: Manifest, bundle: Path) -> None:
    """Write `manifest.json`, whole or not at all."""
    write_whole(bundle / MANIFEST_NAME, manifest.to_json().encode())


def verified_file(bundle: Path, name: str, sha256: str) -> Path:
    """Path of a bundle file after checking that it is there and unchanged.

    Raises:
        BundleError: the file is missing, unreadable, a link out of the bundle, or its hash differs.
    """
    path = bundle / name
    fix = f"restore {name}, or export (and build) the bundle again"
    try:
        if not path.is_file() or not path.resolve().is_relative_to(bundle.resolve()):
            raise BundleError("bundle file missing", received=f"no {name} in {bundle}", expected=name, fix=fix)
        actual = sha256_of(path)
    except OSError as error:
        raise BundleError(
            "bundle file cannot be read", received=f"{path} ({error.strerror})", expected=name, fix=fix
        ) from error
    if actual != sha256:
        raise BundleError(
            f"bundle file {name} was changed", received=f"sha256 {actual[:12]}", expected=sha256[:12], fix=fix
        )
    return path
