"""A tracker that knows whether it has its target, and looks for one that it lost."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np

from siamtrt.backends import Backend
from siamtrt.boxes import BoxXywh, check_box
from siamtrt.manifest import Manifest
from siamtrt.runtime.decode import Decoder, invalid
from siamtrt.runtime.evidence import MOST_LOG_ODDS, Evidence, blended, log_odds, log_odds_map, peak_shape, signature
from siamtrt.runtime.scan import Place, places_around, taken, tile_step
from siamtrt.runtime.search import ORDINARY, search_decoders
from siamtrt.runtime.session import Session
from siamtrt.runtime.state import TargetState, state_from_box
from siamtrt.runtime.templates import Target
from siamtrt.runtime.tracker import Laps, StageTimes, Tracker, TrackResult, require_same_size
from siamtrt.tracking import LossDetection, Proposals, Tracking

Watched = TypeVar("Watched", bound="WatchedTracker")
Detector = Callable[[np.ndarray], Sequence[BoxXywh]]
DETECTOR_PERIOD = 5  # frames from one question to the next: a detector may take longer than a frame
MOST_OFFERS = 5  # boxes of a detector that are judged; each costs a search
MOST_COMPARED = 2  # places a frame, beside the candidate, that are compared with the template; each costs its graph


@dataclass(frozen=True)
class Watch:
    """What is known of a target beside its state.

    Attributes:
        first: signature of the template.
        recent: signature that follows the target while it is there.
        good: state of the last frame that was beyond doubt.
        belief: running mean of the log-odds.
        candidate: of a target that is looked for, the likeliest state in the last frame; None while it is followed.
        promising: whether the candidate had the log-odds of the target.
        places: where it is looked for, beside the candidate and the last good place.
        position: of the next of them.
        sought_frames: updates in which it was looked for.
    """

    first: np.ndarray
    recent: np.ndarray
    good: TargetState
    belief: float = MOST_LOG_ODDS
    candidate: TargetState | None = None
    promising: bool = False
    places: tuple[Place, ...] = ()
    position: int = 0
    sought_frames: int = 0


class Viewed(NamedTuple):
    """Where a search says that the target is, the shape of its response map (see `Evidence`), and when it did what."""

    state: TargetState
    psr: float
    second_peak: float
    laps: Laps


class Judged(NamedTuple):
    """Where the target may be, and what speaks for it."""

    state: TargetState
    evidence: Evidence
    log_odds: float
    signature: np.ndarray


class Step(NamedTuple):
    """What an update comes to: the next watch and state, the likeliest place, and every search."""

    watch: Watch
    state: TargetState
    best: Judged
    views: Sequence[Viewed]


def followed(watch: Watch, before: TargetState, found: Judged, policy: LossDetection) -> tuple[Watch, TargetState]:
    """The watch and the state after a frame in which the target was followed.

    In doubt it keeps its size: that of something else is not to be learned. Where it seemed to go is the first
    candidate of the places where it is looked for.
    """
    watch = believed(watch, found, policy)
    if watch.belief < policy.sought:
        watch = dataclasses.replace(watch, candidate=found.state, promising=False, position=0, sought_frames=0)
        return watch, looked_for(watch, policy)
    if found.log_odds < 0:
        return watch, dataclasses.replace(found.state, size_wh=before.size_wh, status="uncertain")
    watch = dataclasses.replace(watch, recent=blended(watch.recent, found.signature, policy.memory_rate))
    if watch.belief < policy.uncertain:
        return watch, dataclasses.replace(found.state, size_wh=before.size_wh, status="uncertain")
    return dataclasses.replace(watch, good=found.state), found.state


def believed(watch: Watch, found: Judged, policy: LossDetection) -> Watch:
    """The watch with the running mean a frame later."""
    return dataclasses.replace(watch, belief=(1 - policy.rate) * watch.belief + policy.rate * found.log_odds)


def looked_for(watch: Watch, policy: LossDetection) -> TargetState:
    """The state of a target that is looked for: at the likeliest place, or, lost, where it was last beyond doubt."""
    assert watch.candidate is not None  # while it is looked for
    if watch.belief < policy.lost or watch.candidate.status == "invalid":
        return dataclasses.replace(watch.good, score=watch.candidate.score, status="lost")
    return dataclasses.replace(watch.candidate, status="uncertain")


def regained(watch: Watch, found: Judged) -> Watch:
    """The watch of a target that was found again."""
    return dataclasses.replace(watch, good=found.state, belief=found.log_odds, candidate=None, promising=False)


class WatchedTracker(Tracker):
    """A `Tracker` whose status is "locked", "uncertain", "lost" or "invalid", as its bundle's `LossDetection` has it.

    When the target seems gone it is looked for in a few crops a frame, further and further from where it was last
    beyond doubt. It is uncertain, its box at the likeliest place, until that is none too; then it is lost, and the box
    is where it was. Trackers without `LossDetection` are not watched: their status is that of `Tracker`.

    Args:
        manifest, sessions: see `Tracker`.
        detector: given a frame, returns boxes in it, xywh pixels, where the target may be, the likeliest first; asked
            every few frames while it is looked for. Five are judged, like every other place; the template stays that of
            `init`.

    Attributes:
        detector: the same; may be set at any time.
        detector_errors: how often it failed; tracking goes on.
    """

    def __init__(
        self, manifest: Manifest, sessions: Mapping[str, Session], detector: Detector | None = None
    ) -> None:
        super().__init__(manifest, sessions)
        self.detector = detector
        self.detector_errors = 0
        self._loss = manifest.strategies.loss
        self._anywhere = _without_window(manifest) if self._loss else self._decoders[ORDINARY]
        self._watch: Watch | None = None
        self._warm = False

    @classmethod
    def load(
        cls: type[Watched], bundle: Path | str | None = None, backend: Backend = "auto", *, threads: int | None = None,
        checkpoint: Path | str | None = None, detector: Detector | None = None,
    ) -> Watched:  # fmt: skip
        """See `SessionOwner.load`; with a detector."""
        tracker = super().load(bundle, backend, threads=threads, checkpoint=checkpoint)
        tracker.detector = detector
        return tracker

    def init(self, frame: np.ndarray, box_xywh: Sequence[float]) -> None:
        """See `Tracker.init`; the first time it also searches the frame once, as a graph's first run takes longest."""
        super().init(frame, box_xywh)
        target, state = self._initialised()
        if not self._warm:
            self._look(frame, state, target, self._decoders[state.search], perf_counter())
            self._maps, self._warm = None, True
        first = signature(target.kernels)
        self._watch = Watch(first, first, state)

    def update(self, frame: np.ndarray) -> TrackResult:
        """Find the target in the next frame, or look for it; `ok` unless it is lost or invalid.

        The evidence is that of the box, or of the likeliest place where a lost target was looked for.

        Raises:
            FrameError, SiamtrtError: see `Tracker.update`.
        """
        if self._loss is None or self._watch is None:
            return super().update(frame)
        start = perf_counter()
        target, state = self._initialised()
        require_same_size(frame, target.frame_size)
        step = (self._seek if self._watch.candidate else self._follow)(frame, target, state, self._watch, self._loss)
        self._watch, self._state = step.watch, step.state
        ok, times = step.state.status in ("locked", "uncertain"), _times(start, step.views)
        score, evidence = step.best.evidence.score, step.best.evidence
        return TrackResult(ok, step.state.box_xywh, score, step.state.status, times, None, evidence)

    def _follow(
        self, frame: np.ndarray, target: Target, state: TargetState, watch: Watch, policy: LossDetection
    ) -> Step:
        view = self._view(frame, target, state, self._decoders[ORDINARY])
        found = self._judged(frame, target, view, watch, policy)
        if view.state.status == "invalid":
            return Step(watch, view.state, found, [view])
        watch, new = followed(watch, state, found, policy)
        if watch.candidate:
            watch = dataclasses.replace(watch, places=self._places(watch.good, target.frame_size, policy))
        return Step(watch, new, found, [view])

    def _places(self, good: TargetState, frame_size: tuple[int, int], policy: LossDetection) -> tuple[Place, ...]:
        crop, decoding = self.manifest.preprocessing, self.manifest.decoding
        assert isinstance(decoding, Proposals)  # loss detection needs it
        return places_around(good.center_xy, tile_step(good.size_wh, crop, decoding), policy.rings, frame_size)

    def _seek(
        self, frame: np.ndarray, target: Target, state: TargetState, watch: Watch, policy: LossDetection
    ) -> Step:
        """Look at the candidate of the last frame, in the next places and in the last good one.

        The best of these by score are compared with the template; the likeliest is the next candidate. One that has
        the log-odds of the target in two frames running is the target.
        """
        kept = self._view(frame, target, watch.candidate or watch.good, self._decoders[ORDINARY])
        found = self._judged(frame, target, kept, watch, policy)
        if watch.promising and found.log_odds >= policy.regained:
            return Step(regained(watch, found), found.state, found, [kept])
        places, position = taken(watch.places, watch.position, policy.searches - 2)
        starts = [place.of(watch.good) for place in places]
        if watch.sought_frames % DETECTOR_PERIOD == 0:
            starts += self._offered(frame, target)
        # The good place is last, so that `response` shows it.
        fresh = [self._view(frame, target, start, self._anywhere) for start in (*starts, watch.good)]
        chosen = sorted(fresh, key=lambda view: -view.state.score)[:MOST_COMPARED]
        judged = [self._judged(frame, target, view, watch, policy) for view in chosen]
        best = max([*judged, found], key=lambda likely: likely.log_odds)
        watch = dataclasses.replace(
            watch, candidate=best.state, promising=best.log_odds >= policy.regained, position=position,
            sought_frames=watch.sought_frames + 1,
        )  # fmt: skip
        watch = believed(watch, best, policy)
        return Step(watch, looked_for(watch, policy), best, [kept, *fresh])

    def _offered(self, frame: np.ndarray, target: Target) -> list[TargetState]:
        """States at the first few of the detector's boxes."""
        if self.detector is None:
            return []
        states = []
        try:
            for box in itertools.islice(self.detector(frame), MOST_OFFERS):
                states.append(state_from_box(check_box(box, target.frame_size)))
        except Exception:  # whatever a detector does, the target is looked for
            self.detector_errors += 1
        return states

    def _view(self, frame: np.ndarray, target: Target, state: TargetState, decoder: Decoder) -> Viewed:
        """Search around a state; "invalid" where anything of the map is not finite."""
        looked = self._look(frame, state, target, decoder, perf_counter())
        field = log_odds_map(looked.maps)
        if looked.state.status == "invalid" or field is None or not np.isfinite(field).all():
            return Viewed(invalid(state), 0.0, 0.0, looked.laps)
        return Viewed(looked.state, *peak_shape(field), looked.laps)

    def _judged(self, frame: np.ndarray, target: Target, view: Viewed, watch: Watch, policy: LossDetection) -> Judged:
        """Compare what is found with the template."""
        if view.state.status == "invalid":
            return Judged(view.state, Evidence(0.0, 0.0, 0.0, 0.0), -MOST_LOG_ODDS, watch.first)
        own = signature(self._branch.run(frame, view.state, target.fill))
        similarity = max(float(own @ watch.first), float(own @ watch.recent))
        evidence = Evidence(view.state.score, view.psr, view.second_peak, similarity)
        return Judged(view.state, evidence, log_odds(evidence, policy), own)


def _without_window(manifest: Manifest) -> Decoder:
    """The decoder of a target that may be anywhere in the crop."""
    assert isinstance(manifest.tracking, Tracking)  # a proposal head's
    tracking = dataclasses.replace(manifest.tracking, window_influence=0.0)
    return search_decoders(dataclasses.replace(manifest, tracking=tracking))[ORDINARY]


def _times(start: float, views: Sequence[Viewed]) -> StageTimes:
    """The sums over the searches; the rest of the update is `extra_ms`."""
    stages = [[1e3 * (b - a) for a, b in itertools.pairwise(view.laps)] for view in views]
    crop, network, decode = (sum(stage) for stage in zip(*stages, strict=True))
    total = 1e3 * (perf_counter() - start)
    return StageTimes(crop, network, decode, total - crop - network - decode, total)
