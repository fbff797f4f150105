"""Normalised precision, AO and SR by hand, and what absent frames are worth to each dataset's toolkit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from siamtrt.benchmarks.metrics import got_overlaps, normalised_precision, success_rate
from siamtrt.benchmarks.one_pass import COLUMNS, GOT_COLUMNS, Truth, columns_of, one_pass_scores, truths_of
from siamtrt.errors import SourceError
from siamtrt.runtime.sequences import find_sequences

NAN = [np.nan] * 4
SIZE = (100, 80)


def boxes(*rows):
    return np.array(rows, np.float64)


@pytest.mark.parametrize(
    ("tracked", "expected"),
    [
        ([10, 10, 20, 40], 1.0),  # 0 <= each of 0, 0.01, ..., 0.50
        ([14, 10, 20, 40], 31 / 51),  # 4 of 20 pixels: 0.20, ..., 0.50
        ([10, 18, 20, 40], 31 / 51),  # 8 of 40
        ([12.4, 16.4, 20, 40], 31 / 51),  # 0.12 and 0.16: together 0.20
        ([10, 10, 28, 40], 31 / 51),  # the centre moves by 4
        ([20, 10, 20, 40], 1 / 51),  # 0.50
        ([20.1, 10, 20, 40], 0.0),
    ],
)
def test_normalised_precision(tracked, expected):
    truth = boxes([10, 10, 20, 40], NAN)
    assert normalised_precision(boxes(tracked, [0, 0, 1, 1]), truth) == pytest.approx(expected, abs=1e-9)


def test_normalised_precision_of_nothing():
    assert np.isnan(normalised_precision(boxes(NAN), boxes(NAN)))
    thin = normalised_precision(boxes([0.2, 0, 0.5, 40]), boxes([0, 0, 0.5, 40]))
    assert thin == pytest.approx(31 / 51)  # a side counts as a pixel at least


def test_overlaps_of_got10k_leave_out_the_first_frame_and_what_is_hidden():
    truth = boxes([0, 0, 10, 10], [0, 0, 10, 10], NAN, [0, 0, 10, 10], [10, 10, 10, 10])
    tracked = boxes([0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 1, 1], [50, 50, 10, 10], [10, 10, 10, 8])
    overlaps = got_overlaps(tracked, truth, SIZE)
    np.testing.assert_allclose(overlaps, [0.5, 0, 0.8])
    assert success_rate(overlaps, 0.5) == pytest.approx(1 / 3)  # 0.5 is not above 0.5
    assert success_rate(overlaps, 0.75) == pytest.approx(1 / 3)
    assert np.isnan(success_rate(overlaps[:0], 0.5))


@pytest.mark.parametrize(
    ("tracked", "truth", "expected"),
    [
        ([-10, 0, 20, 10], [0, 0, 20, 10], 1.0),  # moved, not cut
        ([90, 0, 20, 10], [90, 0, 10, 10], 1.0),  # cut at the right edge
        ([0, 70, 10, 20], [0, 70, 10, 40], 1.0),  # both cut at the lower edge
        ([120, 0, 10, 10], [90, 0, 10, 10], 0.0),  # outside
    ],
)
def test_got10k_keeps_boxes_in_the_frame(tracked, truth, expected):
    first = [0, 0, 1, 1]
    arguments = boxes(first, tracked), boxes(first, truth)
    before = [part.copy() for part in arguments]
    np.testing.assert_allclose(got_overlaps(*arguments, SIZE), [expected])
    np.testing.assert_array_equal(arguments, before)


def test_ao_and_sr_are_over_the_frames_of_all_sequences():
    long = Truth(boxes(*[[0, 0, 10, 10]] * 4), "GOT-10k", SIZE)
    short = Truth(boxes(*[[0, 0, 10, 10]] * 2), "GOT-10k", SIZE)
    truths = {"long": long, "short": short}
    tracked = {"long": long.boxes_xywh, "short": boxes([0, 0, 10, 10], [50, 50, 10, 10])}
    assert columns_of(truths) == COLUMNS + GOT_COLUMNS
    means, rows = one_pass_scores(tracked, truths)
    assert means[3:] == (0.75, 0.75, 0.75)
    assert rows["long"][3:] == (1, 1, 1)
    assert rows["short"][3:] == (0, 0, 0)
    assert means[:3] == pytest.approx(np.mean([rows["long"][:3], rows["short"][:3]], axis=0))
    assert rows["short"][1] == 0.5  # precision, the first frame counted


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("OTB", (20 / 21, 1, 1)),
        ("LaSOT", (0.5 * 20 / 21, 0.5, 0.5)),
        ("UAV123", (0.5 * 20 / 21, 1, 1)),
        ("UAV20L", (0.5 * 20 / 21, 1, 1)),
        ("UAV123_10fps", (0.5 * 20 / 21, 1, 1)),
    ],
)
def test_frames_without_the_target(layout, expected):
    truth = boxes([5, 5, 10, 10], NAN, [6, 5, 10, 10], NAN)
    truths = {"one": Truth(truth, layout)}
    means, rows = one_pass_scores({"one": np.where(np.isnan(truth), 9, truth)}, truths)
    assert columns_of(truths) == COLUMNS
    assert means == rows["one"] == pytest.approx(expected)


@pytest.mark.parametrize("layout", ["OTB", "LaSOT", "UAV123"])
def test_a_truth_that_is_not_wholly_positive_is_lost_to_success_and_won_for_precision(layout):
    """As OTB's toolkit, and LaSOT's and UAV123's after it, have it; in other layouts it is a box like any other."""
    truth = boxes([5, 5, 10, 10], [0, 5, 10, 10], [5, -3, 10, 10], [0, 0, 0, 0])
    expected = (20 / 21 / 4, 1, 1)
    _, rows = one_pass_scores({"one": truth + np.array([0, 0, 50, 0])}, {"one": Truth(truth, layout)})
    assert rows["one"] == pytest.approx(expected)
    _, rows = one_pass_scores({"one": truth}, {"one": Truth(truth, "TLP")})
    assert rows["one"] == pytest.approx((3 * 20 / 21 / 4, 1, 1))


def test_the_first_box_is_the_given_one():
    truth = boxes([5, 5, 10, 10], [5, 5, 10, 10])
    tracked = boxes([50, 50, 1, 1], [5, 5, 10, 10])
    _, rows = one_pass_scores({"one": tracked}, {"one": Truth(truth)})
    assert rows["one"] == pytest.approx((20 / 21, 1, 1))
    assert tracked[0, 0] == 50


def test_runs_of_one_sequence_count_alike():
    truth = Truth(boxes(*[[0, 0, 10, 10]] * 3), "GOT-10k", SIZE)
    lost = np.full((3, 4), 50.0)
    means, rows = one_pass_scores({"one": np.stack([truth.boxes_xywh, lost])}, {"one": truth})
    assert means == rows["one"]
    assert means[3:] == (0.5, 0.5, 0.5)
    assert means[1] == pytest.approx((1 + 1 / 3) / 2)


def test_a_target_that_is_never_there_has_no_score():
    truth = boxes(NAN, NAN)
    _, rows = one_pass_scores({"one": np.ones((2, 4)), "two": np.ones((2, 4))}, {
        "one": Truth(truth), "two": Truth(np.ones((2, 4))),
    })  # fmt: skip
    assert np.isnan(rows["one"]).all()


def test_the_size_of_a_frame_is_the_first_images(tmp_path):
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"{number:08d}.png"), np.zeros((80, 100, 3), np.uint8))
    (tmp_path / "groundtruth.txt").write_text("1,2,3,4\n1,2,3,4\n")
    (truth,) = truths_of(find_sequences(tmp_path)).values()
    assert truth.frame_size == SIZE
    (tmp_path / "00000001.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"unreadable image: received .*00000001.png"):
        truths_of(find_sequences(tmp_path))
