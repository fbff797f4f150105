"""Several targets in one video: one search a frame for all of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from time import perf_counter

import numpy as np

from siamtrt.boxes import check_box
from siamtrt.consistency import can_batch
from siamtrt.errors import SiamtrtError
from siamtrt.manifest import Manifest
from siamtrt.runtime.crop import CropBuffer, check_frame, mean_colour
from siamtrt.runtime.owner import SessionOwner
from siamtrt.runtime.search import ORDINARY, search_decoders
from siamtrt.runtime.session import Session
from siamtrt.runtime.slots import no_slot, no_such_target
from siamtrt.runtime.state import TargetState, state_from_box
from siamtrt.runtime.templates import Target, TemplateBranch
from siamtrt.runtime.tracker import StageTimes, TrackResult, require_same_size


@dataclasses.dataclass(frozen=True)
class _Slot:
    target: Target
    state: TargetState


class MultiTracker(SessionOwner):
    """Follows up to `slots` targets through frames of one size, each as a `Tracker` of its own would.

    Targets come and go at any time. An empty slot costs as much as a full one: the search graph's shape is fixed.

    Args:
        manifest: of a bundle exported with `--batch`.
        sessions: of its two graphs.

    Use as a context manager, or call `close`, to free the sessions.
    """

    def __init__(self, manifest: Manifest, sessions: Mapping[str, Session]) -> None:
        _require_plain(manifest)
        super().__init__(manifest, sessions)
        self._branch = TemplateBranch(manifest, sessions["template"])
        self._decoder = search_decoders(manifest)[ORDINARY]
        crop, *kernels = sessions[ORDINARY].inputs
        order = manifest.preprocessing.channel_order
        self._buffer = CropBuffer(crop.shape[-1], manifest.batch, order)
        self._buffer.tensor[:] = 0  # what an empty slot is searched in
        self._feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in kernels}
        self._feeds[crop.name] = self._buffer.tensor
        self._slots: dict[int, _Slot] = {}

    @property
    def slots(self) -> int:
        """Targets it can follow at once."""
        return self.manifest.batch

    @property
    def states(self) -> dict[int, TargetState]:
        """The state of every target by its number."""
        return {number: slot.state for number, slot in self._slots.items()}

    def add(self, frame: np.ndarray, box_xywh: Sequence[float]) -> int:
        """Take a target from a frame.

        Args:
            frame: (H, W, 3) uint8 BGR, as large as the other targets'.
            box_xywh: the target in pixels, overlapping the frame.

        Returns:
            The target's number, 0 to `slots` - 1, for `drop` and in the results of `update`.

        Raises:
            FrameError, BoxError: unusable frame or box.
            SiamtrtError: every slot is taken.
        """
        frame_size = self._check(frame)
        state = state_from_box(check_box(box_xywh, frame_size))
        number = next((index for index in range(self.slots) if index not in self._slots), None)
        if number is None:
            raise no_slot(self.slots)
        fill = mean_colour(frame)
        target = Target(self._branch.run(frame, state, fill), fill, frame_size)
        for name, kernel in target.kernels.items():
            rows = kernel.shape[0]
            self._feeds[name][number * rows : (number + 1) * rows] = kernel
        self._slots[number] = _Slot(target, state)
        return number

    def drop(self, number: int) -> None:
        """Forget a target; its slot is free again.

        Raises:
            SiamtrtError: there is no such target.
        """
        if number not in self._slots:
            raise no_such_target(number, self._slots)
        del self._slots[number]

    def update(self, frame: np.ndarray) -> dict[int, TrackResult]:
        """Find every target in the next frame; their times are those of the whole frame.

        Raises:
            FrameError: unusable frame, or of another size than the targets came from.
        """
        start = perf_counter()
        self._check(frame)
        for number, slot in self._slots.items():
            (view,) = self._decoder.views(slot.state)
            self._buffer.cut(frame, slot.state.center_xy, view.side, slot.target.fill, number)
        cropped = perf_counter()
        maps = self._sessions[ORDINARY].run(self._feeds) if self._slots else {}
        inferred = perf_counter()
        for number, slot in self._slots.items():
            own = {name: values[number : number + 1] for name, values in maps.items()}
            state = self._decoder.decode(slot.state, own, slot.target.frame_size)
            self._slots[number] = _Slot(slot.target, state)
        laps = (start, cropped, inferred, perf_counter())
        crop, network, decode = (1e3 * (b - a) for a, b in itertools.pairwise(laps))
        times = StageTimes(crop, network, decode, 0.0, 1e3 * (laps[-1] - start))
        return {number: _result(slot.state, times) for number, slot in self._slots.items()}

    def _check(self, frame: np.ndarray) -> tuple[int, int]:
        """(width, height) of a usable frame, the same as every target's."""
        for slot in itertools.islice(self._slots.values(), 1):
            require_same_size(frame, slot.target.frame_size)
        return check_frame(frame)


def _result(state: TargetState, times: StageTimes) -> TrackResult:
    return TrackResult(state.status == "locked", state.box_xywh, state.score, state.status, times)


def _require_plain(manifest: Manifest) -> None:
    if not can_batch(manifest.decoding, manifest.strategies):
        raise SiamtrtError(
            f"{manifest.model} cannot follow several targets in one search",
            received=f"{manifest.decoding.kind} decoding, {manifest.strategies}",
            expected="a proposal head and no strategy, such as nanotrack_v2's", fix="open a Tracker a target",
        )
