"""What speaks for boxes that hold their target and for boxes that do not, from annotated videos.

A tracker follows each video several times, changed; in between it is shown another video and put in wrong places.
Everything drawn follows from a seed.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from siamtrt.boxes import iou
from siamtrt.errors import BoxError, FrameError, TrainingError
from siamtrt.fitted_loss import require_able
from siamtrt.manifest import Manifest
from siamtrt.runtime.evidence import Evidence, blended
from siamtrt.runtime.search import ORDINARY
from siamtrt.runtime.session import Session
from siamtrt.runtime.state import TargetState
from siamtrt.runtime.tracker import require_same_size
from siamtrt.runtime.watched import Judged, WatchedTracker
from siamtrt.tracking import LossDetection
from siamtrt.training.datasets import read_tracks
from siamtrt.training.pairs import read_image
from siamtrt.training.tracks import Track

ANNOTATIONS = "annotations.json"
UNFITTED = LossDetection(0.0, 0.0, 0.0, 0.0, 0.0, uncertain=1.0, lost=-1.5, regained=0.25)
FEWEST_VIDEOS = 5  # one a fold of the cross-validation
FEWEST_FRAMES, MOST_FRAMES, FOREIGN_FRAMES = 10, 60, 20  # of a video that are followed, and shown in between
SCALES = (1.0, 0.6, 0.35, 0.2)
SMALLEST_SIDE = 12.0  # pixels that a target keeps when it is shrunk
HELD_IOU, LEARNED_IOU, MISSED_IOU = 0.4, 0.5, 0.1  # with the target: in the box, beyond doubt, not in it
BETWEEN_MOVES, MOVED_FRAMES = 6, 2  # frames from one wrong place to the next, and searched from there
TRIES = 20  # of finding one


class Change(NamedTuple):
    """How a video becomes another: mirrored, then turned clockwise; `channels` in the order in which they are taken."""

    mirrored: bool = False
    quarter_turns: int = 0
    channels: tuple[int, int, int] = (0, 1, 2)


AS_IT_IS = Change()
CHANGES = (AS_IT_IS, Change(True, 0, (1, 2, 0)), Change(False, 1, (2, 0, 1)), Change(False, 2, (2, 1, 0)))
RUNS = 2 * (1 + len(CHANGES))  # of a video: in its own size, then in any; each forwards and backwards


@dataclass(frozen=True)
class Clip:
    """F frames of a video with the target's boxes, both changed as they are asked for.

    Attributes:
        images: files.
        boxes_xywh: (F, 4) pixels in them.
        change, scale: what is done to both; the scale is at most 1.
    """

    images: Sequence[str]
    boxes_xywh: np.ndarray
    change: Change = AS_IT_IS
    scale: float = 1.0

    def shown(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 BGR frame, and the (4,) box in it.

        Raises:
            TrainingError: unreadable.
        """
        image, (x, y, w, h) = read_image(self.images[number]), self.boxes_xywh[number]
        height, width = image.shape[:2]
        if self.change.mirrored:
            image, x = image[:, ::-1], width - x - w
        for _ in range(self.change.quarter_turns):
            x, y, w, h, width, height = height - y - h, x, h, w, height, width
        image = np.ascontiguousarray(np.rot90(image, -self.change.quarter_turns)[..., self.change.channels])
        if self.scale < 1:
            smaller = max(1, round(width * self.scale)), max(1, round(height * self.scale))
            image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
        across, down = image.shape[1] / width, image.shape[0] / height
        return image, np.array([x * across, y * down, w * across, h * down])


class Sample(NamedTuple):
    """Evidence of one box, whether the target is in it, and the video's group."""

    evidence: Evidence
    held: bool
    group: str


class Witness(WatchedTracker):
    """Follows as a plain `Tracker` does, and says of every box what a `WatchedTracker` judges it by.

    Raises:
        TrainingError: see `require_able`.
    """

    def __init__(self, manifest: Manifest, sessions: Mapping[str, Session]) -> None:
        require_able(manifest)
        super().__init__(manifest, sessions)
        self.policy = manifest.strategies.loss or UNFITTED

    def judged(self, frame: np.ndarray, state: TargetState) -> Judged | None:
        """What is found around a state; None where the network's outputs are not finite.

        Raises:
            FrameError: a frame of another size than that of `init`.
        """
        target, _ = self._initialised()
        require_same_size(frame, target.frame_size)
        assert self._watch is not None  # `init` sets both
        view = self._view(frame, target, state, self._decoders[ORDINARY])
        return None if view.state.status == "invalid" else self._judged(frame, target, view, self._watch, self.policy)

    def learn(self, found: Judged) -> None:
        """Move the second template towards what was found."""
        assert self._watch is not None
        recent = blended(self._watch.recent, found.signature, self.policy.memory_rate)
        self._watch = dataclasses.replace(self._watch, recent=recent)


def tracks_of(data: Path, most: int, seed: int) -> list[Track]:
    """Videos to follow, each of another group, drawn where there are more.

    Args:
        data: such a file as "videos" in training/formats.py, or a folder with one, `ANNOTATIONS`; else a folder of
            sequences, in any layout that `siamtrt eval` reads.

    Raises:
        TrainingError, SourceError: see `read_tracks`; fewer than `FEWEST_VIDEOS` are long enough.
    """
    file = data / ANNOTATIONS if (data / ANNOTATIONS).is_file() else data
    groups: dict[str, list[Track]] = defaultdict(list)
    for track in read_tracks(file, "videos" if file.is_file() else "sequences"):
        if len(track.images) >= FEWEST_FRAMES:
            groups[track.group].append(track)
    if len(groups) < FEWEST_VIDEOS:
        raise TrainingError(
            "too few videos", received=f"{len(groups)} of {FEWEST_FRAMES} frames or more in {data}",
            expected=f"at least {FEWEST_VIDEOS}", fix="annotate more; in still images no target is lost",
        )
    rng = np.random.default_rng(seed)
    chosen = [several[rng.integers(len(several))] for several in groups.values()]
    return [chosen[number] for number in sorted(rng.permutation(len(chosen))[:most].tolist())]


def collected(witness: Witness, tracks: Sequence[Track], seed: int, progress: bool = False) -> list[Sample]:
    """Follow every video `RUNS` times.

    Raises:
        TrainingError: an unreadable image, frames of different sizes, a first box outside its frame.
    """
    samples: list[Sample] = []
    with tqdm(total=RUNS * len(tracks), unit="run", disable=None if progress else True) as bar:
        for number, track in enumerate(tracks):
            for run in range(RUNS):
                rng = np.random.default_rng([seed, number, run])
                clip = _clip(track, run, rng)
                other = tracks[(number + int(rng.integers(1, len(tracks)))) % len(tracks)]
                cut = int(rng.integers(len(clip.images) // 3, len(clip.images)))
                try:
                    found = [*followed(witness, clip, cut, _foreign(other, rng)), *misplaced(witness, clip, rng)]
                except (FrameError, BoxError) as error:
                    raise unfollowed(track.group, error) from error
                samples += [Sample(evidence, held, track.group) for evidence, held in found]
                bar.update()
    return samples


def unfollowed(video: str, error: FrameError | BoxError) -> TrainingError:
    """What to raise where a tracker refuses a frame or the first box."""
    return TrainingError(
        "a video that cannot be followed", received=f"{video} ({error.what}: {error.received})",
        expected="frames of one size, a first box inside them", fix="correct or remove the video",
    )


def _clip(track: Track, run: int, rng: np.random.Generator) -> Clip:
    """The video for a run; the odd ones go backwards."""
    kind, backwards = divmod(run, 2)
    begin = int(rng.integers(max(0, len(track.images) - MOST_FRAMES) + 1))
    order = np.arange(begin, min(begin + MOST_FRAMES, len(track.images)))[:: -1 if backwards else 1]
    images, boxes = [track.images[index] for index in order], track.boxes_xywh[order]
    if kind == 0:
        return Clip(images, boxes)
    return Clip(images, boxes, CHANGES[kind - 1], drawn_scale(boxes, rng))


def drawn_scale(boxes_xywh: np.ndarray, rng: np.random.Generator) -> float:
    """One of `SCALES`, or a larger one at which targets keep `SMALLEST_SIDE`; at most 1."""
    side = float(np.median(np.sqrt(boxes_xywh[:, 2:].prod(axis=1))))
    return min(max(float(rng.choice(SCALES)), SMALLEST_SIDE / side), 1.0)


def _foreign(track: Track, rng: np.random.Generator) -> Clip:
    change = CHANGES[int(rng.integers(len(CHANGES)))]
    return Clip(track.images[:FOREIGN_FRAMES], track.boxes_xywh[:FOREIGN_FRAMES], change)


def followed(witness: Witness, clip: Clip, cut: int, foreign: Clip) -> Iterator[tuple[Evidence, bool]]:
    """Follow a clip; before its frame `cut` another is shown, in which the target is not.

    A box that holds the target only in part, or that has lost it, is left out.
    """
    frame, box = clip.shown(0)
    witness.init(frame, box.tolist())
    state = witness.state
    for number in range(1, len(clip.images)):
        if number == cut:
            yield from _cut_to(witness, state, foreign, frame.shape)
        frame, box = clip.shown(number)
        found = witness.judged(frame, state)
        if found is None:
            continue
        state, overlap = found.state, iou(np.array(found.state.box_xywh), box)
        if overlap > LEARNED_IOU:
            witness.learn(found)
        if overlap > HELD_IOU:
            yield found.evidence, True


def _cut_to(
    witness: Witness, state: TargetState, foreign: Clip, shape: tuple[int, ...]
) -> Iterator[tuple[Evidence, bool]]:
    for number in range(len(foreign.images)):
        frame = cv2.resize(foreign.shown(number)[0], shape[1::-1], interpolation=cv2.INTER_AREA)
        found = witness.judged(frame, state)
        if found is not None:
            state = found.state
            yield found.evidence, False


def misplaced(witness: Witness, clip: Clip, rng: np.random.Generator) -> Iterator[tuple[Evidence, bool]]:
    """From places of the clip's frames where the target is not; what finds it all the same is left out."""
    for number in range(BETWEEN_MOVES // 2, len(clip.images), BETWEEN_MOVES):
        frame, box = clip.shown(number)
        state = _away_from(box, frame.shape, rng)
        for _ in range(MOVED_FRAMES):
            found = witness.judged(frame, state) if state else None
            if found is None:
                break
            state = found.state
            if iou(np.array(state.box_xywh), box) < MISSED_IOU:
                yield found.evidence, False


def _away_from(box: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> TargetState | None:
    """A target of this size somewhere in the frame; None where it fills too much of it."""
    for _ in range(TRIES):
        x, y = rng.uniform(0, shape[1::-1])
        state = TargetState((float(x), float(y)), (float(box[2]), float(box[3])))
        if iou(np.array(state.box_xywh), box) == 0:
            return state
    return None
