"""Candidate boxes around the last position of the target, and their place in the search crop (SINT, CVPR 2016)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from siamtrt.runtime.decode import Decoder, View, crop_side, invalid, whole_side
from siamtrt.runtime.state import TargetState, clipped
from siamtrt.tracking import Preprocessing, SamplingDecoding, SamplingTracking


def radius_candidates(
    size_wh: tuple[float, float], radius: float, radial: int, angular: int, scales: tuple[float, ...]
) -> np.ndarray:
    """Boxes at the target's centre and on rings around it, at several scales.

    SINT keeps the shape of the initial box: `size_wh` is the first frame's, `scales` are sqrt(2)/2, 1 and sqrt(2),
    and `radius` is 30/512 of the frame's width. The authors' code sets the rings 3 pixels apart, which makes
    `radial` 10 in a frame 512 pixels wide and more in wider ones; here their number is fixed, because an engine
    takes a fixed number of boxes. The code scales a box about its top left corner; here its centre stays.
    Left out of the paper: the filter by optical flow and the refinement of the best box by ridge regression.

    Args:
        size_wh: of the target in frame pixels.
        radius: of the outermost ring in frame pixels.
        radial: rings, at equal distances.
        angular: boxes a ring, at equal angles, the first one to the right of the centre, the next ones below it.
        scales: factors of `size_wh`.

    Returns:
        (K, 4) float32 cx, cy, w, h in frame pixels relative to the target's centre, K = (1 + radial * angular) *
        len(scales). Scale by scale; within a scale the centre first, then the rings outwards.
    """
    distances = radius * np.arange(1, radial + 1) / radial
    angles = 2 * math.pi * np.arange(angular) / angular
    rings = distances[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    centers = np.concatenate([np.zeros((1, 2)), rings.reshape(-1, 2)])
    sizes = np.outer(scales, size_wh)
    shape = (len(scales), len(centers), 2)
    boxes = np.concatenate([np.broadcast_to(centers, shape), np.broadcast_to(sizes[:, None], shape)], axis=2)
    return boxes.reshape(-1, 4).astype(np.float32)


def radius_within(size_wh: tuple[float, float], scales: tuple[float, ...], crop_side: float) -> float:
    """Largest radius in frame pixels whose candidates all lie in a crop around the target; 0 if none does.

    30/512 of a wide frame reaches beyond the crop of a small target, where there is nothing to pool from.
    """
    return max(0.0, (crop_side - max(scales) * max(size_wh)) / 2)


def crop_boxes(
    boxes_cxcywh: np.ndarray, crop_center_xy: tuple[float, float], crop_side: float, crop_size: int
) -> np.ndarray:
    """Boxes in frame pixels -> their corners in the pixels of a square crop, clipped to it.

    The frame's point `crop_center_xy` is pixel (crop_size - 1) / 2 of the crop, whose first pixel has its centre
    at 0.

    Args:
        boxes_cxcywh: (K, 4) cx, cy, w, h, from any origin.
        crop_center_xy: centre of the crop from the same origin: (0, 0) for boxes relative to the target's centre.
        crop_side: side of the crop in frame pixels.
        crop_size: side of the crop in its own pixels.

    Returns:
        (K, 4) float32 x1, y1, x2, y2 in 0..crop_size - 1.
    """
    scale = crop_size / crop_side
    centers = (boxes_cxcywh[:, :2] - np.asarray(crop_center_xy)) * scale + (crop_size - 1) / 2
    halves = boxes_cxcywh[:, 2:] * scale / 2
    corners = np.concatenate([centers - halves, centers + halves], axis=1)
    return np.clip(corners, 0, crop_size - 1).astype(np.float32)


class SamplingDecoder(Decoder):
    """The candidate most similar to the target (SINT, sec. 3.3).

    Args:
        decoding, tracking, crop: from the manifest.
    """

    def __init__(self, decoding: SamplingDecoding, tracking: SamplingTracking, crop: Preprocessing) -> None:
        self.decoding, self.tracking, self.crop = decoding, tracking, crop

    def views(self, state: TargetState) -> Sequence[View]:
        """See `Decoder`: one upright crop."""
        return (View(self._side(state)),)

    def inputs(self, state: TargetState, frame_size: tuple[int, int]) -> dict[str, np.ndarray]:
        """See `Decoder`: "boxes", (K, 4) x1, y1, x2, y2 in crop pixels."""
        boxes = self._candidates(state, frame_size)
        return {"boxes": crop_boxes(boxes, (0.0, 0.0), self._side(state), self.crop.search_size)}

    def decode(
        self, state: TargetState, maps: Mapping[str, np.ndarray], frame_size: tuple[int, int]
    ) -> TargetState:
        """Move to the best candidate.

        Args:
            state: where the search crop was cut.
            maps: "similarity", (1, K) cosines; the score is the best one, 0 where that is negative.
            frame_size: (width, height) in pixels; the box is clipped to it.

        Returns:
            The new state; the old centre and size with status "invalid" if the similarities were not finite.
        """
        similarity = maps["similarity"][0]
        if not np.isfinite(similarity).all():
            return invalid(state)
        best = int(similarity.argmax())
        dx, dy, width, height = self._candidates(state, frame_size)[best].tolist()
        (cx, cy), low = state.center_xy, self.tracking.min_side
        center, size = clipped((cx + dx, cy + dy), (width, height), frame_size, low)
        score = max(0.0, min(float(similarity[best]), 1.0))
        return dataclasses.replace(state, center_xy=center, size_wh=size, score=score, status="locked")

    def _side(self, state: TargetState) -> int:
        return whole_side(crop_side(state, self.crop, self.crop.search_size))

    def _candidates(self, state: TargetState, frame_size: tuple[int, int]) -> np.ndarray:
        """(K, 4) cx, cy, w, h in frame pixels relative to the target's centre, inside the search crop."""
        decoding, size = self.decoding, state.first_wh or state.size_wh
        radius = min(decoding.radius_share * frame_size[0], radius_within(size, decoding.scales, self._side(state)))
        return radius_candidates(size, radius, decoding.radial, decoding.angular, decoding.scales)
