"""NumPy reference of the decoding kernel `decode.cu`, its launch geometry and its arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from siamtrt.kernels.state import INVALID, TRACKED

MAX_THREADS = 640  # as in decode.cu
DECODE_ARGUMENTS = np.dtype(
    [
        *((name, np.uint64) for name in ("targets", "cls", "loc", "window", "anchor_sides")),
        *((name, np.int32) for name in ("count", "anchors", "score_size", "stride", "points", "scale_size")),
        ("frame_size", np.int32, 2),
        *((name, np.float32) for name in ("context_amount", "penalty_k", "lr", "min_side")),
    ]
)


@dataclass(frozen=True)
class DecodeConstants:
    """Scalars of a tracker's decoding, from its manifest.

    Attributes:
        stride: search-crop pixels between positions of the response map.
        scale_size: pixels of a crop that hold the target with its context.
        penalty_k: strength of the penalty on a change of scale and shape (SiamRPN, eq. 13).
        lr: share of a new size in the next, at a penalised score of 1.
        context_amount: margin around a target as a share of width plus height (SiamRPN, eq. 15).
        min_side: smallest side of a box in frame pixels.
    """

    stride: int
    scale_size: int
    penalty_k: float
    lr: float
    context_amount: float = 0.5
    min_side: float = 10.0


def decode_geometry(targets: int, score_size: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Grid and block of `decode_f32` and `decode_f16`: a block a target.

    A block goes through the map once per anchor, in as few passes of at most 640 threads as there have to be and
    these nearly equal, in whole warps. Any block of up to 640 threads gives the same result.
    """
    cells = score_size * score_size
    passes = math.ceil(cells / MAX_THREADS)
    return (targets, 1, 1), (math.ceil(cells / passes / 32) * 32, 1, 1)


def window_table(score_size: int, window_influence: float) -> np.ndarray:
    """(S, S) float32 to add to penalised scores: the cosine window times influence / (1 - influence), influence < 1.

    Nowhere negative, which the kernel relies on.
    """
    hanning = np.hanning(score_size)
    return (np.outer(hanning, hanning) * window_influence / (1 - window_influence)).astype(np.float32)


def decode_ref(
    targets: np.ndarray, cls: np.ndarray, loc: np.ndarray, window: np.ndarray, anchor_sides: np.ndarray | None,
    constants: DecodeConstants, frame_size: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    """Move each target to its best proposal (SiamRPN, sec. 4.3).

    Args:
        targets: (N,) `TARGET`, where the search crops were cut.
        cls: (N, 2A, S, S) float32 or float16: A background logits, then A of the target.
        loc: (N, 4A, S, S) of the same type: A offsets dx, A dy, A log-widths, A log-heights (SiamRPN, eq. 12), or
            with points distances left, top, right, bottom in search-crop pixels (SiamBAN, eq. 3), A = 1.
        window: (S, S) float32, from `window_table`.
        anchor_sides: (A, 2) float32 widths and heights in search-crop pixels; None: points.
        constants: see `DecodeConstants`.
        frame_size: (width, height) in pixels.

    Returns:
        (N,) `TARGET`. Of active slots centre, size, score in 0..1, status and position are new: the centre inside the
        frame, the sides between `min_side` and the frame's, the lowest index of equally good proposals. Where the rank
        of any proposal or the box or penalised score of the chosen one is not finite, the score is 0, the status
        `INVALID` and the rest as before. Inactive slots are as before.
    """
    moved = targets.copy()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for slot in np.flatnonzero(targets["active"]):
            values = cls[slot].astype(np.float32), loc[slot].astype(np.float32)
            _move(moved[slot], *values, window, anchor_sides, constants, frame_size)
    return moved


def _move(
    target: np.void, cls: np.ndarray, loc: np.ndarray, window: np.ndarray, anchor_sides: np.ndarray | None,
    constants: DecodeConstants, frame_size: tuple[int, int],
) -> None:  # fmt: skip
    """One target in place; ranks in float32, whose overflow decides what is finite, and the box in float64."""
    side = window.shape[0]
    background, foreground = cls.reshape(2, -1, side, side)
    loc = loc.reshape(4, -1, side, side)
    if anchor_sides is None:
        width, height = loc[0] + loc[2], loc[1] + loc[3]
        left, top, right, bottom = loc.astype(np.float64)
        dx, dy = (right - left) / 2, (bottom - top) / 2
    else:
        anchor_width, anchor_height = anchor_sides.T[:, :, None, None]
        width, height = np.exp(loc[2]) * anchor_width, np.exp(loc[3]) * anchor_height
        dx, dy = loc[0] * anchor_width.astype(np.float64), loc[1] * anchor_height.astype(np.float64)

    old_width, old_height = target["size"].astype(np.float64)
    zoom = constants.scale_size / _context(old_width, old_height, constants.context_amount)
    score = 1 / (1 + np.exp(background - foreground))  # of two classes, the softmax
    old_area = np.float32((_context(old_width, old_height, 0.5) * zoom) ** 2)
    area = width * height + 0.75 * (width + height) ** 2  # (w + p)(h + p); in this form 0 by infinity is NaN
    aspect = np.float32(old_width / old_height)
    change = np.sqrt(_change(area / old_area)) * _change(height / width * aspect)
    penalised = np.exp(np.float32(-constants.penalty_k) * (change - 1)) * score
    rank = penalised + window
    best = np.unravel_index(rank.argmax(), rank.shape)
    row, column = best[1:]
    place = (column - side // 2) * constants.stride + dx[best], (row - side // 2) * constants.stride + dy[best]
    center = target["center"] + np.array(place) / zoom
    new = np.array([width[best], height[best]], np.float64) / zoom
    if not all(np.isfinite(values).all() for values in (rank, center, new)):
        target["score"], target["status"] = 0, INVALID
        return
    rate = float(penalised[best]) * constants.lr
    target["center"] = np.clip(center, 0, frame_size)
    target["size"] = np.maximum(np.minimum(target["size"] * (1 - rate) + new * rate, frame_size), constants.min_side)
    target["score"], target["status"] = score[best], TRACKED
    target["position"] = row, column


def _context(width: float, height: float, amount: float) -> float:
    """Side of the square that holds a box and its context (SiamRPN, eqs. 14 and 15)."""
    margin = amount * (width + height)
    return math.sqrt((width + margin) * (height + margin))


def _change(ratio: np.ndarray) -> np.ndarray:
    """max(r, 1/r) (SiamRPN, eq. 13)."""
    return np.maximum(ratio, 1 / ratio)
