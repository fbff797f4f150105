"""The tracker: init on a box, update on every frame."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np

from siamtrt.boxes import BoxXywh, check_box
from siamtrt.errors import FrameError, SiamtrtError
from siamtrt.manifest import Manifest
from siamtrt.runtime.crop import CropBuffer, check_frame, mean_colour
from siamtrt.runtime.decode import Decoder, View
from siamtrt.runtime.evidence import Evidence, log_odds_map, probabilities
from siamtrt.runtime.mask import Refiner
from siamtrt.runtime.owner import SessionOwner
from siamtrt.runtime.search import first_search, next_search, search_decoders
from siamtrt.runtime.session import Session
from siamtrt.runtime.state import Polygon, Status, TargetState, state_from_box
from siamtrt.runtime.templates import Target, TemplateBranch, template_policy


class StageTimes(NamedTuple):
    """Milliseconds an update spent in each stage, and in all; `extra_ms` is for masks and template updates."""

    crop_ms: float
    network_ms: float
    decode_ms: float
    extra_ms: float
    total_ms: float


@dataclass(frozen=True)
class TrackResult:
    """One update. Unpacks like OpenCV's trackers: `ok, (x, y, w, h) = tracker.update(frame)`.

    `polygon` holds the corners of a rotated box in frame pixels where the tracker gives one, `evidence` what the
    status of a `WatchedTracker` was judged by.
    """

    ok: bool
    box_xywh: BoxXywh
    score: float
    status: Status
    times: StageTimes
    polygon: Polygon | None = None
    evidence: Evidence | None = None

    def __iter__(self) -> Iterator[bool | BoxXywh]:
        yield self.ok
        yield self.box_xywh


Laps = tuple[float, float, float, float]  # seconds: begun, cropped, inferred, decoded


class Looked(NamedTuple):
    """A search crop, what the network makes of it, and what that means for the target; with the time at each stage."""

    state: TargetState
    maps: Mapping[str, np.ndarray]
    views: Sequence[View]
    laps: Laps


class Tracker(SessionOwner):
    """Follows one target through frames of one size.

    Args:
        manifest: of the bundle the sessions come from.
        sessions: one of each of its graphs.

    Use as a context manager, or call `close`, to free the sessions.
    """

    def __init__(self, manifest: Manifest, sessions: Mapping[str, Session]) -> None:
        _require_one_target(manifest)
        super().__init__(manifest, sessions)
        self._branch = TemplateBranch(manifest, sessions["template"])
        self._policy = template_policy(manifest, self._branch, sessions)
        self._decoders = search_decoders(manifest)
        self._buffers = {graph: self._buffer(sessions[graph]) for graph in self._decoders}
        mask = manifest.strategies.mask
        self._refiner = Refiner(mask, sessions["refine"]) if mask else None
        self._target: Target | None = None
        self._state: TargetState | None = None
        self._maps: Mapping[str, np.ndarray] | None = None

    def _buffer(self, session: Session) -> CropBuffer:
        count, _, size, _ = session.inputs[0].shape
        return CropBuffer(size, count, self.manifest.preprocessing.channel_order)

    @property
    def state(self) -> TargetState:
        """Centre, size, score and status of the target after the last call.

        Raises:
            SiamtrtError: `init` has not been called.
        """
        return self._initialised()[1]

    @property
    def response(self) -> np.ndarray | None:
        """The response map of the last update, (S, S) float32 in [0, 1]; None before it, and for SINT, which has none.

        Its middle is that of the crop: the target's centre before the update. While a lost target is looked for it is
        the map of one of the crops.
        """
        found = None if self._maps is None else log_odds_map(self._maps)
        return None if found is None else probabilities(found)

    def init(self, frame: np.ndarray, box_xywh: Sequence[float]) -> None:
        """Take the target from a frame.

        Args:
            frame: (H, W, 3) uint8 BGR.
            box_xywh: the target in pixels, overlapping the frame.

        Raises:
            FrameError, BoxError: unusable frame or box; an earlier target is then kept.
        """
        frame_size = check_frame(frame)
        state = state_from_box(check_box(box_xywh, frame_size))
        fill = mean_colour(frame)
        target = Target(self._branch.run(frame, state, fill), fill, frame_size)
        search = first_search(self.manifest.strategies.search, state, frame_size)
        self._target, self._state, self._maps = target, dataclasses.replace(state, search=search), None

    def update(self, frame: np.ndarray) -> TrackResult:
        """Find the target in the next frame.

        Args:
            frame: as large as the frame given to `init`.

        Raises:
            FrameError: unusable frame, or of another size.
            SiamtrtError: `init` has not been called.
        """
        start = perf_counter()
        target, state = self._initialised()
        require_same_size(frame, target.frame_size)
        looked = self._look(frame, state, target, self._decoders[state.search], start)
        new = next_search(self.manifest.strategies.search, state, looked.state)
        if new.status == "locked":
            new = self._refined(state, new, looked.maps, looked.views, target)
            new = self._policy.next(frame, new, target)
        self._state = new
        laps = (*looked.laps, perf_counter())
        crop, network, decode, extra = (1e3 * (b - a) for a, b in itertools.pairwise(laps))
        times = StageTimes(crop, network, decode, extra, 1e3 * (laps[-1] - start))
        return TrackResult(new.status == "locked", new.box_xywh, new.score, new.status, times, new.polygon)

    def _look(self, frame: np.ndarray, state: TargetState, target: Target, decoder: Decoder, start: float) -> Looked:
        """Search around a state."""
        views = decoder.views(state)
        crops = self._buffers[state.search].cut_views(frame, state.center_xy, views, target.fill)
        cropped = perf_counter()
        maps = self._maps = self._search(state, target, crops, decoder)
        inferred = perf_counter()
        new = decoder.decode(state, maps, target.frame_size)
        return Looked(new, maps, views, (start, cropped, inferred, perf_counter()))

    def _refined(
        self, old: TargetState, new: TargetState, maps: Mapping[str, np.ndarray], views: Sequence[View], target: Target
    ) -> TargetState:
        if self._refiner is None:
            return new
        (view,) = views
        return self._refiner.refined(maps, old.center_xy, view.side, new, target.frame_size)

    def _search(
        self, state: TargetState, target: Target, crops: np.ndarray, decoder: Decoder
    ) -> dict[str, np.ndarray]:
        session = self._sessions[state.search]
        crop, *others = (tensor.name for tensor in session.inputs)
        known = {**target.kernels, **state.memory, **decoder.inputs(state, target.frame_size)}
        return session.run({crop: crops, **{name: known[name] for name in others}})

    def _initialised(self) -> tuple[Target, TargetState]:
        if self._target is None or self._state is None:
            raise SiamtrtError(
                "tracker has no target", received="update before init", expected="init(frame, box) first",
                fix="call init with the target's box",
            )
        return self._target, self._state


def _require_one_target(manifest: Manifest) -> None:
    if manifest.batch != 1:
        raise SiamtrtError(
            "the bundle follows several targets at once", received=f"a search graph for {manifest.batch}",
            expected="one target", fix="use siamtrt.MultiTracker, or export again without --batch",
        )


def require_same_size(frame: np.ndarray, expected: tuple[int, int]) -> None:
    """Raise unless a frame is as large as the one a target was taken from.

    Raises:
        FrameError: unusable frame, or of another size.
    """
    size = check_frame(frame)
    if size != expected:
        raise FrameError(
            "frame size changed", received="{}x{}".format(*size), expected="{}x{}, as at init".format(*expected),
            fix="resize the frame, or call init on a frame of the new size",
        )
