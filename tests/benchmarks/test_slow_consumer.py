"""The slow consumer's figures, on short runs."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from click.testing import CliRunner

from siamtrt.benchmarks.slow_consumer import SIDE, Lag, lag_of_feed, lag_of_queue, main, moving_square, paced

FRAMES = [np.full((4, 6, 3), value, np.uint8) for value in range(5)]


def test_paced_frames_go_to_and_fro_at_their_rate():
    start = time.monotonic()
    frames = paced(FRAMES, 100)
    values = [next(frames)[0, 0, 0] for _ in range(11)]
    assert values == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2]
    assert 0.1 <= time.monotonic() - start < 1.0


def test_the_square_is_in_its_box():
    frames, (x, y, w, h) = moving_square()
    moved = np.abs(frames[0].astype(int) - frames[-1]).max(axis=2) > 0
    assert (w, h) == (SIDE, SIDE)
    assert moved[int(y) : int(y + h), int(x) : int(x + w)].mean() > 0.9


def test_the_newest_frame_stays_new_and_a_queue_grows_old():
    newest = lag_of_feed(lambda frame: None, paced(FRAMES, 200), 1.0, 20)
    every = lag_of_queue(lambda frame: None, paced(FRAMES, 200), 1.0, 20)
    assert newest.holds
    assert newest.latency_ms.min() >= 50
    assert newest.dropped > newest.captured / 2
    assert not every.holds
    assert np.all(np.diff(every.latency_ms) > 0), "each result is later than the one before"
    assert every.latency_ms[-1] > 300


@pytest.mark.parametrize(("p99", "holds"), [(199.0, True), (201.0, False)])
def test_the_bar_is_two_frame_times(p99, holds):
    lag = Lag(np.array([110.0] * 50 + [p99] * 50), 100.0, 60, 50)
    assert lag.holds is holds
    assert f"p99 {p99:.0f} ms ({p99 / 100:.2f})" in lag.line("name")


def test_command():
    result = CliRunner().invoke(main, ["--seconds", "1"])
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    captured, dropped = map(int, re.search(r"(\d+) frames captured, (\d+) dropped", first).groups())
    assert dropped > captured / 2
    assert second.startswith("for contrast")


def test_above_the_bar_it_fails():
    """Updates that take five of the frame times they were to take."""
    lag = lag_of_feed(lambda frame: time.sleep(0.05), paced(FRAMES, 10), 0.5, 100)
    assert not lag.holds
