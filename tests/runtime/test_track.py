"""The tracking loop: what it writes, and how it ends."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from siamtrt.runtime.sources import FrameSource, open_source
from siamtrt.runtime.track import Outputs, track_source
from siamtrt.runtime.tracker import Tracker


@pytest.fixture
def tracker(tiny_bundle):
    with Tracker.load(tiny_bundle, "onnxruntime", threads=1) as tracker:
        yield tracker


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_outputs_hold_every_frame(tracker, short_video, tmp_path):
    outputs = Outputs(tmp_path / "out.mp4", tmp_path / "boxes.csv")
    box = short_video.boxes_xywh[0]
    summary = track_source(tracker, open_source(short_video.path), lambda frame: box, outputs, progress=False)
    assert summary.frames == len(short_video.frames)
    header, *rows = _rows(outputs.boxes)
    assert header == ["frame", "x", "y", "w", "h", "score", "polygon", "status"]
    assert [int(row[0]) for row in rows] == list(range(summary.frames))
    assert [float(value) for value in rows[0][1:5]] == box.tolist()
    video = cv2.VideoCapture(str(outputs.video))
    pictures = [picture for ok, picture in iter(video.read, (False, None)) if ok]
    assert len(pictures) == summary.frames
    difference = np.abs(pictures[0].astype(int) - short_video.frames[0].astype(int)).max(axis=2)
    x, y, _, h = box.astype(int)
    assert difference[y : y + h, x].mean() > 40, "the box is drawn"
    assert difference[: y - 40, 120:].mean() < 20, "far from box and text the frame is as it was"


def _interrupted(frames, live):
    def read():
        yield from frames
        raise KeyboardInterrupt

    return FrameSource("camera", read(), None, live=live)


def test_ctrl_c_keeps_the_recording_of_a_camera(tracker, short_video, tmp_path):
    outputs = Outputs(boxes=tmp_path / "boxes.csv")
    box = short_video.boxes_xywh[0]
    summary = track_source(tracker, _interrupted(short_video.frames, live=True), lambda frame: box, outputs, False)
    assert summary.frames == len(short_video.frames)
    assert len(_rows(outputs.boxes)) == 1 + summary.frames


def test_ctrl_c_discards_part_of_a_file(tracker, short_video, tmp_path):
    outputs = Outputs(boxes=tmp_path / "boxes.csv")
    box = short_video.boxes_xywh[0]
    with pytest.raises(KeyboardInterrupt):
        track_source(tracker, _interrupted(short_video.frames, live=False), lambda frame: box, outputs, False)
    assert list(tmp_path.iterdir()) == []


def test_folders_are_read_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 1, 2):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), np.full((4, 4, 3), number, np.uint8))
    source = open_source(tmp_path)
    assert source.length == 4
    assert [int(frame[0, 0, 0]) for frame in source] == [1, 2, 9, 10]
