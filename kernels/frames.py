"""Frames in device memory: what the crop kernel is told of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from siamtrt.errors import FrameError
from siamtrt.kernels.crop import FORMATS, FRAME, FrameFormat


class Adopted(NamedTuple):
    """Another library's array on the device; `owner` keeps its memory alive, strides are in bytes."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any


@dataclass(frozen=True, eq=False)
class DeviceFrame:
    """A frame in device memory, wherever it came from.

    Args:
        pointer: device address of the first pixel; of the luma plane for NV12.
        width, height: in pixels.
        pitch: bytes from a row to the next.
        frame_format: "bgr", "rgb", "bgra", "rgba" or "nv12".
        chroma_pointer, chroma_pitch: NV12's interleaved U and V, (height + 1) // 2 rows.
        owner: whatever has to live as long as the memory is used.

    Raises:
        FrameError: empty, rows that overlap, an unknown format, or NV12 without chroma.
    """

    pointer: int
    width: int
    height: int
    pitch: int
    frame_format: FrameFormat = "bgr"
    chroma_pointer: int = 0
    chroma_pitch: int = 0
    owner: Any = None

    def __post_init__(self) -> None:
        two_planes = self.frame_format == "nv12"
        usable = (
            self.frame_format in FORMATS and self.pointer > 0 and self.width > 0 and self.height > 0
            and self.pitch >= self.row_bytes
            and (not two_planes or (self.chroma_pointer > 0 and self.chroma_pitch >= self.chroma_row_bytes))
        )  # fmt: skip
        if not usable:
            raise FrameError(
                "unusable frame on the device", received=repr(self),
                expected=f"a format of {', '.join(FORMATS)}, at least 1x1 pixels, a pitch of at least a row",
                fix="correct the description; NV12 needs chroma_pointer and chroma_pitch",
            )  # fmt: skip

    @property
    def row_bytes(self) -> int:
        """Bytes of pixels in a row."""
        return self.width * (1 if self.frame_format == "nv12" else len(self.frame_format))

    @property
    def chroma_row_bytes(self) -> int:
        """Bytes of chroma in a row of NV12."""
        return 2 * ((self.width + 1) // 2)

    def described(self) -> np.ndarray:
        """0-d `FRAME` for the kernel."""
        frame = np.zeros((), FRAME)
        frame["data"], frame["width"], frame["height"], frame["pitch"] = (
            self.pointer, self.width, self.height, self.pitch,
        )  # fmt: skip
        frame["chroma"], frame["chroma_pitch"] = self.chroma_pointer, self.chroma_pitch
        frame["format"] = FORMATS.index(self.frame_format)
        return frame


def frame_from(adopted: Adopted, frame_format: FrameFormat = "bgr") -> DeviceFrame:
    """An (H, W, C) uint8 array as a frame; its rows may lie apart.

    Raises:
        FrameError: another shape, dtype or layout.
    """
    shape, strides = adopted.shape, adopted.strides
    channels = len(frame_format)
    fits = adopted.dtype == np.uint8 and len(shape) == 3 and shape[2] == channels and 0 not in shape
    if not fits or strides[1:] != (channels, 1) or strides[0] < shape[1] * channels:
        raise FrameError(
            "unusable frame", received=f"{adopted.dtype} array of shape {shape}, strides {strides}",
            expected=f"(H, W, {channels}) uint8 {frame_format}, pixels side by side",
            fix="convert it on the device first",
        )  # fmt: skip
    return DeviceFrame(adopted.pointer, shape[1], shape[0], strides[0], frame_format, owner=adopted.owner)


def not_on_device(array: Any, why: str) -> FrameError:
    """An object that is no array on the device."""
    return FrameError(
        "no array on the device", received=f"{type(array).__name__}: {why}",
        expected="DLPack or __cuda_array_interface__ on the tracker's GPU, or a NumPy array of host memory",
        fix="move the frame to that GPU, or pass it as a NumPy array",
    )  # fmt: skip
