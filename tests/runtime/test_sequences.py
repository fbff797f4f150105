"""Sequences: which sources are found, what is known of them, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from siamtrt.errors import SourceError
from siamtrt.runtime.sequences import find_sequences, open_sequences, read_boxes

LINES = ["1,2,30,40", "2,3,30,40", "3,4,30,40"]
BOXES = [[1, 2, 30, 40], [2, 3, 30, 40], [3, 4, 30, 40]]
ABSENT = [np.nan] * 4


def images(folder, count=3, name="{:04d}.png"):
    """Pictures whose pixels all have their number, from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / name.format(number)), np.full((48, 64, 3), number, np.uint8))
    return folder


def otb(folder, lines=LINES, count=3):
    images(folder / "img", count)
    (folder / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
    return folder


def got(folder, lines=LINES, count=3, absence=None):
    images(folder, count, "{:08d}.jpg")
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    if absence is not None:
        (folder / "absence.label").write_text("\n".join(absence) + "\n")
    return folder


@pytest.fixture
def video(short_video, tmp_path):
    """A copy of the short video without its boxes."""
    path = tmp_path / "flight.avi"
    path.write_bytes(short_video.path.read_bytes())
    return path


def with_boxes(video, boxes):
    video.with_suffix(".txt").write_text("\n".join(",".join(map(str, box)) for box in boxes) + "\n")


# --- what is found


def test_every_layout_is_found_below_a_folder(tmp_path, video, short_video):
    with_boxes(video, short_video.boxes_xywh)
    otb(tmp_path / "zoo" / "Otb"), got(tmp_path / "Got", [line + ".5" for line in LINES])
    images(tmp_path / "unlabelled")
    for found in (find_sequences(tmp_path), open_sequences([tmp_path]), open_sequences([str(tmp_path)])):
        assert [sequence.name for sequence in found] == ["Got", "Otb", "flight"]
        assert not any(sequence.init_only for sequence in found)
        np.testing.assert_array_equal(found[0].truth_xywh, [[x, y, w, h + 0.5] for x, y, w, h in BOXES])
        np.testing.assert_array_equal(found[1].truth_xywh, BOXES)
        np.testing.assert_array_equal(found[2].truth_xywh, short_video.boxes_xywh)
        assert [len(list(sequence.open())) for sequence in found] == [3, 3, 12]
        assert [int(frame[0, 0, 0]) for frame in found[1].open()] == [1, 2, 3]


@pytest.mark.parametrize("make", [otb, got])
def test_a_folder_may_itself_be_a_sequence(tmp_path, make, monkeypatch):
    make(tmp_path / "Man")
    assert [sequence.name for sequence in open_sequences([tmp_path / "Man"])] == ["Man"]
    monkeypatch.chdir(tmp_path / "Man")
    assert [sequence.name for sequence in open_sequences(["."])] == ["Man"]


def test_absent_frames_of_got_10k_have_no_box(tmp_path):
    (sequence,) = open_sequences([got(tmp_path / "Got", absence=["0", "1", "0"])])
    np.testing.assert_array_equal(sequence.truth_xywh, [BOXES[0], ABSENT, BOXES[2]])


def test_a_relative_folder_of_digits_is_no_camera(tmp_path, monkeypatch):
    got(tmp_path / "0007")
    monkeypatch.chdir(tmp_path)
    (sequence,) = open_sequences(["0007"])
    assert len(list(sequence.open())) == 3


def test_sources_keep_their_order(tmp_path, video, short_video):
    with_boxes(video, short_video.boxes_xywh)
    specs = [video, otb(tmp_path / "a"), f"{images(tmp_path / 'pictures')}:1,2,3,4"]
    assert [sequence.name for sequence in open_sequences(specs)] == ["flight", "a", "pictures"]


@pytest.mark.parametrize("labelled", [False, True])
def test_a_first_box_may_be_appended(video, short_video, labelled):
    if labelled:
        with_boxes(video, short_video.boxes_xywh)
    (sequence,) = open_sequences([f"{video}:120,80,64.5,48"])
    assert (sequence.name, sequence.init_only) == ("flight", True)
    np.testing.assert_array_equal(sequence.truth_xywh, [[120, 80, 64.5, 48]])
    assert len(list(sequence.open())) == 12


def test_a_file_of_the_whole_name_wins(tmp_path, video, short_video):
    odd = video.rename(tmp_path / "flight.avi:1,2,3,4.avi")
    video.write_bytes(odd.read_bytes())
    with_boxes(odd, short_video.boxes_xywh)
    (sequence,) = open_sequences([odd])
    assert not sequence.init_only
    assert sequence.frames == odd


def test_the_box_follows_the_last_colon(tmp_path, video):
    (sequence,) = open_sequences([f"{video.rename(tmp_path / '12:30.avi')}:1,2,3,4"])
    assert (sequence.name, sequence.truth_xywh.tolist()) == ("12:30", [[1, 2, 3, 4]])


def test_a_ground_truth_of_one_line_is_a_first_box(tmp_path, video):
    with_boxes(video, BOXES[:1])
    sequences = open_sequences([got(tmp_path / "test" / "Got", LINES[:1]), video])
    assert [sequence.init_only for sequence in sequences] == [True, True]
    assert [len(list(sequence.open())) for sequence in sequences] == [3, 12]
    with pytest.raises(SourceError, match="frames and ground truth of Got differ: received more than one frame"):
        find_sequences(tmp_path / "test")


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
def test_boxes_are_read_whatever_separates_them(tmp_path, separator):
    path = tmp_path / "truth.txt"
    path.write_text("\ufeff" + "\n".join(separator.join(row) for row in (["1", "2", "3", "4"], ["nan"] * 4)) + "\n\n")
    np.testing.assert_array_equal(read_boxes(path), [[1, 2, 3, 4], ABSENT])


# --- what is refused


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no line; expected a line a frame"),
        ("\n \n", "no line"),
        ("1,2,3,4\n1,2,3\n", "expected four numbers a line"),
        ("1,2,3\n1,2,3\n1,2,3\n1,2,3\n", "expected four numbers a line"),
        ("1,2,3,4,5,6,7,8\n", "expected four numbers a line"),
        ("1,2,3,four\n", "expected four numbers a line"),
        (b"\xff\xfe\x00", "expected a text file"),
    ],
)
def test_boxes_that_cannot_be_read(tmp_path, text, error):
    path = tmp_path / "truth.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=error) as caught:
        read_boxes(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("absence", "error"),
    [(["0", "1"], "2 lines of .* expected 3 lines of 0 or 1"), (["0", "1", "2"], "expected 3 lines of 0 or 1")],
)
def test_absence_that_does_not_fit(tmp_path, absence, error):
    with pytest.raises(SourceError, match=error):
        open_sequences([got(tmp_path / "Got", absence=absence)])


@pytest.mark.parametrize("make", [otb, got])
@pytest.mark.parametrize("count", [2, 4])
def test_folders_need_a_line_for_every_image(tmp_path, make, count):
    make(tmp_path / "Man", count=count)
    expected = f"ground truth of Man differ: received {count} images .*; expected 3, one for each line"
    for opened in (find_sequences, lambda folder: open_sequences([folder])):
        with pytest.raises(SourceError, match=expected):
            opened(tmp_path / "Man")


@pytest.mark.parametrize(("lines", "received"), [(11, "more than 11 frames"), (13, "12 frames")])
def test_videos_need_a_line_for_every_frame_that_is_read(video, short_video, lines, received):
    with_boxes(video, np.resize(short_video.boxes_xywh, (lines, 4)))
    (sequence,) = open_sequences([video])
    frames = iter(sequence.open())
    for _ in range(min(lines, 12)):
        next(frames)
    with pytest.raises(SourceError, match=f"ground truth of flight differ: received {received} .*expected {lines}"):
        next(frames)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("missing.avi", "no such source: received .*missing.avi; expected .*with :x,y,w,h"),
        ("missing.avi:1,2,3,4", "no such source: received .*missing.avi:1,2,3,4"),
        ("flight.avi", "source without boxes.*append the target's box in the first frame: .*flight.avi:120,80,64,48"),
        ("notes.txt", "source without boxes"),
        ("empty", "source without boxes"),
        ("pictures", "source without boxes"),
        ("flight.avi:1,2,3", "unreadable first box: .*flight.avi:1,2,3; expected x,y,w,h"),
        ("flight.avi:", "unreadable first box"),
        ("pictures:one,2,3,4", "unreadable first box"),
    ],
)
def test_sources_that_are_refused(tmp_path, video, spec, error):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("1,2,3,4\n")
    images(tmp_path / "pictures")
    with pytest.raises(SourceError, match=error):
        open_sequences([str(tmp_path / spec)])


def test_no_source_and_a_source_twice(tmp_path):
    folder = otb(tmp_path / "all" / "Man")
    with pytest.raises(SourceError, match="no sequences: received an empty list"):
        open_sequences([])
    with pytest.raises(SourceError, match=r"a sequence twice: received .*Man"):
        open_sequences([tmp_path / "all", folder])
    with pytest.raises(SourceError, match="a sequence twice"):
        open_sequences([folder, tmp_path / "all" / ".." / "all" / "Man" / "img:1,2,3,4"])


def test_a_folder_without_sequences(tmp_path):
    images(tmp_path / "pictures")
    with pytest.raises(SourceError, match=r"no sequences: .*groundtruth.txt beside its images"):
        find_sequences(tmp_path)


def test_ground_truth_without_images(tmp_path):
    (tmp_path / "Man").mkdir()
    (tmp_path / "Man" / "groundtruth_rect.txt").write_text("1,2,3,4\n1,2,3,4\n")
    with pytest.raises(SourceError, match=r"no such source: received .*Man/img"):
        find_sequences(tmp_path)
