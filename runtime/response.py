"""From response maps at several scales and angles to the next target state (SiamFC, sec. 2.2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from siamtrt.runtime.decode import Decoder, View, crop_side, invalid, whole_side
from siamtrt.runtime.state import TargetState, clipped
from siamtrt.tracking import Preprocessing, ResponseDecoding, ResponseTracking


class ResponseDecoder(Decoder):
    """The peak of the best of several response maps, and the cosine window.

    Args:
        decoding, tracking, crop: from the manifest.
    """

    def __init__(self, decoding: ResponseDecoding, tracking: ResponseTracking, crop: Preprocessing) -> None:
        self.decoding, self.tracking, self.crop = decoding, tracking, crop
        self._penalties = [self._penalty(scale, angle) for scale, angle in decoding.candidates]
        side = decoding.score_size * decoding.upsampling
        window = np.outer(np.hanning(side), np.hanning(side))
        self._window = (window / window.sum() * tracking.window_influence).astype(np.float32)

    def _penalty(self, scale: float, angle: float) -> float:
        penalty = 1.0 if scale == 1.0 else self.tracking.scale_penalty
        return penalty * (self.tracking.angle_penalty if angle else 1.0)

    def views(self, state: TargetState) -> Sequence[View]:
        """See `Decoder`: a crop a candidate."""
        side = crop_side(state, self.crop, self.crop.search_size)
        candidates = self.decoding.candidates
        return [View(whole_side(side * scale), state.angle_rad + angle) for scale, angle in candidates]

    def decode(
        self, state: TargetState, maps: Mapping[str, np.ndarray], frame_size: tuple[int, int]
    ) -> TargetState:
        """Move to the peak of the candidate with the highest penalised response.

        Args:
            state: where the search crops were cut.
            maps: "response", (K, 1, R, R), a map for each of the decoding's candidates.
            frame_size: (width, height) in pixels; the box is clipped to it.

        Returns:
            The new state, its score the logistic function of the response (SiamFC trains with logistic loss, eq. 1);
            the old centre and size with status "invalid" if nothing finite came out.
        """
        responses = [self._enlarged(response) for response in maps["response"][:, 0]]
        peaks = [float(response.max()) for response in responses]
        if not (np.isfinite(maps["response"]).all() and math.isfinite(sum(peaks))):  # the enlarged may overflow
            return invalid(state)
        ranked = [_penalised(peak, penalty) for peak, penalty in zip(peaks, self._penalties, strict=True)]
        best = ranked.index(max(ranked))
        scale, angle = self.decoding.candidates[best]
        dx, dy = self._displacement(responses[best], crop_side(state, self.crop, self.crop.search_size) * scale)
        turned = state.angle_rad + angle
        cosine, sine = math.cos(turned), math.sin(turned)
        (cx, cy), rate = state.center_xy, 1 + self.tracking.scale_lr * (scale - 1)
        center = cx + cosine * dx - sine * dy, cy + sine * dx + cosine * dy
        size = state.size_wh[0] * rate, state.size_wh[1] * rate
        center, size = clipped(center, size, frame_size, self.tracking.min_side)
        score = 1 / (1 + math.exp(-max(-700.0, min(peaks[best], 700.0))))
        return dataclasses.replace(
            state, center_xy=center, size_wh=size, score=score, status="locked", angle_rad=turned
        )

    def _enlarged(self, response: np.ndarray) -> np.ndarray:
        side = response.shape[0] * self.decoding.upsampling
        return cv2.resize(response, (side, side), interpolation=cv2.INTER_CUBIC)

    def _displacement(self, response: np.ndarray, side: float) -> tuple[float, float]:
        """Of the peak under the window from the crop's centre, in pixels of the crop's square in the frame."""
        shifted = response - response.min()
        weight = (1 - self.tracking.window_influence) / (float(shifted.sum()) + 1e-16)
        row, column = divmod(int((shifted * weight + self._window).argmax()), response.shape[1])
        step = self.decoding.stride / self.decoding.upsampling * side / self.crop.search_size
        middle = (response.shape[0] - 1) / 2
        return (column - middle) * step, (row - middle) * step


def _penalised(peak: float, penalty: float) -> float:
    """The product, as the references have it; a negative peak, which it would reward, is divided instead."""
    return peak * penalty if peak > 0 else peak / penalty
