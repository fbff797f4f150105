"""TensorRT-RTX, which builds engines without a GPU, where it is installed."""

from __future__ import annotations

import pytest

from siamtrt.errors import MissingPackageError
from siamtrt.export.trt import TENSORRT_RTX, Flavour, load_flavour

try:
    RTX: Flavour | None = load_flavour(TENSORRT_RTX)
except MissingPackageError:
    RTX = None
needs_rtx = pytest.mark.skipif(RTX is None, reason="tensorrt_rtx is not installed: pip install 'siamtrt[rtx]'")
