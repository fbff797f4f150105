"""One step of the tracker equals one step of the reference trackers."""

from __future__ import annotations

import numpy as np
import pytest
from goldens import ANCHOR_SIDES, STEPS, load_steps

from siamtrt.runtime.decode import ProposalDecoder, anchor_grid, grid_centres
from siamtrt.runtime.state import TargetState, state_from_box
from siamtrt.tracking import AnchorDecoding, PointDecoding, Preprocessing, Tracking


@pytest.mark.parametrize("kind", STEPS)
def test_step_equals_the_reference(shared_dir, kind):
    steps = load_steps(shared_dir, kind)
    decoder, data = steps.decoder(), steps.data
    assert len(data["frame"]) == 24
    for step in range(24):
        height, width = steps.frame(step).shape[:2]
        state = TargetState(tuple(data["center"][step].tolist()), tuple(data["size"][step].tolist()))
        new = decoder.decode(state, {"cls": data["cls"][step][None], "loc": steps.raw_loc(step)}, (width, height))
        np.testing.assert_allclose(new.box_xywh, data["box"][step], atol=0.05)
        np.testing.assert_allclose(new.center_xy, data["new_center"][step], atol=0.05)
        np.testing.assert_allclose(new.size_wh, data["new_size"][step], atol=0.05)
        assert new.score == pytest.approx(float(data["score"][step]), abs=1e-5)
        assert new.status == "locked"


def test_anchors_have_the_references_sides_and_order():
    decoding = AnchorDecoding(score_size=3, stride=8, ratios=(0.33, 0.5, 1.0, 2.0, 3.0), scales=(8.0,))
    grid = anchor_grid(decoding).reshape(5, 3, 3, 4)
    for anchor, sides in enumerate(ANCHOR_SIDES):
        assert (grid[anchor, :, :, 2:] == sides).all()
    np.testing.assert_array_equal(grid[2, :, :, 0], [[-8, 0, 8]] * 3)
    np.testing.assert_array_equal(grid[2, :, :, 1], np.transpose([[-8, 0, 8]] * 3))


def test_even_grids_start_half_a_map_before_the_centre():
    x, y = grid_centres(16, 16)
    assert (x.min(), x.max(), y[0], y[-1]) == (-128, 112, -128, 112)


def test_state_centre_is_that_of_the_covered_pixels():
    assert state_from_box((10, 20, 5, 4)) == TargetState((12, 21.5), (5, 4), first_wh=(5, 4))


def _decoder(min_side=10.0):
    return ProposalDecoder(PointDecoding(3, 16), Tracking(0.1, 0.4, 0.5, min_side), Preprocessing(127, 255))


def _maps(size=30.0, peak=4):
    cls = np.zeros((1, 2, 3, 3), np.float32)
    cls[0, 1].flat[peak] = 9
    return {"cls": cls, "loc": np.full((1, 4, 3, 3), size, np.float32)}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_leave_the_target_where_it_was(bad):
    state = TargetState((50, 40), (20, 30))
    maps = _maps()
    for name, values in maps.items():
        new = _decoder().decode(state, {**maps, name: np.full_like(values, bad)}, (100, 100))
        assert (new.center_xy, new.size_wh, new.status, new.score) == (state.center_xy, state.size_wh, "invalid", 0.0)


def test_box_is_clipped_to_the_frame_and_the_smallest_side():
    state = TargetState((99, 1), (12, 12))
    new = _decoder().decode(state, _maps(size=1.0, peak=2), (100, 50))
    assert 0 <= new.center_xy[0] <= 100
    assert 0 <= new.center_xy[1] <= 50
    assert min(new.size_wh) >= 10
    large = _decoder().decode(TargetState((50, 25), (90, 45)), _maps(size=500.0), (100, 50))
    assert large.size_wh[0] <= 100
    assert large.size_wh[1] <= 50


def test_decode_is_pure():
    state, maps = TargetState((50, 40), (20, 30)), _maps()
    copies = {name: values.copy() for name, values in maps.items()}
    decoder = _decoder()
    assert decoder.decode(state, maps, (100, 100)) == decoder.decode(state, maps, (100, 100))
    for name, values in maps.items():
        np.testing.assert_array_equal(values, copies[name])
