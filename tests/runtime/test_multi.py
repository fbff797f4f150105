"""Several targets in one search are followed as by a tracker each."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from networks import seeded
from torch import nn

from siamtrt.errors import BoxError, FrameError, SiamtrtError
from siamtrt.export.bundle import bundle_from_network, export_bundle
from siamtrt.info import describe_bundle
from siamtrt.manifest import load_manifest
from siamtrt.models.alexnet import AlexNet
from siamtrt.models.nanotrack import NanoTrack
from siamtrt.models.presets import PRESETS
from siamtrt.models.siamrpn import SiamRPN
from siamtrt.models.siamrpnpp import SiamRPNpp
from siamtrt.runtime.multi import MultiTracker
from siamtrt.runtime.ort_session import OrtSession
from siamtrt.runtime.tracker import Tracker

BOXES = [(60, 80, 40, 40), (150, 30, 50, 30), (200, 150, 30, 60), (10, 10, 80, 70)]
CLOSE = {"atol": 0.02, "rtol": 0}  # pixels: another batch, another order of the same sums


class Levels(nn.Module):
    """Three levels of features at a stride of 8, as ResNet's and MobileNetV2's: a convolution each."""

    def __init__(self, channels):
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3, channels, 15, stride=8) for _ in range(3))

    def forward(self, x):
        return [level(x) for level in self.levels]


def nanotrack():
    """NanoTrack v3's head behind a single convolution with MobileNetV3's stride."""
    network = NanoTrack(3)
    network.backbone = nn.Conv2d(3, 96, 16, stride=16, padding=8)
    return network


# Every kind of head, on small backbones: a backbone treats every target alike.
HEADS = {
    "siamrpn_alex": lambda: SiamRPN(AlexNet(0.125), 32),
    "nanotrack_v3": nanotrack,
    "siamrpn_mobilev2_l234_dwxcorr": lambda: SiamRPNpp(Levels(16), channels=(16, 16, 16), hidden=(16, 16, 16)),
}


@pytest.fixture(scope="module")
def bundles(tiny_bundle, tiny_bundle_for_three):
    """The same weights for one target and for three."""
    return {1: tiny_bundle, 3: tiny_bundle_for_three}


def network_of(name, build):
    """Another network under a preset's name."""
    return seeded(dataclasses.replace(PRESETS[name], build=build))


def test_the_search_graph_takes_every_target(bundles):
    one, three = (load_manifest(bundles[batch]) for batch in (1, 3))
    assert three.batch == 3
    assert three.graphs["template"] == one.graphs["template"]
    for alone, together in zip(one.graphs["search"].inputs, three.graphs["search"].inputs, strict=True):
        assert together.shape == (3 * alone.shape[0], *alone.shape[1:])


def test_targets_that_come_and_go_are_followed_as_alone(bundles, short_video):
    """Slots are reused; each target's boxes are those of a tracker of its own, begun on the same frame."""
    alone: dict[int, Tracker] = {}
    taken = []
    with MultiTracker.load(bundles[3], "onnxruntime") as together:
        for index, frame in enumerate(short_video.frames):
            results = together.update(frame)
            assert results.keys() == alone.keys()
            for number, tracker in alone.items():
                expected = tracker.update(frame)
                np.testing.assert_allclose(results[number].box_xywh, expected.box_xywh, **CLOSE)
                assert results[number].score == pytest.approx(expected.score, abs=1e-4)
                assert results[number].status == expected.status
                np.testing.assert_allclose(together.states[number].center_xy, tracker.state.center_xy, **CLOSE)
            if index in (0, 1, 3, 7):
                number = together.add(frame, BOXES[len(taken) % 4])
                alone[number] = Tracker.load(bundles[1], "onnxruntime")
                alone[number].init(frame, BOXES[len(taken) % 4])
                taken.append(number)
            if index == 5:
                together.drop(1)
                alone.pop(1).close()
    assert taken == [0, 1, 2, 1]
    for tracker in alone.values():
        tracker.close()


def test_no_target_is_no_search(bundles, short_video):
    with MultiTracker.load(bundles[3], "onnxruntime") as tracker:
        assert tracker.update(short_video.frames[0]) == {}
        assert tracker.states == {}


def test_mistakes_are_refused_and_nothing_is_lost(bundles, short_video):
    frame = short_video.frames[0]
    with MultiTracker.load(bundles[3], "onnxruntime") as tracker:
        assert [tracker.add(frame, box) for box in BOXES[:3]] == [0, 1, 2]
        with pytest.raises(SiamtrtError, match="no slot for another target"):
            tracker.add(frame, BOXES[3])
        with pytest.raises(SiamtrtError, match="no such target"):
            tracker.drop(3)
        tracker.drop(1)
        with pytest.raises(SiamtrtError, match="no such target"):
            tracker.drop(1)
        with pytest.raises(BoxError):
            tracker.add(frame, (float("nan"), 0, 10, 10))
        with pytest.raises(FrameError, match="frame size changed"):
            tracker.add(frame[:100], BOXES[0])
        with pytest.raises(FrameError, match="frame size changed"):
            tracker.update(frame[:, :100])
        assert tracker.states.keys() == {0, 2}
        assert tracker.update(frame).keys() == {0, 2}


def test_a_bundle_for_several_is_not_for_one_tracker(bundles, monkeypatch):
    """And what was opened for it is closed."""
    closed = []
    monkeypatch.setattr(OrtSession, "close", lambda session: closed.append(session.name))
    with pytest.raises(SiamtrtError, match="MultiTracker"):
        Tracker.load(bundles[3], "onnxruntime")
    assert len(closed) == 2
    assert "targets   3 a search" in describe_bundle(bundles[3])


@pytest.mark.parametrize("batch", [0, -1])
def test_no_bundle_for_no_target(tiny_checkpoint, tmp_path, batch):
    with pytest.raises(SiamtrtError, match=f"batch {batch}"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", batch=batch)


def test_a_bundle_for_one_has_one_slot(bundles, short_video):
    with MultiTracker.load(bundles[1], "onnxruntime") as tracker:
        assert tracker.slots == 1
        assert tracker.add(short_video.frames[0], BOXES[0]) == 0
        assert tracker.update(short_video.frames[1]).keys() == {0}


@pytest.mark.parametrize("name", ["siamfc_alexnet", "siammask_base", "dasiamrpn_big"])
def test_trackers_that_need_more_than_one_search_a_frame_are_refused(tmp_path, name):
    """Whatever the network: the preset decides."""
    network = network_of(name, PRESETS["siamrpn_alex_tiny"].build)
    with pytest.raises(SiamtrtError, match="cannot follow several targets"):
        bundle_from_network(network, tmp_path / "bundle", batch=2)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", HEADS)
def test_every_kind_of_head_takes_several_targets(one_registry, tmp_path, name):
    """The parity gate of the export feeds every target other kernels."""
    manifest = bundle_from_network(network_of(name, HEADS[name]), tmp_path / "bundle", batch=2)
    assert max(manifest.parity.values()) <= 1e-4
