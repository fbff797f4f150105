"""The device's tracker, on the host's memory with the kernels compiled by g++, beside the ordinary one."""

from __future__ import annotations

import numpy as np
import pytest
from host_device import HostDevice

from siamtrt.errors import BoxError, FrameError, MissingPackageError, SiamtrtError
from siamtrt.kernels.frames import DeviceFrame
from siamtrt.kernels.state import TARGET
from siamtrt.manifest import load_manifest
from siamtrt.models.checkpoints import load_network
from siamtrt.runtime.device import DeviceTracker
from siamtrt.runtime.multi import MultiTracker
from siamtrt.runtime.torch_session import TorchDeviceSession

BOXES = [(60, 80, 40, 40), (150, 30, 50, 30), (200, 150, 30, 60)]


@pytest.fixture(scope="module")
def bundle(tiny_bundle_for_three):
    return tiny_bundle_for_three


class OnDevice:
    """An array that says it is on a GPU, for DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return 2, 0


@pytest.fixture(scope="module")
def module(tiny_checkpoint):
    return load_network(tiny_checkpoint).module


@pytest.fixture
def make(bundle, module):
    """Trackers on devices of their own: (tracker, device)."""
    manifest = load_manifest(bundle)

    def made(device=None, **options):
        device = device or HostDevice()
        sessions = {name: TorchDeviceSession(module, name, spec, device) for name, spec in manifest.graphs.items()}
        return DeviceTracker(manifest, device, sessions, **options), device

    return made


@pytest.fixture
def tracker(make):
    return make()[0]


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


def test_a_frame_on_the_device_is_used_where_it_is(make, short_video):
    """Its pixels, changed in place, are what the next update sees; nothing goes up and a record comes back."""
    tracker, device = make()
    pixels = short_video.frames[0].copy()
    tracker.add(OnDevice(pixels), BOXES[0])
    pixels[...] = short_video.frames[1]
    device.bytes_up = device.bytes_down = 0
    on_device = tracker.update(OnDevice(pixels))[0]
    assert (device.bytes_up, device.bytes_down) == (0, 3 * TARGET.itemsize)
    tracker.drop(0)
    tracker.add(short_video.frames[0], BOXES[0])
    assert tracker.update(short_video.frames[1])[0] == on_device


def test_a_frame_goes_up_once_and_a_record_comes_back(make, short_video):
    tracker, device = make()
    tracker.add(short_video.frames[0], BOXES[0])
    for frame in short_video.frames[1:4]:
        device.bytes_up = device.bytes_down = 0
        tracker.update(frame)
        assert device.bytes_up == frame.nbytes
        assert device.bytes_down == tracker.slots * TARGET.itemsize
    assert TARGET.itemsize <= 64


def test_a_device_that_shares_the_hosts_memory_is_sent_nothing(make, short_video):
    (shared, device), (sent, _) = make(HostDevice(integrated=True)), make()
    for tracker in (shared, sent):
        tracker.add(short_video.frames[0], BOXES[0])
    device.bytes_up = 0
    for frame in short_video.frames[1:4]:
        assert shared.update(frame) == sent.update(frame)
    assert device.bytes_up == 0


def test_updates_are_replayed_as_one_graph_and_give_the_same(make, short_video):
    """Two buffers: the first two frames are enqueued as they are, from then on captured work is."""
    (graphs, device), (plain, other) = make(), make(graphs=False)
    for tracker in (graphs, plain):
        tracker.add(short_video.frames[0], BOXES[0])
    for index, frame in enumerate(short_video.frames[1:8]):
        assert graphs.update(frame) == plain.update(frame)
        if index == 3:  # targets come and go without a new capture
            assert graphs.add(frame, BOXES[1]) == plain.add(frame, BOXES[1])
            graphs.drop(0)
            plain.drop(0)
    assert (device.replays, other.replays) == (7 - 2, 0)


def test_the_next_frame_is_under_way_before_the_last_is_collected(make, short_video):
    """On a device that does nothing until it is waited for, so that a buffer used too early would show."""
    ahead, step = make()[0], make()[0]
    for tracker in (ahead, step):
        tracker.add(short_video.frames[0], BOXES[0])
    expected = [step.update(frame) for frame in short_video.frames[1:7]]
    found = []
    for frame in short_video.frames[1:7]:
        given = frame.copy()
        ahead.submit(given)
        given[...] = 0  # the caller's own again
        if len(ahead._under_way) == 2:
            found.append(ahead.collect())
    found.append(ahead.collect())
    assert found == expected
    with pytest.raises(SiamtrtError, match="nothing to collect"):
        ahead.collect()


def test_results_have_to_be_collected(make, short_video):
    """Each frame's own, though all have arrived before the first is collected."""
    tracker, step = make()[0], make()[0]
    for each in (tracker, step):
        each.add(short_video.frames[0], BOXES[0])
    for frame in short_video.frames[1:3]:
        tracker.submit(frame)
    with pytest.raises(SiamtrtError, match="results wait"):
        tracker.submit(short_video.frames[3])
    with pytest.raises(SiamtrtError, match="results wait"):
        tracker.update(short_video.frames[3])
    latest = tracker.states  # waits for both
    assert tracker.collect() == step.update(short_video.frames[1])
    assert tracker.collect() == step.update(short_video.frames[2]) == latest


def test_a_target_taken_while_frames_are_under_way(make, short_video):
    """Results of frames from before do not have it, later ones do; the others are not disturbed."""
    busy, calm = make()[0], make()[0]
    for tracker in (busy, calm):
        tracker.add(short_video.frames[0], BOXES[0])
    calm.update(short_video.frames[1])
    second = calm.update(short_video.frames[2])
    calm.add(short_video.frames[2], BOXES[1])
    busy.submit(short_video.frames[1])
    busy.submit(short_video.frames[2])
    assert busy.add(short_video.frames[2], BOXES[1]) == 1
    assert busy.collect().keys() == {0}
    assert busy.collect() == second
    assert busy.update(short_video.frames[3]) == calm.update(short_video.frames[3])


def rgba(frame):
    return np.concatenate([frame[..., ::-1], np.full_like(frame[..., :1], 77)], axis=2)


@pytest.mark.parametrize(("frame_format", "convert"), [("rgb", lambda f: f[..., ::-1]), ("rgba", rgba)])
def test_other_formats_with_a_pitch(make, short_video, frame_format, convert):
    """Rows that lie apart, in another channel order, give what the plain frame gives."""
    (other, _), (plain, _) = make(frame_format=frame_format), make()
    height, width = short_video.frames[0].shape[:2]
    wide = np.full((height, width + 24, len(frame_format)), 9, np.uint8)
    wide[:, :width] = convert(short_video.frames[0])
    assert other.add(OnDevice(wide[:, :width]), BOXES[0]) == plain.add(short_video.frames[0], BOXES[0])
    for frame in short_video.frames[1:3]:
        wide[:, :width] = convert(frame)
        assert other.update(OnDevice(wide[:, :width])) == plain.update(frame)


def test_nv12(make, short_video):
    """From two planes of a decoder; the colours of the plain frame are those of the conversion back."""
    cv2 = pytest.importorskip("cv2")
    (nv12, _), (plain, _) = make(), make()
    for index, frame in enumerate(short_video.frames[:3]):
        height, width = frame.shape[:2]
        i420 = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)
        luma, chroma = np.zeros((height, width + 16), np.uint8), np.zeros((height // 2, width + 16), np.uint8)
        luma[:, :width] = i420[:height]
        u, v = i420[height:].reshape(2, height // 2, width // 2)
        chroma[:, :width] = np.stack([u, v], axis=-1).reshape(height // 2, width)
        given = DeviceFrame(
            luma.ctypes.data, width, height, width + 16, "nv12", chroma.ctypes.data, width + 16, (luma, chroma)
        )
        planes = np.concatenate([luma[:, :width], chroma[:, :width]])
        bgr = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_NV12)
        if index == 0:
            nv12.add(given, BOXES[0])
            plain.add(bgr, BOXES[0])
        else:
            assert nv12.update(given) == plain.update(bgr)
    with pytest.raises(FrameError, match="frame format changed"):
        nv12.update(short_video.frames[4])


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
    frame = short_video.frames[0]
    tracker.add(OnDevice(frame), BOXES[0])
    with pytest.raises(FrameError, match="frame size changed"):
        tracker.update(OnDevice(frame[:100]))
    for pixels in (frame[..., 0], frame.astype(np.float32), np.zeros((0, 5, 3), np.uint8), frame[:, ::2]):
        with pytest.raises(FrameError, match="unusable frame"):
            tracker.update(OnDevice(pixels))
    for wrong in ({"pitch": 10}, {"pointer": 0}, {"frame_format": "yuyv"}, {"frame_format": "nv12"}, {"height": 0}):
        with pytest.raises(FrameError, match="unusable frame on the device"):
            DeviceFrame(**{"pointer": 64, "width": 8, "height": 8, "pitch": 24, **wrong})


def test_without_a_gpu_it_says_so(bundle):
    pytest.importorskip("torch")
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception:
        with pytest.raises(MissingPackageError, match="no GPU to track on"):
            DeviceTracker.load(bundle)
    else:
        pytest.skip("there is a GPU")
