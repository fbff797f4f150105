"""What the template branch is fed, and what becomes of its tensors: sessions that record, and results by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from siamtrt.manifest import GraphSpec, Manifest, Source, TensorSpec
from siamtrt.runtime.state import TargetState, state_from_box
from siamtrt.runtime.templates import Blended, FixedTemplate, Target, TemplateBranch, template_policy
from siamtrt.runtime.tracker import Tracker
from siamtrt.tracking import (
    AnchorDecoding,
    BlendedTemplate,
    DistractorAware,
    Preprocessing,
    ResponseDecoding,
    ResponseTracking,
    SpatialMask,
    Strategies,
    Tracking,
    TransformUpdate,
)

# A 16-pixel square target has a context of 32 pixels, so that crops are pieces of the frame as they are.
TEMPLATE, SEARCH, SIDE = 32, 64, 5
KERNELS = {"kernel0": (1, 3), "kernel1": (1, 2), "kernel2": (1, 3)}
FILL = (7, 8, 9)
FRAMES = np.random.default_rng(0).integers(0, 256, (8, 240, 320, 3), dtype=np.uint8)
RESPONSES = {
    "decoding": ResponseDecoding(SIDE, 8), "tracking": ResponseTracking(1.0, 0.2, 0.5),
    "outputs": {"response": (1, 1, SIDE, SIDE)},
}  # fmt: skip
PROPOSALS = {
    "decoding": AnchorDecoding(SIDE, 8, (1.0,), (8.0,)), "tracking": Tracking(0.0, 0.2, 0.5),
    "outputs": {"cls": (1, 2, SIDE, SIDE), "loc": (1, 4, SIDE, SIDE), "distractor": (1, 2, SIDE, SIDE)},
}  # fmt: skip
AWARE = DistractorAware("kernel2", "kernel0", threshold=0.5, nms_iou=0.3, top_k=3, limit=2, weight=0.5)


def graph(name, inputs, outputs):
    tensors = [tuple(TensorSpec(key, shape) for key, shape in side.items()) for side in (inputs, outputs)]
    return GraphSpec(f"{name}.onnx", "0" * 64, *tensors)


def manifest_of(strategies=None, head=RESPONSES, order="bgr", update=None):
    strategies = strategies or Strategies()
    mask = {"mask": (1, 1, 6, 6)} if strategies.spatial_mask else {}
    graphs = {
        "template": graph("template", {"z": (1, 3, TEMPLATE, TEMPLATE), **mask}, KERNELS),
        "search": graph("search", {"x": (1, 3, SEARCH, SEARCH), **KERNELS}, head["outputs"]),
    }
    if update:
        graphs["update"] = graph("update", *update)
    return Manifest(
        "model", "paper", Source("none.pth", "0" * 64), graphs, Preprocessing(TEMPLATE, SEARCH, channel_order=order),
        head["decoding"], head["tracking"], {"cls": 0.0}, {}, strategies=strategies,
    )  # fmt: skip


class Recording:
    """A session that copies what it is fed and fills its outputs, the same arrays every time, by a function of it."""

    backend = "test"

    def __init__(self, spec, values=None):
        self.inputs, self.outputs = spec.inputs, spec.outputs
        self.fed, self.values = [], values
        self._arrays = {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in spec.outputs}

    def run(self, feeds):
        assert list(feeds) == [tensor.name for tensor in self.inputs]
        assert all(feeds[tensor.name].shape == tensor.shape for tensor in self.inputs)
        self.fed.append({name: np.array(value) for name, value in feeds.items()})
        for name, array in self._arrays.items():
            array[:] = self.values(name, feeds) if self.values else 0
        return dict(self._arrays)

    def close(self):
        pass


def means(name, feeds):
    """Template tensors made of the crop: its channels' means, or its first two pixels' sums."""
    z = feeds["z"][0]
    return z[:, 0, :2].sum(axis=0) if name == "kernel1" else z.mean(axis=(1, 2))


def piece(frame, center_xy, size, order="bgr"):
    """(1, 3, size, size): the pixels around a centre, which lies on pixel size / 2 or half a pixel before it."""
    left, top = (math.floor(value - size / 2) for value in center_xy)
    crop = frame[top : top + size, left : left + size, :: 1 if order == "bgr" else -1]
    return crop.transpose(2, 0, 1)[None].astype(np.float32)


def target_of(kernels):
    return Target(kernels, FILL, (320, 240))


def state_at(x, y, **fields):
    return TargetState((x, y), (16.0, 16.0), **fields)


def snapshot(state):
    return dataclasses.replace(state, memory={name: value.copy() for name, value in state.memory.items()})


def same(a, b):
    assert a == b
    assert list(a.memory) == list(b.memory)
    for name, value in a.memory.items():
        np.testing.assert_array_equal(value, b.memory[name])


# --- TemplateBranch


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_branch_feeds_the_crop_around_the_target(order):
    manifest = manifest_of(order=order)
    session = Recording(manifest.graphs["template"], means)
    branch = TemplateBranch(manifest, session)
    first = branch.run(FRAMES[0], state_at(100.5, 80.5), FILL)
    copies = {name: value.copy() for name, value in first.items()}
    second = branch.run(FRAMES[1], state_at(90, 120), FILL)
    np.testing.assert_array_equal(session.fed[0]["z"], piece(FRAMES[0], (100.5, 80.5), TEMPLATE, order))
    np.testing.assert_array_equal(session.fed[1]["z"], piece(FRAMES[1], (90, 120), TEMPLATE, order))
    for name, value in copies.items():  # tensors belong to the caller, though the session fills the same arrays
        np.testing.assert_array_equal(first[name], value)
        assert not np.array_equal(first[name], second[name])


def test_branch_turns_the_crop_with_the_target():
    """A ramp to the right, seen by a target turned to the right by 90 degrees, falls from top to bottom."""
    manifest = manifest_of()
    ramp = np.repeat(np.tile(np.arange(240, dtype=np.uint8), (200, 1))[..., None], 3, axis=2)
    crop = TemplateBranch(manifest, Recording(manifest.graphs["template"])).cut(
        ramp, state_at(100, 100, angle_rad=math.pi / 2), FILL
    )
    expected = 100 - (np.arange(TEMPLATE) - (TEMPLATE - 1) / 2)
    np.testing.assert_allclose(crop[0, 0], np.tile(expected[:, None], (1, TEMPLATE)), atol=1)


UPRIGHT = np.tile(np.float32([0, 1, 1, 1, 1, 0]), (6, 1))


@pytest.mark.parametrize(
    ("size_wh", "expected"), [((12, 20), UPRIGHT), ((20, 12), UPRIGHT.T), ((15, 17), np.ones((6, 6)))]
)
def test_mask_is_that_of_the_first_box(size_wh, expected):
    manifest = manifest_of(Strategies(spatial_mask=SpatialMask(1.5, side=6)))
    session = Recording(manifest.graphs["template"])
    TemplateBranch(manifest, session).run(FRAMES[0], state_from_box((100, 80, *size_wh)), FILL)
    assert session.fed[0]["mask"].dtype == np.float32
    np.testing.assert_array_equal(session.fed[0]["mask"], [[expected]])


def test_mask_stays_that_of_the_first_box():
    """A target of 6x20 that shrinks keeps its shape, but not where the smallest side of 10 makes it 10x14."""
    manifest = manifest_of(Strategies(spatial_mask=SpatialMask(1.5, side=6)))
    session = Recording(manifest.graphs["template"])
    state = dataclasses.replace(state_from_box((100, 80, 6, 20)), size_wh=(10.0, 14.0))
    TemplateBranch(manifest, session).run(FRAMES[0], state, FILL)
    np.testing.assert_array_equal(session.fed[0]["mask"], [[UPRIGHT]])


def test_mask_of_a_tracked_target():
    """Through the tracker: the size follows the scale, the mask stays."""
    manifest = manifest_of(Strategies(template=BlendedTemplate(0.5, 0.1), spatial_mask=SpatialMask(1.5, side=6)))
    sessions = {name: Recording(spec) for name, spec in manifest.graphs.items()}
    tracker = Tracker(manifest, sessions)
    tracker.init(FRAMES[0], (100, 80, 12, 20))
    for frame in FRAMES[1:4]:
        assert tracker.update(frame).ok
    masks = [fed["mask"] for fed in sessions["template"].fed]
    assert len(masks) == 4
    for mask in masks:
        np.testing.assert_array_equal(mask, [[UPRIGHT]])


# --- FixedTemplate


def test_fixed_template_returns_the_state_and_runs_nothing():
    manifest = manifest_of()
    session = Recording(manifest.graphs["template"], means)
    policy = template_policy(manifest, TemplateBranch(manifest, session), {"template": session})
    state = state_at(100, 80)
    assert isinstance(policy, FixedTemplate)
    assert policy.next(FRAMES[0], state, target_of({})) is state
    assert session.fed == []


# --- Blended


@pytest.mark.parametrize(("share", "rate"), [(0.5, 0.006), (0.25, 0.3), (1.0, 0.5), (0.0, 1.0)])
def test_blended_memory_is_the_closed_form(share, rate):
    """used = s * first + (1 - s) * ((1 - r)^n first + sum over k of r (1 - r)^(n - k) latest_k)."""
    manifest = manifest_of(Strategies(template=BlendedTemplate(share, rate)))
    session = Recording(manifest.graphs["template"], means)
    branch = TemplateBranch(manifest, session)
    policy = template_policy(manifest, branch, {"template": session})
    state = state_at(60.5, 70.5)
    first = branch.run(FRAMES[0], state, FILL)
    kept = {name: value.copy() for name, value in first.items()}
    latest = []
    for count, frame in enumerate(FRAMES[1:], start=1):
        state = dataclasses.replace(state, center_xy=(60.5 + 9 * count, 70.5 + 5 * count))
        before = snapshot(state)
        new = policy.next(frame, state, target_of(first))
        same(state, before)
        assert dataclasses.replace(new, memory={}) == dataclasses.replace(state, memory={})
        state = new
        crop = piece(frame, state.center_xy, TEMPLATE).astype(float)
        latest.append({name: means(name, {"z": crop}) for name in KERNELS})
        for name in KERNELS:
            shares = rate * (1 - rate) ** (count - np.arange(1, count + 1))
            average = (1 - rate) ** count * kept[name] + sum(
                part * tensors[name] for part, tensors in zip(shares, latest, strict=True)
            )
            np.testing.assert_allclose(state.memory[name], share * kept[name] + (1 - share) * average, rtol=1e-5)
            assert state.memory[name].dtype == np.float32
            np.testing.assert_array_equal(first[name], kept[name])


def test_search_is_fed_the_blend():
    manifest = manifest_of(Strategies(template=BlendedTemplate(0.5, 0.5)))
    template = Recording(manifest.graphs["template"], means)
    search = Recording(manifest.graphs["search"])
    tracker = Tracker(manifest, {"template": template, "search": search})
    tracker.init(FRAMES[0], (100, 80, 16, 16))
    tracker.update(FRAMES[1])
    tracker.update(FRAMES[2])
    first, second = (means("kernel0", fed) for fed in template.fed[:2])
    np.testing.assert_allclose(search.fed[0]["kernel0"], [first], rtol=1e-6)
    np.testing.assert_allclose(search.fed[1]["kernel0"], [0.75 * first + 0.25 * second], rtol=1e-5)


# --- Transformed


UPDATE = (
    {"z": (1, 3, TEMPLATE, TEMPLATE), "x": (1, 3, SEARCH, SEARCH), "kernel0": (1, 3), "kernel1": (1, 2)},
    {"updated_kernel1": (1, 2)},
)


def transformed(order="bgr"):
    manifest = manifest_of(Strategies(template=TransformUpdate()), order=order, update=UPDATE)
    sessions = {
        "template": Recording(manifest.graphs["template"], means),
        "search": Recording(manifest.graphs["search"]),
        "update": Recording(manifest.graphs["update"], lambda name, feeds: feeds["kernel1"] + [1, 10]),
    }
    return manifest, sessions


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_update_is_fed_both_crops_the_first_tensors_and_its_own_last_output(order):
    manifest, sessions = transformed(order)
    policy = template_policy(manifest, TemplateBranch(manifest, sessions["template"]), sessions)
    first = {"kernel0": np.float32([[1, 2, 3]]), "kernel1": np.float32([[4, 5]])}
    state = state_at(100.5, 80.5)
    memories = []
    for count, frame in enumerate(FRAMES[:3]):
        state = dataclasses.replace(state, center_xy=(100.5 + 6 * count, 80.5 + 4 * count))
        before = snapshot(state)
        new = policy.next(frame, state, target_of(first))
        same(state, before)
        fed = sessions["update"].fed[-1]
        np.testing.assert_array_equal(fed["z"], piece(frame, state.center_xy, TEMPLATE, order))
        np.testing.assert_array_equal(fed["x"], piece(frame, state.center_xy, SEARCH, order))
        np.testing.assert_array_equal(fed["kernel0"], [[1, 2, 3]])
        np.testing.assert_array_equal(fed["kernel1"], [[4 + count, 5 + 10 * count]])
        assert dataclasses.replace(new, memory={}) == dataclasses.replace(state, memory={})
        memories.append(new.memory)
        state = new
    assert sessions["template"].fed == []
    for count, memory in enumerate(memories, start=1):  # the session's array is filled anew each time
        assert list(memory) == ["kernel1"]
        np.testing.assert_array_equal(memory["kernel1"], [[4 + count, 5 + 10 * count]])
    np.testing.assert_array_equal(first["kernel1"], [[4, 5]])


def test_search_is_fed_the_updated_tensor_and_the_first_frames_other():
    manifest, sessions = transformed()
    tracker = Tracker(manifest, sessions)
    tracker.init(FRAMES[0], (100, 80, 16, 16))
    first = {name: means(name, sessions["template"].fed[0]) for name in KERNELS}
    for frame in FRAMES[1:4]:
        tracker.update(frame)
    for count, fed in enumerate(sessions["search"].fed):
        np.testing.assert_allclose(fed["kernel0"], [first["kernel0"]], rtol=1e-5)
        np.testing.assert_allclose(fed["kernel1"], [first["kernel1"] + [count, 10 * count]], rtol=1e-5)
    tracker.init(FRAMES[4], (60, 60, 16, 16))  # a new target starts from its own tensors
    tracker.update(FRAMES[5])
    np.testing.assert_allclose(sessions["search"].fed[-1]["kernel1"], [means("kernel1", sessions["template"].fed[1])])


# --- DistractorTemplates


def aware():
    manifest = manifest_of(Strategies(template=AWARE), head=PROPOSALS)
    session = Recording(manifest.graphs["template"], means)
    policy = template_policy(manifest, TemplateBranch(manifest, session), {"template": session})
    return manifest, session, policy


@pytest.mark.parametrize("count", [1, 2, 3])
def test_distractors_kernel_is_the_mean_of_their_own(count):
    _, session, policy = aware()
    corners = [(40.0, 60.0), (150.0, 90.0), (230.0, 130.0)][:count]
    state = state_at(100, 80, distractors=tuple((*corner, 16.0, 16.0) for corner in corners))
    before = snapshot(state)
    new = policy.next(FRAMES[0], state, target_of({}))
    same(state, before)
    crops = [piece(FRAMES[0], (x + 8, y + 8), TEMPLATE) for x, y in corners]
    for fed, crop in zip(session.fed, crops, strict=True):
        np.testing.assert_array_equal(fed["z"], crop)
    assert list(new.memory) == ["kernel2"]
    expected = np.mean([crop.mean(axis=(0, 2, 3)) for crop in crops], axis=0)
    np.testing.assert_allclose(new.memory["kernel2"], [expected], rtol=1e-5)
    assert new.memory["kernel2"].dtype == np.float32
    assert dataclasses.replace(new, memory={}) == state


def test_each_distractor_is_cut_at_its_own_size():
    """Boxes of 32 pixels have twice the context: every other pixel's neighbourhood."""
    _, session, policy = aware()
    policy.next(FRAMES[0], state_at(100, 80, distractors=((90.0, 70.0, 32.0, 32.0),)), target_of({}))
    large = piece(FRAMES[0], (106, 86), 2 * TEMPLATE)[0].reshape(3, TEMPLATE, 2, TEMPLATE, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(session.fed[0]["z"][0], large, atol=1)


def test_without_distractors_nothing_is_remembered():
    _, session, policy = aware()
    state = state_at(100, 80, memory={"kernel2": np.ones((1, 3), np.float32)})
    assert policy.next(FRAMES[0], state, target_of({})).memory == {}
    assert list(state.memory) == ["kernel2"]
    assert session.fed == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_dropped(bad):
    """With it in memory every later search would be invalid, and no later update could mend that."""
    manifest = manifest_of(Strategies(template=BlendedTemplate(0.5, 0.1)))
    values = [1.0]
    session = Recording(manifest.graphs["template"], lambda name, feeds: values[0])
    policy = Blended(manifest.strategies.template, TemplateBranch(manifest, session))
    target = target_of({name: np.zeros(shape, np.float32) for name, shape in KERNELS.items()})
    good = policy.next(FRAMES[0], state_at(100, 80), target)
    values[0] = bad
    kept = policy.next(FRAMES[1], good, target)
    assert kept.memory.keys() == good.memory.keys()
    assert all(kept.memory[name] is good.memory[name] for name in good.memory)
    values[0] = 1.0
    assert np.isfinite(policy.next(FRAMES[2], kept, target).memory["kernel0"]).all()
