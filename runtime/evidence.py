"""What speaks for a box holding the target: score, shape of the response map, similarity to the template. All pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from siamtrt.tracking import LossDetection

MOST_LOG_ODDS = 6.0  # 400 to 1: no frame is surer, so that the running mean can turn in a few
PEAK_SHARE = 6  # of the map's side is the distance from a peak that still belongs to it (MOSSE: 5 of 64 pixels)
CERTAIN = 1e-6  # a probability's distance from 0 and 1


class Evidence(NamedTuple):
    """Of one box in one frame.

    Attributes:
        score: probability of the proposal chosen, in [0, 1].
        psr: peak-to-sidelobe ratio of the response map's log-odds (Bolme et al., "Visual Object Tracking using Adaptive
            Correlation Filters", 2010, sec. 3.5).
        second_peak: highest probability away from the highest, in [0, 1].
        similarity: cosine of the box's template tensors with the target's, in [-1, 1].
    """

    score: float
    psr: float
    second_peak: float
    similarity: float


def log_odds_map(maps: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """(S, S) float32 log-odds of the target at each position, the best of all anchors, scales and angles.

    Args:
        maps: a search graph's outputs, (1, 2A, S, S) "cls" or (K, 1, S, S) "response"; None of others.
    """
    if "response" in maps:
        return maps["response"].max(axis=(0, 1))
    if "cls" not in maps:
        return None
    side = maps["cls"].shape[-1]
    background, target = maps["cls"].reshape(2, -1, side, side)
    return (target - background).max(axis=0)


def probabilities(log_odds: np.ndarray) -> np.ndarray:
    """The logistic function; 0 where the log-odds are not a number."""
    known = np.nan_to_num(log_odds, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    return (1 / (1 + np.exp(-np.clip(known, -80, 80)))).astype(np.float32)


def peak_shape(log_odds: np.ndarray) -> tuple[float, float]:
    """Peak-to-sidelobe ratio, and the highest probability away from the peak.

    Args:
        log_odds: (S, S) finite, S at least 4.
    """
    side = log_odds.shape[0]
    row, column = divmod(int(log_odds.argmax()), side)
    near = side // PEAK_SHARE
    away = np.ones(log_odds.shape, bool)
    away[max(row - near, 0) : row + near + 1, max(column - near, 0) : column + near + 1] = False
    sidelobe = log_odds[away]
    deviation = max(float(sidelobe.std()), 1e-6)
    return (float(log_odds[row, column]) - float(sidelobe.mean())) / deviation, probability(float(sidelobe.max()))


def probability(log_odds: float) -> float:
    """The logistic function of one number."""
    return 1 / (1 + math.exp(-max(-80.0, min(log_odds, 80.0))))


def signature(kernels: Mapping[str, np.ndarray]) -> np.ndarray:
    """(D,) float32 of length 1 from a template's tensors, each with the same share; 0 where they are not finite.

    The product of two is the mean of the tensors' cosines.
    """
    flat = [kernel.ravel() / max(float(np.linalg.norm(kernel)), 1e-12) for kernel in kernels.values()]
    joined = np.concatenate(flat) / math.sqrt(len(flat))
    return joined if np.isfinite(joined).all() else np.zeros_like(joined)


def blended(memory: np.ndarray, latest: np.ndarray, rate: float) -> np.ndarray:
    """A signature moved towards another by a share."""
    mixed = (1 - rate) * memory + rate * latest
    return mixed / max(float(np.linalg.norm(mixed)), 1e-12)


def log_odds(evidence: Evidence, policy: LossDetection) -> float:
    """That the box holds the target, within +-6; see `LossDetection`."""
    score = _logit(evidence.score)
    total = (
        policy.score_weight * score
        + policy.psr_weight * math.log(max(evidence.psr, CERTAIN))
        + policy.second_weight * (score - _logit(evidence.second_peak))
        + policy.similarity_weight * (evidence.similarity - policy.similarity)
    )
    return max(-MOST_LOG_ODDS, min(total, MOST_LOG_ODDS))


def _logit(probability: float) -> float:
    inside = min(max(probability, CERTAIN), 1 - CERTAIN)
    return math.log(inside / (1 - inside))
