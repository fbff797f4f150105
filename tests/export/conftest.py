"""A tracker small enough to build in a test: two convolutions, the correlation, a squeeze and excitation, a head."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from toy import save_toy, toy_models


@pytest.fixture(scope="session")
def toy_graphs() -> dict[str, onnx.ModelProto]:
    """`{"template": ..., "search": ...}` in FP32, inputs 32x32 and 64x64 of magnitude 0..255."""
    return toy_models()


@pytest.fixture
def toy_bundle(tmp_path: Path, toy_graphs: dict[str, onnx.ModelProto]) -> Path:
    """A bundle of `toy_graphs`, not built."""
    return save_toy(toy_graphs, tmp_path / "toy")
