"""A target's state as the kernels hold it: `struct Target` of `common.cuh`."""

from __future__ import annotations

import numpy as np

TRACKED, INVALID = 0, 1
TARGET = np.dtype(
    [
        ("center", np.float32, 2), ("size", np.float32, 2), ("score", np.float32), ("status", np.int32),
        ("position", np.int32, 2), ("fill", np.uint8, 4), ("active", np.int32), ("reserved", np.float32, 2),
    ]
)  # fmt: skip
