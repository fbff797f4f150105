"""Times of crop and decode, a launch each, as SiamRPN++ calls them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from siamtrt.benchmarks.gpu import milliseconds
from siamtrt.kernels.decode import DecodeConstants, window_table
from siamtrt.kernels.launch import Device, frame_of, plan_crop, plan_decode
from siamtrt.kernels.state import TARGET

FRAME_SIZE = (1280, 720)
SEARCH, TEMPLATE, SCORES = 255, 127, 25  # sides of both crops in pixels and of the score map
ANCHOR_SIDES = ((104, 32), (88, 40), (64, 64), (40, 80), (32, 96))


@dataclasses.dataclass(frozen=True)
class KernelTime:
    """Median milliseconds of one launch for `targets` targets."""

    kernel: str
    dtype: str
    targets: int
    ms: float


def time_kernels(device: Device, dtype: Any, targets: int) -> list[KernelTime]:
    """Crops from a random 1280x720 BGR frame, and decoding of random outputs of five anchors a position."""
    rng, name = np.random.default_rng(0), np.dtype(dtype).name
    records = np.zeros(targets, TARGET)
    records["center"] = np.stack([100 + 15 * np.arange(targets), 100 + 8 * np.arange(targets)], axis=1)
    records["size"], records["active"] = (80, 60), 1
    state, crops = device.upload(records), device.empty((targets, 3, SEARCH, SEARCH), dtype)
    frame = device.upload(rng.integers(0, 256, (FRAME_SIZE[1], FRAME_SIZE[0], 3), dtype=np.uint8))
    crop = plan_crop(frame_of(frame, "bgr"), state, crops, TEMPLATE)
    crop_ms = milliseconds(device, lambda: device.launch(crop))

    shapes = [(targets, 2 * factor * len(ANCHOR_SIDES), SCORES, SCORES) for factor in (1, 2)]
    cls, loc = (device.upload((0.1 * rng.standard_normal(shape, np.float32)).astype(dtype)) for shape in shapes)
    window, sides = device.upload(window_table(SCORES, 0.42)), device.upload(np.array(ANCHOR_SIDES, np.float32))
    constants = DecodeConstants(stride=8, scale_size=TEMPLATE, penalty_k=0.05, lr=0.38)
    decode = plan_decode(state, cls, loc, window, sides, constants, FRAME_SIZE)
    decode_ms = milliseconds(device, lambda: device.launch(decode))
    return [KernelTime("crop", name, targets, crop_ms), KernelTime("decode", name, targets, decode_ms)]
