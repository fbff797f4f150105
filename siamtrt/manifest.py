"""The bundle's manifest: everything downstream of `export` may know about a tracker."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import dacite

from siamtrt.errors import BundleError
from siamtrt.files import write_whole

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
GRAPHS = ("template", "search")
FLAVOURS = ("tensorrt", "tensorrt_rtx")
TENSOR_DTYPES = ("float32", "float16", "int32", "int64", "int8", "uint8", "bool")


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
class Preprocessing:
    """How a frame becomes a network input.

    `template_size` and `search_size` are the sides of the square crops in pixels;
    `context_amount` is the margin added to the target, as a share of width plus height
    (SiamRPN, eq. 15: 0.5). Pixels go in as 0..255 floats, BGR planes, not normalised.
    """

    template_size: int
    search_size: int
    context_amount: float = 0.5
    channel_order: Literal["bgr"] = "bgr"


@dataclass(frozen=True)
class AnchorDecoding:
    """Anchor boxes of a region proposal head (SiamRPN, sec. 3.2 and 3.3).

    One anchor per ratio and scale at each of `score_size` x `score_size` positions,
    `stride` search-crop pixels apart, centred on the crop.
    """

    score_size: int
    stride: int
    ratios: tuple[float, ...]
    scales: tuple[float, ...]
    kind: Literal["anchor"] = "anchor"

    @property
    def anchors(self) -> int:
        """Boxes at each position."""
        return len(self.ratios) * len(self.scales)


@dataclass(frozen=True)
class PointDecoding:
    """Anchor-free head: distances left, top, right, bottom from a grid of points (SiamBAN, eq. 3)."""

    score_size: int
    stride: int
    kind: Literal["point"] = "point"

    @property
    def anchors(self) -> int:
        """Boxes at each position."""
        return 1


Decoding = AnchorDecoding | PointDecoding


@dataclass(frozen=True)
class Tracking:
    """Constants of proposal selection (SiamRPN, sec. 4.3 and eq. 13) and the smallest box side in pixels."""

    penalty_k: float
    window_influence: float
    lr: float
    min_side: float = 10.0


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
    """One built engine: which graph, for which flavour, version, precision and target."""

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


@dataclass(frozen=True)
class Manifest:
    """The parsed `manifest.json` of a bundle."""

    model: str
    paper: str
    source: Source
    graphs: dict[str, GraphSpec]
    preprocessing: Preprocessing
    decoding: Decoding
    tracking: Tracking
    parity: dict[str, float]
    versions: dict[str, str]
    paper_figure: PaperFigure | None = None
    note: str | None = None
    engines: tuple[EngineRecord, ...] = field(default=())
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        missing = [graph for graph in GRAPHS if graph not in self.graphs]
        if missing:
            raise ValueError(f"graphs lacks {', '.join(missing)}")
        for name in [*(g.file for g in self.graphs.values()), *(e.file for e in self.engines)]:
            _require_inside(name)
        crop, decoding, tracking = self.preprocessing, self.decoding, self.tracking
        _require_numbers("tracking and context_amount", 0.0, *dataclasses.astuple(tracking), crop.context_amount)
        if tracking.window_influence >= 1:
            raise ValueError("window_influence must be below 1: at 1 the window alone would choose")
        _require_numbers("parity", 0.0, *self.parity.values())
        sides = [crop.template_size, crop.search_size, decoding.score_size, decoding.stride, tracking.min_side]
        _require_numbers("crop sizes, score_size, stride and min_side", 1e-6, *sides)
        if isinstance(decoding, AnchorDecoding):
            _require_numbers("ratios and scales", 1e-6, *decoding.ratios, *decoding.scales)
        self._require_consistent_tensors()

    def _require_consistent_tensors(self) -> None:
        """The graphs fit each other, the crops and the decoding, so that a tracker of them can run."""
        template, search = self.graphs["template"], self.graphs["search"]
        sides = self.preprocessing.template_size, self.preprocessing.search_size
        for graph, side in zip((template, search), sides, strict=True):
            if not graph.inputs or graph.inputs[0].shape[1:] != (3, side, side):
                raise ValueError(f"the first input of {graph.file} must be a crop of 3x{side}x{side}")
        if len(template.inputs) != 1 or template.outputs != search.inputs[1:]:
            raise ValueError("the template's outputs must be the search graph's inputs after the crop")
        maps = {tensor.name: tensor.shape[1:] for tensor in search.outputs}
        for name, values in (("cls", 2), ("loc", 4)):
            wanted = (values * self.decoding.anchors, self.decoding.score_size, self.decoding.score_size)
            if maps.get(name) != wanted:
                raise ValueError(f"the search graph's {name} must be (N, {', '.join(map(str, wanted))})")

    def to_json(self) -> str:
        """Serialise, with a trailing newline."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def _require_numbers(what: str, low: float, *values: float) -> None:
    if not values or not all(math.isfinite(value) and value >= low for value in values):
        raise ValueError(f"{what} must be finite numbers of at least {low:g}, not {values}")


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
    config = dacite.Config(strict=True, cast=[tuple], type_hooks={float: _number})
    try:
        return dacite.from_dict(Manifest, raw, config)
    except (dacite.DaciteError, ValueError, TypeError) as error:
        raise BundleError(
            "invalid manifest", received=f"{path}: {error}", expected=f"schema {SCHEMA_VERSION}", fix=again
        ) from error


def _number(value: object) -> object:
    """JSON writes 255.0 as 255 in other languages; take whole numbers for floats, but not booleans."""
    if isinstance(value, bool):
        raise ValueError(f"{value} where a number belongs")
    return float(value) if isinstance(value, int) else value


def save_manifest(manifest: Manifest, bundle: Path) -> None:
    """Write `manifest.json`, whole or not at all."""
    write_whole(bundle / MANIFEST_NAME, manifest.to_json().encode())


def verified_file(bundle: Path, name: str, sha256: str) -> Path:
    """Path of a bundle file after checking that it is there and unchanged.

    Raises:
        BundleError: the file is missing, a link out of the bundle, or its hash differs.
    """
    path = bundle / name
    fix = f"restore {name}, or export (and build) the bundle again"
    if not path.is_file() or not path.resolve().is_relative_to(bundle.resolve()):
        raise BundleError("bundle file missing", received=f"no {name} in {bundle}", expected=name, fix=fix)
    actual = sha256_of(path)
    if actual != sha256:
        raise BundleError(
            f"bundle file {name} was changed", received=f"sha256 {actual[:12]}", expected=sha256[:12], fix=fix
        )
    return path
