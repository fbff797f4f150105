"""Sequences with a cut in them: some frames of another video, then the first goes on."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from siamtrt.runtime.sequence import Sequence

FOREIGN_FRAMES = 40
FRAMES_BEFORE = 20  # at least, of the target before the cut
FRAMES_AFTER = 30  # at least, of the target after it
RETURNS = ("later", "where it was")


@dataclass(frozen=True)
class Cut:
    """Frames of `base` until `start`, then 40 of `foreign` from `foreign_start` on, then `base` again.

    Attributes:
        back: of `RETURNS`, "later": `base` goes on as if time had passed, at frame start + 40; else at frame start.
    """

    base: Sequence
    foreign: Sequence
    start: int
    foreign_start: int
    back: str = "later"

    @property
    def name(self) -> str:
        """What is cut where."""
        return f"{self.base.name} to {self.start}, {self.foreign.name} from {self.foreign_start}"

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each frame with its truth, xywh pixels, NaN where there is none; the foreign ones in `base`'s size."""
        own = zip(self.base.open(), self.base.truth_xywh, strict=True)
        for frame, truth in islice(own, self.start):
            yield frame, truth
            size = frame.shape[1], frame.shape[0]
        stop = self.foreign_start + FOREIGN_FRAMES
        for frame in islice(self.foreign.open(), self.foreign_start, stop):
            yield cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.full(4, np.nan)
        yield from islice(own, FOREIGN_FRAMES if self.back == "later" else 0, None)


def choose_cuts(sequences: Several[Sequence], count: int, seed: int = 0) -> list[Cut]:
    """Cuts at random places, each sequence that is long enough as often as another, in random order.

    A target is visible in all of the `FRAMES_AFTER` frames after the cut, whether they come at once or later, and in
    the frame before it.
    """
    chance = np.random.default_rng(seed)
    usable = {sequence.name: starts for sequence in sequences if (starts := _starts(sequence))}
    by_name = {sequence.name: sequence for sequence in sequences if len(sequence.truth_xywh) >= FOREIGN_FRAMES}
    order: list[str] = []
    while len(order) < count:
        order += chance.permutation(sorted(usable)).tolist()
    return [_cut(name, by_name, usable[name], chance) for name in order[:count]]


def _cut(name: str, by_name: dict[str, Sequence], starts: list[int], chance: np.random.Generator) -> Cut:
    start = int(chance.choice(starts))
    foreign = by_name[str(chance.choice(sorted(set(by_name) - {name})))]
    foreign_start = int(chance.integers(len(foreign.truth_xywh) - FOREIGN_FRAMES + 1))
    return Cut(by_name[name], foreign, start, foreign_start)


def _starts(sequence: Sequence) -> list[int]:
    """Frames of a sequence that a cut may come before."""
    seen = np.isfinite(sequence.truth_xywh).all(axis=1)
    last = len(seen) - FOREIGN_FRAMES - FRAMES_AFTER
    return [
        start
        for start in range(FRAMES_BEFORE, last + 1)
        if seen[start - 1 : start + FOREIGN_FRAMES + FRAMES_AFTER].all()
    ]
