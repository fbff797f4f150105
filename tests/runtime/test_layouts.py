"""Every dataset's own folders: names, first and last frame, boxes; what is missing is named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from siamtrt.errors import SourceError
from siamtrt.runtime.layout_data import OTB_RANGES, UAV_PARTS, uav_range
from siamtrt.runtime.sequences import find_sequences, open_sequences

NAN = [np.nan] * 4


def images(folder, numbers=range(1, 4), name="{:04d}.jpg"):
    """Pictures of one grey value each, their number modulo 200."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        _, data = cv2.imencode(".jpg", np.full((8, 8), number % 200, np.uint8))
        (folder / name.format(number)).write_bytes(data.tobytes())


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def rows(first, last, separator=","):
    """Lines whose x is the frame's number."""
    return [separator.join(map(str, (number, 2, 30, 40))) for number in range(first, last + 1)]


def numbers(sequence):
    """The numbers of its frames, as far as the grey values tell."""
    return [round(float(frame.mean())) for frame in sequence.open()]


def summary(found):
    return {sequence.name: (sequence.layout, sequence.truth_xywh[:, 0].tolist()) for sequence in found}


# --- OTB


@pytest.mark.parametrize("separator", [",", "\t", " "])
def test_otb(tmp_path, separator):
    images(tmp_path / "Man" / "img")
    text(tmp_path / "Man" / "groundtruth_rect.txt", *rows(1, 3, separator))
    (sequence,) = find_sequences(tmp_path)
    assert (sequence.name, sequence.layout, sequence.images) == ("Man", "OTB", ())
    np.testing.assert_array_equal(sequence.truth_xywh[0], [1, 2, 30, 40])  # as it is written, nothing subtracted


def test_several_targets_share_their_frames(tmp_path):
    images(tmp_path / "Jogging" / "img"), images(tmp_path / "Human4" / "img")
    text(tmp_path / "Jogging" / "groundtruth_rect.1.txt", *rows(1, 3))
    text(tmp_path / "Jogging" / "groundtruth_rect.2.txt", *rows(11, 13))
    text(tmp_path / "Human4" / "groundtruth_rect.1.txt")
    text(tmp_path / "Human4" / "groundtruth_rect.2.txt", *rows(21, 23))
    expected = {"Human4-2": ("OTB", [21, 22, 23]), "Jogging-1": ("OTB", [1, 2, 3]), "Jogging-2": ("OTB", [11, 12, 13])}
    assert summary(find_sequences(tmp_path)) == expected == summary(open_sequences([tmp_path]))


@pytest.mark.parametrize("name", ["David", "football1", "BlurCar4"])
def test_truth_of_a_part_of_the_frames(tmp_path, name):
    first, last = OTB_RANGES[name.casefold()]
    images(tmp_path / name / "img", range(max(first - 2, 1), last + 3))
    text(tmp_path / name / "groundtruth_rect.txt", *rows(first, last))
    (sequence,) = find_sequences(tmp_path)
    assert sequence.truth_xywh[[0, -1], 0].tolist() == [first, last]
    read = numbers(sequence)
    assert len(read) == last + 1 - first
    np.testing.assert_allclose(read, [number % 200 for number in range(first, last + 1)], atol=2)


def test_tiger_begins_with_its_sixth_frame_and_line(tmp_path):
    images(tmp_path / "Tiger1" / "img", range(1, 355))
    text(tmp_path / "Tiger1" / "groundtruth_rect.txt", *rows(1, 354))
    (sequence,) = find_sequences(tmp_path)
    assert len(sequence.images) == len(sequence.truth_xywh) == 349
    assert sequence.images[0].name == "0006.jpg"
    assert sequence.truth_xywh[[0, -1], 0].tolist() == [6, 354]


@pytest.mark.parametrize("first", [1, 299])
def test_a_david_of_ones_own_is_taken_as_it_is(tmp_path, first):
    images(tmp_path / "David" / "img", range(first, first + 3))
    text(tmp_path / "David" / "groundtruth_rect.txt", *rows(1, 3))
    assert summary(find_sequences(tmp_path)) == {"David": ("OTB", [1, 2, 3])}


def test_tlp_says_where_the_target_is_lost(tmp_path):
    images(tmp_path / "Drone1" / "img", name="{:05d}.jpg")
    text(tmp_path / "Drone1" / "groundtruth_rect.txt", "1,5,6,7,8,0", "2,5,6,7,8,1", "3,9,6,7,8,0")
    (sequence,) = find_sequences(tmp_path)
    assert sequence.layout == "TLP"
    np.testing.assert_array_equal(sequence.truth_xywh, [[5, 6, 7, 8], NAN, [9, 6, 7, 8]])


# --- UAV123


def uav(root, part, truth, folder, video, last):
    images(root / "data_seq" / folder / video, range(1, last + 1), "{:06d}.jpg")
    text(root / "anno" / part / f"{truth[0]}.txt", *rows(*truth[1:]))
    text(root / "anno" / part / "att" / f"{truth[0]}.txt", "0,0,1")


def test_uav123_and_its_split_videos(tmp_path):
    uav(tmp_path, "UAV123", ("truck4_2", 577, 1261), "UAV123", "truck4", 1261)
    uav(tmp_path, "UAV123", ("uav6", 1, 3), "UAV123", "uav6", 3)
    text(tmp_path / "anno" / "UAV123" / "uav6.txt", "NaN,NaN,NaN,NaN", "1,2,3,4", "1,2,3,4")
    for root in (tmp_path, tmp_path / "anno" / "UAV123"):
        split, whole = find_sequences(root)
        assert (split.name, split.layout, whole.name) == ("truck4_2", "UAV123", "uav6")
        assert [path.name for path in (split.images[0], split.images[-1])] == ["000577.jpg", "001261.jpg"]
        np.testing.assert_array_equal(whole.truth_xywh[:2], [NAN, [1, 2, 3, 4]])
    (tmp_path / "data_seq" / "UAV123" / "truck4" / "001000.jpg").unlink()
    with pytest.raises(SourceError, match=r"of truck4_2 differ: received 684 of the images 577 to 1261 .*expected 685"):
        find_sequences(tmp_path)


def test_uav123_at_10_frames_a_second(tmp_path):
    uav(tmp_path, "UAV123_10fps", ("uav1_3", 825, 1157), "UAV123_10fps", "uav1", 1157)
    (sequence,) = find_sequences(tmp_path)
    assert (sequence.layout, sequence.images[0].name, len(sequence.images)) == ("UAV123_10fps", "000825.jpg", 333)


def test_uav20l_takes_whole_videos(tmp_path):
    uav(tmp_path, "UAV20L", ("uav1", 1, 5), "UAV123", "uav1", 7)
    (sequence,) = find_sequences(tmp_path)
    assert (sequence.layout, [image.name for image in sequence.images][-1]) == ("UAV20L", "000005.jpg")


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("bird1_3", "UAV123", ("bird1", 1573, 2437)),
        ("bird1_3", "UAV123_10fps", ("bird1", 525, 813)),
        ("group3_4", "UAV123_10fps", ("group3", 1457, 1843)),
        ("person19_2", "UAV123", ("person19", 1243, 2791)),
        ("bird1_4", "UAV123", None),
        ("bird1_0", "UAV123", None),
        ("car1_s", "UAV123", None),
        ("bird1", "UAV20L", None),
    ],
)
def test_parts_of_uav123(name, part, expected):
    assert uav_range(name, part) == expected


def test_the_parts_are_as_many_as_published():
    assert sum(map(len, UAV_PARTS.values())) == 51  # with 72 whole videos, 123
    assert all((last - first) % 3 == 0 for parts in UAV_PARTS.values() for first, last in parts)


# --- LaSOT, GOT-10k, TrackingNet


def lasot(folder, occluded="0,1,0", outside="0,0,0"):
    images(folder / "img", name="{:08d}.jpg")
    text(folder / "groundtruth.txt", *rows(1, 3))
    text(folder / "full_occlusion.txt", occluded)
    text(folder / "out_of_view.txt", outside)


def test_lasot(tmp_path):
    lasot(tmp_path / "bird" / "bird-2")
    lasot(tmp_path / "bird" / "bird-10", outside="0,0,1")
    images(tmp_path / "bird" / "bird-10" / "img", [1, 2, 3], "{:08d}.jpg")
    found = find_sequences(tmp_path)
    assert [(sequence.name, sequence.layout) for sequence in found] == [("bird-10", "LaSOT"), ("bird-2", "LaSOT")]
    np.testing.assert_array_equal(np.isnan(found[0].truth_xywh[:, 0]), [False, True, True])
    np.testing.assert_array_equal(np.isnan(found[1].truth_xywh[:, 0]), [False, True, False])


@pytest.mark.parametrize("missing", ["full_occlusion.txt", "out_of_view.txt"])
def test_lasot_without_its_flags(tmp_path, missing):
    lasot(tmp_path / "bird-2")
    (tmp_path / "bird-2" / missing).unlink()
    with pytest.raises(SourceError, match=f"unreadable ground truth: received .*bird-2/{missing}: .*No such file"):
        find_sequences(tmp_path)


def test_lasot_with_flags_that_do_not_fit(tmp_path):
    lasot(tmp_path / "bird-2", occluded="0,1")
    with pytest.raises(SourceError, match=r"full_occlusion.txt: 2 lines"):
        find_sequences(tmp_path)


def test_lasots_monkey_has_more_images_than_lines(tmp_path):
    lasot(tmp_path / "monkey" / "monkey-17")
    images(tmp_path / "monkey" / "monkey-17" / "img", [4], "{:08d}.jpg")
    (sequence,) = find_sequences(tmp_path)
    assert numbers(sequence) == [1, 2, 3]


def test_got10k_counts_what_can_be_seen(tmp_path):
    folder = tmp_path / "val" / "GOT-10k_Val_000001"
    images(folder, name="{:08d}.jpg")
    text(folder / "groundtruth.txt", *rows(1, 3))
    text(folder / "cover.label", "8", "0", "1")
    text(folder / "absence.label", "0", "0", "0")
    (sequence,) = find_sequences(tmp_path)
    assert sequence.layout == "GOT-10k"
    np.testing.assert_array_equal(np.isnan(sequence.truth_xywh[:, 0]), [False, True, False])
    text(folder / "cover.label", "8", "9", "1")
    with pytest.raises(SourceError, match=r"cover.label: .*expected 3 lines of 0 to 8"):
        find_sequences(tmp_path)


def test_trackingnet(tmp_path):
    for name, first, last in (("a-1", 1, 3), ("b-2", 4, 4)):
        images(tmp_path / "TEST" / "frames" / name, [1, 2, 10], "{}.jpg")
        text(tmp_path / "TEST" / "anno" / f"{name}.txt", *rows(first, last))
    for root in (tmp_path, tmp_path / "TEST"):
        whole, first_only = open_sequences([root])
        assert (whole.name, whole.layout, numbers(whole)) == ("a-1", "TrackingNet", [1, 2, 10])
        assert (first_only.name, first_only.init_only) == ("b-2", True)
    (tmp_path / "TEST" / "frames" / "a-1").rename(tmp_path / "TEST" / "frames" / "c")
    with pytest.raises(SourceError, match=r"no such source: received .*TEST/frames/a-1"):
        open_sequences([tmp_path])


# --- NfS, Temple Color 128, DTB70


def nfs(root, rate, lines, count):
    images(root / "bee" / rate / "bee", range(1, count + 1), "{:05d}.jpg")
    corners = [f'0 {number} 20 {number + 30} 60 {number - 1} 0 0 0 "bee"' for number in range(1, lines + 1)]
    text(root / "bee" / rate / "bee.txt", *corners)


@pytest.mark.parametrize(
    ("rate", "lines", "count", "expected"),
    [
        ("240", 16, 16, list(range(1, 17))),
        ("30", 24, 3, [1, 9, 17]),
        ("30", 25, 3, [1, 9, 17]),
        ("240", 16, 15, list(range(1, 16))),
        ("240", 15, 16, list(range(1, 16))),
    ],
)
def test_nfs(tmp_path, rate, lines, count, expected):
    nfs(tmp_path, rate, lines, count)
    (sequence,) = find_sequences(tmp_path)
    assert (sequence.name, sequence.layout) == ("bee", f"NfS{rate}")
    assert sequence.truth_xywh[:, 0].tolist() == expected
    np.testing.assert_array_equal(sequence.truth_xywh[:, 1:], [[20, 30, 40]] * len(expected))
    assert len(numbers(sequence)) == len(expected)


def test_nfs_with_lines_missing(tmp_path):
    nfs(tmp_path, "240", 14, 16)
    with pytest.raises(SourceError, match=r"ground truth of bee differ: received 16 images .*expected 14"):
        find_sequences(tmp_path)


def test_temple_color_128(tmp_path):
    folder = tmp_path / "Ball_ce1"
    images(folder / "img", range(1, 8))
    text(folder / "Ball_ce1_gt.txt", *rows(3, 5))
    text(folder / "Ball_ce1_frames.txt", "3,5")
    (sequence,) = find_sequences(tmp_path)
    assert (sequence.name, sequence.layout, numbers(sequence)) == ("Ball_ce1", "TColor128", [3, 4, 5])
    (folder / "Ball_ce1_frames.txt").unlink()
    with pytest.raises(SourceError, match=r"unreadable ground truth: received .*Ball_ce1_frames.txt"):
        find_sequences(tmp_path)


def test_dtb70_is_laid_out_as_otb(tmp_path):
    images(tmp_path / "Animal1" / "img", name="{:05d}.jpg")
    text(tmp_path / "Animal1" / "groundtruth_rect.txt", *rows(1, 3))
    assert summary(find_sequences(tmp_path)) == {"Animal1": ("OTB", [1, 2, 3])}
