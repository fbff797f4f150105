"""Authors' checkpoint files: read without running code, matched to a preset, loaded strictly."""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from siamtrt.errors import CheckpointError
from siamtrt.manifest import sha256_of
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.preset import Preset
from siamtrt.models.presets import PRESETS, get_preset

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
# NanoTrack's snapshots pickle an optimiser that holds numpy scalars; these three names rebuild a number, no more.
NUMPY_SCALARS: list[Any] = [
    np.dtype, np.dtypes.Float64DType, (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
]  # fmt: skip
LISTED = 5  # names shown of each kind in a mismatch

Value = TypeVar("Value")
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class LoadedNetwork:
    """A trained network in evaluation mode, the preset it fits, and the file it came from."""

    preset: Preset
    module: SiameseNetwork
    checkpoint: Path
    sha256: str


def load_network(checkpoint: Path | str, model: str | None = None) -> LoadedNetwork:
    """Load a checkpoint into the network it belongs to.

    Args:
        checkpoint: a `.pth`/`.pt`/`.model` file as authors publish it, or `.safetensors`.
        model: preset name; inferred from the parameter names and shapes when they decide it.

    Raises:
        CheckpointError: missing, truncated or unsafe file, or parameters of another network.
        SiamtrtError: unknown `model`.
    """
    path = Path(checkpoint)
    preset = get_preset(model) if model is not None else None
    state = read_state_dict(path)
    if preset is None:
        preset = infer_preset(state, path)
    else:
        _check_fit(state, preset, path)
    module = preset.build()
    named = _our_names(state, preset)
    module.load_state_dict(named, strict=False)  # only BatchNorm's step counters may still be absent
    return LoadedNetwork(preset, module.eval(), path, sha256_of(path))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the parameters of a checkpoint as float32 (integers stay), without wrapper and `module.` prefix.

    Raises:
        CheckpointError: see `load_network`.
    """
    raw: Any = _read_file(path)
    for wrapper in WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(wrapper), Mapping):
            raw = raw[wrapper]
            break
    if not isinstance(raw, Mapping) or not raw or not all(map(_is_plain, raw.values())):
        raise CheckpointError(
            "no parameters in the checkpoint", received=f"{path} holding {_described(raw)}",
            expected="a state dict of dense real tensors, bare or under " + ", ".join(WRAPPERS),
            fix="save it again with torch.save(model.state_dict(), path)",
        )
    state = {str(name).removeprefix("module."): _as_float32(value) for name, value in raw.items()}
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            "checkpoint holds NaN or infinity", received=_listed(broken), expected="finite weights",
            fix="use a snapshot from before the training diverged",
        )
    return state


def _read_file(path: Path) -> object:
    fix = "check the path, or download the checkpoint again"
    if not path.is_file():
        raise CheckpointError("no such checkpoint", received=str(path), expected="a file", fix=fix)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(
                "unreadable checkpoint", received=f"{path}: {error}", expected="a whole safetensors file", fix=fix
            ) from error
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _unpickling_error(path, str(error), fix) from error
    except Exception as error:  # a cut stream also raises IndexError, struct.error or AssertionError inside torch
        raise CheckpointError(
            "unreadable checkpoint", received=f"{path} ({path.stat().st_size} bytes): {_first_line(error)}",
            expected="a whole PyTorch checkpoint", fix=fix,
        ) from error


def _unpickling_error(path: Path, message: str, fix: str) -> CheckpointError:
    """Tell a pickle that names foreign code from one that is merely cut short."""
    marker = "WeightsUnpickler error:"
    lines = [line.strip() for line in (message.partition(marker)[2] or message).splitlines() if line.strip()]
    reason = next((line for line in lines if "GLOBAL" in line), lines[0])  # blocked modules come without the marker
    if "GLOBAL" in reason or "allowlisted" in reason or "global" in reason:
        return CheckpointError(
            "checkpoint refused: its pickle asks to import code", received=f"{path}: {reason}",
            expected="tensors and plain containers only (weights_only=True)",
            fix="if you trust its author, load it yourself and save torch.save(model.state_dict(), path)",
        )
    return CheckpointError(
        "unreadable checkpoint", received=f"{path}: {reason}", expected="a whole PyTorch checkpoint", fix=fix
    )


def infer_preset(state: dict[str, Tensor], path: Path) -> Preset:
    """The one preset whose parameter names and shapes these are.

    Raises:
        CheckpointError: several presets share them, or none has them (names the nearest).
    """
    shapes = _comparable(_shapes(state))
    fits = [name for name, preset in PRESETS.items() if _preset_shapes(preset) == shapes]
    if len(fits) == 1:
        return PRESETS[fits[0]]
    if fits:
        raise CheckpointError(
            "the parameter names do not decide the tracker", received=f"{path}, which fits {', '.join(fits)}",
            expected="one of them", fix=f"say which, e.g. --model {fits[0]}",
        )
    nearest = _nearest(shapes)
    raise _misfit(shapes, _preset_shapes(PRESETS[nearest]), path, nearest, nearest)


def _check_fit(state: dict[str, Tensor], preset: Preset, path: Path) -> None:
    shapes, wanted = _comparable(_shapes(state)), _preset_shapes(preset)
    if shapes != wanted:
        raise _misfit(shapes, wanted, path, preset.name, _nearest(shapes))


def _nearest(shapes: Shapes) -> str:
    """Name of the preset that shares most parameters."""
    return max(PRESETS, key=lambda name: len(_preset_shapes(PRESETS[name]).items() & shapes.items()))


def _misfit(shapes: Shapes, wanted: Shapes, path: Path, name: str, nearest: str) -> CheckpointError:
    missing = [key for key in wanted if key not in shapes]
    unexpected = [key for key in shapes if key not in wanted]
    resized = [f"{k} {shapes[k]} for {wanted[k]}" for k in wanted if k in shapes and shapes[k] != wanted[k]]
    found = f"{path} with {len(missing)} missing ({_listed(missing)}), {len(unexpected)} unexpected "
    found += f"({_listed(unexpected)}), {len(resized)} of another shape ({_listed(resized)})"
    return CheckpointError(
        f"checkpoint is not a {name}", received=found, expected=f"the {len(wanted)} parameters of {name}",
        fix=f"the nearest preset is {nearest}; known presets: {', '.join(PRESETS)}",
    )


@functools.cache
def _preset_shapes(preset: Preset) -> Shapes:
    """Shapes of a preset's parameters under the names their authors gave them."""
    with torch.device("meta"):
        shapes = _comparable(_shapes(preset.build().state_dict()))
    return authors_names(shapes, preset)


def authors_names(named: Mapping[str, Value], preset: Preset) -> dict[str, Value]:
    """What is known by our parameter names, by those of the preset's authors."""
    backwards = [(ours, theirs) for theirs, ours in preset.author_names]
    return {_replaced(name, backwards): value for name, value in named.items()}


def _our_names(state: dict[str, Tensor], preset: Preset) -> dict[str, Tensor]:
    return {_replaced(name, preset.author_names): value for name, value in state.items()}


def _replaced(name: str, prefixes: Iterable[tuple[str, str]]) -> str:
    for old, new in prefixes:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in state.items()}


def _comparable(shapes: Shapes) -> Shapes:
    """Without BatchNorm's step counters, which files from before PyTorch 0.4.1 lack and inference never reads."""
    return {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}


def _is_plain(value: object) -> bool:
    """Whether a value is a dense, real tensor that owns its elements: a 1 KB file can claim a view of terabytes."""
    return (
        isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        and not value.is_complex() and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )  # fmt: skip


def _as_float32(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "none") + more


def _described(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a dict of {_listed([str(key) for key in value])}"
    return f"a {type(value).__name__}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
