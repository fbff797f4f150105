"""Distractor-aware ranking against correlation, formula and suppression written out in NumPy (DaSiamRPN, sec. 3.3)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from siamtrt.runtime.decode import ProposalDecoder
from siamtrt.runtime.distractors import DistractorAwareDecoder
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import AnchorDecoding, DistractorAware, Preprocessing, Tracking

SIDE, STRIDE, RATIOS, SCALE = 7, 8, (0.5, 1.0, 2.0), 4.0
DECODING = AnchorDecoding(SIDE, STRIDE, RATIOS, (SCALE,))
TRACKING = Tracking(penalty_k=0.1, window_influence=0.3, lr=0.4, min_side=1.0)
CROP = Preprocessing(127, 271)
POLICY = DistractorAware("kernel2", "kernel0", threshold=0.5, nms_iou=0.3, top_k=20, limit=2, weight=0.5)
FRAME = (2000, 1500)
STATE = TargetState((900.0, 700.0), (44.0, 31.0))
ANCHORS = len(RATIOS)


def decoder(**changes):
    return DistractorAwareDecoder(DECODING, TRACKING, CROP, dataclasses.replace(POLICY, **changes))


def correlate(features, kernel):
    """(C, H, W) features and (O, C, k, k) kernel -> (O, H-k+1, W-k+1)."""
    size = kernel.shape[-1]
    side = features.shape[-1] - size + 1
    found = np.zeros((len(kernel), side, side))
    for filter_, row, column in np.ndindex(found.shape):
        patch = features[:, row : row + size, column : column + size]
        found[filter_, row, column] = (patch * kernel[filter_]).sum()
    return found


def odds(cls):
    """(2A, S, S) -> (P,) log-odds: the first A maps are the background's."""
    return (cls[ANCHORS:] - cls[:ANCHORS]).ravel()


class Case:
    """A frame with random features, kernels of the target and of each distractor, and random offsets."""

    def __init__(self, seed, distractors=None):
        rng = np.random.default_rng(seed)
        count = seed % 3 + 1 if distractors is None else distractors
        features = rng.normal(size=(4, SIDE + 2, SIDE + 2))
        kernels = rng.normal(size=(1 + count, 2 * ANCHORS, 4, 3, 3)) * 0.35
        self.cls = correlate(features, kernels[0])
        self.to_each = [odds(correlate(features, kernel)) for kernel in kernels[1:]]
        self.loc = rng.normal(size=(4, ANCHORS, SIDE, SIDE)) * 0.2
        mean = kernels[1:].mean(axis=0) if count else np.zeros_like(kernels[0])
        maps = {"cls": self.cls, "loc": self.loc.reshape(-1, SIDE, SIDE), "distractor": correlate(features, mean)}
        self.maps = {name: values[None].astype(np.float32) for name, values in maps.items()}


class Reference:
    """Boxes, scores and ranks of every proposal, one at a time in double precision."""

    def __init__(self, case):
        width, height = STATE.size_wh
        zoom = 127 / padded(width, height)
        self.boxes, self.penalty, self.window = [], [], []
        hanning = np.hanning(SIDE)
        for anchor, row, column in np.ndindex(ANCHORS, SIDE, SIDE):
            base_w = int(math.sqrt(STRIDE * STRIDE / RATIOS[anchor]))
            anchor_w, anchor_h = base_w * SCALE, int(base_w * RATIOS[anchor]) * SCALE
            dx, dy, dw, dh = case.loc[:, anchor, row, column]
            x, y = (column - SIDE // 2) * STRIDE + dx * anchor_w, (row - SIDE // 2) * STRIDE + dy * anchor_h
            w, h = anchor_w * math.exp(dw), anchor_h * math.exp(dh)
            self.boxes.append((STATE.center_xy[0] + x / zoom, STATE.center_xy[1] + y / zoom, w / zoom, h / zoom))
            scale, shape = padded(w, h) / (padded(width, height) * zoom), (width / height) / (w / h)
            self.penalty.append(math.exp(-(max(scale, 1 / scale) * max(shape, 1 / shape) - 1) * TRACKING.penalty_k))
            self.window.append(hanning[row] * hanning[column])
        self.similarity = odds(case.cls)
        self.score = sigmoid(self.similarity)
        self.plain = self.ranks(self.similarity)
        self.to_each = case.to_each

    def ranks(self, similarity):
        influence = TRACKING.window_influence
        return sigmoid(similarity) * np.array(self.penalty) * (1 - influence) + np.array(self.window) * influence

    def best(self, policy):
        """The formula with weight 1 for every distractor."""
        top = np.argsort(self.plain)[::-1][: policy.top_k]
        quality = self.similarity.copy()
        if self.to_each:
            quality -= policy.weight * sum(1.0 * each for each in self.to_each) / len(self.to_each)
        return max(top, key=lambda index: self.ranks(quality)[index])

    def state(self, best):
        x, y, w, h = self.boxes[best]
        rate = self.penalty[best] * self.score[best] * TRACKING.lr
        size = [old + (new - old) * rate for old, new in zip(STATE.size_wh, (w, h), strict=True)]
        return [x, y, *size, self.score[best]]

    def distractors(self, policy, best):
        """Greedy suppression, the target first; corners x, y and sides."""
        kept = [corner(self.boxes[best])]
        for index in np.argsort(self.score)[::-1]:
            box = corner(self.boxes[index])
            if index != best and self.score[index] > policy.threshold:
                kept += [box] if all(overlap(box, other) <= policy.nms_iou for other in kept) else []
        return kept[1 : 1 + policy.limit]


def padded(width, height):
    return math.sqrt((width + (width + height) / 2) * (height + (width + height) / 2))


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def corner(box):
    cx, cy, w, h = box
    return cx - w / 2, cy - h / 2, w, h


def overlap(a, b):
    """Intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def summary(state):
    return [*state.center_xy, *state.size_wh, state.score]


@pytest.mark.parametrize("weight", [0.5, 1.5])
def test_ranking_follows_the_formula_with_every_distractor_apart(weight):
    found, changed = decoder(weight=weight), 0
    for seed in range(60):
        case = Case(seed)
        reference = Reference(case)
        best = reference.best(found.policy)
        new = found.decode(STATE, case.maps, FRAME)
        np.testing.assert_allclose(summary(new), reference.state(best), atol=2e-3, err_msg=f"seed {seed}")
        assert new.position_rc == divmod(best % (SIDE * SIDE), SIDE)
        changed += best != reference.plain.argmax()
    assert changed >= 15


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 100.0])
def test_without_distractors_the_choice_is_the_ordinary_one(scale):
    """Bit for bit, equal ranks and scores beyond float32's exponent included."""
    plain = ProposalDecoder(DECODING, TRACKING, CROP)
    for seed in range(50):
        maps = Case(seed, distractors=0).maps
        maps = {**maps, "cls": maps["cls"] * np.float32(scale)}
        if seed % 2:
            maps["loc"] = np.zeros_like(maps["loc"])
        new = decoder().decode(STATE, maps, FRAME)
        assert dataclasses.replace(new, distractors=()) == plain.decode(STATE, maps, FRAME)


def test_proposals_that_are_certain_background_do_not_win():
    """Log-odds of -120 overflow float32; the one likely proposal is the choice, with distractors or without."""
    for likeness in (0.0, 2.0):
        maps = {"loc": np.zeros((1, 4 * ANCHORS, SIDE, SIDE), np.float32)}
        maps["cls"] = np.zeros((1, 2 * ANCHORS, SIDE, SIDE), np.float32)
        maps["cls"][0, :ANCHORS] = 120
        maps["cls"][0, 1, 3, 2] = -4
        maps["distractor"] = np.zeros_like(maps["cls"])
        maps["distractor"][0, ANCHORS:] = likeness
        new = decoder().decode(STATE, maps, FRAME)
        assert new.position_rc == (3, 2)
        assert new.score == pytest.approx(sigmoid(4.0))


@pytest.mark.parametrize(("top_k", "expected"), [(1, 0), (3, 2), (4, 3), (5, 3), (1000, 3)])
def test_only_the_top_proposals_are_considered(top_k, expected):
    """Five proposals in the middle column; the fourth resembles the distractors least by far, then the third."""
    maps = {"loc": np.zeros((1, 4 * ANCHORS, SIDE, SIDE), np.float32)}
    maps["cls"] = np.zeros((1, 2 * ANCHORS, SIDE, SIDE), np.float32)
    maps["distractor"] = np.zeros_like(maps["cls"])
    maps["cls"][0, :ANCHORS] = 30
    maps["distractor"][0, ANCHORS:] = 20
    positions = [(3, 3), (2, 3), (4, 3), (3, 2), (3, 4)]
    for rank, (position, likeness) in enumerate(zip(positions, (8.0, 6.0, 2.0, -8.0, 4.0), strict=True)):
        maps["cls"][(0, 1, *position)] = 0
        maps["cls"][(0, 1 + ANCHORS, *position)] = 3 - rank
        maps["distractor"][(0, 1 + ANCHORS, *position)] = likeness
    assert decoder(top_k=top_k, weight=1.0).decode(STATE, maps, FRAME).position_rc == positions[expected]


@pytest.mark.parametrize(
    ("threshold", "nms_iou", "limit"), [(0.5, 0.3, 2), (0.5, 0.05, 50), (0.9, 0.6, 50), (0.2, 0.3, 1)]
)
def test_distractors_are_what_suppression_leaves(threshold, nms_iou, limit):
    found = decoder(threshold=threshold, nms_iou=nms_iou, limit=limit)
    counts = set()
    for seed in range(30):
        case = Case(seed)
        reference = Reference(case)
        expected = reference.distractors(found.policy, reference.best(found.policy))
        boxes = found.decode(STATE, case.maps, FRAME).distractors
        np.testing.assert_allclose(boxes, expected, atol=2e-3, err_msg=f"seed {seed}")
        counts.add(len(boxes))
    assert max(counts) == limit if limit < 50 else max(counts) >= 4


def test_no_distractors_below_the_threshold_nor_beside_nothing():
    assert decoder(threshold=1.0).decode(STATE, Case(1).maps, FRAME).distractors == ()
    assert decoder(limit=0).decode(STATE, Case(1).maps, FRAME).distractors == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["cls", "loc", "distractor"])
def test_outputs_that_are_not_finite_have_no_distractors_and_leave_the_target(name, bad):
    state = dataclasses.replace(STATE, distractors=((1.0, 2.0, 3.0, 4.0),))
    maps = Case(2).maps
    new = decoder().decode(state, {**maps, name: np.full_like(maps[name], bad)}, FRAME)
    assert (new.status, new.score, new.distractors) == ("invalid", 0.0, ())
    assert (new.center_xy, new.size_wh) == (state.center_xy, state.size_wh)


@pytest.mark.parametrize("name", ["cls", "loc"])
def test_one_nan_is_invalid_as_in_ordinary_decoding(name):
    maps = Case(2).maps
    maps[name].reshape(-1)[-1] = np.nan
    assert ProposalDecoder(DECODING, TRACKING, CROP).decode(STATE, maps, FRAME).status == "invalid"
    new = decoder().decode(STATE, maps, FRAME)
    assert (new.status, new.distractors) == ("invalid", ())


@pytest.mark.parametrize("offset", [12.0, 40.0, 88.0, np.inf])
def test_distractors_are_never_larger_than_the_frame(offset):
    """A template is cut of each: one of 10^17 pixels cannot be."""
    maps = Case(4, distractors=0).maps
    maps["loc"][0, 2 * ANCHORS, 1, 1] = offset
    maps["cls"][0, ANCHORS, 1, 1] = 30
    boxes = decoder(limit=50).decode(STATE, maps, FRAME).distractors
    assert boxes
    assert np.isfinite(boxes).all()
    assert (np.array(boxes)[:, 2:] <= FRAME).all()


def test_decoding_changes_neither_state_nor_maps():
    maps = Case(5).maps
    copies = {name: values.copy() for name, values in maps.items()}
    found, before = decoder(), dataclasses.replace(STATE)
    assert found.decode(STATE, maps, FRAME) == found.decode(STATE, maps, FRAME)
    assert before == STATE
    for name, values in maps.items():
        np.testing.assert_array_equal(values, copies[name])
