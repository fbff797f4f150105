"""Lines of VOT's result files: what they mean, what they may not be, and that they are written back the same."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrt.benchmarks.regions import (
    FAILED,
    INITIALISED,
    SKIPPED,
    TRACKED,
    RegionTextError,
    corners_of,
    format_region,
    format_trajectory,
    parse_region,
    parse_trajectory,
)


@pytest.mark.parametrize(
    ("line", "region"),
    [
        ("1", (1,)),
        ("2.0000", (2,)),
        (" 0\r", (0,)),
        ("1.5,-2,3,4.25", (1.5, -2, 3, 4.25)),
        ("0,0, 4,0, 4,4", (0, 0, 4, 0, 4, 4)),
        ("0,0,4,0,4,4,1e1,4", (0, 0, 4, 0, 4, 4, 10, 4)),
    ],
)
def test_lines_that_are_regions(line, region):
    assert parse_region(line) == region


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("3", "none of the codes"), ("-1", "none of the codes"), ("0.5", "none of the codes"),
        ("nan", "not finite"), ("1,2,inf,4", "not finite"), ("1,2,3,1e300", "not finite"),
        ("", "not numbers"), ("1 2 3 4", "not numbers"), ("1,2,,4", "not numbers"), ("box", "not numbers"),
        ("1,2", "whose 2 numbers"), ("1,2,3", "whose 3 numbers"), ("1,2,3,4,5", "whose 5 numbers"),
        ("1,2,3,4,5,6,7", "whose 7 numbers"),
    ],
)  # fmt: skip
def test_lines_that_are_not(line, says):
    with pytest.raises(RegionTextError, match=says):
        parse_region(line)


def test_any_numbers_are_written_and_read_back_the_same():
    rng = np.random.default_rng(0)
    for count in (4, 6, 8, 12):
        for scale in (1e-7, 1, 1e3, 1e8):
            region = tuple(rng.normal(0, scale, count).tolist())
            assert parse_region(format_region(region)) == region
    assert format_region((1,)) == "1"
    assert format_region((1.5, 2.0, 0.1, 40)) == "1.5,2,0.1,40"


RUN = "1\n1,1,2,2\n2\n0\n0\n0\n0\n1\n0,0,3,0,3,3\n\n"


def test_a_run_with_one_failure():
    trajectory = parse_trajectory(RUN)
    codes = [INITIALISED, TRACKED, FAILED, SKIPPED, SKIPPED, SKIPPED, SKIPPED, INITIALISED, TRACKED]
    assert trajectory.codes.tolist() == codes
    assert trajectory.starts.tolist() == [0, 7]
    assert parse_trajectory(format_trajectory(trajectory)) == trajectory
    assert format_trajectory(trajectory) == RUN.removesuffix("\n")


def test_a_target_lost_in_the_frame_it_was_given_in():
    trajectory = parse_trajectory("2\n0\n0\n0\n0\n2\n0\n0\n0\n0\n1\n1,1,1,1")
    assert trajectory.starts.tolist() == [0, 5, 10]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no line"),
        ("\n\n", "no line"),
        ("0\n1", "line 1 without"),
        ("1,1,2,2\n1", "line 1 without"),
        ("1\n2\n1,1,2,2", "line 3 with a region after a failure"),
        ("1\n1,1,2,2\n1", "line 3 with a second 1"),
        ("1\n\n1,1,2,2", "line 2 ''"),
        ("1\n1,1,2,2\n1,1,2", "line 3 '1,1,2'"),
    ],
)
def test_runs_that_cannot_be(text, says):
    with pytest.raises(RegionTextError, match=says):
        parse_trajectory(text)


def test_corners():
    corners = corners_of([(1,), (1, 2, 3, 4), (0, 0, 4, 0, 4, 4)])
    assert np.isnan(corners[0]).all()
    np.testing.assert_array_equal(corners[1], [(1, 2), (4, 2), (4, 6), (1, 6)])
    np.testing.assert_array_equal(corners[2], [(0, 0), (4, 0), (4, 4), (4, 4)])
    assert corners_of([(1,), (0,)]).shape == (2, 1, 2)
    assert corners_of([]).shape == (0, 1, 2)
