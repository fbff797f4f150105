"""The decoding kernel, run on the host under the sanitizers, against its reference, the CPU decoder and the goldens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from goldens import STEPS, load_steps
from host_kernels import run_on_host

from siamtrt.kernels.decode import DecodeConstants, decode_geometry, decode_ref, window_table
from siamtrt.kernels.state import INVALID, TARGET, TRACKED
from siamtrt.runtime.decode import ProposalDecoder, anchor_grid
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import AnchorDecoding, PointDecoding, Preprocessing, Tracking

FRAME = (640, 360)
RATIOS = {1: (1.0,), 5: (0.33, 0.5, 1.0, 2.0, 3.0)}


def decode_arguments(
    targets: np.ndarray, cls: np.ndarray, loc: np.ndarray, window: np.ndarray, anchor_sides: np.ndarray | None,
    constants: DecodeConstants, frame_size: tuple[int, int],
) -> Mapping[str, np.ndarray | int | float]:  # fmt: skip
    """Fields of `struct DecodeArguments` in order, an array for each pointer: see `decode_ref`.

    Without anchors `window` stands in for their sides, which the kernel does not read then.
    """
    return {
        "targets": targets, "cls": cls, "loc": loc, "window": window,
        "anchor_sides": window if anchor_sides is None else anchor_sides,
        "count": targets.shape[0], "anchors": cls.shape[1] // 2, "score_size": cls.shape[2],
        "stride": constants.stride, "points": int(anchor_sides is None), "scale_size": constants.scale_size,
        "frame_width": frame_size[0], "frame_height": frame_size[1],
        "context_amount": constants.context_amount, "penalty_k": constants.penalty_k, "lr": constants.lr,
        "min_side": constants.min_side,
    }  # fmt: skip


class Decoding:
    """One tracker's constants, as the CPU decoder and as the kernel have them; `anchors` 0 is a head with points."""

    def __init__(self, score_size: int, anchors: int, influence: float = 0.42, decoder: ProposalDecoder | None = None):
        if decoder is None:
            head = AnchorDecoding(score_size, 8, RATIOS[anchors], (8.0,)) if anchors else PointDecoding(score_size, 16)
            decoder = ProposalDecoder(head, Tracking(0.05, influence, 0.38), Preprocessing(127, 255, 0.4))
        self.decoder, self.side, self.anchors = decoder, score_size, max(anchors, 1)
        tracking, crop = decoder.tracking, decoder.crop
        self.constants = DecodeConstants(
            decoder.decoding.stride, crop.scale_size, tracking.penalty_k, tracking.lr, crop.context_amount,
            tracking.min_side,
        )  # fmt: skip
        self.window = window_table(score_size, tracking.window_influence)
        self.sides = None
        if anchors:
            self.sides = np.ascontiguousarray(anchor_grid(decoder.decoding)[:: score_size**2, 2:])

    def maps(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Random logits, and offsets or, about 64 pixels, distances."""
        shape = (count, self.anchors, self.side, self.side)
        cls = rng.normal(0, 3, (count, 2 * self.anchors, *shape[2:])).astype(np.float32)
        loc = rng.normal(0, 0.3, (count, 4 * self.anchors, *shape[2:])).astype(np.float32)
        return cls, loc if self.sides is not None else 32 + 20 * loc

    def kernel(self, targets, cls, loc, threads: int | None = None, frame=FRAME) -> np.ndarray:
        grid, block = decode_geometry(len(targets), self.side)
        arguments = decode_arguments(targets.copy(), cls, loc, self.window, self.sides, self.constants, frame)
        entry = {np.float32: "decode_f32", np.float16: "decode_f16"}[cls.dtype.type]
        return run_on_host("decode", entry, arguments, grid, (threads, 1, 1) if threads else block)["targets"]

    def check(self, targets, cls, loc, threads: int | None = None, frame=FRAME) -> np.ndarray:
        """The kernel's states, equal to those of the reference and of the CPU decoder."""
        found = self.kernel(targets, cls, loc, threads, frame)
        _assert_equal(found, decode_ref(targets, cls, loc, self.window, self.sides, self.constants, frame))
        _assert_equal(found, self.on_cpu(targets, cls, loc, frame))
        idle = targets["active"] == 0
        assert found[idle].tobytes() == targets[idle].tobytes()
        return found

    def on_cpu(self, targets, cls, loc, frame=FRAME) -> np.ndarray:
        """What `ProposalDecoder` makes of the active slots."""
        moved = targets.copy()
        for slot in np.flatnonzero(targets["active"]):
            old = targets[slot]
            state = TargetState(
                tuple(old["center"].tolist()), tuple(old["size"].tolist()), float(old["score"]),
                position_rc=tuple(old["position"].tolist()),
            )  # fmt: skip
            maps = {"cls": cls[slot].astype(np.float32)[None], "loc": loc[slot].astype(np.float32)[None]}
            new = self.decoder.decode(state, maps, frame)
            fields = {"center": new.center_xy, "size": new.size_wh, "score": new.score, "position": new.position_rc}
            for name, value in {**fields, "status": {"locked": TRACKED, "invalid": INVALID}[new.status]}.items():
                moved[name][slot] = value
        return moved


def _assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    for name in ("status", "position", "fill", "active", "reserved"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    invalid = found["status"] == INVALID
    for name in ("center", "size"):
        np.testing.assert_array_equal(found[name][invalid], expected[name][invalid], err_msg=name)
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=0.01, err_msg=name)
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-5, atol=1e-30)


def _targets(rng: np.random.Generator, count: int) -> np.ndarray:
    """Tracked targets inside the frame, with something in every field that the kernel is not to touch."""
    targets = np.zeros(count, TARGET)
    targets["center"] = rng.uniform((40, 40), (600, 320), (count, 2))
    targets["size"] = rng.uniform(20, 120, (count, 2))
    targets["score"], targets["position"], targets["active"] = 0.5, (3, 4), 1
    targets["fill"], targets["reserved"] = rng.integers(0, 255, (count, 4)), rng.random((count, 2))
    return targets


def _hardened(rng: np.random.Generator, dtype: type, targets: np.ndarray, cls: np.ndarray, loc: np.ndarray) -> None:
    """Sixteen states and maps, in place: ordinary ones, extremes, and one that is not finite at a random place."""
    largest = float(np.finfo(dtype).max) * 0.9
    cls[1] *= 30
    loc[2] = rng.normal(0, 100, loc[2].shape)  # sizes that overflow or are negative
    cls[3] = rng.choice([-largest, 0, largest], cls[3].shape)
    loc[4].flat[rng.integers(0, loc[4].size, 9)] = rng.choice([-largest, largest], 9)
    for slot, bad in enumerate((np.nan, np.inf, -np.inf)):
        cls[5 + slot].flat[rng.integers(cls[5].size)] = bad
        loc[8 + slot].flat[rng.integers(loc[8].size)] = bad
    targets["center"][11], targets["size"][11] = (0, FRAME[1]), (600, 300)  # a corner of the frame
    targets["center"][12], targets["size"][12] = (FRAME[0], 1), (10, 10.5)  # another, and the smallest side
    targets["status"][13], targets["active"][14:] = INVALID, 0


@pytest.mark.parametrize(
    ("score_size", "anchors", "dtype", "threads"),
    [
        (25, 5, np.float32, None), (25, 5, np.float16, 128), (17, 5, np.float32, 32), (16, 1, np.float16, 256),
        (16, 0, np.float32, None), (15, 0, np.float16, 32), (15, 0, np.float32, 1), (3, 1, np.float32, 33),
    ],
)  # fmt: skip
def test_sixteen_targets_of_all_sorts(score_size, anchors, dtype, threads):
    rng = np.random.default_rng(score_size + anchors)
    decoding, targets = Decoding(score_size, anchors), _targets(rng, 16)
    cls, loc = decoding.maps(rng, 16)
    _hardened(rng, dtype, targets, cls, loc)
    with np.errstate(over="ignore"):
        found = decoding.check(targets, cls.astype(dtype), loc.astype(dtype), threads)
    assert found["status"][5] == INVALID
    assert (found["status"][[0, 1, 11, 12, 13]] == TRACKED).all()


@pytest.mark.parametrize(("count", "anchors", "threads"), [(1, 5, 256), (3, 0, None)])
def test_wide_search_map(count, anchors, threads):
    rng = np.random.default_rng(count)
    decoding, targets = Decoding(97, anchors), _targets(rng, count)
    targets["active"][1:2] = 0
    assert (decoding.check(targets, *decoding.maps(rng, count), threads)["score"] != 0.5)[0]


def test_first_of_equal_proposals_wins_wherever_its_thread_is():
    rng = np.random.default_rng(5)
    decoding, targets = Decoding(17, 5, influence=0.0), _targets(rng, 16)
    cls, loc = np.zeros((16, 10, 17, 17), np.float32), np.zeros((16, 20, 17, 17), np.float32)
    decoding.sides[:] = 64  # equal anchors
    decoding.decoder = ProposalDecoder(
        AnchorDecoding(17, 8, (1.0,) * 5, (8.0,)), decoding.decoder.tracking, decoding.decoder.crop
    )
    places = [rng.choice(5 * 289, 1 + slot % 4, replace=False) for slot in range(16)]
    for slot in range(1, 16):  # in slot 0 all are equal
        cls[slot, 5:].flat[places[slot]] = 9
    found = decoding.check(targets, cls, loc, 7)
    expected = [[0, 0]] + [divmod(int(one.min()) % 289, 17) for one in places[1:]]
    np.testing.assert_array_equal(found["position"], expected)


def test_only_the_chosen_proposal_needs_a_finite_centre():
    rng = np.random.default_rng(6)
    decoding, targets = Decoding(15, 5), _targets(rng, 12)
    targets["center"], targets["size"] = (300, 200), (60, 50)
    cls, loc = (np.repeat(one, 12, axis=0) for one in decoding.maps(rng, 1))
    state = TargetState((300, 200), (60, 50))
    best = int(decoding.decoder.propose(state, {"cls": cls[:1], "loc": loc[:1]}).ranked.argmax())
    for slot in range(12):
        place = best if slot < 6 else (best + 1) % 1125
        loc[slot].reshape(4, -1)[slot % 2, place] = (np.nan, np.inf, -np.inf)[slot // 2 % 3]
    found = decoding.check(targets, cls, loc, 128)
    assert (found["status"] == [INVALID] * 6 + [TRACKED] * 6).all()


@pytest.mark.parametrize("anchors", [1, 0])
def test_values_near_the_largest_float(anchors):
    """Finite outputs that overflow on the way to a box: clipped or invalid, as the CPU's double precision has it."""
    rng = np.random.default_rng(8)
    decoding, targets = Decoding(3, anchors), _targets(rng, 16)
    targets["size"][:8] = rng.uniform(200, 300, (8, 2))  # fewer crop than frame pixels: sizes grow
    cls, loc = np.full((16, 2, 3, 3), 50, np.float32), np.zeros((16, 4, 3, 3), np.float32)
    cls[:, 1] = -50  # a score of 0: the window decides
    cls[::4, 1] = 50
    loc[:, :2] = rng.choice([-3e38, 3e38, 1], (16, 2, 1, 1))
    loc[:, 2:] = rng.choice([84, -84, 0] if anchors else [-3e38, 3e38, 1], (16, 2, 1, 1))
    if anchors == 0:  # a negative height for a very large width: an infinite penalty, which wins
        cls[15], loc[15], loc[15, :, 0, 2] = 0, 32, (1e8, -1e7, 0, 0)
    found = decoding.check(targets, cls, loc, 32)
    assert (found["status"] == TRACKED).sum() >= 4
    assert anchors or found["status"][15] == INVALID


@pytest.mark.parametrize("frame", [(100, 50), (6, 5)])
def test_small_frame_bounds_the_box_and_the_smallest_side_wins(frame):
    rng = np.random.default_rng(9)
    decoding, targets = Decoding(3, 1), _targets(rng, 16)
    found = decoding.check(targets, *decoding.maps(rng, 16), 32, frame)
    assert (found["center"] <= frame).all()
    assert (found["size"] <= np.maximum(frame, 10)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rank_that_is_not_finite_invalidates_wherever_it_is(bad):
    rng = np.random.default_rng(7)
    decoding, targets = Decoding(15, 5), _targets(rng, 16)
    cls, loc = decoding.maps(rng, 16)
    for slot in range(16):
        maps, plane = (cls, slot % 2) if slot < 8 else (loc, 2 + slot % 2)
        maps[slot].reshape(-1, 1125)[plane, rng.integers(1125)] = bad
    found = decoding.check(targets, cls, loc, 128)
    if np.isnan(bad):
        assert (found["status"] == INVALID).all()
        assert (found["score"] == 0).all()


@pytest.mark.parametrize("kind", STEPS)
def test_steps_of_the_reference_trackers(shared_dir, kind):
    steps = load_steps(shared_dir, kind)
    data, decoder = steps.data, steps.decoder()
    anchors = 5 if isinstance(decoder.decoding, AnchorDecoding) else 0
    decoding = Decoding(decoder.decoding.score_size, anchors, decoder=decoder)
    height, width = steps.frame(0).shape[:2]
    targets = np.zeros(24, TARGET)
    targets["center"], targets["size"], targets["active"] = data["center"], data["size"], 1
    loc = np.concatenate([steps.raw_loc(step) for step in range(24)])
    found = decoding.check(targets, np.ascontiguousarray(data["cls"], np.float32), loc, frame=(width, height))
    for name, golden in (("center", "new_center"), ("size", "new_size")):
        np.testing.assert_allclose(found[name], data[golden], rtol=0, atol=0.05)
    boxes = np.concatenate([found["center"] - found["size"] / 2, found["size"]], axis=1)
    np.testing.assert_allclose(boxes, data["box"], rtol=0, atol=0.05)
    np.testing.assert_allclose(found["score"], data["score"], rtol=0, atol=1e-5)
    assert (found["status"] == TRACKED).all()


@pytest.mark.parametrize(("score_size", "threads"), [(15, 256), (16, 256), (17, 320), (25, 640), (97, 640), (1, 32)])
def test_geometry_is_a_block_a_target_in_whole_warps(score_size, threads):
    assert decode_geometry(3, score_size) == ((3, 1, 1), (threads, 1, 1))


def test_state_is_the_kernels_struct():
    offsets = [TARGET.fields[name][1] for name in ("center", "size", "score", "status", "position", "fill", "active")]
    assert (offsets, TARGET.itemsize) == ([0, 8, 16, 20, 24, 32, 36], 48)
