"""A short sequence whose target goes away and comes back elsewhere, out of reach of a plain tracker."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

GONE, BACK = range(12, 20), range(20, 32)  # frames without the target, and with it elsewhere
ELSEWHERE = (250.0, 20.0, 40.0, 40.0)


class Vanishing(NamedTuple):
    """(240, 320, 3) frames and (32, 4) xywh boxes, NaN where the target is gone."""

    frames: list[np.ndarray]
    boxes_xywh: np.ndarray


def vanishing(frames: np.ndarray, boxes_xywh: np.ndarray) -> Vanishing:
    """The fixture `short_video`, then its background alone, then the target before it, far from where it was."""
    first, bare = frames[0], frames[-1].copy()
    _part(bare, boxes_xywh[-1])[:] = _part(first, boxes_xywh[-1])
    back = bare.copy()
    _part(back, ELSEWHERE)[:] = _part(first, boxes_xywh[0])
    boxes = [*boxes_xywh, *[(np.nan,) * 4] * len(GONE), *[ELSEWHERE] * len(BACK)]
    return Vanishing([*frames, *[bare] * len(GONE), *[back] * len(BACK)], np.array(boxes))


def _part(frame: np.ndarray, box_xywh: np.ndarray | tuple[float, ...]) -> np.ndarray:
    x, y, w, h = map(int, box_xywh)
    return frame[y : y + h, x : x + w]
