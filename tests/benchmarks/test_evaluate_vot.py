"""`siamtrt eval BUNDLE... --protocol`: VOT's runs and files, interrupted, by several processes, and scored again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from folders import snapshot
from vot_folders import polygon_line, save_drifting, write_list, write_vot_sequence

from siamtrt.benchmarks import workers
from siamtrt.benchmarks.evaluate import Options, evaluate_bundles
from siamtrt.benchmarks.long_term import long_term_run_of, score_long_term
from siamtrt.benchmarks.regions import corners_of, parse_trajectory
from siamtrt.benchmarks.vot import expected_overlap_curve, run_of
from siamtrt.cli import main
from siamtrt.errors import ResultsError
from siamtrt.runtime.sequences import find_sequences
from siamtrt.runtime.tracker import Tracker

BOX, FAR = (60.0, 80.0, 40.0, 40.0), (270.0, 190.0, 40.0, 40.0)
JUMP = 4  # frame in which the truth of `jumper` goes where no tracker can follow
SUPERVISED, REAL_TIME, LONG_TERM = Options(), Options(protocol="realtime", latency_ms=101.0), Options()


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory):
    return save_drifting(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def dataset(short_video, tmp_path_factory):
    """Polygons: one sequence that stands, one whose target is suddenly elsewhere, one with images beside the truth."""
    root = write_list(tmp_path_factory.mktemp("vot") / "VOT2018", "steady", "jumper", "short")
    frames = short_video.frames
    moved = [*[BOX] * JUMP, *[FAR] * (len(frames) - JUMP)]
    write_vot_sequence(root / "steady", frames, [polygon_line(*BOX)] * 12, occlusion=[0] * 12)
    write_vot_sequence(root / "jumper", frames, [polygon_line(*box) for box in moved])
    write_vot_sequence(root / "short", frames[:6], [polygon_line(*BOX)] * 6, "")
    return root


@pytest.fixture(scope="module")
def long_term_dataset(short_video, tmp_path_factory):
    """Rectangles; the target is absent in three frames."""
    root = write_list(tmp_path_factory.mktemp("lt") / "VOT2018-LT", "away", "there")
    line = ",".join(map(str, BOX))
    write_vot_sequence(root / "away", short_video.frames, [*[line] * 5, *["nan,nan,nan,nan"] * 3, *[line] * 4])
    write_vot_sequence(root / "there", short_video.frames[:7], [line] * 7)
    return root


def run(bundle, dataset, results, options=None):
    options = options or Options()
    interval = None if options.protocol in ("one-pass", "long-term") or "LT" in dataset.name else (2, 6)
    return evaluate_bundles([bundle], dataset, results, Options(**{**vars(options), "interval": interval}))


@pytest.fixture(scope="module")
def supervised(tiny_bundle, dataset, tmp_path_factory):
    """What one supervised run in one process leaves, and its scores."""
    results = tmp_path_factory.mktemp("supervised") / "results"
    return results, run(tiny_bundle, dataset, results)


@pytest.fixture(scope="module")
def long_term(tiny_bundle, long_term_dataset, tmp_path_factory):
    results = tmp_path_factory.mktemp("long_term") / "results"
    return results, run(tiny_bundle, long_term_dataset, results)


def files(results):
    """Everything but times."""
    return {path: data for path, data in snapshot(results).items() if "_time" not in path and "scores" not in path}


def lines(results, *path):
    return results.joinpath("tiny", *path).read_text().splitlines()


def command(*arguments):
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


# --- what is written


def test_the_failure_and_the_next_start_are_where_the_truth_says(supervised):
    """The truth jumps in frame 4: lost there, given again in frame 9, tracked in the two frames left."""
    results, _ = supervised
    jumper = lines(results, "baseline", "jumper", "jumper_001.txt")
    assert len(jumper) == 12
    assert [line for line in jumper if "," not in line] == ["1", "2", "0", "0", "0", "0", "1"]
    assert [index for index, line in enumerate(jumper) if line in "12"] == [0, 4, 9]
    seconds = np.loadtxt(results / "tiny" / "baseline" / "jumper" / "jumper_time.txt")
    np.testing.assert_array_equal(seconds > 0, [line not in "012" or index == 4 for index, line in enumerate(jumper)])


def test_the_regions_are_the_trackers(tiny_bundle, dataset, supervised, short_video):
    results, _ = supervised
    (sequence,) = [found for found in find_sequences(dataset) if found.name == "jumper"]
    written = parse_trajectory("\n".join(lines(results, "baseline", "jumper", "jumper_001.txt"))).regions
    with Tracker.load(tiny_bundle, "onnxruntime", threads=1) as tracker:
        for start, count in ((0, 4), (9, 3)):
            box = sequence.truth_xywh[start]
            assert box.tolist() == [*(FAR if start else BOX)[:2], 41, 41]  # a pixel more than between the corners
            tracker.init(short_video.frames[start], box)
            for index in range(start + 1, start + count):
                assert written[index] == tracker.update(short_video.frames[index]).box_xywh


def test_scores_are_those_of_the_files(dataset, supervised, short_video):
    """Overlap in pixels of what is written with the polygons; three starts, one of them lost."""
    results, evaluation = supervised
    (row,) = evaluation.trackers
    assert evaluation.columns == ("EAO", "accuracy", "robustness", "lost number")
    assert (evaluation.protocol, evaluation.interval, evaluation.frames) == ("supervised", (2, 6), 30)
    runs = {}
    for sequence in find_sequences(dataset):
        text = (results / "tiny" / "baseline" / sequence.name / f"{sequence.name}_001.txt").read_text()
        runs[sequence.name] = [run_of(parse_trajectory(text), corners_of(sequence.regions), (320, 240))]
    assert row.scores[0] == pytest.approx(expected_overlap_curve(runs)[1:6].mean())
    assert row.scores[2:] == (pytest.approx(100 / 30), 1)
    assert set(row.update_ms) == {"jumper", "short", "steady"}
    assert min(row.update_ms.values()) > 0


def test_the_printed_table_and_the_one_of_the_files(tiny_bundle, dataset, supervised, tmp_path):
    results = shutil.copytree(supervised[0], tmp_path / "results")
    printed = command(tiny_bundle, "--dataset", dataset, "--interval", 2, 6, "-o", results)
    assert printed.exit_code == 0, printed.output
    table = printed.stdout[: printed.stdout.index("wrote")]
    assert table.startswith("| tracker | EAO | accuracy | robustness | lost number |\n")
    again = command("--results", results, "--dataset", dataset, "--interval", 2, 6)
    assert again.stdout == table
    report = json.loads((results / "scores_supervised.json").read_text())
    assert report["protocol"] == "supervised"
    assert report["trackers"][0]["lost number"] == 1
    assert report["trackers"][0]["update_ms"].keys() == {"jumper", "short", "steady"}


def test_a_given_latency_skips_frames(tiny_bundle, dataset, supervised, tmp_path):
    """101 ms at 20 FPS: an update, two frames that keep its region, the next update."""
    results = tmp_path / "results"
    evaluation = run(tiny_bundle, dataset, results, REAL_TIME)
    assert evaluation.protocol == "realtime"
    steady = lines(results, "realtime", "short", "short_001.txt")
    assert steady[0] == "1"
    assert steady[1] == steady[2] == steady[3] != steady[4] == steady[5]
    assert steady[1] == lines(supervised[0], "baseline", "short", "short_001.txt")[1]
    seconds = np.loadtxt(results / "tiny" / "realtime" / "short" / "short_time.txt")
    assert seconds.tolist() == [0, 0.101, 0, 0, 0.101, 0]
    assert evaluation.trackers[0].update_ms["short"] == pytest.approx(101)
    jumper = lines(results, "realtime", "jumper", "jumper_001.txt")
    assert jumper[3] == jumper[1]
    assert jumper[4] == "2"


def test_other_protocols_lie_beside_each_other(tiny_bundle, dataset, supervised, tmp_path):
    results = shutil.copytree(supervised[0], tmp_path / "results")
    before = files(results)
    for options in (REAL_TIME, Options(protocol="one-pass")):
        run(tiny_bundle, dataset, results, options)
    after = files(results)
    assert {path: after[path] for path in before} == before
    assert len(lines(results, "steady.txt")) == 12
    for protocol, column in (("supervised", "EAO"), ("realtime", "EAO"), ("one-pass", "success AUC")):
        interval = () if protocol == "one-pass" else ("--interval", 2, 6)
        printed = command("--results", results, "--dataset", dataset, "--protocol", protocol, *interval)
        assert printed.exit_code == 0, printed.output
        assert f"| tracker | {column} |" in printed.stdout
        assert printed.stdout.count("\n| tiny |") == 1
        assert printed.stdout.count("\n") == 3


def test_a_measured_latency_is_at_least_the_fastest_rate(tiny_bundle, dataset, tmp_path):
    evaluation = run(tiny_bundle, dataset, tmp_path / "results", Options(protocol="realtime", fps=30.0))
    record = json.loads((tmp_path / "results" / "tiny" / "realtime" / "run.json").read_text())
    assert record["options"]["fps"] == 30
    assert record["options"]["latency_ms"] is None
    assert evaluation.trackers[0].update_ms["short"] > 0


# --- long-term


def test_long_term_files(tiny_bundle, long_term, short_video):
    results, evaluation = long_term
    assert evaluation.columns == ("F-score", "precision", "recall")
    regions, confidences = (lines(results, "longterm", "there", f"there_001{suffix}")
                            for suffix in (".txt", "_confidence.value"))  # fmt: skip
    assert (regions[0], confidences[0]) == ("1", "")
    with Tracker.load(tiny_bundle, "onnxruntime", threads=1) as tracker:
        tracker.init(short_video.frames[0], BOX)
        for index in range(1, 7):
            result = tracker.update(short_video.frames[index])
            assert tuple(map(float, regions[index].split(","))) == result.box_xywh
            assert float(confidences[index]) == result.score
    assert len(np.loadtxt(results / "tiny" / "longterm" / "there" / "there_time.txt")) == 7


def test_long_term_scores_are_those_of_the_files(long_term_dataset, long_term):
    results, evaluation = long_term
    runs = {}
    for sequence in find_sequences(long_term_dataset):
        stem = results / "tiny" / "longterm" / sequence.name / f"{sequence.name}_001"
        trajectory = parse_trajectory(stem.with_suffix(".txt").read_text())
        values = [float(line or 0) for line in stem.with_name(f"{stem.name}_confidence.value").read_text().splitlines()]
        truth = corners_of(sequence.regions)
        assert np.isnan(truth).any() == (sequence.name == "away")
        runs[sequence.name] = [long_term_run_of(trajectory, np.array(values), truth, (320, 240))]
    scores = score_long_term(runs)
    assert evaluation.trackers[0].scores == (scores.f_score, scores.precision, scores.recall)
    assert 0 < scores.f_score < 1
    printed = command("--results", results, "--dataset", long_term_dataset)
    shown = " | ".join(f"{score:.3f}" for score in evaluation.trackers[0].scores)
    assert printed.stdout.splitlines()[2] == f"| tiny | {shown} |"


def test_long_term_results_of_others(long_term_dataset, long_term, tmp_path):
    """nan where nothing is seen, scaled confidences; a zip."""
    folder = shutil.copytree(long_term[0] / "tiny", tmp_path / "packed" / "other")
    away = folder / "longterm" / "away" / "away_001.txt"
    seen = away.read_text().splitlines()
    away.write_text("\n".join([*seen[:5], "nan,nan,nan,nan", "0", "NaN", *seen[8:]]) + "\n")
    archive = shutil.make_archive(str(tmp_path / "results"), "zip", tmp_path / "packed")
    printed = command("--results", archive, "--dataset", long_term_dataset)
    assert printed.exit_code == 0, printed.output
    assert "| other | " in printed.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.unlink(), "results without confidences: received no tiny/longterm/away/away_001_confidence"),
        (lambda path: path.write_text("1\n"), "1 lines; expected 12, one for each frame"),
        (lambda path: path.write_text("\n" + "sure\n" * 11), "could not convert string to float"),
        (lambda path: path.write_bytes(b"\xff" * 9), "unreadable file"),
    ],
    ids=["missing", "short", "words", "binary"],
)
def test_bad_confidences(long_term_dataset, long_term, tmp_path, change, says):
    results = shutil.copytree(long_term[0], tmp_path / "results")
    change(results / "tiny" / "longterm" / "away" / "away_001_confidence.value")
    found = command("--results", results, "--dataset", long_term_dataset)
    assert found.exit_code == 2
    assert says in found.stderr


# --- interrupted and continued, by several processes


@pytest.fixture
def tracked(monkeypatch):
    """Names of the sequences that are tracked from now on, in this process."""
    names, attempt = [], workers._attempt

    def counted(task, *rest):
        names.append(task.sequence.name)
        return attempt(task, *rest)

    monkeypatch.setattr(workers, "_attempt", counted)
    return names


def test_only_what_is_missing_is_done(tiny_bundle, dataset, supervised, tmp_path, tracked):
    results = shutil.copytree(supervised[0], tmp_path / "results")
    run(tiny_bundle, dataset, results)
    assert tracked == []
    folder = results / "tiny" / "baseline"
    (folder / "short" / "short_001.txt").unlink()
    (folder / "jumper" / "jumper_001.txt").write_text("")  # a disk that was full
    (folder / "jumper" / ".jumper_001.k1ll3d.txt").write_text("1\n1,2")
    (folder / "short" / ".short_time.k1ll3d.txt").write_text("1")
    (folder / ".run.k1ll3d.json").write_text("{")
    run(tiny_bundle, dataset, results)
    assert tracked == ["jumper", "short"]
    assert files(results) == files(supervised[0])


def test_long_term_without_its_confidences_is_done_again(tiny_bundle, long_term_dataset, long_term, tmp_path, tracked):
    results = shutil.copytree(long_term[0], tmp_path / "results")
    folder = results / "tiny" / "longterm" / "away"
    (folder / "away_001_confidence.value").write_text("\n0.5\n")
    (folder / ".away_001_confidence.k1ll3d.value").write_text("")
    run(tiny_bundle, long_term_dataset, results)
    assert tracked == ["away"]
    assert files(results) == files(long_term[0])


def test_two_workers_write_the_same(tiny_bundle, dataset, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    run(tiny_bundle, dataset, one, REAL_TIME)
    run(tiny_bundle, dataset, two, Options(**{**vars(REAL_TIME), "workers": 2}))
    assert snapshot(one) == snapshot(two)  # times, too: they are given


@pytest.mark.skipif(os.name != "posix", reason="kills processes by their id")
def test_killed_and_run_again(tiny_bundle, short_video, dataset, supervised, tmp_path):
    """Killed after the first file: the next run does what is missing, and leaves what an undisturbed one leaves."""
    longer = shutil.copytree(dataset, tmp_path / "longer")
    write_vot_sequence(longer / "long", np.tile(short_video.frames, (20, 1, 1, 1)), [polygon_line(*BOX)] * 240)
    write_list(longer, "long", "steady", "jumper", "short")
    results = tmp_path / "results"
    arguments = ["eval", tiny_bundle, "--dataset", longer, "-o", results, "--workers", "2", "--interval", "2", "6"]
    process = subprocess.Popen([sys.executable, "-m", "siamtrt.cli", *map(str, arguments)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not (done := list(results.glob("tiny/baseline/*/[!.]*_001.txt"))) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert done
    kept = {path: path.stat().st_mtime_ns for path in results.glob("tiny/baseline/*/[!.]*_001.txt")}
    assert not (results / "tiny" / "baseline" / "long" / "long_001.txt").exists()
    shutil.rmtree(results / "tiny" / "baseline" / "long", ignore_errors=True)
    run(tiny_bundle, dataset, results)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert files(results) == files(supervised[0])


# --- other results in the folder, and what is refused


def test_another_latency_needs_another_folder(tiny_bundle, dataset, tmp_path):
    results = tmp_path / "results"
    run(tiny_bundle, dataset, results, REAL_TIME)
    other = Options(protocol="realtime", latency_ms=50.0)
    with pytest.raises(ResultsError, match=r"received latency_ms 101.0 in .*realtime; expected 50.0"):
        run(tiny_bundle, dataset, results, other)


def test_runs_that_say_nothing_of_their_making(tiny_bundle, dataset, supervised, tmp_path):
    results = shutil.copytree(supervised[0], tmp_path / "results")
    (results / "tiny" / "baseline" / "run.json").unlink()
    with pytest.raises(ResultsError, match=r"received \w+_(001|time).txt without run.json"):
        run(tiny_bundle, dataset, results)


def test_runs_of_another_dataset(tiny_bundle, dataset, supervised, short_video, tmp_path):
    results = shutil.copytree(supervised[0], tmp_path / "results")
    other = shutil.copytree(dataset, tmp_path / "VOT2018")
    shutil.rmtree(other / "short")
    write_vot_sequence(other / "short", short_video.frames[:5], [polygon_line(*FAR)] * 5)
    with pytest.raises(ResultsError, match=r"results of another dataset: received 6 frames in .*short_001.txt"):
        run(tiny_bundle, other, results)


@pytest.mark.parametrize(
    ("data", "arguments", "says"),
    [
        ("vot", ["--protocol", "one-pass", "--interval", 2, 6], "one-pass evaluation with an interval"),
        ("vot", ["--interval", 13, 20], "the longest sequence having 12"),
        ("vot", [], "received 100 to 356 frames, the longest sequence having 12"),  # of the year in the folder's name
        ("vot", ["--fps", 25], "supervised evaluation with a rate of frames"),
        ("vot", ["--protocol", "long-term", "--latency-ms", 3], "long-term evaluation with a rate of frames"),
        ("vot", ["--protocol", "realtime", "--fps", 31], "Invalid value for '--fps'"),
        ("vot", ["--protocol", "realtime", "--latency-ms", "nan", "--interval", 2, 6], "bad real-time setting"),
        ("vot", ["--protocol", "vos"], "Invalid value for '--protocol'"),
        ("lt", ["--protocol", "supervised"], "received frame 6 without the target in away"),
        ("lt", ["--interval", 2, 6], "long-term evaluation with an interval"),
    ],
)  # fmt: skip
def test_refused_before_anything_is_written(
    tiny_bundle, dataset, long_term_dataset, tmp_path, monkeypatch, data, arguments, says
):
    monkeypatch.chdir(tmp_path)
    found = command(tiny_bundle, "--dataset", dataset if data == "vot" else long_term_dataset, "-o", "new", *arguments)
    assert found.exit_code == 2, found.output
    assert says in found.stderr
    assert not list(tmp_path.iterdir())


def test_a_first_box_alone_cannot_be_supervised(tiny_bundle, short_video, tmp_path):
    write_vot_sequence(tmp_path / "data" / "GOT-10k_Test_000001", short_video.frames[:3], ["60,80,40,40"], "")
    found = command(tiny_bundle, "--dataset", tmp_path / "data", "-o", tmp_path / "new", "--protocol", "supervised",
                    "--interval", 2, 3)  # fmt: skip
    assert found.exit_code == 2
    assert "received the first box alone in GOT-10k_Test_000001" in found.stderr


def test_results_and_a_latency(tmp_path):
    found = command("--results", tmp_path, "--dataset", tmp_path, "--latency-ms", 3)
    assert found.exit_code == 2
    assert "which are for bundles" in found.stderr
