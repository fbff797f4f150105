"""Frames, boxes and tensors that a tracker or a session must refuse, and outputs it must survive."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siamtrt.boxes import check_box
from siamtrt.errors import BoxError, BundleError, CheckpointError, FrameError, SessionError, SiamtrtError
from siamtrt.manifest import load_manifest
from siamtrt.runtime.session import open_session
from siamtrt.runtime.tracker import Tracker

NAN, INFINITY = float("nan"), float("inf")
FRAME = np.zeros((240, 320, 3), np.uint8)
BAD_FRAMES = {
    "grey": FRAME[..., 0],
    "grey with an axis": FRAME[..., :1],
    "with alpha": np.zeros((240, 320, 4), np.uint8),
    "float": FRAME.astype(np.float32),
    "uint16": FRAME.astype(np.uint16),
    "batch": FRAME[None],
    "no rows": FRAME[:0],
    "no columns": FRAME[:, :0],
    "none": None,
    "list": FRAME[:2, :2].tolist(),
    "path": "frame.png",
}
BAD_BOXES = {
    "NaN": (NAN, 1, 20, 20),
    "NaN width": (1, 1, NAN, 20),
    "infinite": (1, 1, INFINITY, 20),
    "zero width": (10, 10, 0, 20),
    "zero height": (10, 10, 20, 0),
    "negative": (10, 10, -20, 20),
    "too small for arithmetic": (10, 10, 1e-300, 1e-300),
    "right of the frame": (320, 10, 20, 20),
    "below the frame": (10, 240, 20, 20),
    "left of the frame": (-20, 10, 20, 20),
    "above the frame": (10, -20, 20, 20),
    "overflowing": (0, 0, 1e300, 1e300),
    "larger than memory": (0, 0, 1e6, 1e6),
    "a bit too large": (0, 0, 641, 20),
    "three numbers": (1, 2, 3),
    "five numbers": (1, 2, 3, 4, 5),
    "nested": ((1, 2), (3, 4)),
    "ragged": ((1, 2), 3, 4),
    "text": "abcd",
    "none": None,
    "scalar": np.array(5.0),
    "integer beyond a float": (0, 0, 10**400, 5),
}


@pytest.fixture(scope="module")
def module_tracker(tiny_bundle):
    with Tracker.load(tiny_bundle, "onnxruntime", threads=1) as tracker:
        yield tracker


@pytest.fixture
def tracker(module_tracker, short_video):
    module_tracker.init(short_video.frames[0], short_video.boxes_xywh[0])
    return module_tracker


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_bad_frame_at_init_keeps_the_earlier_target(refused, tracker, short_video, frame):
    before = tracker.state
    with refused(FrameError, "frame"):
        tracker.init(frame, (10, 10, 20, 20))
    assert tracker.state == before
    assert tracker.update(short_video.frames[1]).status == "locked"


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_bad_frame_at_update_keeps_the_state(refused, tracker, frame):
    before = tracker.state
    with refused(FrameError, "frame"):
        tracker.update(frame)
    assert tracker.state == before


@pytest.mark.parametrize("shape", [(240, 319, 3), (320, 240, 3), (480, 640, 3), (1, 1, 3)])
def test_frame_size_that_changes(refused, tracker, short_video, shape):
    before = tracker.state
    with refused(FrameError, f"received {shape[1]}x{shape[0]}; expected 320x240"):
        tracker.update(np.zeros(shape, np.uint8))
    assert tracker.state == before
    tracker.update(short_video.frames[1])


@pytest.mark.parametrize("box", BAD_BOXES.values(), ids=BAD_BOXES)
def test_bad_box_keeps_the_earlier_target(refused, tracker, short_video, box):
    before = tracker.state
    with refused(BoxError, "target box"):
        tracker.init(short_video.frames[1], box)
    assert tracker.state == before
    assert tracker.update(short_video.frames[1]).status == "locked"


@pytest.mark.parametrize("box", [(319, 239, 5, 5), (-19, -9, 20, 10), (0, 0, 640, 480), (5, 5, 1, 1), (5, 5, 0.01, 9)])
def test_odd_boxes_that_are_allowed(tracker, short_video, box):
    """The limits above are not tighter than they say; the state stays finite and inside the frame."""
    assert check_box(box, (320, 240)) == box
    tracker.init(short_video.frames[0], box)
    for frame in short_video.frames[1:4]:
        result = tracker.update(frame)
        assert np.isfinite([*result.box_xywh, result.score]).all()


def test_update_before_init(refused, tiny_bundle):
    with Tracker.load(tiny_bundle, "onnxruntime", threads=1) as tracker:
        with refused(SiamtrtError, "update before init"):
            tracker.update(FRAME)
        with refused(BoxError, "target box"):
            tracker.init(FRAME, (400, 1, 5, 5))
        with refused(SiamtrtError, "tracker has no target"):
            _ = tracker.state


def test_update_after_close(refused, tiny_bundle):
    with Tracker.load(tiny_bundle, "onnxruntime", threads=1) as tracker:
        tracker.init(FRAME, (10, 10, 20, 20))
    with refused(SessionError, "session is closed"):
        tracker.update(FRAME)


class Returning:
    """A session whose outputs are filled with one value, at one place or everywhere."""

    backend = "test"

    def __init__(self, spec, name=None, value=0.0, everywhere=True):
        self.inputs, self.outputs = spec.inputs, spec.outputs
        self._fill = name, value, everywhere

    def run(self, feeds):
        name, value, everywhere = self._fill
        maps = {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in self.outputs}
        if name:
            maps[name].reshape(-1)[slice(None) if everywhere else slice(-1, None)] = value
        return maps

    def close(self):
        pass


def pretended(bundle, name=None, value=0.0, everywhere=True):
    manifest = load_manifest(bundle)
    search = Returning(manifest.graphs["search"], name, value, everywhere)
    return Tracker(manifest, {"template": Returning(manifest.graphs["template"]), "search": search})


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "one place"])
@pytest.mark.parametrize("name", ["cls", "loc"])
def test_outputs_of_nan_are_invalid(tiny_bundle, name, everywhere):
    tracker = pretended(tiny_bundle, name, NAN, everywhere)
    tracker.init(FRAME, (100, 80, 40, 30))
    before = tracker.state
    for _ in range(3):
        result = tracker.update(FRAME)
        assert (result.ok, result.status, result.score) == (False, "invalid", 0.0)
        assert result.box_xywh == before.box_xywh
        assert (tracker.state.center_xy, tracker.state.size_wh) == (before.center_xy, before.size_wh)


@pytest.mark.parametrize("value", [INFINITY, -INFINITY, 3e38, -3e38])
@pytest.mark.parametrize("name", ["cls", "loc"])
def test_outputs_beyond_range_leave_the_state_finite(tiny_bundle, name, value):
    tracker = pretended(tiny_bundle, name, value)
    tracker.init(FRAME, (100, 80, 40, 30))
    for _ in range(3):
        result = tracker.update(FRAME)
        assert all(map(math.isfinite, [*result.box_xywh, result.score]))
        assert result.ok == (result.status == "locked")


def test_tracker_recovers_after_nan(tiny_bundle):
    tracker = pretended(tiny_bundle, "loc", NAN)
    tracker.init(FRAME, (100, 80, 40, 30))
    assert not tracker.update(FRAME).ok
    tracker._sessions["search"]._fill = None, 0.0, True
    assert tracker.update(FRAME).ok


@pytest.fixture(scope="module", params=["onnxruntime", "torch"])
def session(request, tiny_bundle, tiny_checkpoint):
    with open_session(tiny_bundle, "search", request.param, checkpoint=tiny_checkpoint, threads=1) as opened:
        yield opened


BAD_FEEDS = {
    "none": lambda x, k: {},
    "one missing": lambda x, k: {"x": x},
    "one extra": lambda x, k: {"x": x, "kernel0": k, "y": x},
    "one misnamed": lambda x, k: {"x": x, "kernel_0": k},
    "another size": lambda x, k: {"x": x[..., :-1], "kernel0": k},
    "no batch axis": lambda x, k: {"x": x[0], "kernel0": k},
    "two in a batch": lambda x, k: {"x": np.repeat(x, 2, 0), "kernel0": k},
    "double": lambda x, k: {"x": x.astype(np.float64), "kernel0": k},
    "bytes": lambda x, k: {"x": x.astype(np.uint8), "kernel0": k},
    "big-endian": lambda x, k: {"x": x.astype(">f4"), "kernel0": k},
    "list": lambda x, k: {"x": x.tolist(), "kernel0": k},
    "nothing": lambda x, k: {"x": None, "kernel0": k},
}


def feeds_of(session):
    return [np.ones(tensor.shape, tensor.dtype) for tensor in session.inputs]


@pytest.mark.parametrize("make", BAD_FEEDS.values(), ids=BAD_FEEDS)
def test_wrong_feeds(refused, session, make):
    with refused(SessionError, "wrong input of the search graph") as caught:
        session.run(make(*feeds_of(session)))
    assert "x float32(1, 3, 287, 287), kernel0 float32(1, 128, 4, 4)" in str(caught.value)


def test_views_are_allowed(session):
    """Reversed and strided arrays of the right shape give what their copies give."""
    x, kernel = feeds_of(session)
    x = np.random.default_rng(0).uniform(0, 255, x.shape).astype(np.float32)[..., ::-1]
    viewed = session.run({"x": x, "kernel0": kernel})["cls"].copy()
    np.testing.assert_array_equal(viewed, session.run({"x": x.copy(), "kernel0": kernel})["cls"])


def test_torch_without_its_checkpoint(refused, tiny_bundle, tiny_checkpoint, tmp_path):
    with refused(BundleError, "--checkpoint tiny.pth"):
        open_session(tiny_bundle, "search", "torch")
    with refused(CheckpointError, "no such checkpoint"):
        open_session(tiny_bundle, "search", "torch", checkpoint=tmp_path / "absent.pth")
    import torch

    state = torch.load(tiny_checkpoint, weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "tiny.pth")
    with refused(BundleError, "not the bundle's checkpoint"):
        open_session(tiny_bundle, "search", "torch", checkpoint=tmp_path / "tiny.pth")


@pytest.mark.parametrize(("graph", "backend"), [("mask", "auto"), ("search", "onnx"), ("", "torch")])
def test_unknown_session(refused, tiny_bundle, graph, backend):
    with refused(SiamtrtError, "no such session"):
        open_session(tiny_bundle, graph, backend)
