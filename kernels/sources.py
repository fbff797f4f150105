"""The kernels' source as one text, for compilers that are given no folder to include from."""

from __future__ import annotations

import functools
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
INCLUDE = '#include "common.cuh"\n'


@functools.cache
def source_of(name: str) -> str:
    """`<name>.cu` with `common.cuh` in its place: a compiler's cache then knows when either has changed."""
    return (FOLDER / f"{name}.cu").read_text(encoding="utf-8").replace(INCLUDE, _common(), 1)


def _common() -> str:
    return (FOLDER / "common.cuh").read_text(encoding="utf-8").replace("#pragma once\n", "")
