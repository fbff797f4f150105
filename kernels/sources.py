"""The kernels' source as one text, for compilers that are given no folder to include from."""

from __future__ import annotations

import functools
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
OWN_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.M)


@functools.cache
def source_of(name: str) -> str:
    """`<name>.cu` with our headers in their place, each once: a compiler's cache then knows when one has changed."""
    return _inlined(f"{name}.cu", set())


def _inlined(file: str, seen: set[str]) -> str:
    if file in seen:
        return ""
    seen.add(file)
    text = (FOLDER / file).read_text(encoding="utf-8").replace("#pragma once\n", "")
    return OWN_INCLUDE.sub(lambda match: _inlined(match[1], seen), text)
