"""CPU time of an evaluation by part."""

from __future__ import annotations

import time

import numpy as np
import pytest

from siamtrt.benchmarks.eval_overhead import (
    DECODING,
    OPENING,
    THREADS,
    TRACKING,
    Meter,
    Overhead,
    as_table,
    measure_overhead,
)
from siamtrt.benchmarks.evaluate import evaluate_bundles
from siamtrt.runtime import sources
from siamtrt.runtime.tracker import Tracker


def busy(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_the_meter_counts_calls_and_the_steps_of_a_generator():
    def frames(count):
        for _ in range(count):
            busy(0.02)
            yield np.zeros(1)

    meter = Meter()
    for _ in meter.frames(DECODING, frames)(3):
        busy(0.02)  # what the loop does is no decoding
    assert meter.calls(TRACKING, lambda seconds: busy(seconds) or "done")(seconds=0.05) == "done"
    assert 0.06 <= meter.seconds[DECODING] < 0.1
    assert 0.05 <= meter.seconds[TRACKING] < 0.07
    time.sleep(0.02)
    assert meter.seconds[OPENING] == 0


def test_the_evaluation_is_the_usual_one(tiny_bundle, short_video, tmp_path):
    np.savetxt(tmp_path / "short.txt", short_video.boxes_xywh, delimiter=",")
    video = tmp_path / "short.avi"
    video.write_bytes(short_video.path.read_bytes())
    before = Tracker.init, Tracker.update, Tracker.load, sources._read, sources._read_images
    overhead = measure_overhead(tiny_bundle, video, tmp_path / "measured")
    assert before == (Tracker.init, Tracker.update, Tracker.load, sources._read, sources._read_images)
    assert set(overhead.parts_s) == {OPENING, TRACKING, DECODING, THREADS}
    assert min(overhead.parts_s[name] for name in (OPENING, TRACKING, DECODING)) > 0
    assert 0 < overhead.other_s < overhead.total_s
    evaluate_bundles([tiny_bundle], video, tmp_path / "usual")
    boxes = [(tmp_path / name / "tiny" / "short.txt").read_bytes() for name in ("measured", "usual")]
    assert boxes[0] == boxes[1]


def test_the_table():
    overhead = Overhead(10.0, {OPENING: 1.0, TRACKING: 6.0, DECODING: 2.6})
    assert overhead.other_s == pytest.approx(0.4)
    assert "| init and update | 6.000 | 60.0% |" in as_table(overhead)
    assert "| **all else** | 0.400 | 4.0% |" in as_table(overhead)
