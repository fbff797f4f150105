"""`siamtrt eval BUNDLE...`: files as the tracker gives them, at any number of workers and after any interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="exporting the bundle needs the export extra")

from folders import snapshot, untimed, write_sequence

from siamtrt.benchmarks import workers
from siamtrt.benchmarks.evaluate import Options, evaluate_bundles
from siamtrt.benchmarks.metrics import success_auc
from siamtrt.benchmarks.otb_files import read_boxes
from siamtrt.benchmarks.protocols import Protocol
from siamtrt.benchmarks.result_files import find_files
from siamtrt.benchmarks.score_results import score_results
from siamtrt.benchmarks.tasks import Task
from siamtrt.benchmarks.workers import run_tasks
from siamtrt.cli import main
from siamtrt.errors import FrameError, ResultsError, SiamtrtError
from siamtrt.runtime.sequences import find_sequences
from siamtrt.runtime.track import tracked_frames
from siamtrt.runtime.tracker import Tracker

NAMES = ("Ball", "Car.2", "boat-1")  # with what the toolkits write otherwise in a file's name


@pytest.fixture(scope="module")
def dataset(short_video, tmp_path_factory):
    """Three parts of the short video, of 4, 6 and 8 frames; the target is hidden in one."""
    root = tmp_path_factory.mktemp("dataset")
    for count, name in zip((4, 6, 8), NAMES, strict=True):
        boxes = short_video.boxes_xywh[-count:].copy()
        boxes[2] = np.nan if count == 6 else boxes[2]
        write_sequence(root / name, short_video.frames[-count:], boxes)
    return root


@pytest.fixture(scope="module")
def undisturbed(tiny_bundle, dataset, tmp_path_factory):
    """What one run in one process leaves."""
    results = tmp_path_factory.mktemp("undisturbed") / "results"
    evaluate_bundles([tiny_bundle], dataset, results)
    return results


def command(*arguments):
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def test_the_files_hold_the_trackers_boxes(tiny_bundle, dataset, undisturbed):
    found = find_files(undisturbed / "tiny")
    with Tracker.load(tiny_bundle, "onnxruntime", threads=1) as tracker, found.open() as opened:
        for sequence in find_sequences(dataset):
            truth = sequence.truth_xywh
            tracked = tracked_frames(tracker, sequence.open(), lambda _, truth=truth: truth[0].tolist())
            expected = [frame.box_xywh for frame in tracked]
            np.testing.assert_array_equal(read_boxes(opened, f"{sequence.name}.txt", len(truth)), expected)
            times = np.loadtxt(undisturbed / "tiny" / "times" / f"{sequence.name}_time.txt")
            assert len(times) == len(truth)
            assert times[0] == 0
            assert (times[1:] > 1e-5).all()


def test_the_table_is_the_one_of_the_files(tiny_bundle, dataset, undisturbed, tmp_path):
    results = shutil.copytree(undisturbed, tmp_path / "results")
    run = command(tiny_bundle, "--dataset", dataset, "-o", results)
    assert run.exit_code == 0, run.output
    again = command("--results", results, "--dataset", dataset)
    table = run.stdout[: run.stdout.index("wrote")]
    assert table == again.stdout
    assert re.search(r"\| tracker \| success AUC \| precision at 20 px \| normalised precision \|", table)
    report = json.loads((results / "scores.json").read_text())
    (tracker,) = report["trackers"]
    evaluation = score_results(results, dataset)
    for name, row in evaluation.trackers[0].sequences.items():
        assert list(tracker["sequences"][name].values()) == list(row)
    truth = {sequence.name: sequence.truth_xywh for sequence in find_sequences(dataset)}
    boxes = np.loadtxt(results / "tiny" / "Car.2.txt", delimiter=",")
    assert tracker["sequences"]["Car.2"]["success AUC"] == success_auc(boxes, truth["Car.2"])
    mean = np.mean([row[0] for row in evaluation.trackers[0].sequences.values()])
    assert tracker["success AUC"] == pytest.approx(mean)
    for name in NAMES:
        seconds = np.loadtxt(results / "tiny" / "times" / f"{name}_time.txt")[1:]
        assert tracker["update_ms"][name] == pytest.approx(1e3 * np.median(seconds))
    assert "| boat-1 |" in (results / "scores.md").read_text()


def test_two_bundles_have_a_line_each(tiny_bundle, dataset, undisturbed, tmp_path):
    results = shutil.copytree(undisturbed, tmp_path / "results")
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    evaluation = evaluate_bundles([tiny_bundle, other], dataset, results)
    assert {row.name for row in evaluation.trackers} == {"tiny", "other"}
    assert evaluation.trackers[0].scores == evaluation.trackers[1].scores
    assert (results / "other" / "Ball.txt").read_bytes() == (results / "tiny" / "Ball.txt").read_bytes()


# --- interrupted and continued


@pytest.fixture
def tracked(monkeypatch):
    """Names of the sequences that are tracked from now on, in this process."""
    names = []
    attempt = workers._attempt

    def counted(task, cache, parent=None):
        names.append(task.sequence.name)
        return attempt(task, cache, parent)

    monkeypatch.setattr(workers, "_attempt", counted)
    return names


def test_only_what_is_missing_is_done(tiny_bundle, dataset, undisturbed, tmp_path, tracked):
    results = shutil.copytree(undisturbed, tmp_path / "results")
    evaluate_bundles([tiny_bundle], dataset, results)
    assert tracked == []
    (results / "tiny" / "Ball.txt").unlink()
    (results / "tiny" / "boat-1.txt").write_text("")  # a disk that was full
    (results / "tiny" / ".Ball.k1ll3d.txt").write_text("1,2")
    (results / "tiny" / "times" / ".Ball_time.k1ll3d.txt").write_text("1")
    (results / "tiny" / ".run.k1ll3d.json").write_text("{")
    evaluate_bundles([tiny_bundle], dataset, results)
    assert tracked == ["boat-1", "Ball"]  # the longest first
    assert untimed(results) == untimed(undisturbed)
    assert not list((results / "tiny" / "times").glob(".*"))


def test_trackers_take_one_thread(tiny_bundle, dataset, tmp_path, monkeypatch):
    """With more, sums in another order could give other boxes on another number of cores."""
    asked, load = [], Tracker.load
    monkeypatch.setattr(Tracker, "load", lambda *args, **named: asked.append(named["threads"]) or load(*args, **named))
    evaluate_bundles([tiny_bundle], dataset, tmp_path / "results")
    assert set(asked) == {1}
    assert json.loads((tmp_path / "results" / "tiny" / "run.json").read_text())["options"]["threads"] == 1


def test_workers_write_the_same_and_name_what_fails(tiny_bundle, dataset, undisturbed, tmp_path):
    spoiled = shutil.copytree(dataset, tmp_path / "spoiled")
    cv2.imwrite(str(spoiled / "Ball" / "img" / "0003.png"), np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(FrameError, match=r"^tiny on Ball: frame size changed: received 10x10; expected 320x240"):
        evaluate_bundles([tiny_bundle], spoiled, tmp_path / "results", Options(workers=2))
    assert not (tmp_path / "results" / "tiny" / "Ball.txt").exists()
    shutil.copy(dataset / "Ball" / "img" / "0003.png", spoiled / "Ball" / "img" / "0003.png")
    evaluate_bundles([tiny_bundle], spoiled, tmp_path / "results", Options(workers=3))
    assert untimed(tmp_path / "results") == untimed(undisturbed)


def test_a_mistake_of_ours_keeps_its_traceback(tiny_bundle, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "run_sequence", lambda *_: 1 / 0)
    tasks = [Task(tiny_bundle, "onnxruntime", find_sequences(dataset)[0], tmp_path, "tiny", Protocol())]
    with pytest.raises(RuntimeError, match=r"(?s)tiny on Ball: Traceback .*ZeroDivisionError"):
        list(run_tasks(tasks, 1))


@pytest.mark.skipif(os.name != "posix", reason="kills processes by their id")
def test_killed_and_run_again(tiny_bundle, short_video, undisturbed, dataset, tmp_path):
    """Killed after the first file; its workers end by themselves, and the next run does only what is missing."""
    longer = shutil.copytree(dataset, tmp_path / "longer")
    frames, boxes = np.tile(short_video.frames, (20, 1, 1, 1)), np.tile(short_video.boxes_xywh, (20, 1))
    write_sequence(longer / "long", frames, boxes)
    results = tmp_path / "results"
    arguments = ["eval", tiny_bundle, "--dataset", longer, "-o", results, "--workers", "2"]
    process = subprocess.Popen([sys.executable, "-m", "siamtrt.cli", *map(str, arguments)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not (done := list(results.glob("tiny/[!.]*.txt"))) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        children = _children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert done
    assert len(children) >= 2
    while any(map(_lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, children))
    assert not (results / "tiny" / "long.txt").exists()
    kept = {path: path.stat().st_mtime_ns for path in results.glob("tiny/[!.]*.txt")}
    shutil.rmtree(longer / "long")
    evaluate_bundles([tiny_bundle], longer, results)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert untimed(results) == untimed(undisturbed)


def _children(pid):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def _lives(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


# --- other results in the folder


@pytest.fixture
def results(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "results")


def test_another_bundle_of_that_name(tiny_bundle, dataset, results, tmp_path):
    other = shutil.copytree(tiny_bundle, tmp_path / "sub" / "tiny")
    evaluate_bundles([other], dataset, results)  # the same elsewhere is welcome
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["tracking"]["window_influence"] = 0.11
    (other / "manifest.json").write_text(json.dumps(manifest))
    before = snapshot(results)
    with pytest.raises(ResultsError, match=r"another run of that name: received bundle_sha256 .* Fix: give another"):
        evaluate_bundles([other], dataset, results)
    assert snapshot(results) == before


@pytest.mark.parametrize(
    ("part", "key", "value"), [("options", "backend", "tensorrt"), ("versions", "onnxruntime", "1.0"),
                               ("versions", "gpu", "H100")],
)  # fmt: skip
def test_results_of_another_option_or_version(tiny_bundle, dataset, results, part, key, value):
    record = json.loads((results / "tiny" / "run.json").read_text())
    record[part][key] = value
    (results / "tiny" / "run.json").write_text(json.dumps(record))
    with pytest.raises(ResultsError, match=f"received {key} {value} in "):
        evaluate_bundles([tiny_bundle], dataset, results)


def test_results_that_say_nothing_of_their_making(tiny_bundle, dataset, results):
    (results / "tiny" / "run.json").unlink()
    with pytest.raises(ResultsError, match=r"received Ball.txt without run.json"):
        evaluate_bundles([tiny_bundle], dataset, results)


def test_results_of_another_dataset(tiny_bundle, dataset, results, tmp_path):
    other = shutil.copytree(dataset, tmp_path / "other")
    lines = (other / "Ball" / "groundtruth_rect.txt").read_text().splitlines()
    (other / "Ball" / "groundtruth_rect.txt").write_text("\n".join(["1,2,30,40", *lines[1:]]) + "\n")
    with pytest.raises(ResultsError, match=r"results of another dataset: received 4 frames from \[92.0, .*Ball.txt"):
        evaluate_bundles([tiny_bundle], other, results)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")
def test_one_evaluation_at_a_time(tiny_bundle, dataset, results):
    from siamtrt.benchmarks.run_files import locked

    with locked(results, ["tiny"]), pytest.raises(ResultsError, match="another evaluation writes there"):
        evaluate_bundles([tiny_bundle], dataset, results)
    evaluate_bundles([tiny_bundle], dataset, results)


# --- first boxes only


def test_without_ground_truth_the_boxes_are_written(tiny_bundle, short_video, tmp_path):
    folder = tmp_path / "test" / "GOT-10k_Test_000001"
    folder.mkdir(parents=True)
    for number, frame in enumerate(short_video.frames[:3]):
        cv2.imwrite(str(folder / f"{number:08d}.jpg"), frame)
    (folder / "groundtruth.txt").write_text("60,80,40,40\n")
    for _ in range(2):
        run = command(tiny_bundle, "--dataset", tmp_path / "test", "-o", tmp_path / "results")
        assert run.exit_code == 0, run.output
        assert "boxes only" in run.stdout
    assert len((tmp_path / "results" / "tiny" / folder.name / f"{folder.name}_001.txt").read_text().splitlines()) == 3


# --- what is refused, before anything is written


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{bundle}", "--dataset", "{data}"], "received bundles without -o"),
        (["--dataset", "{data}"], "received neither bundles nor --results"),
        (["{bundle}", "--results", "{data}", "--dataset", "{data}"], "received both bundles and --results"),
        (["{bundle}", "--dataset", "{data}", "-o", "new", "--interval", "2", "3"], "which is VOT's"),
        (["{bundle}", "--dataset", "missing", "-o", "new"], "no such source: received missing"),
        (["{data}", "--dataset", "{data}", "-o", "new"], "not a bundle"),
        (["{bundle}", "{bundle}", "--dataset", "{data}", "-o", "new"], "two trackers of one name: received tiny twice"),
        (["{bundle}", "--dataset", "{data}", "-o", "new", "--layout", "NfS30"], "received --layout NfS30 for"),
        (["{bundle}", "--dataset", "{data}", "-o", "new", "--backend", "tensorrt"], "engine"),
    ],
)
def test_refused(tiny_bundle, dataset, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    run = command(*(part.format(bundle=tiny_bundle, data=dataset) for part in arguments))
    assert run.exit_code == 2, run.output
    assert len(run.stderr.splitlines()) == 1
    assert says in run.stderr
    assert not list(tmp_path.iterdir())


def test_a_name_twice_asks_for_the_layout(tiny_bundle, dataset, short_video, tmp_path):
    both = shutil.copytree(dataset, tmp_path / "both")
    shutil.copy(short_video.path, both / "ball.avi")
    (both / "ball.txt").write_text("\n".join(",".join(map(str, box)) for box in short_video.boxes_xywh) + "\n")
    with pytest.raises(ResultsError, match=r"a sequence twice: received Ball, ball .*--layout OTB or video"):
        evaluate_bundles([tiny_bundle], both, tmp_path / "results")
    assert issubclass(ResultsError, SiamtrtError)
    evaluation = evaluate_bundles([tiny_bundle], both, tmp_path / "results", Options(layout="video"))
    assert list(evaluation.trackers[0].sequences) == ["ball"]
