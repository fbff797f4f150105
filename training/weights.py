"""Weights as they are kept in a repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from siamtrt.files import staged_file


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict, whole or not at all: matrices and kernels FP16, vectors (BatchNorm) as they are.

    A channel's running variance is over pixels of 0..255 and may exceed FP16's 65504.
    """
    tensors = {
        name: (tensor.half() if tensor.ndim > 1 else tensor).cpu().contiguous()
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    with staged_file(path) as staging:
        save_file(tensors, staging)
