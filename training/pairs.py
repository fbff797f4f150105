"""Pairs of template and search crops, each a function of its number alone, whoever draws it and whenever.

That is what makes a resumed run, or one with another number of loading processes, the same run.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from siamtrt.errors import TrainingError
from siamtrt.runtime.crop import context_side
from siamtrt.runtime.decode import anchor_grid
from siamtrt.tracking import AnchorDecoding, Preprocessing
from siamtrt.training.augment import Appearance, changed, covered, warped_crop
from siamtrt.training.config import Config, Pairs, Source
from siamtrt.training.datasets import read_tracks
from siamtrt.training.targets import Sampling, assign_anchors
from siamtrt.training.tracks import Track

Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
TRIES = 10  # of finding a distractor


@dataclass(frozen=True)
class Pool:
    """The tracks of one source, by category and by group."""

    source: Source
    tracks: tuple[Track, ...]
    by_category: dict[str, list[int]]
    groups: tuple[list[int], ...]


def pool_of(source: Source, tracks: Sequence[Track]) -> Pool:
    """Index tracks."""
    by_category, by_group = defaultdict(list), defaultdict(list)
    for index, track in enumerate(tracks):
        by_group[track.group].append(index)
        if track.category is not None:
            by_category[track.category].append(index)
    return Pool(source, tuple(tracks), dict(by_category), tuple(by_group.values()))


def read_pools(config: Config) -> tuple[list[Pool], list[Pool]]:
    """What to train on and what to check with: no group is in both, and a group is always in the same.

    Raises:
        TrainingError: a source that cannot be read or has no usable box.
    """
    training, checking = [], []
    for source in config.data:
        tracks = [useful for track in read_tracks(Path(source.path), source.format)
                  if (useful := _useful(track, config.pairs))]  # fmt: skip
        held = [track for track in tracks if _share(track.group) < config.held_back]
        rest = [track for track in tracks if _share(track.group) >= config.held_back]
        if tracks and not rest:
            raise TrainingError(
                "nothing left to train on", received=f"{source.path}, {len(held)} objects, all held back",
                expected="a video or still that is not", fix="lower `held_back`, or add data",
            )
        if not rest:
            raise TrainingError(
                "no usable boxes", received=source.path, fix="lower `pairs.min_side`, or correct the annotations",
                expected=f"a box with sides of {config.pairs.min_side:g} pixels or more",
            )  # fmt: skip
        training.append(pool_of(source, rest))
        if held:
            checking.append(pool_of(source, held))
    return training, checking


def _useful(track: Track, rules: Pairs) -> Track | None:
    keep = track.boxes_xywh[:, 2:].min(axis=1) >= rules.min_side
    if rules.max_share < 1 and keep.any():
        width, height = track.size_wh or read_image(track.images[0]).shape[1::-1]
        keep &= np.sqrt(track.boxes_xywh[:, 2:].prod(axis=1) / (width * height)) <= rules.max_share
    if not keep.any():
        return None
    if keep.all():
        return track
    images = tuple(image for image, kept in zip(track.images, keep, strict=True) if kept)
    return Track(images, track.boxes_xywh[keep], track.group, track.category, track.size_wh)


def _share(group: str) -> float:
    """A number in [0, 1) that follows from a name."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:6], "big") / 2**48


class PairSampler:
    """Draws pair number `index`: `sampler[index]`, the same whenever it is asked for.

    A pair is the (T, T, 3) and (S, S, 3) uint8 crops, (P,) int64 labels, (4, P) float32 offsets and the (4,) float32
    cx, cy, w, h of the search crop's object relative to its centre.

    Args:
        pools: to draw from, by their weights.
        crop, decoding: of the tracker.
        rules: how pairs are drawn.
        appearance: how they are changed.
        seed: of everything.
    """

    def __init__(
        self, pools: Sequence[Pool], crop: Preprocessing, decoding: AnchorDecoding, rules: Pairs,
        appearance: Appearance, seed: int,
    ) -> None:  # fmt: skip
        self.pools, self.crop, self.rules, self.appearance, self.seed = pools, crop, rules, appearance, seed
        self.anchors = anchor_grid(decoding)
        self._sampling = Sampling(samples=len(self.anchors)) if rules.hardest else Sampling()
        weights = np.array([pool.source.weight for pool in pools])
        self._chances = weights / weights.sum()

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng([self.seed, index])
        pool = self.pools[rng.choice(len(self.pools), p=self._chances)]
        chosen = self._object(rng, pool)
        track = pool.tracks[chosen]
        matches = rng.random() >= self.rules.negatives
        shown, searched = _two_frames(rng, len(track.images), pool.source.span)
        shown_in = chosen if matches else self._another(rng, pool, chosen)
        matches, other = shown_in == chosen, pool.tracks[shown_in]
        if not matches:
            shown = int(rng.integers(len(other.images)))
        grey, flip = rng.random() < self.appearance.grey, rng.random() < self.appearance.flip
        template = self._template(rng, other, shown)
        search, box = self._search(rng, pool, track, searched)
        if matches and rng.random() < self.appearance.cover:
            search = covered(rng, search, box)
        template, search = (changed(rng, crop, self.appearance, grey) for crop in (template, search))
        if flip:
            template, search = (np.ascontiguousarray(crop[:, ::-1]) for crop in (template, search))
            box = box * (-1, 1, 1, 1)
        labels, offsets = assign_anchors(self.anchors, box, rng, matches=matches, sampling=self._sampling)
        return template, search, labels, offsets, box.astype(np.float32)

    def _object(self, rng: np.random.Generator, pool: Pool) -> int:
        """A group, then an object in it: else a still of thirty people would count thirty times."""
        group = pool.groups[rng.integers(len(pool.groups))]
        return group[rng.integers(len(group))]

    def _another(self, rng: np.random.Generator, pool: Pool, chosen: int) -> int:
        """An object of another group, of the same category where that is asked for and there is one.

        Not of the same group: it would be in the search crop, too, and be called background there.
        """
        track = pool.tracks[chosen]
        alike = pool.by_category.get(track.category or "", []) if rng.random() < self.rules.distractors else []
        for candidates in (alike, range(len(pool.tracks))):
            for _ in range(TRIES if len(candidates) else 0):
                other = candidates[int(rng.integers(len(candidates)))]
                if pool.tracks[other].group != track.group:
                    return other
        return chosen  # a single group

    def _template(self, rng: np.random.Generator, track: Track, frame: int) -> np.ndarray:
        image, box = read_image(track.images[frame]), track.boxes_xywh[frame]
        size = self.crop.template_size
        side = context_side((box[2], box[3]), self.crop.context_amount) * (size / self.crop.scale_size)
        side *= math.exp(rng.uniform(-1, 1) * self.rules.template_log_scale)
        shift = rng.uniform(-1, 1, 2) * self.rules.template_shift * side / size
        angle = rng.uniform(-1, 1) * self.appearance.turn
        centre = box[:2] + (box[2:] - 1) / 2 - shift
        return warped_crop(image, centre, np.array([side, side]), size, angle, self._behind(rng, size))

    def _search(self, rng: np.random.Generator, pool: Pool, track: Track, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop and the object's cx, cy, w, h in it, relative to its centre."""
        image, box = read_image(track.images[frame]), track.boxes_xywh[frame]
        size = self.crop.search_size
        side = context_side((box[2], box[3]), self.crop.context_amount) * size / self.crop.scale_size
        scale, aspect = rng.uniform(-1, 1, 2) * (self.rules.log_scale, self.rules.log_aspect)
        sides = side * np.exp([scale + aspect / 2, scale - aspect / 2])
        zoom = size / sides
        shift = rng.uniform(-1, 1, 2) * self.rules.shift
        centre = box[:2] + (box[2:] - 1) / 2 - shift / zoom
        crop = warped_crop(image, centre, sides, size, 0.0, self._behind(rng, size))
        return crop, np.concatenate([shift, box[2:] * zoom])

    def _behind(self, rng: np.random.Generator, size: int) -> np.ndarray | None:
        """A piece of some training image, or nothing."""
        if rng.random() >= self.appearance.fill:
            return None
        pool = self.pools[rng.choice(len(self.pools), p=self._chances)]
        track = pool.tracks[rng.integers(len(pool.tracks))]
        image = read_image(track.images[rng.integers(len(track.images))])
        return cv2.resize(image, (size, size))


def _two_frames(rng: np.random.Generator, count: int, span: int) -> tuple[int, int]:
    first = int(rng.integers(count))
    low, high = max(0, first - span), min(count - 1, first + span)
    return first, int(rng.integers(low, high + 1))


def read_image(path: str) -> np.ndarray:
    """(H, W, 3) uint8 BGR.

    Raises:
        TrainingError: missing or no picture.
    """
    try:
        image = cv2.imread(path, cv2.IMREAD_COLOR)
    except cv2.error:  # a header that claims more than OpenCV's limit of 2**30 pixels
        image = None
    if image is None:
        raise TrainingError(
            "unreadable training image", received=path, expected="a picture OpenCV can decode",
            fix="restore the file, or remove it from the annotations",
        )
    return image
