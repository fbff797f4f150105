"""What loss detection is fitted to: changed videos, the evidence of their boxes, wrong places and other videos."""

from __future__ import annotations

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
from loss_data import evidence_of, save_frames, write_videos

from siamtrt.boxes import iou
from siamtrt.errors import TrainingError
from siamtrt.runtime.state import state_from_box
from siamtrt.runtime.tracker import Tracker
from siamtrt.runtime.watched import WatchedTracker
from siamtrt.training import loss_evidence
from siamtrt.training.loss_evidence import (
    CHANGES,
    Change,
    Clip,
    Witness,
    collected,
    followed,
    misplaced,
    tracks_of,
)
from siamtrt.training.tracks import Track


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("change", [*CHANGES, Change(True, 3, (0, 2, 1))])
def test_box_goes_where_the_target_goes(tmp_path, change, scale):
    frame = np.zeros((60, 100, 3), np.uint8)
    frame[10:30, 40:80] = 10, 100, 200
    cv2.imwrite(str(tmp_path / "0.png"), frame)
    clip = Clip([str(tmp_path / "0.png")], np.array([[40.0, 10, 40, 20]]), change, scale)
    shown, box = clip.shown(0)
    size = (60, 100) if change.quarter_turns % 2 == 0 else (100, 60)
    assert shown.shape == (int(size[0] * scale), int(size[1] * scale), 3)
    rows, columns = np.nonzero(shown.any(axis=2))
    assert box.tolist() == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert shown[rows[0], columns[0]].tolist() == [(10, 100, 200)[channel] for channel in change.channels]
    corner = shown[rows.min() :, columns.min() :][: np.ptp(rows) + 1, : np.ptp(columns) + 1]
    assert (corner == corner[0, 0]).all()


def test_a_mirrored_frame_is_turned_afterwards(tmp_path):
    frame = np.zeros((2, 3, 3), np.uint8)
    frame[0, 0], frame[0, 2] = 50, 100
    cv2.imwrite(str(tmp_path / "0.png"), frame)
    shown, _ = Clip([str(tmp_path / "0.png")], np.array([[0.0, 0, 1, 1]]), Change(True, 1)).shown(0)
    # 50 . 100   100 . 50    . 100
    # .  .  . -> .   .  . -> .  .   clockwise
    #                        . 50
    assert shown[..., 0].tolist() == [[0, 100], [0, 0], [0, 50]]


@pytest.fixture(scope="module")
def witness():
    with Witness.load(threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def clips(short_video, tmp_path_factory):
    """The short video, and a foreign one of other size without its target."""
    names, other = save_frames(short_video.frames, tmp_path_factory.mktemp("clips"))
    return Clip(names, short_video.boxes_xywh), Clip([other] * 3, np.zeros((3, 4)))


def test_evidence_is_that_of_a_watched_tracker(witness, clips):
    """While it follows, and in the first frame after a cut: the same numbers, not nearly so."""
    clip, foreign = clips
    found = list(followed(witness, clip, 8, foreign))
    assert [held for _, held in found] == [True] * 7 + [False] * 3 + [True] * 4
    with WatchedTracker.load(threads=1) as watched:
        watched.init(clip.shown(0)[0], clip.boxes_xywh[0].tolist())
        results = [watched.update(clip.shown(number)[0]) for number in range(1, 8)]
        assert {result.status for result in results} == {"locked"}
        gone = cv2.resize(foreign.shown(0)[0], clip.shown(0)[0].shape[1::-1], interpolation=cv2.INTER_AREA)
        results.append(watched.update(gone))
    assert [evidence for evidence, _ in found[:8]] == [result.evidence for result in results]


def test_after_a_cut_it_goes_on_as_if_there_had_been_none(witness, clips):
    clip, foreign = clips
    cut = list(followed(witness, clip, 8, foreign))
    whole = list(followed(witness, clip, 8, Clip([], np.zeros((0, 4)))))
    assert cut[:7] + cut[10:] == whole


@pytest.fixture
def asked(monkeypatch):
    """Every frame and state that a witness is asked about, and what it finds."""
    calls, judged = [], Witness.judged

    def noted(self, frame, state):
        calls.append((frame, state, judged(self, frame, state)))
        return calls[-1][2]

    monkeypatch.setattr(Witness, "judged", noted)
    return calls


def test_it_follows_as_a_plain_tracker(witness, clips, asked):
    """The clip, and the foreign frames from where the cut has left it."""
    clip, foreign = clips
    list(followed(witness, clip, 8, foreign))
    with Tracker.load(threads=1) as plain:
        for calls, frames in ((asked[:10], (*range(1, 8), *[None] * 3)), (asked[:7] + asked[10:], range(1, 12))):
            plain.init(clip.shown(0)[0], clip.boxes_xywh[0].tolist())
            for (frame, _, found), number in zip(calls, frames, strict=True):
                assert number is None or np.array_equal(frame, clip.shown(number)[0])
                assert plain.update(frame).box_xywh == found.state.box_xywh


def test_a_box_beside_the_target_is_neither(witness, clips):
    """Two thirds of a side away it overlaps too little to hold the target; nothing is learned from it."""
    clip = clips[0]
    aside = dataclasses.replace(clip, boxes_xywh=clip.boxes_xywh.copy())
    aside.boxes_xywh[1:, 0] += clip.boxes_xywh[1:, 2] * 2 / 3
    assert not list(followed(witness, aside, 8, Clip([], np.zeros((0, 4)))))
    assert witness._watch.recent is witness._watch.first


def test_wrong_places_show_what_is_not_the_target(witness, clips, asked):
    """From frames 3 and 9, two steps each; nothing where the target leaves no place without it."""
    clip = clips[0]
    witness.init(clip.shown(0)[0], clip.boxes_xywh[0].tolist())
    found, missed = list(misplaced(witness, clip, np.random.default_rng(0))), []
    for number, first, second in zip((3, 9), asked[::2], asked[1::2], strict=True):
        shown, box = clip.shown(number)
        assert iou(np.array(first[1].box_xywh), box) == 0
        assert first[1].size_wh == tuple(box[2:])
        assert second[1] is first[2].state
        for frame, _, result in (first, second):
            assert np.array_equal(frame, shown)
            if iou(np.array(result.state.box_xywh), box) < 0.1:
                missed.append((result.evidence, False))
    assert found == missed
    filling = dataclasses.replace(clip, boxes_xywh=np.tile([-400.0, -400, 1200, 1200], (12, 1)))
    assert not list(misplaced(witness, filling, np.random.default_rng(0)))


def test_what_finds_the_target_from_a_wrong_place_is_no_sample(witness, clips, monkeypatch):
    clip = clips[0]
    witness.init(clip.shown(0)[0], clip.boxes_xywh[0].tolist())
    monkeypatch.setattr(loss_evidence, "_away_from", lambda box, *_: state_from_box(tuple(box)))
    assert not list(misplaced(witness, clip, np.random.default_rng(0)))


def track(name, frames, side=40.0):
    boxes = np.tile([5.0, 5, side, side], (frames, 1))
    return Track(tuple(f"{name}/{n}.png" for n in range(frames)), boxes, name)


def test_runs_of_a_video(monkeypatch):
    """Its own size forwards and backwards, then changed and shrunk; another video in between; all from the seed."""
    runs = []
    monkeypatch.setattr(loss_evidence, "followed", lambda _, *run: runs.append(run) or [(evidence_of((0,) * 4), True)])
    monkeypatch.setattr(loss_evidence, "misplaced", lambda *_: [])
    tracks = [track(f"video {n}", 80 if n == 0 else 30, side=15.0 if n == 1 else 8.0 if n == 2 else 100.0)
              for n in range(6)]  # fmt: skip
    samples = collected(None, tracks, 0)
    assert len(runs) == 60
    assert [sample.group for sample in samples] == [f"video {n // 10}" for n in range(60)]
    for number, (clip, cut, foreign) in enumerate(runs):
        own = tracks[number // 10]
        forwards = list(clip.images if number % 2 == 0 else clip.images[::-1])
        begin = own.images.index(forwards[0])
        assert forwards == list(own.images[begin : begin + 60])
        assert len(forwards) == min(60, len(own.images))
        assert len(forwards) // 3 <= cut < len(forwards)
        assert clip.change == (CHANGES[0], *CHANGES)[number % 10 // 2]
        assert foreign.images[0].split("/")[0] != own.group
        assert (len(foreign.images), foreign.scale) == (20, 1.0)
    scales = [[clip.scale for clip, *_ in runs[10 * n : 10 * n + 10]] for n in range(6)]
    assert {scale for of in scales for scale in of[:2]} == {1.0}
    assert set(scales[1]) == {1.0, 0.8}, "a target is not made smaller than 12 pixels"
    assert set(scales[2]) == {1.0}, "nor larger"
    assert {0.2, 0.35, 0.6, 1.0} == {scale for of in scales[3:] for scale in of}
    assert len({clip.images[0] for clip, *_ in runs[:10:2]}) > 1, "of a long video another part each time"
    first = [(list(clip.images), clip.scale, cut, foreign.images, foreign.change) for clip, cut, foreign in runs]
    for seed, same in ((0, True), (1, False)):
        runs.clear()
        collected(None, tracks, seed)
        again = [(list(clip.images), clip.scale, cut, foreign.images, foreign.change) for clip, cut, foreign in runs]
        assert (again == first) is same


def test_the_same_evidence_from_the_same_seed(toy, data, monkeypatch):
    monkeypatch.setattr(loss_evidence, "RUNS", 4)
    tracks = tracks_of(data, 40, 0)[:2]
    with Witness.load(toy, threads=1) as witness:
        first, again, other = (collected(witness, tracks, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert {sample.group for sample in first} == {"video 0", "video 1"}
    assert {sample.held for sample in first} == {True, False}


def test_outputs_that_are_not_finite_are_no_evidence(toy, clips, monkeypatch):
    clip, foreign = clips
    with Witness.load(toy, threads=1) as witness:
        session = witness._sessions["search"]
        monkeypatch.setattr(session, "_run", lambda feeds: {
            "cls": np.full((1, 2, 9, 9), np.nan, np.float32), "loc": np.ones((1, 4, 9, 9), np.float32),
        })  # fmt: skip
        assert not list(followed(witness, clip, 4, foreign))
        assert not list(misplaced(witness, clip, np.random.default_rng(0)))


def test_videos_are_chosen(tmp_path, data):
    assert [track.group for track in tracks_of(data, 40, 0)] == [f"video {n}" for n in range(5)]
    assert [track.group for track in tracks_of(data / "annotations.json", 40, 0)] == [f"video {n}" for n in range(5)]
    many = write_videos(tmp_path / "many", 9)
    drawn = [[track.group for track in tracks_of(many, 5, seed)] for seed in (0, 0, 1, 2)]
    assert {len(set(groups)) for groups in drawn} == {5}
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2] or drawn[0] != drawn[3]
    content = json.loads((many / "annotations.json").read_text())
    content["videos"] += [{**content["videos"][0], "frames": content["videos"][1]["frames"]}]
    (many / "annotations.json").write_text(json.dumps(content))
    assert sorted(track.group for track in tracks_of(many, 40, 0)) == [f"video {n}" for n in range(9)], "one a group"


def test_sequences_are_read_too(tmp_path):
    for number in range(5):
        folder = write_videos(tmp_path / "data" / f"walk{number}", 1)
        (folder / "annotations.json").unlink()
        (folder / "groundtruth.txt").write_text("\n".join(f"{20 + 4 * n},30,24,30" for n in range(10)))
    assert [len(track.images) for track in tracks_of(tmp_path / "data", 40, 0)] == [10] * 5


@pytest.mark.parametrize("fault", ["frame size changed: 60x50", "target box outside the frame"])
def test_a_video_that_cannot_be_followed_is_named(toy, data, tmp_path, fault):
    damaged = shutil.copytree(data, tmp_path / "damaged")
    if "size" in fault:
        cv2.imwrite(str(damaged / "2_5.png"), np.zeros((50, 60, 3), np.uint8))
    else:
        content = json.loads((damaged / "annotations.json").read_text())
        content["videos"][2]["frames"][0]["box"] = [900, 30, 24, 30]
        (damaged / "annotations.json").write_text(json.dumps(content))
    with Witness.load(toy, threads=1) as witness, pytest.raises(TrainingError, match=rf"received video 2 \({fault}"):
        collected(witness, tracks_of(damaged, 40, 0)[2:], 0)
