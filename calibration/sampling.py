"""Which frames of which sequences make the pairs: even over sequences, target sizes and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STRATA_PER_OCTAVE = 4  # a stratum's largest target is 2**(1/4) = 1.19 times as wide as its smallest


@dataclass(frozen=True)
class Candidates:
    """Frames of one sequence that pairs can be made of.

    Attributes:
        templates: (T,) frames that show the target, ascending.
        searches: (J,) frames that show it and whose frame before does, ascending.
        choices: (J,) how many of `templates` come before each.
        strata: (J,) of the target's size there: floor(4 log2(sqrt(w h))), in pixels of the frame.
    """

    templates: np.ndarray
    searches: np.ndarray
    choices: np.ndarray
    strata: np.ndarray

    @property
    def count(self) -> int:
        """Pairs of a template and a later search frame."""
        return int(self.choices.sum())


def candidates_of(truth_xywh: np.ndarray, visible: np.ndarray) -> Candidates:
    """The candidates of a sequence from its (F, 4) boxes and (F,) whether a frame's box is a target in it."""
    templates = np.flatnonzero(visible)
    searches = np.flatnonzero(visible[1:] & visible[:-1]) + 1
    area = np.prod(truth_xywh[searches, 2:], axis=1)
    strata = np.floor(STRATA_PER_OCTAVE * np.log2(np.sqrt(area))).astype(np.int64)
    return Candidates(templates, searches, np.searchsorted(templates, searches), strata)


def even_shares(capacities: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(N,) integers of sum `count`, at most `capacities` and otherwise as equal as can be, the odd ones at random.

    `count` must not exceed the sum of `capacities`.
    """
    shares = np.zeros(len(capacities), np.int64)
    while left := count - int(shares.sum()):
        rising = np.flatnonzero(shares < capacities)
        if left < len(rising):
            shares[rng.permutation(rising)[:left]] += 1
        else:
            shares[rising] = np.minimum(capacities[rising], shares[rising] + left // len(rising))
    return shares


def choose_pairs(candidates: Sequence[Candidates], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """For each sequence (Q, 2) different pairs of template and search frame, sorted by the search frame.

    Every sequence gives as many pairs as the others, or all it has. Within one, every stratum of target sizes gives as
    many search frames as the others, or all it has; only when all frames of a sequence are taken are they taken again.
    The gaps are even between 1 and the longest that each search frame allows.

    Args:
        candidates: of each sequence.
        count: pairs in all, at most the candidates' sum.
        rng: draws what evenness leaves open.
    """
    quotas = even_shares(np.array([item.count for item in candidates]), count, rng)
    return [_choose(item, int(quota), rng) for item, quota in zip(candidates, quotas, strict=True)]


def _choose(item: Candidates, quota: int, rng: np.random.Generator) -> np.ndarray:
    uses = _search_uses(item, quota, rng)
    positions = (rng.permutation(quota) + rng.random(quota)) / max(quota, 1)  # one in each quota-th of [0, 1)
    pairs, start = [], 0
    for search, choices, times in zip(item.searches, item.choices, uses, strict=True):
        ranks = _different(positions[start : start + times], int(choices))
        pairs += [(int(item.templates[choices - 1 - rank]), int(search)) for rank in ranks]
        start += times
    return np.array(pairs, np.int64).reshape(quota, 2)


def _search_uses(item: Candidates, quota: int, rng: np.random.Generator) -> np.ndarray:
    """(J,) how often each search frame is used."""
    uses = np.zeros(len(item.searches), np.int64)
    while left := quota - int(uses.sum()):
        free = uses < item.choices
        strata, sizes = np.unique(item.strata[free], return_counts=True)
        for stratum, share in zip(strata, even_shares(sizes, min(left, int(free.sum())), rng), strict=True):
            members = np.flatnonzero(free & (item.strata == stratum))
            uses[rng.permutation(members)[:share]] += 1
    return uses


def _different(positions: np.ndarray, choices: int) -> list[int]:
    """Ranks below `choices` at positions in [0, 1), each used once: the next free one where it is taken."""
    taken: set[int] = set()
    for position in positions:
        rank = int(position * choices)
        while rank in taken:
            rank = (rank + 1) % choices
        taken.add(rank)
    return sorted(taken)
