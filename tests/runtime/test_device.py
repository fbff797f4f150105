"""The device's tracker, on the host's memory with the kernels compiled by g++, beside the ordinary one."""

from __future__ import annotations

import numpy as np
import pytest
from host_device import HostDevice

from siamtrt.errors import BoxError, FrameError, SiamtrtError
from siamtrt.export.bundle import export_bundle
from siamtrt.manifest import load_manifest
from siamtrt.models.checkpoints import load_network
from siamtrt.runtime.device import DeviceTracker
from siamtrt.runtime.multi import MultiTracker
from siamtrt.runtime.torch_session import TorchDeviceSession

BOXES = [(60, 80, 40, 40), (150, 30, 50, 30), (200, 150, 30, 60)]


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("device") / "bundle"
    export_bundle(tiny_checkpoint, folder, batch=3)
    return folder


@pytest.fixture
def tracker(bundle, tiny_checkpoint):
    manifest, device, module = load_manifest(bundle), HostDevice(), load_network(tiny_checkpoint).module
    sessions = {name: TorchDeviceSession(module, name, spec, device) for name, spec in manifest.graphs.items()}
    return DeviceTracker(manifest, device, sessions)


def test_targets_are_followed_as_by_the_ordinary_tracker(bundle, tracker, short_video):
    """Through crop, correlation and decoding of their own; the network is PyTorch's here, ONNX Runtime's there."""
    with MultiTracker.load(bundle, "onnxruntime") as ordinary:
        for index, frame in enumerate(short_video.frames):
            found, expected = tracker.update(frame), ordinary.update(frame)
            assert found.keys() == expected.keys()
            for number, result in expected.items():
                np.testing.assert_allclose(found[number].box_xywh, result.box_xywh, atol=0.05)
                assert found[number].score == pytest.approx(result.score, abs=1e-3)
                assert found[number].status == result.status
            if index < 3:
                assert tracker.add(frame, BOXES[index]) == ordinary.add(frame, BOXES[index]) == index
            if index == 6:
                tracker.drop(1)
                ordinary.drop(1)
    assert tracker.states.keys() == {0, 2}


def test_a_frame_on_the_device_is_used_where_it_is(tracker, short_video):
    """Its pixels, changed in place, are what the next update sees; nothing is uploaded."""
    buffer = HostDevice().upload(short_video.frames[0])
    tracker.add(buffer, BOXES[0])
    buffer.set(short_video.frames[1])
    on_device = tracker.update(buffer)[0]
    tracker.drop(0)
    tracker.add(short_video.frames[0], BOXES[0])
    assert tracker.update(short_video.frames[1])[0] == on_device


def test_mistakes_are_refused_and_nothing_is_lost(tracker, short_video):
    frame = short_video.frames[0]
    assert [tracker.add(frame, box) for box in BOXES] == [0, 1, 2]
    with pytest.raises(SiamtrtError, match="no slot"):
        tracker.add(frame, BOXES[0])
    tracker.drop(2)
    for number in (2, 3, -1):
        with pytest.raises(SiamtrtError, match="no such target"):
            tracker.drop(number)
    before = tracker.states
    with pytest.raises(BoxError):
        tracker.add(frame, (float("nan"), 0, 10, 10))
    with pytest.raises(FrameError, match="frame size changed"):
        tracker.update(np.ascontiguousarray(frame[:100]))
    with pytest.raises(FrameError, match="frame size changed"):
        tracker.add(np.ascontiguousarray(frame[:100]), (10, 10, 20, 20))
    with pytest.raises(FrameError):
        tracker.update(frame.astype(float))
    assert tracker.states == before


def test_trackers_that_decode_otherwise_are_refused(exported):
    manifest = load_manifest(exported("siamfc_alexnet"))
    with pytest.raises(SiamtrtError, match="cannot be tracked on the device"):
        DeviceTracker(manifest, HostDevice(), {})


def test_a_frame_on_the_device_is_checked_like_another(tracker, short_video):
    device = HostDevice()
    tracker.add(device.upload(short_video.frames[0]), BOXES[0])
    with pytest.raises(FrameError, match="frame size changed"):
        tracker.update(device.upload(short_video.frames[0][:100]))
    frame = short_video.frames[0]
    for pixels in (frame[..., 0], frame.astype(np.float32), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(FrameError, match="unusable frame"):
            tracker.update(device.upload(pixels))
