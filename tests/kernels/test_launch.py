"""The launchers give the kernels what they expect: on memory of the host here, on a GPU where there is one."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from host_device import HostDevice

from siamtrt.kernels.crop import FRAME, crop_ref
from siamtrt.kernels.decode import DecodeConstants, decode_ref, window_table
from siamtrt.kernels.launch import frame_of, plan_crop, plan_decode, plan_xcorr
from siamtrt.kernels.sources import source_of
from siamtrt.kernels.state import TARGET
from siamtrt.kernels.xcorr import depthwise_xcorr_ref


def _gpu_device(module: str, name: str):
    try:
        device = getattr(importlib.import_module(f"siamtrt.kernels.{module}"), name)()
        device.upload(np.zeros(1, np.float32))
    except Exception as error:  # packages without a driver each raise their own
        pytest.skip(f"no GPU through {name}: {type(error).__name__}")
    return device


@pytest.fixture(
    params=[
        "host", pytest.param("cupy", marks=pytest.mark.gpu), pytest.param("pycuda", marks=pytest.mark.gpu),
    ]
)  # fmt: skip
def device(request):
    if request.param == "host":
        return HostDevice()
    return _gpu_device(f"{request.param}_device", f"{request.param.capitalize()}Device")


def targets_of(*boxes, inactive=()):
    targets = np.zeros(len(boxes), TARGET)
    targets["center"], targets["size"] = [box[:2] for box in boxes], [box[2:] for box in boxes]
    targets["fill"], targets["active"] = (7, 8, 9, 0), 1
    targets["active"][list(inactive)] = 0
    return targets


THREE = targets_of((60, 40, 30, 20), (5, 70, 40, 40), (90, 10, 12, 33), inactive=[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("described", [False, True])
def test_crop(device, dtype, described):
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    scale, offset = (0.5, 1.0, 2.0), (1.0, 0.0, -3.0)
    source = device.upload(pixels)
    frame = frame_of(source, "bgr")
    crops = device.upload(np.zeros((3, 3, 33, 33), dtype))
    given = device.upload(frame.described()) if described else frame
    targets = device.upload(THREE)
    device.launch(plan_crop(given, targets, crops, 20, rgb=True, scale=scale, offset=offset))
    expected = crop_ref(pixels, THREE, 33, 20, channel_order="rgb", dtype=dtype, scale=scale, offset=offset)
    found, tolerance = crops.get(), 1 if dtype is np.float16 else 1e-3
    np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=tolerance)
    assert not found[1].any()


def test_crop_of_nv12(device):
    rng = np.random.default_rng(1)
    luma = rng.integers(0, 256, (80, 120), dtype=np.uint8)
    chroma = rng.integers(0, 256, (40, 60, 2), dtype=np.uint8)
    crops = device.upload(np.zeros((3, 3, 33, 33), np.float32))
    y, uv = device.upload(luma), device.upload(chroma)
    targets = device.upload(THREE)
    device.launch(plan_crop(frame_of(y, "nv12", uv), targets, crops, 20))
    expected = crop_ref((luma, chroma), THREE, 33, 20, frame_format="nv12")
    np.testing.assert_allclose(crops.get(), expected, atol=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 1e-3)])
def test_xcorr_of_several_entries(device, dtype, tolerance):
    rng = np.random.default_rng(2)
    shapes = [((2, 8, 29, 29), 5), ((2, 3, 26, 24), 4), ((1, 5, 9, 9), 9)]
    arrays = [
        (rng.standard_normal(x).astype(dtype), rng.standard_normal((*x[:2], k, k)).astype(dtype)) for x, k in shapes
    ]
    entries = []
    for x, kernel in arrays:
        y = np.zeros((*x.shape[:2], x.shape[2] - kernel.shape[2] + 1, x.shape[3] - kernel.shape[3] + 1), dtype)
        entries.append((device.upload(x), device.upload(kernel), device.upload(y)))
    device.launch(plan_xcorr(entries))
    for (x, kernel), (_, _, y) in zip(arrays, entries, strict=True):
        expected = depthwise_xcorr_ref(x.astype(np.float32), kernel.astype(np.float32))
        np.testing.assert_allclose(y.get().astype(np.float32), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("points", [False, True], ids=["anchors", "points"])
def test_decode(device, points):
    rng = np.random.default_rng(3)
    anchors = 1 if points else 5
    cls = rng.standard_normal((3, 2 * anchors, 17, 17)).astype(np.float32)
    loc = rng.uniform(2, 30, (3, 4 * anchors, 17, 17)).astype(np.float32) * (1 if points else 0.02)
    sides = None if points else np.array([(104, 32), (88, 40), (64, 64), (40, 80), (32, 96)], np.float32)
    constants = DecodeConstants(stride=8, scale_size=127, penalty_k=0.1, lr=0.4)
    window = window_table(17, 0.4)
    state = device.upload(THREE)
    given = None if sides is None else device.upload(sides)
    maps = device.upload(cls), device.upload(loc), device.upload(window)  # alive until the launch has finished
    device.launch(plan_decode(state, *maps, given, constants, (120, 80)))
    found, expected = state.get(), decode_ref(THREE, cls, loc, window, sides, constants, (120, 80))
    for name in ("center", "size"):
        np.testing.assert_allclose(found[name], expected[name], atol=0.01)
    np.testing.assert_array_equal(found["position"], expected["position"])
    np.testing.assert_array_equal(found["status"], expected["status"])
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-5)
    assert found[1].tobytes() == THREE[1].tobytes()


def test_buffers_that_do_not_fit_are_refused():
    device = HostDevice()
    pixels = device.upload(np.zeros((8, 8, 3), np.uint8))
    targets, crops = device.upload(THREE), device.empty((3, 3, 33, 33), np.float32)
    with pytest.raises(ValueError, match="expected"):
        plan_crop(frame_of(pixels, "bgr"), device.upload(THREE[:2]), crops, 20)
    with pytest.raises(ValueError, match="expected float32 or float16"):
        plan_crop(frame_of(pixels, "bgr"), targets, device.empty((3, 3, 33, 33), np.float64), 20)
    with pytest.raises(ValueError, match="expected"):
        plan_crop(device.empty((), np.float32), targets, crops, 20)
    x, kernel, y = (device.empty(shape, np.float32) for shape in ((1, 2, 9, 9), (1, 2, 3, 3), (1, 2, 7, 6)))
    with pytest.raises(ValueError, match="expected"):
        plan_xcorr([(x, kernel, y)])
    maps = [device.empty((3, c, 5, 5), np.float32) for c in (2, 4)]
    constants = DecodeConstants(8, 127, 0.1, 0.4)
    with pytest.raises(ValueError, match="expected"):
        plan_decode(targets, *maps, device.empty((4, 4), np.float32), None, constants, (10, 10))
    assert device.upload(np.zeros((), FRAME)).shape == ()


@pytest.mark.parametrize("name", ["crop", "decode", "xcorr"])
def test_source_needs_no_folder(name):
    """What CuPy and PyCUDA compile names no file of ours."""
    source = source_of(name)
    assert ".cuh\"" not in source
    assert source.count("struct Target {") == 1
