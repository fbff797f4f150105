"""The file from which a run goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from siamtrt.errors import TrainingError
from siamtrt.files import staged_file
from siamtrt.training.config import Config


def digest(config: Config) -> str:
    """Changes with anything that changes the weights; the folders' names do not."""
    plain = {
        **asdict(config), "output": "", "init": Path(config.init).name,
        "data": [{**asdict(source), "path": Path(source.path).name} for source in config.data],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def save_snapshot(state: dict[str, Any], config: Config, path: Path) -> None:
    """Write tensors and plain values, whole or not at all."""
    with staged_file(path) as staging:
        torch.save({**state, "config": digest(config)}, staging)


def load_snapshot(path: Path, config: Config, device: torch.device) -> dict[str, Any] | None:
    """What `save_snapshot` wrote, without running code; None where there is no file.

    Raises:
        TrainingError: unreadable, or of another config.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        found = state["config"]
    except Exception as error:  # a cut stream raises nearly anything inside torch
        raise bad_snapshot(path, error) from error
    if found != digest(config):
        raise TrainingError(
            "a checkpoint of another config", received=str(path), expected="one of this config, or none",
            fix="give `output` another folder, or begin anew with --fresh; `init` can start from its weights",
        )
    return state


def bad_snapshot(path: Path, error: Exception) -> TrainingError:
    """An error that names the file and what went wrong in it."""
    reason = (str(error).splitlines() or [""])[0]
    return TrainingError(
        "unreadable checkpoint", received=f"{path} ({type(error).__name__}: {reason})",
        expected="one that `siamtrt train` wrote", fix="restore it, or begin anew with --fresh",
    )
