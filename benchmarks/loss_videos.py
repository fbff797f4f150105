"""Films to try loss detection on: annotated videos, changed; with another spliced in the target is away for a while.

Everything drawn follows from a seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from siamtrt.benchmarks.cuts import FOREIGN_FRAMES, FRAMES_AFTER, FRAMES_BEFORE
from siamtrt.training.loss_evidence import CHANGES, Clip, drawn_scale
from siamtrt.training.tracks import Track

RUNS = 2  # films of each kind a video
WHOLE_FRAMES = 150  # of a film without a cut
MOST_BEFORE = 50  # frames before a cut
MOST_ZOOM = 0.5  # of the view after it, as a logarithm
MOST_SHIFT = 1.2, 0.7  # of the target's width and height
TRIES = 20  # of finding a view with the target in it

class View(NamedTuple):
    """What is at p in a frame is seen at zoom * p + (x, y), in pixels; beyond the borders it is mirrored."""

    zoom: float = 1.0
    x: float = 0.0
    y: float = 0.0

    def frame_of(self, frame: np.ndarray) -> np.ndarray:
        """The view, in the frame's size."""
        half = (self.zoom - 1) / 2  # OpenCV counts from the first pixel's middle, boxes from its corner
        matrix = np.array([[self.zoom, 0, self.x + half], [0, self.zoom, self.y + half]])
        return cv2.warpAffine(frame, matrix, frame.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    def boxes_of(self, boxes_xywh: np.ndarray) -> np.ndarray:
        """(..., 4) boxes in it."""
        return self.zoom * boxes_xywh + (self.x, self.y, 0, 0)


NOTHING = Clip((), np.zeros((0, 4)))
AS_IT_IS = View()


@dataclass(frozen=True)
class Film:
    """A clip with its target; then perhaps another without it, and the first again in another view."""

    name: str
    before: Clip
    foreign: Clip = NOTHING
    after: Clip = NOTHING
    view: View = AS_IT_IS

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each frame with its (4,) truth, xywh pixels, NaN where the target is away; the foreign ones in the same size.

        Raises:
            TrainingError: an unreadable image.
        """
        for frame, box in _shown(self.before):
            yield frame, box
        for other, _ in _shown(self.foreign):
            yield cv2.resize(other, frame.shape[1::-1], interpolation=cv2.INTER_AREA), np.full(4, np.nan)
        for frame, box in _shown(self.after):
            yield self.view.frame_of(frame), self.view.boxes_of(box)


def _shown(clip: Clip) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return (clip.shown(number) for number in range(len(clip.images)))


def whole_films(tracks: Sequence[Track], seed: int) -> list[Film]:
    """Two of each video, to and fro."""
    return [
        Film(_name(track, run), _clip(track, number + run, run % 2 == 1, WHOLE_FRAMES, _chance(seed, number, run)))
        for number, track in enumerate(tracks) for run in range(RUNS)
    ]  # fmt: skip


def cut_films(tracks: Sequence[Track], seed: int) -> list[Film]:
    """Two of each video, in the changes that `whole_films` has not of it.

    Raises:
        TrainingError: an unreadable image.
    """
    films = []
    for number, track in enumerate(tracks):
        for run in range(RUNS, 2 * RUNS):
            chance = _chance(seed, number, run)
            start = int(chance.integers(FRAMES_BEFORE, MOST_BEFORE))
            clip = _clip(track, number + run, run % 2 == 1, start + FRAMES_AFTER, chance)
            other = (number + int(chance.integers(1, len(tracks)))) % len(tracks)
            foreign = _clip(tracks[other], int(chance.integers(len(CHANGES))), False, FOREIGN_FRAMES, chance)
            before, after = _part(clip, slice(start)), _part(clip, slice(start, None))
            films.append(Film(_name(track, run), before, foreign, after, _view(after, chance)))
    return films


def _chance(seed: int, number: int, run: int) -> np.random.Generator:
    return np.random.default_rng([seed, number, run])


def _name(track: Track, run: int) -> str:
    return f"{track.group}, {run}"


def _clip(track: Track, kind: int, backwards: bool, frames: int, chance: np.random.Generator) -> Clip:
    """So many frames of a video, to and fro, begun at either end, in one of `CHANGES` and one of `SCALES`."""
    count = min(frames, len(track.images))
    order = to_and_fro(count, frames)
    order = int(chance.integers(len(track.images) - count + 1)) + (count - 1 - order if backwards else order)
    boxes = track.boxes_xywh[order]
    images = [track.images[index] for index in order]
    return Clip(images, boxes, CHANGES[kind % len(CHANGES)], drawn_scale(boxes, chance))


def to_and_fro(count: int, frames: int) -> np.ndarray:
    """(frames,) numbers below `count`, at least 2: 0, 1, 2, 1, 0, 1, 2 of three."""
    last = count - 1
    return last - np.abs(last - np.arange(frames) % (2 * last))


def _part(clip: Clip, frames: slice) -> Clip:
    return dataclasses.replace(clip, images=clip.images[frames], boxes_xywh=clip.boxes_xywh[frames])


def _view(clip: Clip, chance: np.random.Generator) -> View:
    """Zoomed about the target in the first frame and shifted, its centre in every frame; as it was if none is found."""
    size, boxes = clip.shown(0)[0].shape[1::-1], np.array([box for _, box in _shown(clip)])
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    for _ in range(TRIES):
        zoom = float(np.exp(chance.uniform(-MOST_ZOOM, MOST_ZOOM)))
        x, y = (1 - zoom) * centres[0] + chance.uniform(-1, 1, 2) * MOST_SHIFT * boxes[0, 2:]
        seen = zoom * centres + (x, y)
        if (seen >= 0).all() and (seen < size).all():
            return View(zoom, float(x), float(y))
    return AS_IT_IS
