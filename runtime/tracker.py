"""The tracker: init on a box, update on every frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import NamedTuple

import numpy as np

from siamtrt.backends import Backend
from siamtrt.boxes import BoxXywh, check_box
from siamtrt.errors import FrameError, SiamtrtError
from siamtrt.manifest import Manifest
from siamtrt.runtime.crop import CropBuffer, Fill, check_frame, mean_colour
from siamtrt.runtime.decode import Decoder, Status, TargetState, state_from_box
from siamtrt.runtime.session import Session, open_sessions


class StageTimes(NamedTuple):
    """Milliseconds an update spent in each stage, and in all."""

    crop_ms: float
    network_ms: float
    decode_ms: float
    total_ms: float


@dataclass(frozen=True)
class TrackResult:
    """One update. Unpacks like OpenCV's trackers: `ok, (x, y, w, h) = tracker.update(frame)`."""

    ok: bool
    box_xywh: BoxXywh
    score: float
    status: Status
    times: StageTimes

    def __iter__(self) -> Iterator[bool | BoxXywh]:
        yield self.ok
        yield self.box_xywh


@dataclass(frozen=True)
class _Target:
    """What initialisation fixes: the template's tensors, the padding colour, the frame's size."""

    kernels: dict[str, np.ndarray]
    fill: Fill
    frame_size: tuple[int, int]


class Tracker:
    """Follows one target through frames of one size.

    Args:
        manifest: of the bundle the sessions come from.
        template, search: sessions of its two graphs.

    Use as a context manager, or call `close`, to free the sessions.
    """

    def __init__(self, manifest: Manifest, template: Session, search: Session) -> None:
        self.manifest = manifest
        self._sessions = {"template": template, "search": search}
        self._decoder = Decoder.from_manifest(manifest)
        self._target: _Target | None = None
        self._state: TargetState | None = None
        crop = manifest.preprocessing
        self._crops = {"template": CropBuffer(crop.template_size), "search": CropBuffer(crop.search_size)}

    @classmethod
    def load(
        cls, bundle: Path | str, backend: Backend = "auto", *, threads: int | None = None,
        checkpoint: Path | str | None = None,
    ) -> Tracker:  # fmt: skip
        """Open a bundle; arguments and errors are those of `open_session`."""
        manifest, sessions = open_sessions(bundle, backend=backend, threads=threads, checkpoint=checkpoint)
        return cls(manifest, **sessions)

    @property
    def backend(self) -> str:
        """What runs the search graph: "onnxruntime", "tensorrt", "tensorrt_rtx" or "torch"."""
        return self._sessions["search"].backend

    @property
    def state(self) -> TargetState:
        """Centre, size, score and status of the target after the last call.

        Raises:
            SiamtrtError: `init` has not been called.
        """
        return self._initialised()[1]

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
        feeds = self._crop("template", frame, state, self._decoder.template_side(state), fill)
        kernels = {name: np.array(value) for name, value in self._sessions["template"].run(feeds).items()}
        self._target, self._state = _Target(kernels, fill, frame_size), state

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
        if check_frame(frame) != target.frame_size:
            raise FrameError(
                "frame size changed", received="{}x{}".format(*check_frame(frame)),
                expected="{}x{}, as at init".format(*target.frame_size),
                fix="resize the frame, or call init on a frame of the new size",
            )
        feeds = self._crop("search", frame, state, self._decoder.search_side(state), target.fill)
        cropped = perf_counter()
        maps = self._sessions["search"].run({**feeds, **target.kernels})
        inferred = perf_counter()
        self._state = state = self._decoder.decode(state, maps["cls"], maps["loc"], target.frame_size)
        end = perf_counter()
        times = StageTimes(*(1e3 * t for t in (cropped - start, inferred - cropped, end - inferred, end - start)))
        return TrackResult(state.status == "tracked", state.box_xywh, state.score, state.status, times)

    def _crop(
        self, graph: str, frame: np.ndarray, state: TargetState, side: int, fill: Fill
    ) -> dict[str, np.ndarray]:
        tensor = self._crops[graph].cut(frame, state.center_xy, side, fill)
        return {self._sessions[graph].inputs[0].name: tensor}

    def _initialised(self) -> tuple[_Target, TargetState]:
        if self._target is None or self._state is None:
            raise SiamtrtError(
                "tracker has no target", received="update before init", expected="init(frame, box) first",
                fix="call init with the target's box",
            )
        return self._target, self._state

    def close(self) -> None:
        """Free the sessions."""
        for session in self._sessions.values():
            session.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
