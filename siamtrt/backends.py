"""Names of what can run a bundle, apart from the code that does, so that the command line starts without it."""

from __future__ import annotations

from typing import Literal, get_args

Backend = Literal["auto", "onnxruntime", "tensorrt", "torch"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
