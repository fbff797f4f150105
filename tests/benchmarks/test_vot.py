"""VOT's metrics on sequences small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrt.benchmarks.regions import corners_of, parse_trajectory
from siamtrt.benchmarks.vot import (
    INTERVALS,
    Run,
    accuracy,
    average_on,
    expected_overlap_curve,
    fragments,
    lost_number,
    run_of,
    score_runs,
)

NAN = np.nan
BOX = "0,0,9,9"


def run(lines, overlaps):
    """A run whose regions do not matter; its overlaps are given."""
    trajectory = parse_trajectory("\n".join(lines))
    return Run(np.array(overlaps, float), trajectory.codes, trajectory.starts)


def steady(frames, overlap):
    return run(["1", *[BOX] * (frames - 1)], [NAN, *[overlap] * (frames - 1)])


FAILING = run(  # given, tracked at 0.8 and 0.4, lost in frame 3, given again in frame 8, tracked at 0.6 for one frame
    ["1", BOX, BOX, "2", "0", "0", "0", "0", "1", BOX], [NAN, 0.8, 0.4, NAN, NAN, NAN, NAN, NAN, NAN, 0.6]
)


def test_fragments_of_a_failure():
    table = fragments(FAILING, 12)
    np.testing.assert_array_equal(table[0], [0, 0.8, 0.4, *[0] * 9])
    np.testing.assert_array_equal(table[1], [0, 0.6, *[NAN] * 10])


def test_a_failure_too_late_for_another_initialisation_is_cut_off_by_the_end():
    late = run(["1", BOX, "2", "0", "0", "0", "0"], [NAN, 0.5, *[NAN] * 5])
    np.testing.assert_array_equal(fragments(late, 9), [[0, 0.5, 0, 0, 0, 0, 0, NAN, NAN]])
    in_time = run(["1", BOX, "2", "0", "0", "0", "0", "1"], [NAN, 0.5, *[NAN] * 6])
    np.testing.assert_array_equal(fragments(in_time, 9), [[0, 0.5, *[0] * 7], [0, *[NAN] * 8]])


def test_curve_of_one_sequence():
    """Frame 1 does not count; then the mean of frames 2 to N."""
    one = run(["1", BOX, BOX, BOX], [NAN, 0.9, 0.3, 0.6])
    np.testing.assert_allclose(expected_overlap_curve({"a": [one]}), [1, 0.9, 0.6, 0.6])


def test_curve_of_three_sequences():
    curve = expected_overlap_curve({"failing": [FAILING], "short": [steady(3, 0.5)], "long": [steady(6, 0.9)]})
    two = (0.8 + 0.6 + 0.5 + 0.9) / 4
    three = (1.2 / 2 + 0.5 + 0.9) / 3  # the last fragment has two frames
    four = (1.2 / 3 + 0.9) / 2
    rest = [(1.2 / 4 + 0.9) / 2, (1.2 / 5 + 0.9) / 2, 1.2 / 6, 1.2 / 7, 1.2 / 8, 1.2 / 9]
    np.testing.assert_allclose(curve, [1, two, three, four, *rest])
    assert average_on(curve, (2, 3)) == pytest.approx((two + three) / 2)
    assert average_on(curve, (4, 4)) == pytest.approx(four)
    assert average_on(curve, (9, 30)) == pytest.approx((1.2 / 8 + 1.2 / 9) / 2)
    assert np.isnan(average_on(curve, (11, 30)))


def test_curve_up_to_the_longest_run():
    endless = run(["1", BOX, "2", "0", "0", "0", "0"], [NAN, 0.5, *[NAN] * 5])
    short = {"a": [endless], "b": [steady(3, 0.2)]}
    np.testing.assert_allclose(expected_overlap_curve(short)[1:], [0.35, 0.225, 0.5 / 3, 0.5 / 4, 0.1, 0.5 / 6])
    single = expected_overlap_curve({"a": [run(["1"], [NAN])]})
    np.testing.assert_array_equal(single, [1])


def test_repetitions_share_the_weight_of_their_sequence():
    runs = {"a": [steady(3, 0.2), steady(3, 0.4), steady(3, 0.6)], "b": [steady(3, 1.0)]}
    np.testing.assert_allclose(expected_overlap_curve(runs), [1, 0.7, 0.7])
    runs["a"][0] = run(["1", BOX, "2"], [NAN, 0.2, NAN])
    np.testing.assert_allclose(expected_overlap_curve(runs)[2], (0.1 / 3 + 0.4 / 3 + 0.6 / 3 + 1) / 2)
    assert lost_number(runs) == pytest.approx(1 / 3)


def test_accuracy_leaves_out_ten_frames_from_each_initialisation():
    long = run(
        ["1", *[BOX] * 11, "2", "0", "0", "0", "0", "1", *[BOX] * 10],
        [NAN, *[0.1] * 9, 0.5, 0.7, *[NAN] * 6, *[0.2] * 9, 0.9],
    )
    assert accuracy({"a": [long]}) == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert accuracy({"a": [long]}, burn_in=1) == pytest.approx((9 * 0.1 + 0.5 + 0.7 + 9 * 0.2 + 0.9) / 21)


def test_accuracy_is_over_frames_not_over_sequences():
    runs = {"a": [steady(12, 0.5)], "b": [steady(16, 0.8)]}
    assert accuracy(runs) == pytest.approx((2 * 0.5 + 6 * 0.8) / 8)


def test_accuracy_takes_the_mean_of_repetitions_first():
    failed = run(["1", *[BOX] * 10, "2"], [NAN, *[0.4] * 10, NAN])
    assert accuracy({"a": [failed, steady(12, 0.6)]}) == pytest.approx((0.5 + 0.6) / 2)
    assert np.isnan(accuracy({"a": [steady(5, 0.5)]}))


def test_every_score_of_a_tracker():
    scores = score_runs({"a": [FAILING], "b": [steady(30, 0.5)]}, (2, 3))
    assert scores.lost_number == 1
    assert scores.robustness == pytest.approx(100 / 40)
    assert scores.accuracy == pytest.approx(0.5)
    two, three = (0.8 + 0.6 + 0.5) / 3, (0.6 + 0.5) / 2
    assert scores.eao == pytest.approx((two + three) / 2)
    assert len(scores.curve) == 30


def test_a_run_against_its_ground_truth():
    truth = corners_of([(10, 10, 9, 9)] * 3)
    result = run_of(parse_trajectory("1\n10,10,9,9\n15,10,9,9"), truth, (100, 100))
    np.testing.assert_allclose(result.overlaps, [NAN, 1, 50 / 150])


def test_intervals():
    """As the stacks of vot-toolkit have them."""
    assert INTERVALS[2016] == INTERVALS[2015] == (108, 371)
    assert INTERVALS[2018] == INTERVALS[2017] == (100, 356)
    assert INTERVALS[2019] == (46, 291)
