"""Hostile manifests: changed ones of the default tracker's bundle, read, opened and tracked with."""

from __future__ import annotations

import copy
import json
import math
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamtrt.benchmarks.fuzz_control import changed
from siamtrt.default_tracker import default_bundle
from siamtrt.errors import SiamtrtError
from siamtrt.manifest import MANIFEST_NAME
from siamtrt.runtime.watched import WatchedTracker

FRAME, BOX = (120, 160, 3), (60.0, 40.0, 40.0, 40.0)
ODD: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 1e-320, 1e308, -1e308, math.inf, math.nan, 2**31, 2**63, 10**400, 0.5, "", "x" * 5000,
    "../../../etc/passwd", "/etc/passwd", "search.onnx", "manifest.json", "..\\x", "a\0b", "\ud800", [], {}, [[]],
    [1], [0, 0], [127], ["search"], {"kind": "anchors"}, {"file": "../x", "sha256": "0" * 64},
)  # fmt: skip


@dataclass(frozen=True)
class ManifestOutcome:
    """What came of it.

    Attributes:
        manifests: tried.
        refused: with an error of ours.
        tracked: opened, and two frames tracked with.
        crashes: anything else that was raised, by type, and how often; an example each.
        stray: files that were made or changed.
    """

    manifests: int
    refused: int
    tracked: int
    crashes: Counter[str]
    examples: dict[str, str]
    stray: tuple[str, ...]
    slowest_s: float
    seconds: float


def fuzz_manifests(count: int, seed: int) -> ManifestOutcome:
    """Open the default bundle under changed manifests, all from `seed`; where it opens, track."""
    chance, began_s, slowest_s = random.Random(seed), time.monotonic(), 0.0
    crashes: Counter[str] = Counter()
    examples: dict[str, str] = {}
    refused = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        bundle = shutil.copytree(default_bundle(), root / "outer" / "bundle")
        original = (bundle / MANIFEST_NAME).read_bytes()
        before = _contents(root)
        for _ in range(count):
            (bundle / MANIFEST_NAME).write_bytes(hostile_manifest(chance, original))
            start = time.monotonic()
            try:
                _open_and_track(bundle)
            except SiamtrtError:
                refused += 1
            except Exception as error:
                crashes[type(error).__name__] += 1
                examples.setdefault(type(error).__name__, f"{error}"[:200])
            slowest_s = max(slowest_s, time.monotonic() - start)
        stray = tuple(sorted(path for path, _ in before ^ _contents(root)))
    tracked = count - refused - crashes.total()
    return ManifestOutcome(
        count, refused, tracked, crashes, examples, stray, slowest_s, time.monotonic() - began_s
    )  # fmt: skip


def _open_and_track(bundle: Path) -> None:
    frame = np.zeros(FRAME, np.uint8)
    with WatchedTracker.load(bundle, "onnxruntime", threads=1) as tracker:
        tracker.init(frame, BOX)
        tracker.update(frame)


def _contents(root: Path) -> set[tuple[str, int]]:
    """Every path and its time of change, but for the manifest and its folder, which this changes itself."""
    paths = (path for path in root.rglob("*") if path.name != MANIFEST_NAME)
    return {(str(path.relative_to(root)), path.lstat().st_mtime_ns) for path in paths}


def hostile_manifest(chance: random.Random, original: bytes) -> bytes:
    """One whose bytes, or one to three of whose values, are others."""
    if chance.random() < 0.2:
        return changed(chance, original)
    manifest = json.loads(original)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _change(chance, manifest)
    return json.dumps(manifest).encode()


def _change(chance: random.Random, manifest: Any) -> None:
    """Replace, scale, remove or add a value anywhere."""
    inner = chance.choice([node for node in _containers(manifest) if node])
    key = chance.choice(list(inner) if isinstance(inner, dict) else list(range(len(inner))))
    pick, value, odd = chance.random(), inner[key], copy.deepcopy(chance.choice(ODD))
    if pick < 0.1:
        del inner[key]
    elif pick < 0.2 and isinstance(inner, dict):
        inner[chance.choice(("extra", "__class__", "file", key + "2"))] = odd
    elif pick < 0.6 and type(value) in (int, float):
        inner[key] = type(value)(value * chance.choice((-1, 0, 2, 10, 1000))) + chance.choice((-1, 0, 1))
    else:
        inner[key] = odd


def _containers(node: Any) -> list[Any]:
    if not isinstance(node, (dict, list)):
        return []
    inner = node.values() if isinstance(node, dict) else node
    return [node, *(found for value in inner for found in _containers(value))]
