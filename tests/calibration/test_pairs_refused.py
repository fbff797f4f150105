"""What pairs cannot be cut of, and what is said then."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from clips import clip, first_box_of, graph_of, manifest_of

from siamtrt.calibration import crop_file
from siamtrt.calibration.pairs import sample_pairs
from siamtrt.errors import CalibrationError, SourceError
from siamtrt.manifest import Manifest, Source
from siamtrt.models.presets import get_preset
from siamtrt.tracking import SamplingDecoding


@pytest.fixture(scope="module")
def nano():
    return manifest_of("nanotrack_v3")


@pytest.mark.parametrize(
    ("label", "error"),
    [
        (None, "sequence without boxes: received clip with a box in its first frame alone"),
        (lambda _: np.zeros((40, 5)), r"unusable labels of clip: received an array of shape \(40, 5\)"),
        (lambda _: np.zeros(4), r"unusable labels of clip: received an array of shape \(4,\)"),
    ],
)
def test_one_box_without_labels(nano, label, error):
    with pytest.raises(CalibrationError, match=error):
        sample_pairs(nano, [clip("a"), first_box_of(clip())], 10, label=label)


@pytest.mark.parametrize(
    ("sequences", "count", "error"),
    [
        ([], 10, "too few pairs: received 10 asked for, 0 in 0 sequences; expected at least 8. Fix: add sequences"),
        ([clip(count=4)], 10, "too few pairs: received 10 asked for, 6 in 1 sequence; expected at least 8. Fix: add"),
        ([clip()], 7, "too few pairs: received 7 asked for, 780 in 1 sequence; expected at least 8. Fix: ask for more"),
        ([clip()], -1, "too few pairs: received -1 asked for"),
        (
            [clip(boxes=np.full((9, 4), np.nan)), clip(boxes=np.full((9, 4), 900.0))], 10,
            "no target to calibrate with: received 2 sequences in which it is absent from every frame",
        ),
        ([clip(boxes=np.array([(9.0,) * 4, (np.nan,) * 4] * 9))], 10, "too few pairs: received 10 asked for, 0 in 1"),
    ],
)  # fmt: skip
def test_too_few_pairs(nano, sequences, count, error):
    with pytest.raises(CalibrationError, match=error):
        sample_pairs(nano, sequences, count)


def test_trackers_that_take_more_than_crops():
    masked = get_preset("siam_bm").strategies.spatial_mask
    strategies = dataclasses.replace(get_preset("siamfc_alexnet").strategies, spatial_mask=masked)
    with pytest.raises(CalibrationError, match="siamfc_alexnet cannot be calibrated: received inputs mask; expected"):
        sample_pairs(manifest_of("siamfc_alexnet", strategies), [clip()], 10)


def test_trackers_that_match_candidates():
    preset = get_preset("sint")
    crop, decoding = preset.preprocessing, preset.decoding
    assert isinstance(decoding, SamplingDecoding)
    graphs = {
        "template": graph_of("template", {"z": (1, 3, crop.template_size, crop.template_size), "box": (1, 4)},
                           {"kernel": (1, 4)}),
        "search": graph_of("search", {"x": (1, 3, crop.search_size, crop.search_size), "kernel": (1, 4),
                                    "boxes": (decoding.boxes, 4)}, {"similarity": (1, decoding.boxes)}),
    }  # fmt: skip
    manifest = Manifest("sint", "paper", Source("x", "0" * 64), graphs, crop, decoding, preset.tracking, {"a": 0.0}, {})
    with pytest.raises(CalibrationError, match="sint cannot be calibrated: received inputs box, boxes"):
        sample_pairs(manifest, [clip()], 10)


def test_trackers_of_several_targets(nano):
    search = nano.graphs["search"]
    inputs = tuple(dataclasses.replace(item, shape=(2, *item.shape[1:])) for item in search.inputs)
    graphs = {**nano.graphs, "search": dataclasses.replace(search, inputs=inputs)}
    with pytest.raises(CalibrationError, match=r"received a batch of 2 targets; .* Fix: export it again without"):
        sample_pairs(dataclasses.replace(nano, graphs=graphs, batch=2), [clip()], 10)


@pytest.mark.parametrize(
    ("number", "picture", "error"),
    [
        (0, np.zeros((0, 0, 3), np.uint8), "empty frame in clip, frame 0"),
        (7, np.zeros((0, 160, 3), np.uint8), "empty frame in clip, frame 7"),
        (7, np.zeros((120, 160), np.uint8), r"unusable frame in clip, frame 7: received uint8 array of shape \(120,"),
        (7, np.zeros((100, 160, 3), np.uint8), "frame size changed in clip, frame 7: received 160x100; expected 160x"),
    ],
)
def test_frames_that_cannot_be_cut(nano, monkeypatch, number, picture, error):
    made = []
    monkeypatch.setattr(crop_file.tempfile, "TemporaryFile", _keeping(made, crop_file.tempfile.TemporaryFile))
    sequence = clip(count=12)
    pictures = [*sequence.pictures]
    pictures[number] = picture
    with pytest.raises(SourceError, match=error):
        sample_pairs(nano, [dataclasses.replace(sequence, pictures=tuple(pictures))], 66)
    assert all(file.closed for file in made)
    assert len(made) == (number > 0)


def _keeping(made, make):
    return lambda: made.append(make()) or made[-1]


def test_sequences_shorter_than_their_boxes(nano):
    sequence = clip(count=12)
    short = dataclasses.replace(sequence, pictures=sequence.pictures[:9])
    with pytest.raises(SourceError, match="clip is shorter than its boxes: received 9 frames; expected at least 12"):
        sample_pairs(nano, [short], 66)


def test_a_full_disk_is_said(nano, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    full = Path("/dev/full").open("w+b")  # noqa: SIM115  closed by what it replaces
    monkeypatch.setattr(crop_file.tempfile, "TemporaryFile", lambda: full)
    with pytest.raises(CalibrationError, match=r"cannot keep the crops: received No space left .* 2 MB for 10 pairs"):
        sample_pairs(nano, [clip()], 10)


def test_no_place_for_a_file_is_said(nano, monkeypatch):
    def refuse():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(crop_file.tempfile, "TemporaryFile", refuse)
    with pytest.raises(CalibrationError, match="cannot keep the crops: received No usable temporary directory found"):
        sample_pairs(nano, [clip()], 10)


@pytest.mark.parametrize("size", [8, 40, 127])
def test_closing_after_a_failed_write_raises_nothing(size):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    crops = crop_file.CropFile(1, (1, 3, size, size), (1, 3, size, size))
    crops._file = full.open("w+b")
    with pytest.raises(CalibrationError, match="cannot keep the crops"):
        _fill(crops, np.zeros((1, 3, size, size), np.float32))
    crops.close()
    assert crops._file.closed


def _fill(crops, crop):
    for part in (0, 1):
        crops.write(0, part, crop)
    crops.finish()
