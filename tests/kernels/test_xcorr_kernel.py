"""`xcorr.cu`, compiled for the host under the sanitizers, against the NumPy reference; and its launch geometry."""

from __future__ import annotations

import re

import numpy as np
import pytest
from host_kernels import KERNELS, run_on_host

from siamtrt.kernels import xcorr
from siamtrt.kernels.xcorr import (
    PLAIN_INTEGERS,
    XcorrPart,
    XcorrShape,
    depthwise_xcorr_ref,
    xcorr_launch,
    xcorr_part,
    xcorr_plain_launch,
)

GUARD = 257
KERNEL = {np.float32: "xcorr_f32", np.float16: "xcorr_f16"}
HALF_ROUNDING = 2.0**-11
GROUPS = {
    # The sizes of SiamRPN++ (29 and 31 with 5x5), its AlexNet variant, NanoTrack v3; planes that do not fill a block.
    "papers": [
        (1, 13, 29, 29, 5, 5), (1, 9, 31, 31, 5, 5), (1, 8, 24, 24, 4, 4), (1, 7, 26, 26, 4, 4), (1, 13, 18, 18, 4, 4),
    ],
    "three targets": [(3, 5, 29, 29, 5, 5), (3, 2, 7, 12, 3, 6), (3, 4, 26, 26, 4, 4), (2, 1, 33, 47, 3, 2)],
    "16 targets": [(16, 3, 11, 9, 5, 5), (16, 1, 29, 29, 4, 4), (16, 2, 6, 6, 4, 4), (16, 1, 9, 64, 2, 7)],
    # Templates as large as x, 1x1, taller than y (no row of x completes and begins one), single rows and columns.
    "extremes": [
        (2, 2, 1, 1, 1, 1), (1, 3, 29, 29, 29, 29), (1, 2, 8, 8, 8, 8), (2, 3, 31, 31, 8, 8),
        (1, 5, 7, 30, 5, 5), (1, 3, 5, 5, 5, 5), (1, 3, 1, 40, 1, 9), (1, 3, 40, 1, 9, 1),
    ],
    # Planes beyond the shared memory: bands of rows; rows and templates that fit it nowhere.
    "tiled": [
        (1, 2, 127, 127, 5, 5), (1, 1, 80, 63, 4, 4), (2, 1, 3, 4400, 1, 1), (1, 2, 69, 68, 66, 67),
        (1, 1, 600, 9, 1, 1),
    ],
}  # fmt: skip


def run(shapes, dtype, change=None, more_blocks=0):
    """Launch all entries at once: (x, kernel, y) of each, y in the float64 of its elements, guards checked."""
    arguments, (blocks, _, _), block = xcorr_launch(shapes)
    rng = np.random.default_rng(len(shapes))
    fields, arrays = {}, []
    for index in range(xcorr.MAX_ENTRIES):
        entry = {name: int(arguments["entries"][index][name]) for name in xcorr.ENTRY.names[3:]} | (change or {})
        if index < len(shapes):
            shape = shapes[index]
            planes = (shape.targets, shape.channels)
            x = rng.standard_normal((*planes, shape.height, shape.width)).astype(dtype)
            kernel = rng.standard_normal((*planes, shape.kernel_height, shape.kernel_width)).astype(dtype)
            size = shape.targets * shape.channels * shape.output_height * shape.output_width
            arrays.append((x, kernel))
        else:
            x = kernel = np.zeros(1, dtype)
            size = 0
        fields |= {f"x{index}": x, f"kernel{index}": kernel, f"y{index}": np.full(size + GUARD, 77, dtype)}
        fields |= {f"{name}{index}": value for name, value in entry.items()}
    fields["count"] = len(shapes)
    found = run_on_host("xcorr", KERNEL[dtype], fields, (blocks + more_blocks, 1, 1), block)
    results = []
    for index, (x, kernel) in enumerate(arrays):
        y, shape = found[f"y{index}"], shapes[index]
        assert (y[-GUARD:] == 77).all(), f"{shape}: written beyond y"
        np.testing.assert_array_equal(found[f"x{index}"], x)
        y = y[:-GUARD].reshape(shape.targets, shape.channels, shape.output_height, shape.output_width)
        results.append((x.astype(np.float64), kernel.astype(np.float64), y.astype(np.float64)))
    assert all((found[f"y{index}"] == 77).all() for index in range(len(shapes), xcorr.MAX_ENTRIES))
    return results


def check(shapes, dtype, **options):
    for shape, (x, kernel, found) in zip(shapes, run(shapes, dtype, **options), strict=True):
        compare(shape, dtype, x, kernel, found)


def compare(shape, dtype, x, kernel, found):
    """Half a unit in the last place of FP16 where y is FP16, and 1e-5 of the largest magnitude for the FP32 sums."""
    exact = depthwise_xcorr_ref(x, kernel)
    allowed = 1e-5 * np.abs(exact).max() + (HALF_ROUNDING * np.abs(exact) if dtype is np.float16 else 0)
    excess = np.abs(found - exact) - allowed
    assert (excess <= 0).all(), f"{shape}: off by {np.abs(found - exact).max():g}, at {np.argmax(excess)}"


@pytest.mark.parametrize("dtype", KERNEL, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("group", GROUPS)
def test_several_entries_of_different_sizes_in_one_launch(group, dtype):
    check([XcorrShape(*sizes) for sizes in GROUPS[group]], dtype)


def test_random_sizes():
    rng = np.random.default_rng(0)
    for _ in range(2):
        kernels = rng.integers(1, 9, (8, 2))
        outputs = rng.integers(1, 33, (8, 2))
        planes = rng.integers(1, 6, (8, 2))
        shapes = [
            XcorrShape(*map(int, (*plane, *(kernel + output - 1), *kernel)))
            for plane, kernel, output in zip(planes, kernels, outputs, strict=True)
        ]
        check(shapes, np.float32)


@pytest.mark.parametrize("dtype", KERNEL, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 13, 29, 29, 5, 5), (3, 5, 31, 31, 5, 5), (16, 3, 11, 9, 4, 4), (1, 2, 7, 30, 3, 6),
        (1, 2, 127, 127, 5, 5), (1, 2, 69, 68, 66, 67),  # bands of rows; from global memory
    ],
    ids=str,
)  # fmt: skip
def test_plain_arguments_give_the_same(sizes, dtype):
    shape, rng = XcorrShape(*sizes), np.random.default_rng(3)
    x = rng.standard_normal(sizes[:4]).astype(dtype)
    kernel = rng.standard_normal((*sizes[:2], *sizes[4:])).astype(dtype)
    size = shape.targets * shape.channels * shape.output_height * shape.output_width
    integers, grid, block = xcorr_plain_launch(shape)
    assert (grid, block) == xcorr_launch([shape])[1:]
    given = dict(zip(PLAIN_INTEGERS, integers, strict=True))
    fields = {"x": x, "kernel": kernel, **given, "y": np.full(size + GUARD, 77, dtype)}
    y = run_on_host("xcorr", KERNEL[dtype].replace("_f", "_plain_f"), fields, grid, block)["y"]
    assert (y[-GUARD:] == 77).all(), "written beyond y"
    found = y[:-GUARD].reshape(*sizes[:2], shape.output_height, shape.output_width)
    compare(shape, dtype, x.astype(np.float64), kernel.astype(np.float64), found.astype(np.float64))


def test_plain_kernels_count_planes_in_32_bits():
    with pytest.raises(ValueError, match=r"less than 2\^31 planes"):
        xcorr_plain_launch(XcorrShape(2**16, 2**15, 4, 4, 2, 2))


@pytest.mark.parametrize("kernel", ["xcorr_plain_f32", "xcorr_plain_f16"])
def test_plain_integers_are_those_of_the_source(kernel):
    source = (KERNELS / "xcorr.cu").read_text()
    parameters = re.search(rf"{kernel}\((.*?)\)", source, re.DOTALL)[1].split(",")
    assert [parameter.split()[-1] for parameter in parameters] == ["x", "kernel", *PLAIN_INTEGERS, "y"]
    assert {parameter.split()[0] for parameter in parameters[2:-1]} == {"int"}


@pytest.mark.parametrize(
    "change",
    [
        {"block_planes": 9},  # more than the shared memory holds: from global memory
        {"block_planes": 2, "thread_rows": 7},  # four strips of rows, the last shorter than the template
        {"block_planes": 1, "block_rows": 9, "thread_rows": 5},
    ],
)
def test_any_partition_gives_the_same(change):
    shape = XcorrShape(1, 9, 29, 29, 5, 5)
    blocks = XcorrPart(change["block_planes"], change.get("block_rows", 25), 1).blocks(shape)
    check([shape], np.float32, change=change, more_blocks=blocks - xcorr_part(shape).blocks(shape))


def test_blocks_beyond_the_last_plane_do_nothing():
    check([XcorrShape(1, 4, 9, 9, 5, 5)], np.float16, more_blocks=3)


@pytest.mark.parametrize(
    "sizes",
    [(64, 512, 29, 29, 5, 5), (1, 256, 31, 31, 5, 5), (1, 256, 24, 24, 4, 4), (1, 256, 26, 26, 4, 4)],
)  # fmt: skip
def test_the_papers_sizes_keep_a_block_busy(sizes):
    shape = XcorrShape(*sizes)
    part = xcorr_part(shape)
    columns = part.planes * -(-part.rows // part.thread_rows) * shape.output_width
    assert part.rows == shape.output_height
    assert 0.8 * xcorr.THREADS <= columns <= xcorr.THREADS


@pytest.mark.parametrize("group", GROUPS)
def test_every_row_is_somebodys_and_strips_are_not_too_short_for_the_fast_path(group):
    for shape in (XcorrShape(*sizes) for sizes in GROUPS[group]):
        part = xcorr_part(shape)
        assert 1 <= part.thread_rows <= part.rows <= shape.output_height
        bands = -(-shape.output_height // part.rows)
        assert (bands - 1) * part.rows < shape.output_height
        assert part.blocks(shape) * part.planes >= bands * shape.targets * shape.channels
        if part.thread_rows < part.rows:
            assert (part.rows - 1) % part.thread_rows + 1 >= shape.kernel_height - 1


def test_the_struct_and_its_constants_are_those_of_the_source():
    source = (KERNELS / "xcorr.cu").read_text()
    constants = dict(re.findall(r"#define (XCORR_\w+) (\d+)", source))
    assert int(constants["XCORR_ENTRIES"]) == xcorr.MAX_ENTRIES
    assert int(constants["XCORR_THREADS"]) == xcorr.THREADS
    assert int(constants["XCORR_SHARED"]) == xcorr.SHARED_FLOATS
    assert (xcorr.ENTRY.itemsize, xcorr.ARGUMENTS.itemsize) == (64, 520)
    body = re.search(r"struct XcorrEntry \{(.*?)\};", source, re.DOTALL)[1]
    fields = re.findall(r"(\w+)[,;]", re.sub(r"//.*", "", body))
    assert tuple(fields) == xcorr.ENTRY.names


def test_entries_follow_one_another_with_their_pointers():
    shapes = [XcorrShape(2, 256, 29, 29, 5, 5), XcorrShape(2, 128, 24, 24, 4, 4)]
    arguments, grid, block = xcorr_launch(shapes, [(1, 2, 3), (2**40, 5, 6)])
    entries = arguments["entries"]
    assert (arguments["count"], block) == (2, (128, 1, 1))
    assert entries["first_block"][1] == xcorr_part(shapes[0]).blocks(shapes[0])
    assert grid[0] == entries["first_block"][1] + xcorr_part(shapes[1]).blocks(shapes[1])
    assert (entries["x"][1], entries["y"][0]) == (2**40, 3)


def test_wrong_entries_are_refused():
    shape = XcorrShape(1, 1, 5, 5, 3, 3)
    with pytest.raises(ValueError, match="expected 1 to 8"):
        xcorr_launch([shape] * 9)
    with pytest.raises(ValueError, match="expected 1, one an entry"):
        xcorr_launch([shape], [])
    with pytest.raises(ValueError, match="no larger than x"):
        XcorrShape(1, 1, 5, 5, 6, 3)
    with pytest.raises(ValueError, match="at least 1"):
        XcorrShape(0, 1, 5, 5, 3, 3)
