"""Distractor-aware re-ranking of proposals (DaSiamRPN, sec. 3.3)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import cv2
import numpy as np

from siamtrt.boxes import BoxXywh
from siamtrt.runtime.decode import ProposalDecoder, Proposed, invalid
from siamtrt.runtime.state import TargetState, clipped
from siamtrt.tracking import DistractorAware, Preprocessing, Proposals, Tracking

CONSIDERED = 200  # proposals looked at for distractors, best first: suppression keeps a handful of neighbours


class DistractorAwareDecoder(ProposalDecoder):
    """Chooses the proposal that resembles the target and not the distractors, and finds this frame's distractors.

    The similarity f is the classification's log-odds. It is linear in the kernel, so that the mean over the
    distractors of f(d, p) is f with their mean kernel: the search graph's output "distractor".

    Args:
        policy: from the manifest; the others are `ProposalDecoder`'s.
    """

    def __init__(
        self, decoding: Proposals, tracking: Tracking, crop: Preprocessing, policy: DistractorAware
    ) -> None:
        super().__init__(decoding, tracking, crop)
        self.policy = policy

    def decode(
        self, state: TargetState, maps: Mapping[str, np.ndarray], frame_size: tuple[int, int]
    ) -> TargetState:
        """See `ProposalDecoder`; `maps` also holds "distractor", (1, 2A, S, S). Sets the state's distractors."""
        proposals = self.propose(state, maps)
        to_distractors = log_odds(maps["distractor"])
        best = self.choose(proposals, log_odds(maps["cls"]), to_distractors)
        usable = math.isfinite(to_distractors[best])
        new = self.moved(state, proposals, best, frame_size) if usable else invalid(state)
        found = self._distractors(state, proposals, best, frame_size) if new.status == "locked" else ()
        return dataclasses.replace(new, distractors=found)

    def choose(self, proposals: Proposed, similarity: np.ndarray, to_distractors: np.ndarray) -> int:
        """Index of the best of the `top_k` proposals by f(z, p) - weight * mean f(d, p), penalised and windowed.

        Args:
            similarity, to_distractors: (P,) log-odds with the target's and with the distractors' mean kernel.
        """
        count = min(self.policy.top_k, len(proposals.ranked))
        top = np.sort(np.argpartition(proposals.ranked, -count)[-count:])  # NaN ranks highest, as for argmax
        with np.errstate(over="ignore", invalid="ignore"):
            inverse_score = 1 + np.exp(self.policy.weight * to_distractors[top] - similarity[top])
            return int(top[np.argmax(proposals.penalty[top] / inverse_score + self._window[top])])

    def _distractors(
        self, state: TargetState, proposals: Proposed, best: int, frame_size: tuple[int, int]
    ) -> tuple[BoxXywh, ...]:
        """Boxes in the frame of what scores above the threshold and is not the target, best first."""
        scores = 1 / proposals.inverse_score
        count = min(CONSIDERED, len(scores))
        top = np.argpartition(scores, -count)[-count:]
        order = top[np.argsort(-scores[top])]
        likely = [best, *(int(index) for index in order if scores[index] > self.policy.threshold and index != best)]
        boxes = [self._box(state, proposals, index) for index in likely]
        weights = [2.0, *(float(scores[index]) for index in likely[1:])]  # the target first, whatever its score
        kept = cv2.dnn.NMSBoxes(boxes, weights, 0.0, self.policy.nms_iou)
        return tuple(self._clipped(boxes[index], frame_size) for index in list(kept)[1 : 1 + self.policy.limit])

    def _box(self, state: TargetState, proposals: Proposed, index: int) -> BoxXywh:
        dx, dy, width, height = self.box_offset(proposals, index)
        cx, cy = state.center_xy
        return cx + dx - width / 2, cy + dy - height / 2, width, height

    def _clipped(self, box_xywh: BoxXywh, frame_size: tuple[int, int]) -> BoxXywh:
        """As the target's box is clipped: a template is cut there, and memory for its crop is finite."""
        x, y, width, height = box_xywh
        center = x + width / 2, y + height / 2
        (cx, cy), (width, height) = clipped(center, (width, height), frame_size, self.tracking.min_side)
        return cx - width / 2, cy - height / 2, width, height


def log_odds(cls: np.ndarray) -> np.ndarray:
    """(1, 2A, S, S) background and target logits -> (A*S*S,) log-odds of the target."""
    background, target = cls.reshape(2, -1)
    with np.errstate(invalid="ignore"):
        return target - background
