"""Sequences in memory, and manifests without a network: what cutting crops needs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from siamtrt.manifest import GraphSpec, Manifest, Source, TensorSpec
from siamtrt.models.presets import get_preset
from siamtrt.runtime.sequences import Sequence
from siamtrt.runtime.sources import FrameSource
from siamtrt.tracking import ResponseDecoding, search_batch

SIZE = (160, 120)
RED = (0, 0, 255)


@dataclasses.dataclass(frozen=True)
class Clip(Sequence):
    """A sequence in memory that counts what is read of it."""

    pictures: tuple = ()
    read: list = dataclasses.field(default_factory=list)

    def open(self):
        def frames():
            self.read.append(0)
            for picture in self.pictures:
                self.read[-1] += 1
                yield picture

        return FrameSource(self.name, frames(), len(self.pictures))


def clip(name="clip", count=40, seed=0, boxes=None):
    """A red rectangle that wanders, grows and leaves the frame partly, before noise that becomes brighter."""
    rng = np.random.default_rng(seed)
    if boxes is None:
        wander = np.array((60, 50)) + rng.normal(0, 3, (count, 2)).cumsum(axis=0)
        sides = np.linspace(12, 44, count)[:, None] * (1.0, 1.3)
        boxes = np.hstack([wander, sides]).round()
    pictures = []
    for number, box in enumerate(boxes):
        picture = rng.integers(0, 60 + 2 * number, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        if np.isfinite(box).all():
            x, y, w, h = box.astype(int)
            picture[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = RED
        pictures.append(picture)
    return Clip(name, Path(name), np.array(boxes, float), tuple(pictures))


def manifest_of(name, strategies=None, decoding=None):
    """Of a preset, without a network: crops and decoding as they are, one template tensor."""
    preset = get_preset(name)
    crop, decoding = preset.preprocessing, decoding or preset.decoding
    strategies = strategies or preset.strategies
    side = decoding.score_size
    maps = {"cls": (1, 2, side, side), "loc": (1, 4, side, side)}
    if isinstance(decoding, ResponseDecoding):
        maps = {"response": (search_batch(decoding), 1, side, side)}
    mask = strategies.spatial_mask
    graphs = {
        "template": graph_of("template", {
            "z": (1, 3, crop.template_size, crop.template_size),
            **({"mask": (1, 1, mask.side, mask.side)} if mask else {}),
        }, {"kernel": (1, 4)}),
        "search": graph_of("search", {
            "x": (search_batch(decoding), 3, crop.search_size, crop.search_size), "kernel": (1, 4),
        }, maps),
    }  # fmt: skip
    return Manifest(
        name, "paper", Source("none.pth", "0" * 64), graphs, crop, decoding, preset.tracking, {"cls": 0.0}, {},
        strategies=strategies,
    )  # fmt: skip


def graph_of(name, inputs, outputs):
    tensors = [tuple(TensorSpec(key, shape) for key, shape in side.items()) for side in (inputs, outputs)]
    return GraphSpec(f"{name}.onnx", "0" * 64, *tensors)


def first_box_of(sequence):
    """The sequence with nothing known but the first box."""
    return dataclasses.replace(sequence, truth_xywh=sequence.truth_xywh[:1])
