"""Tracking whose state stays on the device: a frame goes up, one small record a target comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from siamtrt.boxes import check_box
from siamtrt.consistency import can_batch
from siamtrt.errors import FrameError, SiamtrtError
from siamtrt.kernels.decode import DecodeConstants, window_table
from siamtrt.kernels.launch import Buffer, Device, frame_of, plan_crop, plan_decode
from siamtrt.kernels.state import INVALID, TARGET
from siamtrt.manifest import Manifest
from siamtrt.runtime.crop import check_frame, mean_colour
from siamtrt.runtime.decode import anchor_grid
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


class DeviceTracker:
    """Follows up to `slots` targets: crop, search and decoding of a frame are launched without waiting in between.

    Args:
        manifest: of a bundle with a proposal head and no strategy; its `batch` is the number of slots.
        device: where memory and kernels are.
        sessions: of the graphs "template" and "search", on the same device.

    Raises:
        SiamtrtError: another kind of tracker.
    """

    def __init__(self, manifest: Manifest, device: Device, sessions: Mapping[str, DeviceSession]) -> None:
        decoding, tracking = _plain(manifest)
        self.manifest, self._device, self._sessions = manifest, device, sessions
        crop = manifest.preprocessing
        self._constants = DecodeConstants(
            decoding.stride, crop.scale_size, tracking.penalty_k, tracking.lr, crop.context_amount, tracking.min_side
        )
        self._window = device.upload(window_table(decoding.score_size, tracking.window_influence))
        self._sides = device.upload(_anchor_sides(decoding)) if isinstance(decoding, AnchorDecoding) else None
        self._targets = device.upload(np.zeros(manifest.batch, TARGET))
        self._fresh = device.upload(np.zeros(1, TARGET))  # the target whose template is being made
        self._frame: Buffer | None = None  # where host frames go
        self._frame_size: tuple[int, int] | None = None

    @property
    def slots(self) -> int:
        """Targets it can follow at once."""
        return self.manifest.batch

    @property
    def states(self) -> dict[int, TargetState]:
        """The state of every target by its number, read from the device: 48 bytes a slot."""
        records = self._targets.get()
        return {int(number): _state(records[number]) for number in np.flatnonzero(records["active"])}

    def add(self, frame: np.ndarray | Buffer, box_xywh: Sequence[float]) -> int:
        """Take a target from a frame; returns its number.

        Args:
            frame: (H, W, 3) uint8 BGR, in host memory or, as a buffer, on the device.
            box_xywh: the target in pixels, overlapping the frame.

        Raises:
            FrameError, BoxError: unusable frame or box, or another size than before.
            SiamtrtError: every slot is taken.
        """
        host = frame if isinstance(frame, np.ndarray) else frame.get()
        state = state_from_box(check_box(box_xywh, check_frame(host)))
        pixels = self._on_device(frame)
        records = self._targets.get()
        free = np.flatnonzero(records["active"] == 0)
        if not free.size:
            raise no_slot(self.slots)
        number, fresh = int(free[0]), np.zeros(1, TARGET)
        fresh["center"], fresh["size"], fresh["active"], fresh["score"] = state.center_xy, state.size_wh, 1, 1
        fresh["fill"][0, :3] = mean_colour(host)
        self._embed(pixels, fresh, number)
        records[number] = fresh[0]
        self._targets.set(records)
        return number

    def _embed(self, frame: Buffer, fresh: np.ndarray, number: int) -> None:
        """Run the template graph on the fresh target and put its tensors into the slot's rows."""
        template, search = self._sessions["template"], self._sessions["search"]
        self._fresh.set(fresh)
        (crop,) = template.inputs.values()
        self._crop(frame, self._fresh, crop)
        template.run()
        for name, tensor in template.outputs.items():
            rows = tensor.shape[0]
            self._device.copy(tensor, search.inputs[name].rows(number * rows, rows))

    def drop(self, number: int) -> None:
        """Forget a target; its slot is free again.

        Raises:
            SiamtrtError: there is no such target.
        """
        records = self._targets.get()
        if not 0 <= number < self.slots or not records["active"][number]:
            raise no_such_target(number, self.states)
        records["active"][number] = 0
        self._targets.set(records)

    def update(self, frame: np.ndarray | Buffer) -> dict[int, TargetState]:
        """Find every target in the next frame.

        Raises:
            FrameError: unusable frame, or of another size than the targets came from.
        """
        search, pixels = self._sessions["search"], self._on_device(frame)
        height, width = pixels.shape[:2]
        crops = next(iter(search.inputs.values()))
        self._crop(pixels, self._targets, crops)
        search.run()
        maps = search.outputs["cls"], search.outputs["loc"]
        decode = plan_decode(self._targets, *maps, self._window, self._sides, self._constants, (width, height))
        self._device.launch(decode)
        return self.states

    def _crop(self, frame: Buffer, targets: Buffer, crops: Buffer) -> None:
        preprocessing = self.manifest.preprocessing
        self._device.launch(plan_crop(
            frame_of(frame, "bgr"), targets, crops, preprocessing.scale_size,
            context_amount=preprocessing.context_amount, rgb=preprocessing.channel_order == "rgb",
        ))  # fmt: skip

    def _on_device(self, frame: np.ndarray | Buffer) -> Buffer:
        """The frame in device memory: uploaded into the same buffer every time, or as it is."""
        size = check_frame(frame) if isinstance(frame, np.ndarray) else _check_buffer(frame)
        if self._frame_size not in (None, size):
            raise FrameError(
                "frame size changed", received="{}x{}".format(*size),
                expected="{}x{}, as at first".format(*(self._frame_size or size)),
                fix="resize the frame, or open another tracker for the new size",
            )
        self._frame_size = size
        if not isinstance(frame, np.ndarray):
            return frame
        if self._frame is None:
            self._frame = self._device.upload(frame)
        else:
            self._frame.set(frame)
        return self._frame


def _check_buffer(frame: Buffer) -> tuple[int, int]:
    """(width, height) of a frame on the device."""
    if frame.dtype != np.uint8 or len(frame.shape) != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise FrameError(
            "unusable frame", received=f"{frame.dtype} buffer of shape {tuple(frame.shape)}",
            expected="(H, W, 3) uint8 BGR", fix="convert it on the device first",
        )
    return frame.shape[1], frame.shape[0]


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


def _state(record: np.ndarray) -> TargetState:
    (cx, cy), (width, height) = record["center"].tolist(), record["size"].tolist()
    row, column = record["position"].tolist()
    status = "invalid" if record["status"] == INVALID else "tracked"
    return TargetState((cx, cy), (width, height), float(record["score"]), status, position_rc=(row, column))  # type: ignore[arg-type]
