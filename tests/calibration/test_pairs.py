"""Pairs: the bytes a tracker would see, the shifts of the boxes, and memory that does not grow."""

from __future__ import annotations

import dataclasses
import sys
import tracemalloc

import numpy as np
import pytest
from clips import SIZE, clip, first_box_of, manifest_of

from siamtrt.calibration.labels import labels_by_tracking
from siamtrt.calibration.pairs import sample_pairs
from siamtrt.errors import CalibrationError
from siamtrt.manifest import load_manifest
from siamtrt.runtime.sequences import open_sequences
from siamtrt.runtime.state import state_from_box
from siamtrt.runtime.tracker import Tracker
from siamtrt.tracking import ResponseDecoding


class Recorder:
    """A session that keeps a copy of its first input and returns ones."""

    backend = "test"

    def __init__(self, spec):
        self.inputs, self.outputs, self.crops = spec.inputs, spec.outputs, []

    def run(self, feeds):
        self.crops.append(feeds[self.inputs[0].name].copy())
        return {tensor.name: np.ones(tensor.shape, np.float32) for tensor in self.outputs}

    def close(self):
        pass


def frames_of(pair):
    """Sequence, template frame, search frame."""
    name, numbers = pair.name.split(":")
    template, search = map(int, numbers.split(">"))
    return name, template, search


@pytest.fixture(scope="module")
def nano():
    return manifest_of("nanotrack_v3")


# --- equal to the tracker


@pytest.mark.parametrize(("model", "views"), [("nanotrack_v3", 1), ("siamfc_alexnet", 3), ("turned", 4)])
def test_crops_are_what_a_tracker_feeds_its_sessions(model, views):
    """`Tracker.init` on the template's box; its state set to the box before; `Tracker.update`."""
    turned = ResponseDecoding(17, 8, (1.0, 1.04), (-0.2, 0.2))
    manifest = manifest_of("siamfc_alexnet", decoding=turned) if model == "turned" else manifest_of(model)
    sequences = {item.name: item for item in (clip("a"), clip("b", seed=5))}
    with sample_pairs(manifest, list(sequences.values()), 24) as pairs:
        assert len(pairs) == 24
        padded = 0
        for pair in pairs:
            name, first, number = frames_of(pair)
            sequence = sequences[name]
            frames, boxes = sequence.pictures, sequence.truth_xywh
            sessions = {graph: Recorder(spec) for graph, spec in manifest.graphs.items()}
            tracker = Tracker(manifest, sessions)
            tracker.init(frames[first], boxes[first])
            first_wh = tracker.state.first_wh
            tracker._state = dataclasses.replace(state_from_box(tuple(boxes[number - 1])), first_wh=first_wh)
            assert pair.state == tracker.state
            tracker.update(frames[number])
            for found, session in ((pair.template, sessions["template"]), (pair.search, sessions["search"])):
                (fed,) = session.crops
                assert found.dtype == fed.dtype == np.float32
                assert found.shape == fed.shape
                assert found.tobytes() == fed.tobytes()
            assert pair.search.shape[0] == views
            assert pair.truth_xywh == tuple(boxes[number])
            assert pair.frame_size == SIZE
            padded += (pair.search[0, :, :3, :3] == pair.search[0, :, :1, :1]).all()
        assert padded, "some crops reach beyond the frame, where the template's frame gives the colour"


def test_a_real_bundle_and_a_video_file(tiny_bundle, short_video, tmp_path):
    path = tmp_path / "short.avi"
    path.write_bytes(short_video.path.read_bytes())
    path.with_suffix(".txt").write_text("\n".join(",".join(map(str, box)) for box in short_video.boxes_xywh))
    manifest = load_manifest(tiny_bundle)
    sequences = open_sequences([path])
    pictures = list(sequences[0].open())
    with sample_pairs(manifest, sequences, 10) as pairs, Tracker.load(tiny_bundle, "onnxruntime") as tracker:
        fed = {}
        for graph in ("template", "search"):
            run = tracker._sessions[graph].run
            tracker._sessions[graph].run = lambda feeds, graph=graph, run=run: fed.update({graph: feeds}) or run(feeds)
        for pair in pairs:
            _, first, number = frames_of(pair)
            tracker.init(pictures[first], short_video.boxes_xywh[first])
            tracker._state = pair.state
            result = tracker.update(pictures[number])
            np.testing.assert_array_equal(fed["template"]["z"], pair.template)
            np.testing.assert_array_equal(fed["search"]["x"], pair.search)
            assert result.ok


# --- what a pair says


def test_shifts_in_the_crops_are_those_of_the_boxes(nano):
    """The red target's centre, measured in the search crop's pixels, and |shift| from the boxes alone."""
    rng = np.random.default_rng(7)
    boxes = np.hstack([rng.uniform(45, 75, (60, 2)), np.full((60, 2), 21.0)]).round()
    sequence = clip(boxes=boxes)
    size = nano.preprocessing.search_size
    measured, expected = [], []
    with sample_pairs(nano, [sequence], 50) as pairs:
        for pair in pairs:
            _, _, number = frames_of(pair)
            red = pair.search[0, 2] - pair.search[0, :2].max(axis=0) > 128
            row, column = (positions.mean() for positions in np.nonzero(red))
            measured.append((column - (size - 1) / 2, row - (size - 1) / 2))
            side = round(2 * 21.0 * size / nano.preprocessing.template_size)  # context 0.5 doubles a square
            expected.append((boxes[number, :2] - boxes[number - 1, :2]) * size / side)
    assert np.abs(np.array(measured) - expected).max() < 0.75 * size / side
    means = [np.hypot(*np.array(shifts).T).mean() for shifts in (measured, expected)]
    assert means[0] == pytest.approx(means[1], rel=0.02)
    assert means[1] > 20


def test_frames_without_the_target_are_left_out(nano):
    boxes = clip().truth_xywh.copy()
    boxes[[5, 9]], boxes[13], boxes[20], boxes[25] = np.nan, (10, 10, 0, 5), (400, 10, 9, 9), (10, 10, np.inf, 9)
    hidden = {5, 9, 13, 20, 25}
    with sample_pairs(nano, [clip(boxes=boxes)], 10_000) as pairs:
        frames = [frames_of(pair)[1:] for pair in pairs]
    shown = [number for number in range(40) if number not in hidden]
    assert frames == sorted(frames, key=lambda pair: (pair[1], -pair[0]))
    assert sorted(frames) == [(t, j) for t in shown for j in shown if j > t and j - 1 in shown]


def test_same_seed_same_bytes(nano):
    def sampled(seed):
        with sample_pairs(nano, [clip("a"), clip("b", seed=1)], 20, seed) as pairs:
            return [(pair.name, pair.template.tobytes(), pair.search.tobytes(), pair.state) for pair in pairs]

    assert sampled(3) == sampled(3)
    assert [item[0] for item in sampled(3)] != [item[0] for item in sampled(4)]


def test_counts_are_told(nano):
    absent = clip("absent", boxes=np.full((9, 4), np.nan))
    with sample_pairs(nano, [clip("a", 5), absent, clip("b", 4, seed=1)], 100) as pairs:
        assert (len(pairs), pairs.requested, pairs.candidates) == (16, 100, 16)
        assert pairs.skipped == ("absent",)
        assert [pair.name for pair in pairs][:4] == ["a:0>1", "a:1>2", "a:0>2", "a:2>3"]
        assert pairs[-1].name == pairs[15].name == "b:0>3"
        np.testing.assert_array_equal(pairs[-1].search, pairs[15].search)
        assert len([*pairs]) == 16
        with pytest.raises(IndexError):
            pairs[16]


def test_eight_pairs_are_enough(nano):
    with sample_pairs(nano, [clip()], 8) as pairs:
        assert len(pairs) == 8


# --- cost


def test_frames_are_read_in_order_and_only_as_far_as_needed(nano):
    boxes = np.vstack([clip(count=30).truth_xywh, np.full((10, 4), np.nan)])
    sequences = [clip("a", boxes=boxes), clip("absent", boxes=np.full((9, 4), np.nan))]
    with sample_pairs(nano, sequences, 435) as pairs:
        assert len(pairs) == 435
    assert sequences[0].read == [1, 30], "the first frame for its size, then all that are needed"
    assert sequences[1].read == [1]


def test_crops_stay_on_disk_as_bytes(nano):
    """200 pairs are 49 MB as bytes and 195 MB as float32; sampling them takes less than 8 MB."""
    sequence, count = clip(), 200
    tracemalloc.start()
    with sample_pairs(nano, [sequence], count) as pairs:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        stored = pairs._crops._bytes
        assert isinstance(stored, np.memmap)
        assert stored.dtype == np.uint8
        assert stored.shape == (count, 3 * (127**2 + 255**2))
        assert peak < 8e6
        pair = pairs[0]
        pair.search[:] = 0
        assert pairs[0].search.any(), "a pair is the caller's to change"


def test_closed_pairs_say_so_and_leave_no_file(nano):
    pairs = sample_pairs(nano, [clip()], 10)
    pair, file = pairs[3], pairs._crops._file
    for _ in range(2):
        pairs.close()
    assert file.closed
    assert pair.template.any()
    with pytest.raises(CalibrationError, match=r"pairs are closed: received pair 3 after close\(\)"):
        pairs[3]


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_where_it_is_wanted(nano, capsys, monkeypatch, progress):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    sample_pairs(nano, [clip("Man", count=8)], 28, progress=progress).close()
    out, err = capsys.readouterr()
    assert out == ""
    assert ("Man" in err and "8/8" in err) == progress


# --- sequences with one box


def test_labels_replace_what_is_not_known_and_nothing_else(nano):
    whole = clip("whole"), clip("short", seed=2)
    asked = []

    def label(sequence):
        asked.append(sequence.name)
        return whole[1].truth_xywh.tolist()

    with sample_pairs(nano, whole, 30) as expected, sample_pairs(
        nano, [whole[0], first_box_of(whole[1])], 30, label=label
    ) as found:  # fmt: skip
        assert asked == ["short"]
        for a, b in zip(expected, found, strict=True):
            assert (a.name, a.state, a.truth_xywh) == (b.name, b.state, b.truth_xywh)
            assert a.search.tobytes() == b.search.tobytes()


def test_the_tracker_labels_what_it_tracks(tiny_bundle, short_video, monkeypatch, capsys):
    (sequence,) = open_sequences([f"{short_video.path}:{short_video.init}"])
    boxes = labels_by_tracking(tiny_bundle, threads=1)(sequence)
    assert capsys.readouterr().err == ""
    with Tracker.load(tiny_bundle, "onnxruntime", threads=1) as tracker:
        frames = list(sequence.open())
        tracker.init(frames[0], short_video.boxes_xywh[0])
        expected = [tracker.update(frame).box_xywh for frame in frames[1:]]
    np.testing.assert_array_equal(boxes, [short_video.boxes_xywh[0], *expected])
    update, calls = Tracker.update, []

    def losing(tracker, frame):
        calls.append(0)
        return dataclasses.replace(update(tracker, frame), ok=len(calls) != 4)

    monkeypatch.setattr(Tracker, "update", losing)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    lost = labels_by_tracking(tiny_bundle, threads=1, progress=True)(sequence)
    assert np.isnan(lost).all(axis=1).tolist() == [number == 4 for number in range(12)]
    assert "12/12" in capsys.readouterr().err
    with sample_pairs(load_manifest(tiny_bundle), [sequence], 99, label=lambda _: lost) as pairs:
        assert not {4, 5} & {frames_of(pair)[2] for pair in pairs}
        assert all(pair.truth_xywh == tuple(lost[frames_of(pair)[2]]) for pair in pairs)
