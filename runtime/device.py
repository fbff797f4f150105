"""Tracking whose state stays on the device: a frame goes up, one small record a target comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from siamtrt.boxes import check_box
from siamtrt.closing import Closing
from siamtrt.consistency import can_batch
from siamtrt.errors import SiamtrtError
from siamtrt.kernels.crop import FrameFormat
from siamtrt.kernels.decode import DecodeConstants, window_table
from siamtrt.kernels.frames import DeviceFrame
from siamtrt.kernels.launch import Buffer, Device, Launch, plan_crop, plan_decode
from siamtrt.kernels.state import INVALID, TARGET
from siamtrt.manifest import Manifest, load_manifest
from siamtrt.runtime.decode import anchor_grid
from siamtrt.runtime.device_load import DeviceBackend, open_device, open_device_sessions
from siamtrt.runtime.frames import FrameIntake, Incoming
from siamtrt.runtime.replays import Replays
from siamtrt.runtime.slots import no_slot, no_such_target
from siamtrt.runtime.state import TargetState, state_from_box
from siamtrt.tracking import AnchorDecoding, PointDecoding, Tracking


class DeviceSession(Protocol):
    """A graph bound to device memory: `run` reads `inputs` and writes `outputs`, in the device's order of launches."""

    @property
    def inputs(self) -> Mapping[str, Buffer]: ...
    @property
    def outputs(self) -> Mapping[str, Buffer]: ...

    def run(self) -> None:
        """Enqueue the graph."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """`Device.capture` of work that runs this graph, as the library behind it needs it."""
        ...

    def close(self) -> None:
        """Free what the session holds; closing twice is allowed."""
        ...


class DeviceTracker(Closing):
    """Follows up to `slots` targets: crop, search and decoding of a frame are one CUDA graph, without waiting between.

    `update` gives a frame and waits for its result. `submit` and `collect` do the same apart: up to `ring` frames may
    be under way, so that the next one is uploaded while the last is searched.

    Args:
        manifest: of a bundle with a proposal head and no strategy; its `batch` is the number of slots.
        device: where memory and kernels are.
        sessions: of the graphs "template" and "search", on the same device.
        frame_format: of frames given as arrays of another library on the device.
        ring: frames under way at once, and page-locked buffers for frames from the host.
        graphs: launch an update as one captured graph once its frame's memory comes back a second time.

    Use as a context manager, or call `close`, to free the sessions.

    Raises:
        SiamtrtError: another kind of tracker.
    """

    def __init__(
        self, manifest: Manifest, device: Device, sessions: Mapping[str, DeviceSession], *,
        frame_format: FrameFormat = "bgr", ring: int = 2, graphs: bool = True,
    ) -> None:  # fmt: skip
        decoding, tracking = _plain(manifest)
        self.manifest, self._device, self._sessions = manifest, device, dict(sessions)
        crop = manifest.preprocessing
        self._constants = DecodeConstants(
            decoding.stride, crop.scale_size, tracking.penalty_k, tracking.lr, crop.context_amount, tracking.min_side
        )
        self._window = device.upload(window_table(decoding.score_size, tracking.window_influence))
        self._sides = device.upload(_anchor_sides(decoding)) if isinstance(decoding, AnchorDecoding) else None
        self._targets = device.upload(np.zeros(manifest.batch, TARGET))
        self._fresh = device.upload(np.zeros(1, TARGET))  # the target whose template is being made
        self._frames = FrameIntake(device, frame_format, ring)
        self._records = [device.page_locked((manifest.batch,), TARGET) for _ in range(ring)]
        self._replays = Replays(sessions["search"].capture if graphs else None)
        self._under_way: deque[tuple[Callable[[], None], np.ndarray, Incoming]] = deque()

    @classmethod
    def load(
        cls, bundle: Path | str, backend: DeviceBackend = "auto", *, checkpoint: Path | str | None = None,
        frame_format: FrameFormat = "bgr", ring: int = 2, graphs: bool = True,
    ) -> DeviceTracker:  # fmt: skip
        """Open a bundle on this machine's GPU, through CuPy.

        Args:
            backend: "tensorrt", "torch", or "auto": TensorRT where an engine fits this machine or no checkpoint is
                given.
            checkpoint: for "torch", the file the bundle was exported from.
            frame_format, ring, graphs: see the class.

        Raises:
            MissingPackageError: no GPU, or no CuPy or TensorRT.
            BundleError, EngineError, CheckpointError: the bundle, its engines or the checkpoint cannot be used.
            SiamtrtError: another kind of tracker, or an unknown backend.
        """
        manifest = load_manifest(bundle)
        _plain(manifest)
        device = open_device()
        sessions = open_device_sessions(Path(bundle), manifest, device, backend, checkpoint)
        return cls(manifest, device, sessions, frame_format=frame_format, ring=ring, graphs=graphs)

    @property
    def slots(self) -> int:
        """Targets it can follow at once."""
        return self.manifest.batch

    @property
    def states(self) -> dict[int, TargetState]:
        """The state of every target by its number after every frame submitted, read from the device: 48 bytes a slot.

        It waits for what is under way.
        """
        return _states(self._targets.get())

    def add(self, frame: Any, box_xywh: Sequence[float]) -> int:
        """Take a target from a frame; returns its number.

        It waits for what is under way. A frame on the device is read back once, for its mean colour.

        Args:
            frame: see `update`.
            box_xywh: the target in pixels, overlapping the frame.

        Raises:
            FrameError, BoxError: unusable frame or box, or another size or format than before.
            SiamtrtError: every slot is taken.
        """
        incoming = self._frames.checked(frame)
        state = state_from_box(check_box(box_xywh, incoming.size))
        records = self._targets.get()
        free = np.flatnonzero(records["active"] == 0)
        if not free.size:
            raise no_slot(self.slots)
        number, fresh = int(free[0]), np.zeros(1, TARGET)
        fresh["center"], fresh["size"], fresh["active"], fresh["score"] = state.center_xy, state.size_wh, 1, 1
        fresh["fill"][0, :3] = self._frames.mean_colour(incoming)
        self._embed(self._frames.sent(incoming), fresh, number)
        records[number] = fresh[0]
        self._targets.set(records)
        return number

    def _embed(self, frame: DeviceFrame, fresh: np.ndarray, number: int) -> None:
        """Run the template graph on the fresh target and put its tensors into the slot's rows."""
        template, search = self._sessions["template"], self._sessions["search"]
        self._fresh.set(fresh)
        (crop,) = template.inputs.values()
        self._device.launch(self._crop(frame, self._fresh, crop))
        template.run()
        for name, tensor in template.outputs.items():
            rows = tensor.shape[0]
            self._device.copy(tensor, search.inputs[name].rows(number * rows, rows))

    def drop(self, number: int) -> None:
        """Forget a target; its slot is free again. It waits for what is under way.

        Raises:
            SiamtrtError: there is no such target.
        """
        records = self._targets.get()
        if not 0 <= number < self.slots or not records["active"][number]:
            raise no_such_target(number, _states(records))
        records["active"][number] = 0
        self._targets.set(records)

    def update(self, frame: Any) -> dict[int, TargetState]:
        """Find every target in the next frame.

        Args:
            frame: (H, W, 3) uint8 BGR in host memory, which is uploaded; or, used where it is, a `DeviceFrame` or an
                array on the device with DLPack or `__cuda_array_interface__`.

        Raises:
            FrameError: unusable frame, or of another size or format than the targets came from.
            SiamtrtError: frames are under way whose results were not collected.
        """
        if self._under_way:
            raise _uncollected(len(self._under_way))
        self.submit(frame)
        return self.collect()

    def submit(self, frame: Any) -> None:
        """Start the search of a frame and return at once.

        A host frame may be changed when this returns, a frame on the device when its result has been collected.

        Raises:
            FrameError: see `update`.
            SiamtrtError: `ring` frames are under way; collect a result first.
        """
        if len(self._under_way) == len(self._records):
            raise _uncollected(len(self._under_way))
        incoming = self._frames.checked(frame)
        pixels = self._frames.sent(incoming)
        self._replays.run(pixels.described().tobytes(), lambda: self._step(pixels))
        self._records.append(record := self._records.pop(0))
        self._under_way.append((self._device.fetch(self._targets, record), record, incoming))

    def collect(self) -> dict[int, TargetState]:
        """Wait for the oldest frame under way; the state of every target by its number.

        Raises:
            SiamtrtError: nothing was submitted.
        """
        if not self._under_way:
            raise SiamtrtError(
                "nothing to collect", received="no frame under way", expected="submit(frame) before",
                fix="call submit once for every collect",
            )
        wait, record, _ = self._under_way.popleft()
        wait()
        return _states(record)

    def _step(self, frame: DeviceFrame) -> Callable[[], None]:
        """What an update enqueues, planned once for a frame's memory."""
        search = self._sessions["search"]
        crop = self._crop(frame, self._targets, next(iter(search.inputs.values())))
        maps, size = (search.outputs["cls"], search.outputs["loc"]), (frame.width, frame.height)
        decode = plan_decode(self._targets, *maps, self._window, self._sides, self._constants, size)

        def step() -> None:
            self._device.launch(crop)
            search.run()
            self._device.launch(decode)

        return step

    def _crop(self, frame: DeviceFrame, targets: Buffer, crops: Buffer) -> Launch:
        preprocessing = self.manifest.preprocessing
        return plan_crop(
            frame, targets, crops, preprocessing.scale_size,
            context_amount=preprocessing.context_amount, rgb=preprocessing.channel_order == "rgb",
        )  # fmt: skip

    def close(self) -> None:
        """Wait for the device and free the sessions."""
        self._device.synchronize()
        self._replays.clear()
        for session in self._sessions.values():
            session.close()


def _uncollected(count: int) -> SiamtrtError:
    return SiamtrtError(
        "results wait to be collected", received=f"{count} frames under way", expected="room for another",
        fix="call collect first; a larger ring=... lets more frames be under way",
    )


def _plain(manifest: Manifest) -> tuple[AnchorDecoding | PointDecoding, Tracking]:
    decoding, tracking = manifest.decoding, manifest.tracking
    proposals = isinstance(decoding, AnchorDecoding | PointDecoding) and isinstance(tracking, Tracking)
    if not proposals or not can_batch(decoding, manifest.strategies):
        raise SiamtrtError(
            f"{manifest.model} cannot be tracked on the device", received=f"{decoding.kind} decoding",
            expected="a proposal head and no strategy, such as nanotrack_v2's", fix="use Tracker",
        )
    return decoding, tracking  # type: ignore[return-value]


def _anchor_sides(decoding: AnchorDecoding) -> np.ndarray:
    """(A, 2) float32 widths and heights in search-crop pixels."""
    return np.ascontiguousarray(anchor_grid(decoding)[:: decoding.score_size**2, 2:])


def _states(records: np.ndarray) -> dict[int, TargetState]:
    return {int(number): _state(records[number]) for number in np.flatnonzero(records["active"])}


def _state(record: np.ndarray) -> TargetState:
    (cx, cy), (width, height) = record["center"].tolist(), record["size"].tolist()
    row, column = record["position"].tolist()
    status = "invalid" if record["status"] == INVALID else "locked"
    return TargetState((cx, cy), (width, height), float(record["score"]), status, position_rc=(row, column))  # type: ignore[arg-type]
