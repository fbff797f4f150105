"""Where a lost target is looked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from siamtrt.runtime.crop import context_side
from siamtrt.runtime.decode import grid_centres
from siamtrt.runtime.scan import OTHER_SCALES, Place, places_around, taken, tile_step
from siamtrt.runtime.state import TargetState
from siamtrt.tracking import AnchorDecoding, PointDecoding, Preprocessing

FRAME = (640, 360)


@pytest.mark.parametrize("center", [(320.0, 180.0), (3.0, 350.0), (640.0, 0.0)])
@pytest.mark.parametrize("step", [20.0, 75.5])
def test_nothing_between_the_tiles_is_left_out(center, step):
    """Any pixel in reach of the rings is within half a step of a tile or of the place itself."""
    rings = 3
    tiles = np.array([place.center_xy for place in places_around(center, step, rings, FRAME)])
    reach = (rings + 0.5) * step
    pixels = np.array(list(itertools.product(range(0, FRAME[0], 7), range(0, FRAME[1], 7))), float)
    near = pixels[np.abs(pixels - center).max(axis=1) <= reach - 1e-6]
    assert len(near) > 50
    distance = np.abs(near[:, None] - tiles[None]).max(axis=2).min(axis=1)
    assert distance.max() <= step / 2 + 1e-6


def test_the_search_widens_ring_by_ring():
    step, center = 30.0, (320.0, 180.0)
    places = places_around(center, step, 3, FRAME)
    distances = [round(max(abs(x - center[0]), abs(y - center[1])) / step) for (x, y), _ in places]
    assert distances == sorted(distances)
    assert [distances.count(ring) for ring in (0, 1, 2, 3)] == [len(OTHER_SCALES), 8, 16, 24]
    assert [place.scale for place in places] == [*OTHER_SCALES, *[1.0] * 48]


def test_tiles_beyond_the_frame_are_left_out():
    tiles = places_around((0.0, 0.0), 100.0, 9, (150, 90))[len(OTHER_SCALES) :]
    assert tiles == (Place((100.0, 0.0)), Place((0.0, 100.0)), Place((100.0, 100.0)))
    assert len(places_around((50.0, 50.0), 1000.0, 4, (100, 100))) == len(OTHER_SCALES)


def test_a_place_moves_and_resizes_a_target():
    state = TargetState((5.0, 6.0), (10.0, 20.0), 0.4, first_wh=(1.0, 2.0))
    moved = Place((50.0, 60.0), 1.5).of(state)
    assert moved == TargetState((50.0, 60.0), (15.0, 30.0), 0.4, first_wh=(1.0, 2.0))


@pytest.mark.parametrize("decoding", [AnchorDecoding(13, 8, (1.0,), (6.0,)), PointDecoding(16, 16)])
def test_maps_of_neighbouring_tiles_touch(decoding):
    """The last position of one map and the first of the next are one stride apart."""
    crop = Preprocessing(95, 159)
    size = (40.0, 25.0)
    zoom = crop.scale_size / context_side(size, crop.context_amount)  # crop pixels a frame pixel
    x, _ = grid_centres(decoding.score_size, decoding.stride)
    assert x.max() + decoding.stride - x.min() == pytest.approx(tile_step(size, crop, decoding) * zoom)


def test_every_tile_has_its_turn():
    tiles = [Place((float(number), 0.0)) for number in range(7)]
    position, seen = 0, []
    for _ in range(7):
        chosen, position = taken(tiles, position, 3)
        seen += chosen
    assert seen == tiles * 3
    assert taken(tiles[:2], 1, 3) == ([tiles[1], tiles[0]], 1)
    assert taken([], 0, 3) == ([], 0)
