"""A result as the outputs write it."""

import json

import numpy as np
import pytest
from service_updates import update_of

from siamtrt.service.updates import Update


def test_a_result_is_one_line_of_json_with_plain_numbers():
    assert json.loads(update_of(7).encoded()) == {
        "frame": 7, "time": 1.7e9 + 7, "size": [64, 48], "status": "locked",
        "box_xywh": [10.5, 20.25, 30.0, 40.125], "score": 0.875, "latency_ms": 12.346, "gap_s": 0.0,
    }  # fmt: skip
    assert b"\n" not in update_of(7).encoded()


def test_without_a_target_there_is_no_box():
    plain = json.loads(Update(0, 0.0, (64, 48), "idle").encoded())
    assert (plain["status"], plain["box_xywh"], plain["score"]) == ("idle", None, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")], ids=["nan", "inf", "float32"])
def test_what_is_not_finite_is_null(value):
    plain = json.loads(update_of(0, score=value, box_xywh=(value, 1, 2, 3)).encoded())
    assert (plain["score"], plain["box_xywh"]) == (None, [None, 1, 2, 3])


def test_a_rotated_box_is_told_where_there_is_one():
    corners = ((1, 2.00049), np.array([3, 4], np.float32), (5.5, -6), (7, 8))
    assert json.loads(update_of(0, polygon_xy=corners).encoded())["polygon_xy"] == [[1, 2], [3, 4], [5.5, -6], [7, 8]]
    assert "polygon_xy" not in update_of(0).as_json()


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), np.float64("nan")], ids=["nan", "inf", "float64"])
def test_a_rotated_box_that_is_not_finite_is_left_out(value):
    plain = json.loads(update_of(0, polygon_xy=((1, 2), (3, value), (5, 6), (7, 8))).encoded())
    assert plain == update_of(0).as_json()


def test_numpy_numbers_are_written_as_numbers():
    box = tuple(np.array([1.23456, 2, 3, 4], np.float32))
    assert json.loads(update_of(0, score=np.float32(0.5), box_xywh=box).encoded())["box_xywh"] == [1.235, 2, 3, 4]
