"""siamtrt: Siamese single-object trackers, from PyTorch checkpoints to TensorRT engines."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siamtrt.runtime.device import DeviceTracker
    from siamtrt.runtime.multi import MultiTracker
    from siamtrt.runtime.tracker import Tracker
    from siamtrt.runtime.watched import WatchedTracker

__version__ = "0.1.0"
__all__ = ["DeviceTracker", "MultiTracker", "Tracker", "WatchedTracker", "__version__"]

_here = Path(__file__).parent
if not (_here / "models").is_dir():  # imported from a checkout's root, where the other folders lie beside this one
    __path__.append(str(_here.parent))


_LAZY = {"DeviceTracker": "device", "MultiTracker": "multi", "Tracker": "tracker", "WatchedTracker": "watched"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(f"siamtrt.runtime.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'siamtrt' has no attribute {name!r}")
