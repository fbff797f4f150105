"""The crop kernel, run on the host under the sanitizers, its reference, and what the runtime cuts with OpenCV."""

from __future__ import annotations

import platform

import cv2
import numpy as np
import pytest
from host_kernels import KERNELS, run_on_host

from siamtrt.kernels.crop import FORMATS, FRAME, bgr_from_nv12, crop_geometry, crop_ref
from siamtrt.kernels.state import TARGET
from siamtrt.runtime.crop import context_side, subwindow

WIDTH, HEIGHT = 97, 61
BOXES = [  # cx, cy, w, h in a frame of 97 x 61
    (40.2, 30.7, 12.5, 20.25), (30.5, 29.5, 11.0, 11.0), (48.0, 30.0, 97.0, 61.0),  # inside, half pixels, the frame
    (0.0, 0.0, 14.0, 9.0), (96.0, 60.0, 9.0, 14.0), (97.0, 61.0, 20.0, 20.0),  # corners
    (-3.3, 20.0, 30.0, 18.0), (99.6, 40.0, 21.0, 33.0), (50.0, -2.5, 16.0, 16.0), (50.0, 63.4, 40.0, 8.0),  # half out
    (-500.0, -400.0, 10.0, 10.0), (300.0, 30.0, 4.0, 4.0),  # outside
    (50.0, 30.0, 1.0, 1.0), (10.5, 10.5, 0.3, 0.2), (20.0, 30.0, 3.0, 55.0), (48.3, 30.2, 400.0, 300.0),  # tiny, huge
]  # fmt: skip
# OpenCV for Arm resizes by other means
OPENCV_TOLERANCE = 0 if platform.machine() == "x86_64" else 1


def targets_at(boxes: list[tuple[float, float, float, float]]) -> np.ndarray:
    """Active targets, each with a fill colour of its own."""
    targets = np.zeros(len(boxes), TARGET)
    targets["center"], targets["size"] = np.array(boxes)[:, :2], np.array(boxes)[:, 2:]
    targets["fill"] = np.random.default_rng(3).integers(0, 256, (len(boxes), 4))
    targets["active"] = 1
    return targets


def random_frame(frame_format: str, width: int = WIDTH, height: int = HEIGHT, seed: int = 1):
    """A frame of noise: an array, or luma and chroma."""
    rng = np.random.default_rng(seed)
    if frame_format != "nv12":
        return rng.integers(0, 256, (height, width, len(frame_format)), dtype=np.uint8)
    return (
        rng.integers(0, 256, (height, width), dtype=np.uint8),
        rng.integers(0, 256, ((height + 1) // 2, (width + 1) // 2, 2), dtype=np.uint8),
    )


def opencv_crops(frame, targets, out_size, scale_size, frame_format="bgr", amount=0.5):
    """(N, 3, out_size, out_size) blue, green, red, as the runtime on a CPU cuts them."""
    if frame_format == "nv12":
        stacked = np.concatenate([plane.reshape(-1, frame[0].shape[1]) for plane in frame])
        frame = cv2.cvtColor(stacked, cv2.COLOR_YUV2BGR_NV12)
    elif frame_format != "bgr":
        frame = cv2.cvtColor(frame, getattr(cv2, f"COLOR_{frame_format.upper()}2BGR"))
    crops = []
    for target in targets:
        side = max(1, round(context_side(tuple(target["size"].tolist()), amount) * (out_size / scale_size)))
        fill = target["fill"][2::-1] if "rgb" in frame_format else target["fill"][:3]
        crops.append(subwindow(frame, tuple(target["center"].tolist()), side, out_size, tuple(fill.tolist())))
    return np.stack(crops).transpose(0, 3, 1, 2)


def padded(plane: np.ndarray, padding: int) -> tuple[np.ndarray, int]:
    """The bytes of a plane with `padding` bytes of 255 after each row but the last, and the pitch."""
    rows = plane.reshape(len(plane), -1)
    pitch = rows.shape[1] + padding
    apart = np.full((len(rows), pitch), 255, np.uint8)
    apart[:, : rows.shape[1]] = rows
    return apart.ravel()[: apart.size - padding].copy(), pitch


def run_crop(
    frame, targets, out_size, scale_size, *, frame_format="bgr", rgb=False, amount=0.5, padding=0, dtype=np.float32,
    scale=(1.0, 1.0, 1.0), offset=(0.0, 0.0, 0.0), described=None, name="crop", kernel=None, before=0.0,
):  # fmt: skip
    """One launch of the kernel, as a launcher would lay it out, into crops filled with `before`."""
    data, chroma = frame if isinstance(frame, tuple) else (frame, np.zeros((1, 0), np.uint8))
    (height, width), (pixels, pitch) = data.shape[:2], padded(data, padding)
    pairs, chroma_pitch = padded(chroma, padding if chroma.size else 0)
    arguments = {
        "targets": targets, **({"low": 0, "high": 0} if described is None else {"described": described}),
        "crops": np.full((len(targets), 3, out_size, out_size), before, dtype),
        "data": pixels, "chroma": pairs, "width": width, "height": height, "pitch": pitch,
        "chroma_pitch": chroma_pitch, "format": FORMATS.index(frame_format), "reserved": 0,
        "out_size": out_size, "scale_size": scale_size, "rgb": int(rgb), "context_amount": float(amount),
        **{f"scale{plane}": value for plane, value in enumerate(scale)},
        **{f"offset{plane}": value for plane, value in enumerate(offset)},
    }  # fmt: skip
    kernel = kernel or ("crop_f16" if dtype == np.float16 else "crop_f32")
    return run_on_host(name, kernel, arguments, *crop_geometry(len(targets), out_size))["crops"]


@pytest.mark.parametrize(("out_size", "scale_size"), [(127, 127), (255, 127), (271, 127), (33, 33), (255, 64)])
@pytest.mark.parametrize("amount", [0.5, 0.0])
def test_reference_equals_opencv(out_size, scale_size, amount):
    targets = targets_at([*BOXES, (48.0, 30.0, scale_size / 2, scale_size / 2), (48.0, 30.0, *[scale_size] * 2)])
    frame = random_frame("bgr")
    found = crop_ref(frame, targets, out_size, scale_size, context_amount=amount)
    expected = opencv_crops(frame, targets, out_size, scale_size, amount=amount)
    np.testing.assert_allclose(found, expected, rtol=0, atol=OPENCV_TOLERANCE)


@pytest.mark.parametrize("frame_format", FORMATS)
def test_reference_equals_opencv_in_every_format(frame_format):
    targets = targets_at(BOXES)
    frame = random_frame(frame_format, 96, 60)
    found = crop_ref(frame, targets, 127, 127, frame_format=frame_format)
    expected = opencv_crops(frame, targets, 127, 127, frame_format)
    np.testing.assert_allclose(found, expected, rtol=0, atol=OPENCV_TOLERANCE)
    swapped = crop_ref(frame, targets, 127, 127, frame_format=frame_format, channel_order="rgb")
    np.testing.assert_array_equal(swapped, found[:, ::-1])


def test_nv12_equals_opencv_for_every_colour():
    luma, u, v = np.meshgrid(np.arange(256), np.arange(0, 256, 5), np.arange(0, 256, 5), indexing="ij")
    luma = luma.reshape(256, -1).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    pairs = np.stack([u, v], axis=-1).reshape(256, -1, 2).astype(np.uint8)
    expected = cv2.cvtColor(np.concatenate([luma, pairs.reshape(256, -1)]), cv2.COLOR_YUV2BGR_NV12)
    np.testing.assert_allclose(bgr_from_nv12(luma, pairs).astype(int), expected, rtol=0, atol=OPENCV_TOLERANCE)


@pytest.mark.parametrize("frame_format", FORMATS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_kernel_equals_reference_in_every_format(frame_format, dtype):
    targets, frame = targets_at(BOXES), random_frame(frame_format)
    rgb, padding = dtype == np.float16, FORMATS.index(frame_format) + 7
    found = run_crop(frame, targets, 33, 17, frame_format=frame_format, rgb=rgb, padding=padding, dtype=dtype)
    expected = crop_ref(
        frame, targets, 33, 17, frame_format=frame_format, channel_order="rgb" if rgb else "bgr", dtype=dtype
    )
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype


@pytest.mark.parametrize(
    ("out_size", "scale_size", "count", "dtype"),
    [(127, 127, 3, np.float32), (255, 127, 1, np.float32), (271, 127, 1, np.float16), (1, 1, 16, np.float32)],
)
def test_kernel_equals_reference_at_every_size(out_size, scale_size, count, dtype):
    targets, frame = targets_at(BOXES[:count]), random_frame("bgr")
    found = run_crop(frame, targets, out_size, scale_size, amount=0.3, dtype=dtype)
    expected = crop_ref(frame, targets, out_size, scale_size, context_amount=0.3, dtype=dtype)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("side", [(1, 1), (1, 9), (2, 3)])
def test_kernel_reads_no_further_than_a_tiny_frame(side):
    targets = targets_at([(0.0, 0.0, 4.0, 4.0), (1.0, 1.0, 1.0, 1.0), (0.5, 4.0, 9.0, 2.0)])
    for frame_format in ("bgr", "nv12"):
        frame = random_frame(frame_format, *side)
        found = run_crop(frame, targets, 33, 33, frame_format=frame_format)
        np.testing.assert_array_equal(found, crop_ref(frame, targets, 33, 33, frame_format=frame_format))


def test_normalisation_is_of_the_planes_written():
    targets, frame = targets_at(BOXES[:3]), random_frame("bgr")
    scale, offset = (0.0171247, 0.0175070, 0.0174292), (-2.1179039, -2.0357143, -1.8044444)
    for dtype in (np.float32, np.float16):
        found = run_crop(frame, targets, 33, 33, rgb=True, scale=scale, offset=offset, dtype=dtype)
        options = {"channel_order": "rgb", "scale": scale, "offset": offset}
        np.testing.assert_array_equal(found, crop_ref(frame, targets, 33, 33, dtype=dtype, **options))
    grey = crop_ref(frame, targets, 33, 33)[:, ::-1]
    by_hand = grey * np.array(scale, np.float32)[:, None, None] + np.array(offset, np.float32)[:, None, None]
    np.testing.assert_allclose(crop_ref(frame, targets, 33, 33, **options), by_hand, rtol=1e-5, atol=1e-6)


def test_inactive_slots_keep_what_they_hold():
    targets, frame = targets_at(BOXES[:3]), random_frame("bgr")
    targets["active"][1] = 0
    found = run_crop(frame, targets, 33, 33, before=-7.0)
    expected = crop_ref(frame, targets, 33, 33, out=np.full((3, 3, 33, 33), -7.0, np.float32))
    np.testing.assert_array_equal(found, expected)
    assert (found[1] == -7.0).all()
    assert (found[[0, 2]] >= 0).all()


def test_sides_and_starts_at_ties_are_those_of_doubles():
    ties = [step / 2 + 0.25 for step in range(4, 24)]  # a square's side is 2w: half a pixel more than a whole number
    sizes = [float(np.nextafter(np.float32(w), np.float32(toward))) for w in ties for toward in (0, w, 99)]
    sizes += [32 * (side + 0.5) / 66 for side in range(9, 40)]  # nearly ties with 33 / 32
    halves = [0.0, -0.0, 1e-10, -1e-10, 0.5, -0.5, -0.50000006, 1.4999999, 2.5, 20.499998, -1.5000001, 60.5]
    boxes = [(halves[index % len(halves)], halves[index % 7], w, w) for index, w in enumerate(sizes)]
    targets, frame = targets_at(boxes), random_frame("bgr")
    for scale_size in (33, 32):
        expected = opencv_crops(frame, targets, 33, scale_size)
        np.testing.assert_allclose(run_crop(frame, targets, 33, scale_size), expected, rtol=0, atol=OPENCV_TOLERANCE)


def test_states_that_are_not_finite_or_too_large_stay_in_memory():
    nan, inf = float("nan"), float("inf")
    boxes = [(nan, 5.0, 9.0, 9.0), (5.0, inf, 9.0, 9.0), (-inf, nan, nan, inf), (1e30, -1e30, 1e30, 1e30),
             (5.0, 5.0, inf, 3.0), (5.0, 5.0, -4.0, 9.0), (5.0, 5.0, 0.0, 0.0), (3e7, 3.0, 3e8, 2.0)]  # fmt: skip
    targets = targets_at(boxes)
    found = run_crop(random_frame("bgr"), targets, 33, 33)
    for index in (0, 1, 2, 3, 7):
        np.testing.assert_array_equal(found[index], np.tile(targets["fill"][index, :3, None, None], (1, 33, 33)))
    assert ((found >= 0) & (found <= 255)).all()


DESCRIBED = """
#include "{kernels}/crop.cu"
extern "C" __global__ void crop_described(const CropArguments arguments) {{
  Frame frame = *arguments.described;
  frame.data = arguments.frame.data;
  frame.chroma = arguments.frame.chroma;
  CropArguments described = arguments;
  described.described = &frame;
  described.frame = {{}};
  crop_f32(described);
}}
HOST_ENTRY(crop_described, CropArguments)
"""


def test_frame_comes_from_its_descriptor(tmp_path):
    source = tmp_path / "crop_described"
    source.with_suffix(".cu").write_text(DESCRIBED.format(kernels=KERNELS))
    targets, frame = targets_at(BOXES[:3]), random_frame("nv12")
    described = np.zeros(1, FRAME)
    described["width"], described["height"], described["format"] = WIDTH, HEIGHT, FORMATS.index("nv12")
    described["pitch"], described["chroma_pitch"] = WIDTH + 5, WIDTH + 1 + 5
    found = run_crop(frame, targets, 33, 33, padding=5, described=described, name=str(source), kernel="crop_described")
    np.testing.assert_array_equal(found, crop_ref(frame, targets, 33, 33, frame_format="nv12"))


@pytest.mark.parametrize("out_size", [1, 32, 33, 127, 255, 271, 4096])
def test_geometry_covers_every_pixel_with_less_than_a_block_to_spare(out_size):
    grid, block = crop_geometry(16, out_size)
    assert grid[2] == 16
    assert block[0] * block[1] == 128
    for blocks, threads in zip(grid[:2], block[:2], strict=True):
        assert 0 <= blocks * threads - out_size < threads


@pytest.mark.parametrize(("given", "expected"), [("bgr", "bgra"), ("nv12", "bgr"), ("bgr", "nv12")])
def test_reference_refuses_a_frame_of_another_format(given, expected):
    with pytest.raises(ValueError, match=f"expected a {expected} frame"):
        crop_ref(random_frame(given), targets_at(BOXES[:1]), 33, 33, frame_format=expected)
