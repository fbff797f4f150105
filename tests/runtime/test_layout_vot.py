"""VOT's folders: what makes one, the box that trackers are given, and what is missing or malformed."""

from __future__ import annotations

import numpy as np
import pytest
from vot_folders import polygon_line, write_list, write_pictures, write_vot_sequence

from siamtrt.errors import SourceError
from siamtrt.runtime.layout_vot import box_of_region
from siamtrt.runtime.sequences import find_sequences, open_sequences

FRAMES = np.zeros((3, 8, 8, 3), np.uint8)
SQUARE = polygon_line(1, 2, 3, 4)
BOX = "1,2,3,4"


def layouts(root):
    return {sequence.name: sequence.layout for sequence in find_sequences(root)}


# --- the box of a region


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ((3, 4, 5, 6), (3, 4, 5, 6)),  # a rectangle is its own box
        ((0, 0, 4, 0, 4, 2, 0, 2), (0, 0, 5, 3)),  # upright: a pixel more, as corners lie in the middle of pixels
        # A square on its corner, of half its bounding box's area: sides of 10 / sqrt(2).
        ((5, 0, 10, 5, 5, 10, 0, 5), (5 - np.sqrt(50) / 2, 5 - np.sqrt(50) / 2, np.sqrt(50) + 1, np.sqrt(50) + 1)),
        ((0, 0, 6, 0, 3, 3), (0, 0, 7, 4)),  # no four corners: the bounding box
        ((2, 2, 2, 2, 2, 2, 2, 2), (2, 2, 1, 1)),  # a point
        ((2, 2, 2, 5, 2, 5, 2, 2), (2, 3.5, 1, 1)),  # a line spans no area
    ],
)
def test_the_box_of_a_region(region, box):
    assert box_of_region(region) == pytest.approx(box)


def test_the_box_has_the_area_that_two_sides_span():
    """VOT2018's ants1, first line; the numbers from pysot's formula by hand."""
    region = (137.21, 458.36, 156.83, 460.78, 148.35, 529.41, 128.72, 526.99)
    x, y, w, h = box_of_region(region)
    bounding = (156.83 - 128.72) * (529.41 - 458.36)
    spanned = np.hypot(19.62, 2.42) * np.hypot(8.48, 68.63)
    assert (w - 1) * (h - 1) == pytest.approx(spanned)
    assert (w - 1) / (h - 1) == pytest.approx((156.83 - 128.72) / (529.41 - 458.36))
    assert spanned < bounding
    assert (x + (w - 1) / 2, y + (h - 1) / 2) == pytest.approx((np.mean(region[::2]), np.mean(region[1::2])))


def test_an_empty_region_has_no_box():
    assert np.isnan(box_of_region(())).all()


# --- what makes a sequence of VOT


@pytest.mark.parametrize("images", ["", "color"])
def test_polygons(tmp_path, images):
    write_vot_sequence(tmp_path / "ants1", FRAMES, [SQUARE, polygon_line(2, 3, 4, 4), BOX], images, occlusion=[1, 0])
    (sequence,) = find_sequences(tmp_path)
    assert (sequence.name, sequence.layout) == ("ants1", "VOT")
    assert sequence.frames == tmp_path / "ants1" / images
    np.testing.assert_array_equal(sequence.truth_xywh, [[1, 2, 4, 5], [2, 3, 5, 5], [1, 2, 3, 4]])
    assert sequence.regions == ((1, 6, 1, 2, 4, 2, 4, 6), (2, 7, 2, 3, 6, 3, 6, 7), (1, 2, 3, 4))
    np.testing.assert_array_equal(sequence.tags["occlusion"], [True, False, False])  # not behind its last line
    assert sequence.frame_size == (8, 8)
    assert len(list(sequence.open())) == 3
    for spec in (tmp_path / "ants1", tmp_path):
        assert [found.name for found in open_sequences([spec])] == ["ants1"]


def test_rectangles_of_which_the_target_is_absent(tmp_path):
    write_list(tmp_path, "ballet")
    write_vot_sequence(tmp_path / "ballet", FRAMES, [BOX, "nan,nan,nan,nan", "NaN, 1,1,1"], "")
    (sequence,) = find_sequences(tmp_path)
    assert sequence.layout == "VOT"
    assert sequence.regions == ((1, 2, 3, 4), (), ())
    np.testing.assert_array_equal(np.isnan(sequence.truth_xywh).all(axis=1), [False, True, True])


@pytest.mark.parametrize("mark", ["color", "list", "tag", "sequence"])
def test_rectangles_are_vots_where_something_says_so(tmp_path, mark):
    folder = write_vot_sequence(tmp_path / "a", FRAMES, [BOX] * 3, "color" if mark == "color" else "")
    if mark == "list":
        write_list(tmp_path, "a")
        assert layouts(folder) == {"a": "VOT"}  # also where the sequence itself is named
    if mark == "tag":
        (folder / "occlusion.tag").write_text("0\n0\n1\n")
    if mark == "sequence":
        (folder / "sequence").write_text("fps=30\n")
    assert layouts(tmp_path) == {"a": "VOT"}


def test_got10k_stays_what_it_is(tmp_path):
    """Its splits have a list.txt, too, of more sequences than one part of the download holds."""
    write_list(tmp_path, "GOT-10k_Val_000001", "GOT-10k_Val_000002", "mine")
    write_vot_sequence(tmp_path / "GOT-10k_Val_000001", FRAMES, [BOX] * 3, "")
    assert layouts(tmp_path) == {"GOT-10k_Val_000001": "GOT-10k"}
    folder = write_vot_sequence(tmp_path / "mine", FRAMES, [BOX] * 3, "")
    (folder / "cover.label").write_text("8\n8\n0\n")
    (tmp_path / "GOT-10k_Val_000001" / "cut_by_image.label").write_text("0\n0\n0\n")
    assert layouts(tmp_path) == {"GOT-10k_Val_000001": "GOT-10k", "mine": "GOT-10k"}


def test_boxes_beside_images_without_any_mark_are_not_vots(tmp_path):
    write_vot_sequence(tmp_path / "a", FRAMES, [BOX] * 3, "")
    assert layouts(tmp_path) == {"a": "GOT-10k"}


def test_labels_of_the_first_years(tmp_path):
    folder = write_vot_sequence(tmp_path / "a", FRAMES, [SQUARE] * 3)
    (folder / "illum_change.label").write_text("0\n1\n1\n")
    (sequence,) = find_sequences(tmp_path)
    np.testing.assert_array_equal(sequence.tags["illum_change"], [False, True, True])


# --- the list


def test_only_what_the_list_names_counts(tmp_path):
    for name in ("a", "b", "left_over"):
        write_vot_sequence(tmp_path / name, FRAMES, [SQUARE] * 3)
    write_list(tmp_path, "b", "a")
    assert layouts(tmp_path) == {"a": "VOT", "b": "VOT"}


def test_a_sequence_of_the_list_is_missing(tmp_path):
    write_vot_sequence(tmp_path / "a", FRAMES, [SQUARE] * 3)
    write_list(tmp_path, *(f"gone{number}" for number in range(7)), "a")
    (tmp_path / "gone0").mkdir()  # half unpacked
    with pytest.raises(SourceError, match=r"no groundtruth.txt of gone0, .*gone4 and 2 more; expected all 8 sequences"):
        find_sequences(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"no such folder\n../../etc\n"])
def test_other_lists_do_not_matter(tmp_path, content):
    write_vot_sequence(tmp_path / "a", FRAMES, [SQUARE] * 3)
    (tmp_path / "list.txt").write_bytes(content)
    assert layouts(tmp_path) == {"a": "VOT"}


# --- malformed


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1,2,3", r"line 2 '1,2,3'"),
        ("1,2,3,4,5", "line 2"),
        ("1,2,3,4,5,6,7", "line 2"),
        ("1,2,three,4", "line 2 '1,2,three,4'"),
        ("1,2,3,inf", "line 2"),
        ("m10,20,3,4,1,2,3", r"masks, of VOT2020 and later, are not read"),
    ],
)
def test_malformed_lines(tmp_path, line, says):
    write_vot_sequence(tmp_path / "a", FRAMES, [SQUARE, line, SQUARE])
    with pytest.raises(SourceError, match=f"unreadable ground truth: received .*a/groundtruth.txt: .*{says}"):
        find_sequences(tmp_path)


def test_no_line(tmp_path):
    write_vot_sequence(tmp_path / "a", FRAMES, [])
    with pytest.raises(SourceError, match="no line"):
        find_sequences(tmp_path)


@pytest.mark.parametrize("lines", [2, 4])
def test_lines_and_images_that_are_not_as_many(tmp_path, lines):
    write_vot_sequence(tmp_path / "a", FRAMES, [SQUARE] * lines)
    with pytest.raises(SourceError, match=rf"of a differ: received 3 images in .*a/color; expected {lines}"):
        find_sequences(tmp_path)


def test_images_elsewhere(tmp_path):
    folder = write_vot_sequence(tmp_path / "a", FRAMES, [SQUARE] * 3, "ir")
    (folder / "color").mkdir()
    with pytest.raises(SourceError, match="received 0 images"):
        find_sequences(tmp_path)
    write_pictures(folder / "color", FRAMES)
    assert layouts(tmp_path) == {"a": "VOT"}


@pytest.mark.parametrize(("tag", "says"), [("0\n1\n2\n", "3 lines"), ("0\n" * 4, "4 lines"), ("yes\n", "1 lines")])
def test_malformed_tags(tmp_path, tag, says):
    folder = write_vot_sequence(tmp_path / "a", FRAMES, [SQUARE] * 3)
    (folder / "occlusion.tag").write_text(tag)
    with pytest.raises(SourceError, match=f"occlusion.tag: {says} .*expected 3 lines of 0 or 1"):
        find_sequences(tmp_path)
