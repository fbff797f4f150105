"""`siamtrt eval`, killed twice and run again, leaves what an undisturbed run leaves."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest

from siamtrt.benchmarks.kill_eval import (
    Trial,
    as_table,
    evaluation_command,
    fingerprint,
    finished,
    kill_trials,
    run_until,
)
from siamtrt.errors import SiamtrtError


@pytest.fixture
def dataset(short_video, tmp_path):
    """Three videos of 12, 60 and 120 frames beside their boxes."""
    root = tmp_path / "data"
    root.mkdir()
    for repeats, name in ((1, "short"), (5, "middle"), (10, "long")):
        writer = cv2.VideoWriter(str(root / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (320, 240))
        for frame in np.tile(short_video.frames, (repeats, 1, 1, 1)):
            writer.write(frame)
        writer.release()
        np.savetxt(root / f"{name}.txt", np.tile(short_video.boxes_xywh, (repeats, 1)), delimiter=",")
    return root


@pytest.mark.skipif(os.name != "posix", reason="kills processes by their id")
def test_two_kills(tiny_bundle, dataset, tmp_path):
    """While the second and the third sequence are tracked."""
    command = evaluation_command(tiny_bundle, dataset)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    assert run_until(command, undisturbed, lambda _: False) is None
    for count in (1, 2):
        assert run_until(command, killed, lambda _, count=count: len(finished(killed)) >= count) > 0
        assert len(finished(killed)) == count
        assert not (killed / "results" / "scores.json").exists()
    assert run_until(command, killed, lambda _: False) is None
    assert fingerprint(killed) == fingerprint(undisturbed)
    names = {f"tiny/{name}.txt" for name in ("short", "middle", "long")}
    assert fingerprint(killed).keys() == {"scores.json", "scores.md", "tiny/run.json", *names}


def test_an_evaluation_that_fails_is_no_trial(tiny_bundle, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(SiamtrtError, match=r"evaluation failed: received exit code 2: .*source without boxes"):
        kill_trials(tiny_bundle, tmp_path / "data", tmp_path / "runs", trials=1)


def test_times_are_all_that_may_differ(tmp_path):
    def written(name, seconds, boxes="1,2,3,4\n", ms=2.0):
        root = tmp_path / name / "results"
        (root / "a" / "times").mkdir(parents=True)
        (root / "a" / "one.txt").write_text(boxes)
        (root / "a" / "times" / "one_time.txt").write_text(seconds)
        report = {"trackers": [{"name": "a", "AO": 0.5, "update_ms": {"one": ms}}]}
        (root / "scores.json").write_text(json.dumps(report))
        return fingerprint(tmp_path / name)

    first = written("first", "0\n0.1\n")
    assert first == written("second", "0\n0.2\n", ms=3.0)
    assert first != written("third", "0\n0.1\n", boxes="1,2,3,5\n")
    (tmp_path / "second" / "results" / "a" / ".left.txt").touch()
    assert first != fingerprint(tmp_path / "second")


def test_the_table():
    table = as_table([Trial((1.25, 2.0), (0, 3), ()), Trial((0.5,), (1,), ("a/one.txt",))])
    assert table.splitlines()[2:] == ["| 1 | 1.2, 2.0 | 0, 3 | none |", "| 2 | 0.5 | 1 | a/one.txt |"]
