"""Plans launches of the kernels on device memory, for whatever gives memory and launches, such as CuPy or PyCUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from siamtrt.kernels.crop import CROP_ARGUMENTS, FRAME, MAX_OUT_SIZE, FrameFormat, Triple, crop_geometry
from siamtrt.kernels.decode import DECODE_ARGUMENTS, DecodeConstants, decode_geometry
from siamtrt.kernels.frames import Adopted, DeviceFrame
from siamtrt.kernels.state import TARGET
from siamtrt.kernels.xcorr import XcorrShape, xcorr_launch

Sides = tuple[int, int, int]
ENTRY_OF = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16"}


class Launch(NamedTuple):
    """One launch: `entry` of `kernels/<name>.cu` with one struct by value, a 0-d array of a structured dtype.

    It holds addresses: it may be repeated as long as the buffers it was planned for live.
    """

    name: str
    entry: str
    grid: Sides
    block: Sides
    arguments: np.ndarray


class Buffer(Protocol):
    """C-contiguous device memory with a shape and a dtype; `pointer` is its address there."""

    @property
    def pointer(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...

    def get(self) -> np.ndarray:
        """A copy in host memory, once everything launched before has finished."""
        ...

    def set(self, array: np.ndarray) -> None:
        """Overwrite with an array of the same shape and dtype."""
        ...

    def rows(self, first: int, count: int) -> Buffer:
        """The same memory from row `first` of the first axis on, `count` rows."""
        ...


class Device(Protocol):
    """Memory and launches of one device, in order: what is enqueued runs after what was enqueued before.

    Attributes:
        integrated: the device shares the host's memory and reads page-locked arrays where they are.
    """

    integrated: bool

    def empty(self, shape: Sequence[int], dtype: Any) -> Buffer:
        """Uninitialised memory."""
        ...

    def upload(self, array: np.ndarray) -> Buffer:
        """A copy of a host array."""
        ...

    def copy(self, source: Buffer, target: Buffer) -> None:
        """Copy between buffers of the same shape and dtype."""
        ...

    def launch(self, launch: Launch) -> None:
        """Enqueue a launch."""
        ...

    def enqueue(self, work: Callable[[], None]) -> None:
        """Call what enqueues another library's work, in order with ours."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` enqueues without running it; what is returned enqueues all of it at once.

        `work` must have run before, so that nothing is compiled or allocated in it any more.
        """
        ...

    def page_locked(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """Uninitialised host memory that the device copies from and to while the host goes on."""
        ...

    def send(self, source: np.ndarray, target: Buffer) -> None:
        """Start a copy from a page-locked array, beside earlier launches; what is enqueued later waits for it.

        Neither side may be in use by then, nor changed until a `fetch` enqueued later has arrived.
        """
        ...

    def fetch(self, source: Buffer, target: np.ndarray) -> Callable[[], None]:
        """Enqueue a copy to a page-locked array; what is returned waits until it has arrived."""
        ...

    def wrap(self, pointer: int, shape: Sequence[int], dtype: Any, owner: Any) -> Buffer:
        """Memory that belongs to somebody else: device memory or, where `integrated`, page-locked."""
        ...

    def adopt(self, array: Any) -> Adopted:
        """Another library's array where it is, by DLPack or `__cuda_array_interface__`, once its work on it is done.

        Raises:
            FrameError: it has neither, or is on another device.
        """
        ...

    def synchronize(self) -> None:
        """Wait until everything enqueued has finished."""
        ...


def frame_of(pixels: Buffer, frame_format: FrameFormat, chroma: Buffer | None = None) -> DeviceFrame:
    """A (H, W, C) uint8 buffer, or (H, W) luma with ((H + 1) // 2, (W + 1) // 2, 2) chroma for NV12, as a frame."""
    height, width = pixels.shape[:2]
    second = (chroma.pointer, int(np.prod(chroma.shape[1:]))) if chroma is not None else (0, 0)
    pitch = int(np.prod(pixels.shape[1:]))
    return DeviceFrame(pixels.pointer, width, height, pitch, frame_format, *second, owner=(pixels, chroma))


def plan_crop(
    frame: DeviceFrame | Buffer, targets: Buffer, crops: Buffer, scale_size: int, *,
    context_amount: float = 0.5, rgb: bool = False, scale: Triple = (1.0, 1.0, 1.0), offset: Triple = (0.0, 0.0, 0.0),
) -> Launch:  # fmt: skip
    """Cut the crop of every active target: see `crop_ref`.

    Args:
        frame: a frame, or a buffer that holds a `FRAME`: a captured graph then cuts from what it holds at replay.
        targets: (N,) `TARGET`.
        crops: (N, 3, S, S) float32 or float16; slots that are not active keep what they hold.
        scale_size, context_amount, scale, offset: see `crop_ref`.
        rgb: planes red, green, blue instead of blue, green, red.

    Raises:
        ValueError: buffers of another shape or dtype, or a size out of range.
    """
    count, planes, size, width = crops.shape
    if planes != 3 or width != size or not 1 <= size <= MAX_OUT_SIZE or scale_size < 1:
        raise ValueError(f"crops {crops.shape}, scale_size {scale_size}; expected (N, 3, S, S), S to {MAX_OUT_SIZE}")
    _require(targets, (count,), TARGET)
    arguments = np.zeros((), CROP_ARGUMENTS)
    if isinstance(frame, DeviceFrame):
        arguments["frame"] = frame.described()
    else:
        _require(frame, (), FRAME)
        arguments["described"] = frame.pointer
    arguments["targets"], arguments["crops"] = targets.pointer, crops.pointer
    arguments["out_size"], arguments["scale_size"], arguments["rgb"] = size, scale_size, rgb
    arguments["context_amount"], arguments["scale"], arguments["offset"] = context_amount, scale, offset
    return Launch("crop", f"crop_{_suffix(crops)}", *crop_geometry(count, size), arguments)


def plan_xcorr(entries: Sequence[tuple[Buffer, Buffer, Buffer]]) -> Launch:
    """Correlate every (x, kernel, y) in one launch: see `depthwise_xcorr_ref`.

    Raises:
        ValueError: shapes that do not fit, or more than one dtype.
    """
    shapes, pointers = [], []
    for x, kernel, y in entries:
        shape = XcorrShape(*x.shape, *kernel.shape[2:])
        _require(kernel, (*x.shape[:2], *kernel.shape[2:]), entries[0][0].dtype)
        _require(y, (*x.shape[:2], shape.output_height, shape.output_width), entries[0][0].dtype)
        shapes.append(shape)
        pointers.append((x.pointer, kernel.pointer, y.pointer))
    arguments, grid, block = xcorr_launch(shapes, pointers)
    return Launch("xcorr", f"xcorr_{_suffix(entries[0][0])}", grid, block, arguments)


def plan_decode(
    targets: Buffer, cls: Buffer, loc: Buffer, window: Buffer, anchor_sides: Buffer | None,
    constants: DecodeConstants, frame_size: tuple[int, int],
) -> Launch:  # fmt: skip
    """Move every active target to its best proposal: see `decode_ref`.

    Raises:
        ValueError: buffers of another shape or dtype.
    """
    count, channels, side, _ = cls.shape
    anchors = channels // 2
    _require(cls, (count, 2 * anchors, side, side), cls.dtype)
    _require(loc, (count, 4 * anchors, side, side), cls.dtype)
    _require(targets, (count,), TARGET)
    _require(window, (side, side), np.dtype(np.float32))
    if anchor_sides is None:
        _require(cls, (count, 2, side, side), cls.dtype)
    else:
        _require(anchor_sides, (anchors, 2), np.dtype(np.float32))
    arguments = np.zeros((), DECODE_ARGUMENTS)
    for name, buffer in (("targets", targets), ("cls", cls), ("loc", loc), ("window", window)):
        arguments[name] = buffer.pointer
    arguments["anchor_sides"] = (anchor_sides or window).pointer
    arguments["count"], arguments["anchors"], arguments["score_size"] = count, anchors, side
    arguments["points"], arguments["frame_size"] = anchor_sides is None, frame_size
    for name in ("stride", "scale_size", "context_amount", "penalty_k", "lr", "min_side"):
        arguments[name] = getattr(constants, name)
    return Launch("decode", f"decode_{_suffix(cls)}", *decode_geometry(count, side), arguments)


def _suffix(buffer: Buffer) -> str:
    if buffer.dtype not in ENTRY_OF:
        raise ValueError(f"{buffer.dtype}; expected float32 or float16")
    return ENTRY_OF[buffer.dtype]


def _require(buffer: Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if tuple(buffer.shape) != shape or buffer.dtype != dtype:
        raise ValueError(f"{buffer.dtype}{tuple(buffer.shape)}; expected {dtype}{shape}")
