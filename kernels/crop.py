"""NumPy reference of the crop kernel, its launch geometry, and a frame as the kernel sees it.

Independent of OpenCV, whose `resize` and `cvtColor` it repeats to the last grey level.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

FrameFormat = Literal["bgr", "rgb", "bgra", "rgba", "nv12"]
FORMATS: tuple[FrameFormat, ...] = ("bgr", "rgb", "bgra", "rgba", "nv12")  # in the order of the kernel's enum
FRAME = np.dtype(
    [
        ("data", np.uint64), ("chroma", np.uint64), ("width", np.int32), ("height", np.int32), ("pitch", np.int32),
        ("chroma_pitch", np.int32), ("format", np.int32), ("reserved", np.int32),
    ]
)  # fmt: skip
CROP_ARGUMENTS = np.dtype(
    [
        ("targets", np.uint64), ("described", np.uint64), ("crops", np.uint64), ("frame", FRAME),
        ("out_size", np.int32), ("scale_size", np.int32), ("rgb", np.int32), ("context_amount", np.float32),
        ("scale", np.float32, 3), ("offset", np.float32, 3),
    ]
)  # fmt: skip
MAX_OUT_SIZE = 4096
Planes = np.ndarray | tuple[np.ndarray, np.ndarray]
Triple = tuple[float, float, float]


def crop_geometry(count: int, out_size: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(grid, block) of a launch over `count` targets: a thread a pixel, a row of a block a warp.

    128 threads a block: the smallest crop, a template of 127 x 127 pixels, still has 128 blocks.
    """
    columns, rows = 32, 4
    return (-(-out_size // columns), -(-out_size // rows), count), (columns, rows, 1)


def crop_ref(
    frame: Planes, targets: np.ndarray, out_size: int, scale_size: int, *, context_amount: float = 0.5,
    frame_format: FrameFormat = "bgr", channel_order: Literal["bgr", "rgb"] = "bgr", dtype: Any = np.float32,
    scale: Triple = (1.0, 1.0, 1.0), offset: Triple = (0.0, 0.0, 0.0), out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Cut the square around each target, resize it bilinearly and split it into planes (SiamRPN, eq. 15).

    The side of a square is max(1, round(sqrt((w + m)(h + m)) * out_size / scale_size)) frame pixels with
    m = context_amount * (w + h), ties to even; it starts floor(c - (side + 1) / 2 + 0.5). Outside the frame it has
    the target's fill colour.

    Args:
        frame: (H, W, 3) or (H, W, 4) uint8; for NV12 (luma (H, W), chroma (ceil(H/2), ceil(W/2), 2)). Rows may
            lie apart.
        targets: (N,) of `siamtrt.kernels.state.TARGET`: centre and size in pixels, fill in the frame's channel order
            (NV12: blue, green, red). Slots that are not active are skipped.
        out_size: side of the crops in pixels, 1..4096.
        scale_size: pixels of a crop that hold the target with its context: `Preprocessing.scale_size`.
        context_amount: margin as a share of width plus height.
        frame_format: of `FORMATS`; a fourth channel is ignored.
        channel_order: of the planes.
        dtype: float32 or float16.
        scale, offset: plane p holds grey level (0..255) * scale[p] + offset[p].
        out: array to write into.

    Returns:
        (N, 3, out_size, out_size): `out`, or a new array with zeros for the slots skipped.

    Raises:
        ValueError: the frame is not of `frame_format`.
    """
    pixels = _pixels(frame, frame_format)
    crops = np.zeros((len(targets), 3, out_size, out_size), dtype) if out is None else out
    order = slice(None, None, 1 if ("rgb" in frame_format) == (channel_order == "rgb") else -1)
    factor, summand = (np.array(values, np.float32).astype(np.float64)[:, None, None] for values in (scale, offset))
    for index in np.flatnonzero(targets["active"]):
        target = targets[index]
        width, height = target["size"].tolist()
        side = crop_side(width, height, context_amount, out_size / scale_size)
        left, top = (math.floor(center - (side + 1) / 2 + 0.5) for center in target["center"].tolist())
        planes = _resized(pixels, left, top, side, out_size, target["fill"][:3]).transpose(2, 0, 1)[order]
        crops[index] = (planes * factor + summand).astype(np.float32)
    return crops


def crop_side(width: float, height: float, context_amount: float, zoom: float) -> int:
    """Side in whole frame pixels of the square that a crop covers; `zoom` is out_size / scale_size."""
    margin = context_amount * (width + height)
    return max(1, round(math.sqrt((width + margin) * (height + margin)) * zoom))


def bgr_from_nv12(luma: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """BT.601 with luma 16..235: (H, W) and (ceil(H/2), ceil(W/2), 2) uint8 -> (H, W, 3) uint8.

    OpenCV's coefficients: 1.164, 2.018, 0.391, 0.813, 1.596 in 20 bits.
    """
    height, width = luma.shape
    both = chroma.astype(np.int32).repeat(2, 0).repeat(2, 1)[:height, :width] - 128
    u, v = both[..., 0], both[..., 1]
    grey = np.maximum(luma.astype(np.int32) - 16, 0) * 1220542 + (1 << 19)
    channels = grey + 2116026 * u, grey - 409993 * u - 852492 * v, grey + 1673527 * v
    return np.clip(np.stack(channels, axis=-1) >> 20, 0, 255).astype(np.uint8)


def _pixels(frame: Planes, frame_format: FrameFormat) -> np.ndarray:
    """(H, W, 3) in the frame's channel order; NV12 becomes blue, green, red."""
    if isinstance(frame, tuple):
        if frame_format != "nv12":
            raise ValueError(f"two planes; expected a {frame_format} frame")
        return bgr_from_nv12(*frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != len(frame_format):
        raise ValueError(f"{frame.dtype} frame of shape {frame.shape}; expected a {frame_format} frame")
    return frame[..., :3]


def _taps(side: int, out_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each of `out_size` outputs samples: first and second index, and the second's weight out of 2048."""
    at = ((np.arange(out_size) + 0.5) * (1 / (out_size / side)) - 0.5).astype(np.float32)
    first = np.floor(at)
    weight = np.rint((at - first) * np.float32(2048)).astype(np.int32)
    first = first.astype(np.int32)
    return np.clip(first, 0, side - 1), np.clip(first + 1, 0, side - 1), weight


def _resized(pixels: np.ndarray, left: int, top: int, side: int, out_size: int, fill: np.ndarray) -> np.ndarray:
    """A square of the frame at (out_size, out_size, 3) int32, by the truncating fixed point of OpenCV's resize."""
    height, width = pixels.shape[:2]
    first, second, weight = _taps(side, out_size)
    across, down = weight[None, :, None], weight[:, None, None]

    def blended_rows(rows: np.ndarray) -> np.ndarray:
        def sampled(columns: np.ndarray) -> np.ndarray:
            y, x = top + rows[:, None], left + columns[None, :]
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            values = pixels[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
            return np.where(inside[..., None], values, fill).astype(np.int32)

        return sampled(first) * (2048 - across) + sampled(second) * across

    upper, lower = blended_rows(first) >> 4, blended_rows(second) >> 4
    return ((((2048 - down) * upper) >> 16) + ((down * lower) >> 16) + 2) >> 2
