"""Where to look for a lost target: at its last place, then in rings around it, again and again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from siamtrt.runtime.crop import context_side
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import Preprocessing, Proposals

OTHER_SCALES = (1.6, 1 / 1.6)  # a search finds a target of up to 1.3 times the size it expects, more or less


class Place(NamedTuple):
    """A centre in pixels, and the size of the target there as a share of the last one."""

    center_xy: tuple[float, float]
    scale: float = 1.0

    def of(self, state: TargetState) -> TargetState:
        """The state of a target at this place."""
        width, height = state.size_wh
        return dataclasses.replace(state, center_xy=self.center_xy, size_wh=(width * self.scale, height * self.scale))


def tile_step(size_wh: tuple[float, float], crop: Preprocessing, decoding: Proposals) -> float:
    """Frame pixels between the centres of two search crops whose response maps just touch."""
    reach = decoding.score_size * decoding.stride  # pixels of a crop that its map's positions stand for
    return reach / crop.scale_size * context_side(size_wh, crop.context_amount)


def places_around(
    center_xy: tuple[float, float], step: float, rings: int, frame_size: tuple[int, int]
) -> tuple[Place, ...]:
    """Where to look beside a place itself: there in other sizes, then around it, the nearest ring first.

    Args:
        center_xy: the place, in pixels.
        step: pixels between neighbours, horizontally and vertically.
        rings: squares of 8, 16, 24, ... crops, each from its upper left corner on.
        frame_size: (width, height); a crop whose middle shows nothing of the frame is left out.
    """
    around = [
        Place((x, y))
        for ring in range(1, rings + 1)
        for row, column in _square(ring)
        if _inside(x := center_xy[0] + column * step, frame_size[0], step)
        and _inside(y := center_xy[1] + row * step, frame_size[1], step)
    ]
    return *(Place(center_xy, scale) for scale in OTHER_SCALES), *around


def _square(ring: int) -> list[tuple[int, int]]:
    """Rows and columns at this distance from 0, the larger of both counting."""
    span = range(-ring, ring + 1)
    return [(row, column) for row in span for column in span if max(abs(row), abs(column)) == ring]


def _inside(value: float, length: int, step: float) -> bool:
    return -step / 2 < value < length + step / 2


def taken(places: Sequence[Place], position: int, count: int) -> tuple[list[Place], int]:
    """The next places from a position on, from the first again after the last; and the position after them.

    None is taken twice.
    """
    count = min(count, len(places))
    chosen = [places[(position + index) % len(places)] for index in range(count)]
    return chosen, (position + count) % len(places) if places else 0
