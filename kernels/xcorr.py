"""Depthwise cross-correlation: the NumPy reference that `xcorr.cu` is judged by, and the kernel's launch geometry.

The kernels `xcorr_f32` and `xcorr_f16` take one struct, `ARGUMENTS`: up to 8 entries, each a level or a branch with its
own sizes, all done by one launch. `xcorr_plain_f32` and `xcorr_plain_f16` take one entry as plain arguments: x, kernel,
the integers of `PLAIN_INTEGERS`, y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_ENTRIES = 8
THREADS = 128
SHARED_FLOATS = 4352
"""Of a block, for x and templates; these three are XCORR_ENTRIES, XCORR_THREADS and XCORR_SHARED of `xcorr.cu`."""

ENTRY = np.dtype(
    [(name, np.uint64) for name in ("x", "kernel", "y")]
    + [
        (name, np.int32)
        for name in ("targets", "channels", "height", "width", "kernel_height", "kernel_width",
                     "first_block", "block_planes", "block_rows", "thread_rows")
    ]
)  # fmt: skip
PLAIN_INTEGERS = (
    "planes", "height", "width", "kernel_height", "kernel_width", "block_planes", "block_rows", "thread_rows",
)  # fmt: skip
ARGUMENTS = np.dtype([("entries", ENTRY, MAX_ENTRIES), ("count", np.int32), ("padding", np.int32)])


def depthwise_xcorr_ref(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate each channel of `x` with the same channel of `kernel` (SiamRPN++, sec. 3.4).

    Args:
        x: (N, C, H, W) search features.
        kernel: (N, C, h, w) template features, h <= H and w <= W.

    Returns:
        (N, C, H-h+1, W-w+1) in the dtype of `x`, summed in double precision.

    Raises:
        ValueError: batch or channels differ, or the kernel is larger than the features.
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[:2] != kernel.shape[:2]:
        raise ValueError(f"x {x.shape} and kernel {kernel.shape}; expected (N, C, H, W) and (N, C, h, w)")
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))
    response = np.einsum("ncijhw,nchw->ncij", windows, kernel, dtype=np.float64, casting="unsafe")
    return response.astype(x.dtype)


@dataclass(frozen=True)
class XcorrShape:
    """Sizes of an entry: x (targets, channels, height, width), kernel (targets, channels, kernel_height, kernel_width).

    Raises:
        ValueError: a size below 1, a kernel larger than x, or a plane of 2^31 elements and more.
    """

    targets: int
    channels: int
    height: int
    width: int
    kernel_height: int
    kernel_width: int

    def __post_init__(self) -> None:
        if min(self.targets, self.channels, self.kernel_height, self.kernel_width) < 1:
            raise ValueError(f"{self}; expected every size to be at least 1")
        if self.kernel_height > self.height or self.kernel_width > self.width:
            raise ValueError(f"{self}; expected a kernel no larger than x")
        if self.height * self.width >= 2**31:
            raise ValueError(f"{self}; expected planes of less than 2^31 elements")

    @property
    def output_height(self) -> int:
        return self.height - self.kernel_height + 1

    @property
    def output_width(self) -> int:
        return self.width - self.kernel_width + 1

    @property
    def elements(self) -> int:
        """Elements of x, kernel and y together: all that the kernel reads and writes."""
        plane = self.height * self.width + self.kernel_height * self.kernel_width
        return self.targets * self.channels * (plane + self.output_height * self.output_width)


@dataclass(frozen=True)
class XcorrPart:
    """What one block of an entry does: `planes` planes by `rows` rows of y, `thread_rows` of them a thread."""

    planes: int
    rows: int
    thread_rows: int

    def blocks(self, shape: XcorrShape) -> int:
        """Blocks that the entry needs."""
        return -(-shape.targets * shape.channels // self.planes) * -(-shape.output_height // self.rows)


def _fits(shape: XcorrShape, planes: int, rows: int) -> bool:
    """Whether x and templates of a part fit the shared memory: templates to a multiple of 4, up to 3 floats of skew."""
    taps = -(-planes * shape.kernel_height * shape.kernel_width // 4) * 4
    return taps + 3 + planes * (rows + shape.kernel_height - 1) * shape.width <= SHARED_FLOATS


def _cost(shape: XcorrShape, part: XcorrPart) -> float:
    """Instructions of a block's warps for each of its planes, from the compiled kernel for sm_90.

    A block begins with 330 for each of its 4 warps, a strip with 160; a row of it takes 1.2 a tap and 10. Where there
    is more than a column for each thread, all warps wait for the last.
    """
    columns = part.planes * -(-part.rows // part.thread_rows) * shape.output_width
    warps = -(-columns // 32) if columns <= THREADS else -(-columns // THREADS) * THREADS // 32
    taps = shape.kernel_height * shape.kernel_width
    return (4 * 330 + warps * (160 + part.thread_rows * (1.2 * taps + 10))) / part.planes


def xcorr_part(shape: XcorrShape) -> XcorrPart:
    """Planes and rows of a block: whole planes where they fit its shared memory, else bands of rows of one plane.

    Where not even one row of y fits (a 70x70 template), the kernel reads global memory, 4 rows of y a block.
    """
    kernel_height, output_height = shape.kernel_height, shape.output_height
    if _fits(shape, 1, output_height):
        rows = output_height
        most = max(planes for planes in range(1, SHARED_FLOATS + 1) if _fits(shape, planes, rows))
    else:
        room = [rows for rows in range(1, min(output_height, SHARED_FLOATS) + 1) if _fits(shape, 1, rows)]
        if not room:
            return XcorrPart(1, min(4, output_height), min(4, output_height))
        bands = -(-output_height // room[-1])
        rows, most = -(-output_height // bands), 1
    # A strip shorter than the template less one row would leave the fast path.
    strips = [
        thread_rows
        for thread_rows in dict.fromkeys(-(-rows // count) for count in range(1, min(rows, 16) + 1))
        if thread_rows == rows or (rows - 1) % thread_rows + 1 >= kernel_height - 1
    ]
    parts = [XcorrPart(planes, rows, thread_rows) for planes in range(1, most + 1) for thread_rows in strips]
    columns = {part: part.planes * -(-rows // part.thread_rows) * shape.output_width for part in parts}
    busy = [part for part in parts if columns[part] >= THREADS // 4 * 3]
    return min(busy or parts, key=lambda part: (_cost(shape, part), -columns[part]))


def xcorr_launch(
    shapes: Sequence[XcorrShape], pointers: Sequence[tuple[int, int, int]] | None = None
) -> tuple[np.ndarray, tuple[int, int, int], tuple[int, int, int]]:
    """The struct, grid and block of one launch.

    Args:
        shapes: 1 to 8 entries, which may differ in everything but the dtype.
        pointers: device addresses of x, kernel and y of each entry, C-contiguous; zero if absent. Alignment to 16 bytes
            (FP32) or 8 (FP16) is read fastest; any works.

    Returns:
        A scalar array of `ARGUMENTS`, the grid and the block.

    Raises:
        ValueError: no entry, more than 8, or pointers for another number of them.
    """
    if not 1 <= len(shapes) <= MAX_ENTRIES:
        raise ValueError(f"{len(shapes)} entries; expected 1 to {MAX_ENTRIES}")
    if pointers is not None and len(pointers) != len(shapes):
        raise ValueError(f"{len(pointers)} rows of pointers; expected {len(shapes)}, one an entry")
    arguments = np.zeros((), ARGUMENTS)
    arguments["count"] = len(shapes)
    blocks = 0
    for index, shape in enumerate(shapes):
        part = xcorr_part(shape)
        addresses = (0, 0, 0) if pointers is None else pointers[index]
        arguments["entries"][index] = (
            *addresses, shape.targets, shape.channels, shape.height, shape.width, shape.kernel_height,
            shape.kernel_width, blocks, part.planes, part.rows, part.thread_rows,
        )  # fmt: skip
        blocks += part.blocks(shape)
    return arguments, (blocks, 1, 1), (THREADS, 1, 1)


def xcorr_plain_launch(shape: XcorrShape) -> tuple[tuple[int, ...], tuple[int, int, int], tuple[int, int, int]]:
    """The integers in the order of `PLAIN_INTEGERS`, grid and block of one launch of a plain kernel.

    Raises:
        ValueError: 2^31 planes or more, which only the struct's two factors can count.
    """
    planes = shape.targets * shape.channels
    if planes >= 2**31:
        raise ValueError(f"{shape}; expected less than 2^31 planes")
    part = xcorr_part(shape)
    sizes = (planes, shape.height, shape.width, shape.kernel_height, shape.kernel_width)
    return (*sizes, part.planes, part.rows, part.thread_rows), (part.blocks(shape), 1, 1), (THREADS, 1, 1)
