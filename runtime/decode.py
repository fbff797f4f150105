"""From response maps to the next target state: a pure function of state, maps and constants."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from siamtrt.kernels.decode import window_table
from siamtrt.runtime.crop import context_side
from siamtrt.runtime.state import TargetState, clipped
from siamtrt.tracking import AnchorDecoding, PointDecoding, Preprocessing, Proposals, Tracking


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


class Proposed(NamedTuple):
    """Every proposal of a frame, P of them.

    `zoom`: search-crop pixels a frame pixel; `offsets` (4, P) raw; `sizes` (2, P) in crop pixels; `inverse_score` (P,)
    one over the target's probability; `penalty` (P,); `penalised` (P,) scores times it; `ranked` (P,) with the window.
    """

    zoom: float
    offsets: np.ndarray
    sizes: np.ndarray
    inverse_score: np.ndarray
    penalty: np.ndarray
    penalised: np.ndarray
    ranked: np.ndarray


class View(NamedTuple):
    """A square to cut from the frame: its side in frame pixels and its rotation."""

    side: int
    angle_rad: float = 0.0


class Decoder(Protocol):
    """From a state to the search crops, and from their outputs to the next state. Holds constants only."""

    def views(self, state: TargetState) -> Sequence[View]:
        """The search crops, around the state's centre."""
        ...

    def inputs(self, state: TargetState, frame_size: tuple[int, int]) -> dict[str, np.ndarray]:
        """What the search graph takes beside crops and template tensors; by default nothing."""
        return {}

    def decode(
        self, state: TargetState, maps: Mapping[str, np.ndarray], frame_size: tuple[int, int]
    ) -> TargetState:
        """The next state; the old centre and size with status "invalid" if nothing finite came out.

        Args:
            state: where the search crops were cut.
            maps: the search graph's outputs.
            frame_size: (width, height) in pixels; the box is clipped to it.
        """
        ...


def crop_side(state: TargetState, crop: Preprocessing, size: int) -> float:
    """Side in frame pixels of what a crop of `size` pixels covers."""
    return context_side(state.size_wh, crop.context_amount) * (size / crop.scale_size)


def whole_side(side: float) -> int:
    """The side of a square to cut, in whole frame pixels."""
    return max(1, round(side))


class ProposalDecoder(Decoder):
    """Decoding of a region proposal head: anchors or points, and the cosine window.

    Args:
        decoding, tracking, crop: from the manifest; `crop.search_size` and `decoding.score_size` belong together.
    """

    def __init__(self, decoding: Proposals, tracking: Tracking, crop: Preprocessing) -> None:
        self.decoding, self.tracking, self.crop = decoding, tracking, crop
        if isinstance(decoding, PointDecoding):
            self._grid = np.stack(grid_centres(decoding.score_size, decoding.stride))
            self._sizes, self._centre = _point_sizes, _point_centre
        else:
            self._grid = np.ascontiguousarray(anchor_grid(decoding).T)
            self._sizes, self._centre = _anchor_sizes, _anchor_centre
        # penalty * score * (1 - w) + window * w, divided by 1 - w: the same order, one operation less
        window = window_table(decoding.score_size, tracking.window_influence)
        self._window = np.tile(window.ravel(), decoding.anchors)

    def views(self, state: TargetState) -> Sequence[View]:
        """See `Decoder`: one upright crop."""
        return (View(whole_side(crop_side(state, self.crop, self.crop.search_size))),)

    def decode(
        self, state: TargetState, maps: Mapping[str, np.ndarray], frame_size: tuple[int, int]
    ) -> TargetState:
        """Select the best proposal and move the state to it (SiamRPN, sec. 4.3).

        Args:
            state: where the search crop was cut.
            maps: "cls", (1, 2A, S, S) raw background and target logits, and "loc", (1, 4A, S, S) raw offsets, or
                distances for a point head.
            frame_size: (width, height) in pixels; the box is clipped to it.

        Returns:
            The new state; the old centre and size with status "invalid" if nothing finite came out.
        """
        proposals = self.propose(state, maps)
        return self.moved(state, proposals, int(proposals.ranked.argmax()), frame_size)

    def propose(self, state: TargetState, maps: Mapping[str, np.ndarray]) -> Proposed:
        """Score every proposal."""
        # A frame finds NumPy's code out of the cache: what counts here is the number of array operations.
        zoom = self.crop.scale_size / context_side(state.size_wh, self.crop.context_amount)
        offsets = maps["loc"].reshape(4, -1)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            background, target = maps["cls"].reshape(2, -1)
            inverse_score = 1 + np.exp(background - target)
            sizes = self._sizes(self._grid, offsets)
            penalty = self._penalty(state, sizes, zoom)
            penalised = penalty / inverse_score
            return Proposed(zoom, offsets, sizes, inverse_score, penalty, penalised, penalised + self._window)

    def box_offset(self, proposals: Proposed, index: int) -> tuple[float, float, float, float]:
        """Centre of a proposal relative to the crop's, and its size, in frame pixels."""
        dx, dy = self._centre(self._grid[:, index].tolist(), proposals.offsets[:, index].tolist())
        width, height = proposals.sizes[:, index].tolist()
        zoom = proposals.zoom
        return dx / zoom, dy / zoom, width / zoom, height / zoom

    def moved(
        self, state: TargetState, proposals: Proposed, best: int, frame_size: tuple[int, int]
    ) -> TargetState:
        """The state at proposal `best`, its size smoothed with the penalised score times `lr`."""
        dx, dy, width, height = self.box_offset(proposals, best)
        rate = proposals.penalised.item(best) * self.tracking.lr
        if not math.isfinite(dx + dy + width + height + rate):
            return invalid(state)
        (cx, cy), (old_width, old_height) = state.center_xy, state.size_wh
        size = old_width * (1 - rate) + width * rate, old_height * (1 - rate) + height * rate
        center, size = clipped((cx + dx, cy + dy), size, frame_size, self.tracking.min_side)
        side = self.decoding.score_size
        return dataclasses.replace(
            state, center_xy=center, size_wh=size, score=1 / proposals.inverse_score.item(best), status="locked",
            position_rc=divmod(best % (side * side), side),
        )  # fmt: skip

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


def invalid(state: TargetState) -> TargetState:
    """The state after outputs that were not finite: where it was, without confidence."""
    return dataclasses.replace(state, score=0.0, status="invalid")
