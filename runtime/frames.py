"""Frames on their way to the device: checked, uploaded through page-locked memory, or taken where they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from siamtrt.errors import FrameError
from siamtrt.kernels.crop import FrameFormat, bgr_from_nv12
from siamtrt.kernels.frames import DeviceFrame, frame_from
from siamtrt.kernels.launch import Buffer, Device, frame_of
from siamtrt.runtime.crop import Fill, check_frame, mean_colour


class Incoming(NamedTuple):
    """A checked frame: in host memory or on the device."""

    host: np.ndarray | None
    device: DeviceFrame | None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        if self.host is not None:
            return self.host.shape[1], self.host.shape[0]
        assert self.device is not None
        return self.device.width, self.device.height

    @property
    def frame_format(self) -> FrameFormat:
        """Of the pixels."""
        return self.device.frame_format if self.device else "bgr"


class _Slot(NamedTuple):
    """Page-locked memory of the host, the same or as much on the device, and that as a frame."""

    pixels: np.ndarray
    buffer: Buffer
    frame: DeviceFrame


class FrameIntake:
    """Takes frames of one size and format; host frames go through a ring of page-locked buffers.

    A buffer is used again after `ring` frames: the one that was in it has to be done with by then. Where the device
    shares the host's memory nothing is copied but the frame into its buffer.

    Args:
        device: where frames go.
        frame_format: of arrays of other libraries on the device.
        ring: number of buffers.
    """

    def __init__(self, device: Device, frame_format: FrameFormat, ring: int) -> None:
        self._device, self._format, self._ring = device, frame_format, ring
        self._slots: list[_Slot] = []
        self._first: dict[str, str] | None = None

    def checked(self, frame: Any) -> Incoming:
        """A usable frame like the first.

        Raises:
            FrameError: unusable, or of another size or format than the first.
        """
        incoming = self._incoming(frame)
        seen = {"size": "{}x{}".format(*incoming.size), "format": incoming.frame_format}
        for what, expected in (self._first or seen).items():
            if seen[what] != expected:
                raise FrameError(
                    f"frame {what} changed", received=seen[what], expected=f"{expected}, as at first",
                    fix="convert the frame, or open another tracker",
                )
        self._first = seen
        return incoming

    def _incoming(self, frame: Any) -> Incoming:
        if isinstance(frame, DeviceFrame):
            return Incoming(None, frame)
        if hasattr(frame, "__cuda_array_interface__") or (hasattr(frame, "__dlpack__") and not _on_host(frame)):
            return Incoming(None, frame_from(self._device.adopt(frame), self._format))
        check_frame(frame)
        return Incoming(frame, None)

    def sent(self, incoming: Incoming) -> DeviceFrame:
        """The frame on the device; the upload of a host frame may still be under way, and launches wait for it."""
        if incoming.device is not None:
            return incoming.device
        assert incoming.host is not None
        if len(self._slots) < self._ring:
            self._slots.insert(0, self._slot(incoming.host.shape))
        self._slots.append(slot := self._slots.pop(0))
        np.copyto(slot.pixels, incoming.host)
        if not self._device.integrated:
            self._device.send(slot.pixels, slot.buffer)
        return slot.frame

    def _slot(self, shape: tuple[int, ...]) -> _Slot:
        pixels = self._device.page_locked(shape, np.uint8)
        if self._device.integrated:
            buffer = self._device.wrap(pixels.ctypes.data, shape, np.uint8, pixels)
        else:
            buffer = self._device.empty(shape, np.uint8)
        return _Slot(pixels, buffer, frame_of(buffer, "bgr"))

    def mean_colour(self, incoming: Incoming) -> Fill:
        """Mean of the first three channels in the frame's order (NV12: blue, green, red), truncated."""
        if incoming.host is not None:
            return mean_colour(incoming.host)
        assert incoming.device is not None
        return mean_colour(self._read_back(incoming.device))

    def _read_back(self, frame: DeviceFrame) -> np.ndarray:
        """(H, W, 3) uint8 of a frame on the device, in its channel order."""
        rows = self._plane(frame.pointer, frame.height, frame.pitch, frame.row_bytes, frame.owner)
        if frame.frame_format == "nv12":
            chroma_rows = (frame.height + 1) // 2
            chroma = self._plane(
                frame.chroma_pointer, chroma_rows, frame.chroma_pitch, frame.chroma_row_bytes, frame.owner
            )
            return bgr_from_nv12(rows, chroma.reshape(chroma_rows, -1, 2))
        return np.ascontiguousarray(rows.reshape(frame.height, frame.width, -1)[..., :3])

    def _plane(self, pointer: int, rows: int, pitch: int, row_bytes: int, owner: Any) -> np.ndarray:
        size = (rows - 1) * pitch + row_bytes  # what lies behind the last row may not be ours
        flat = self._device.wrap(pointer, (size,), np.uint8, owner).get()
        return np.lib.stride_tricks.as_strided(flat, (rows, row_bytes), (pitch, 1)).copy()


def _on_host(array: Any) -> bool:
    """Whether DLPack says that an array is in ordinary host memory."""
    return array.__dlpack_device__()[0] == 1  # kDLCPU

