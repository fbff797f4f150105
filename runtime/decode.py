"""From response maps to the next target state: a pure function of state, maps and constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.manifest import AnchorDecoding, Decoding, Manifest, PointDecoding, Tracking
from siamtrt.runtime.crop import context_side

Status = Literal["tracked", "invalid"]


@dataclass(frozen=True)
class TargetState:
    """What is known of a target: centre and size in frame pixels, confidence in [0, 1].

    `status` is "invalid" when the network's outputs were not finite; centre and size are then the last good ones.
    """

    center_xy: tuple[float, float]
    size_wh: tuple[float, float]
    score: float = 1.0
    status: Status = "tracked"

    @property
    def box_xywh(self) -> BoxXywh:
        """Top-left corner, width and height in pixels."""
        (cx, cy), (width, height) = self.center_xy, self.size_wh
        return cx - width / 2, cy - height / 2, width, height


def state_from_box(box_xywh: BoxXywh) -> TargetState:
    """State after initialisation; the centre is that of the pixels covered, (w - 1) / 2 from the corner."""
    x, y, width, height = box_xywh
    return TargetState((x + (width - 1) / 2, y + (height - 1) / 2), (width, height))


def grid_centres(score_size: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y, each (S*S,) float32 row-major, of the response map's positions relative to the crop's centre."""
    offsets = (np.arange(score_size, dtype=np.float32) - score_size // 2) * stride
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    return x.ravel(), y.ravel()


def anchor_grid(decoding: AnchorDecoding) -> np.ndarray:
    """(A*S*S, 4) float32 rows of cx, cy, w, h in search-crop pixels, anchor-major, then row, then column.

    Widths are whole strides before scaling, as the reference trackers round them.
    """
    x, y = grid_centres(decoding.score_size, decoding.stride)
    sides = []
    for ratio in decoding.ratios:
        width = int(math.sqrt(decoding.stride**2 / ratio))
        height = int(width * ratio)
        sides += [(width * scale, height * scale) for scale in decoding.scales]
    widths, heights = np.repeat(np.array(sides, np.float32), x.size, axis=0).T
    return np.stack([np.tile(x, len(sides)), np.tile(y, len(sides)), widths, heights], axis=1)


def _anchor_sizes(grid: np.ndarray, loc: np.ndarray) -> np.ndarray:
    """Widths and heights of the proposals (SiamRPN, eq. 12): (4, P) anchors and offsets -> (2, P)."""
    return np.exp(loc[2:]) * grid[2:]


def _anchor_centre(at: list[float], loc: list[float]) -> tuple[float, float]:
    """Centre of one proposal (SiamRPN, eq. 12) from its anchor cx, cy, w, h and its four offsets."""
    cx, cy, width, height = at
    return cx + loc[0] * width, cy + loc[1] * height


def _point_sizes(grid: np.ndarray, loc: np.ndarray) -> np.ndarray:
    """Widths and heights from distances left, top, right, bottom: (4, P) -> (2, P)."""
    return loc[:2] + loc[2:]


def _point_centre(at: list[float], loc: list[float]) -> tuple[float, float]:
    """Centre of one proposal from its point x, y and its distances left, top, right, bottom."""
    left, top, right, bottom = loc
    return at[0] + (right - left) / 2, at[1] + (bottom - top) / 2


def _mismatch(ratio: np.ndarray) -> np.ndarray:
    """max(r, 1/r), the change of scale or shape in either direction."""
    return np.maximum(ratio, 1 / ratio)


class Decoder:
    """Constant tables of one tracker's decoding: anchors or points, and the cosine window.

    Args:
        decoding, tracking, context_amount: from the manifest.
        template_size, search_size: sides of the crops in pixels.
    """

    def __init__(
        self, decoding: Decoding, tracking: Tracking, context_amount: float, template_size: int, search_size: int
    ) -> None:
        self.tracking = tracking
        self.context_amount = context_amount
        self.template_size = template_size
        self.search_size = search_size
        if isinstance(decoding, PointDecoding):
            self._grid = np.stack(grid_centres(decoding.score_size, decoding.stride))
            self._sizes, self._centre = _point_sizes, _point_centre
        else:
            self._grid = np.ascontiguousarray(anchor_grid(decoding).T)
            self._sizes, self._centre = _anchor_sizes, _anchor_centre
        hanning = np.hanning(decoding.score_size)
        window = np.tile(np.outer(hanning, hanning).ravel(), decoding.anchors)
        # penalty * score * (1 - w) + window * w, divided by 1 - w: the same order, one operation less
        self._window = (window * tracking.window_influence / (1 - tracking.window_influence)).astype(np.float32)

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Decoder:
        """The decoder of a bundle."""
        crop = manifest.preprocessing
        return cls(
            manifest.decoding, manifest.tracking, crop.context_amount, crop.template_size, crop.search_size
        )

    def template_side(self, state: TargetState) -> int:
        """Side in frame pixels of the template crop."""
        return max(1, round(context_side(state.size_wh, self.context_amount)))

    def search_side(self, state: TargetState) -> int:
        """Side in frame pixels of the search crop."""
        side = context_side(state.size_wh, self.context_amount) * (self.search_size / self.template_size)
        return max(1, round(side))

    def decode(
        self, state: TargetState, cls: np.ndarray, loc: np.ndarray, frame_size: tuple[int, int]
    ) -> TargetState:
        """Select the best proposal and move the state to it (SiamRPN, sec. 4.3).

        Args:
            state: where the search crop was cut.
            cls: (1, 2A, S, S) raw background and target logits.
            loc: (1, 4A, S, S) raw offsets, or distances for a point head.
            frame_size: (width, height) in pixels; the box is clipped to it.

        Returns:
            The new state; the old centre and size with status "invalid" if nothing finite came out.
        """
        # A frame finds NumPy's code out of the cache: what counts here is the number of array operations.
        zoom = self.template_size / context_side(state.size_wh, self.context_amount)
        offsets = loc.reshape(4, -1)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            background, target = cls.reshape(2, -1)
            inverse_score = 1 + np.exp(background - target)
            sizes = self._sizes(self._grid, offsets)
            penalised = self._penalty(state, sizes, zoom) / inverse_score
            best = int((penalised + self._window).argmax())
        dx, dy = self._centre(self._grid[:, best].tolist(), offsets[:, best].tolist())
        width, height = sizes[:, best].tolist()
        rate = penalised.item(best) * self.tracking.lr
        if not math.isfinite(dx + dy + width + height + rate):
            return TargetState(state.center_xy, state.size_wh, 0.0, "invalid")
        offset = dx / zoom, dy / zoom, width / zoom, height / zoom
        return self._moved(state, offset, rate, 1 / inverse_score.item(best), frame_size)

    def _penalty(self, state: TargetState, sizes: np.ndarray, zoom: float) -> np.ndarray:
        """Penalty on a change of scale and shape (SiamRPN, eqs. 13 and 14): (2, P) sizes -> (P,) in (0, 1]."""
        width, height = sizes
        old_width, old_height = state.size_wh
        old_area = (context_side(state.size_wh, 0.5) * zoom) ** 2
        total = width + height  # with p half of it, (w + p)(h + p) = wh + 3/4 (w + h)^2
        area = width * height + total * total * 0.75
        scale = np.sqrt(_mismatch(area * (1 / old_area)))
        shape = _mismatch(height / width * (old_width / old_height))
        return np.exp((1 - scale * shape) * self.tracking.penalty_k)

    def _moved(
        self, state: TargetState, offset: tuple[float, float, float, float], rate: float, score: float,
        frame_size: tuple[int, int],
    ) -> TargetState:  # fmt: skip
        dx, dy, width, height = offset
        frame_width, frame_height = frame_size
        low = self.tracking.min_side
        return TargetState(
            (_clip(state.center_xy[0] + dx, 0, frame_width), _clip(state.center_xy[1] + dy, 0, frame_height)),
            (
                _clip(state.size_wh[0] * (1 - rate) + width * rate, low, frame_width),
                _clip(state.size_wh[1] * (1 - rate) + height * rate, low, frame_height),
            ),
            score,
        )


def _clip(value: float, low: float, high: float) -> float:
    """Into [low, high]; `low` wins where a frame is smaller than the smallest target."""
    return max(low, min(value, high))
