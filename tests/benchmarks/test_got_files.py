"""Result files in GOT-10k's layout: written, continued, found. Its toolkit reads them in test_against_got10k."""

from __future__ import annotations

from pathlib import PurePosixPath

import cv2
import numpy as np
import pytest
from folders import snapshot

from siamtrt.benchmarks.evaluate import evaluate_bundles
from siamtrt.benchmarks.got_files import boxes_name, is_run, times_name
from siamtrt.benchmarks.otb_files import find_boxes, find_runs, read_runs, save_boxes
from siamtrt.benchmarks.result_files import find_files
from siamtrt.errors import ResultsError

NAMES = ("GOT-10k_Val_000001", "GOT-10k_Val_000002")
BOX = "1,2,3,4\n"


def test_names():
    assert boxes_name("a", "GOT-10k") == "a/a_001.txt"
    assert times_name("a", "GOT-10k") == "a/a_time.txt"
    assert boxes_name("a", "OTB") == "a.txt"
    assert times_name("a", "OTB") == "times/a_time.txt"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("t/a/a_001.txt", True), ("t/a/a_012.txt", True), ("t/a/a_time.txt", False), ("t/a/b_001.txt", False),
     ("t/a/a_1.txt", False), ("t/a/a.txt", False), ("t/a/a_0001.txt", False), ("Jogging/Jogging_1.txt", False)],
)  # fmt: skip
def test_runs_are_told_by_folder_and_number(path, expected):
    assert is_run(PurePosixPath(path)) is expected


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(BOX * 2)


def test_runs_are_found_in_order(tmp_path):
    write(tmp_path, "ours/a/a_002.txt", "ours/a/a_001.txt", "ours/a/a_time.txt", "ours/b/b_001.txt", "flat/a.txt",
          "flat/b.txt")  # fmt: skip
    files = find_files(tmp_path)
    assert find_runs(files, ["a", "b"]) == {
        "ours": {"a": ["ours/a/a_001.txt", "ours/a/a_002.txt"], "b": ["ours/b/b_001.txt"]},
        "flat": {"a": ["flat/a.txt"], "b": ["flat/b.txt"]},
    }
    assert find_boxes(files, ["a", "b"])["ours"]["a"] == "ours/a/a_001.txt"
    with files.open() as opened:
        assert read_runs(opened, ["ours/a/a_001.txt", "ours/a/a_002.txt"], 2).shape == (2, 2, 4)
    assert set(find_runs(find_files(tmp_path / "ours"), ["a", "b"])) == {"ours"}


@pytest.mark.parametrize("twice", ["ours/a.txt", "ours/A/A_001.txt"])
def test_one_sequence_in_two_places(tmp_path, twice):
    write(tmp_path, "ours/a/a_001.txt", twice)
    with pytest.raises(ResultsError, match="a sequence twice"):
        find_runs(find_files(tmp_path), ["a"])


def test_boxes_are_kept_exactly(tmp_path):
    boxes = np.array([[0.1, 1 / 3, 200.123456789, 1e-5], [1, 2, 3, 4]])
    (path,) = save_boxes(tmp_path, "ours", {"a": boxes}, "GOT-10k")
    assert path == tmp_path / "ours" / "a" / "a_001.txt"
    np.testing.assert_array_equal(np.loadtxt(path, delimiter=","), boxes)


@pytest.fixture
def dataset(short_video, tmp_path):
    for name, count in zip(NAMES, (4, 6), strict=True):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number, frame in enumerate(short_video.frames[:count], start=1):
            cv2.imwrite(str(tmp_path / "data" / name / f"{number:08d}.png"), frame)
        np.savetxt(tmp_path / "data" / name / "groundtruth.txt", short_video.boxes_xywh[:count], "%.4f", ",")
    return tmp_path / "data"


def test_continued_after_a_kill(tiny_bundle, dataset, tmp_path):
    results = tmp_path / "results"
    evaluate_bundles([tiny_bundle], dataset, results)
    before = {path: data for path, data in snapshot(results).items() if "time" not in path}
    first, second = (results / "tiny" / name / f"{name}_001.txt" for name in NAMES)
    kept = second.stat().st_mtime_ns
    first.unlink()
    stale = [first.with_name(f".{first.stem}.k1ll3d.txt"), first.with_name(f".{NAMES[0]}_time.k1ll3d.txt")]
    for path in stale:
        path.write_text("1,2")
    (row,) = evaluate_bundles([tiny_bundle], dataset, results).trackers
    assert {path: data for path, data in snapshot(results).items() if "time" not in path} == before
    assert second.stat().st_mtime_ns == kept
    assert set(row.update_ms) == set(NAMES)
    assert all(value > 0 for value in row.update_ms.values())
    (results / "tiny" / "run.json").unlink()
    with pytest.raises(ResultsError, match=rf"received {NAMES[0]}_001.txt without run.json"):
        evaluate_bundles([tiny_bundle], dataset, results)
