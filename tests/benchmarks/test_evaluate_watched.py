"""`siamtrt eval --watch`: the files of a watched tracker, beside a plain one's, under every protocol."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from folders import snapshot, untimed, write_sequence
from vanishing import GONE, vanishing
from vot_folders import polygon_line, save_drifting, write_list, write_vot_sequence

from siamtrt.benchmarks.evaluate import Options, evaluate_bundles
from siamtrt.benchmarks.report_accuracy import accuracy_section
from siamtrt.benchmarks.report_inputs import read_inputs
from siamtrt.benchmarks.workers import TrackerCache
from siamtrt.cli import main
from siamtrt.default_tracker import default_bundle
from siamtrt.errors import ResultsError
from siamtrt.runtime.tracker import Tracker
from siamtrt.runtime.watched import WatchedTracker

WATCHED = Options(watch=True)


@pytest.fixture(scope="module")
def scene(short_video):
    return vanishing(short_video.frames, short_video.boxes_xywh)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return shutil.copytree(default_bundle(), tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def followed(bundle, scene):
    """Results of a watched and of a plain tracker on these frames, by hand."""
    results = []
    for kind in (WatchedTracker, Tracker):
        with kind.load(bundle, "onnxruntime", threads=1) as tracker:
            tracker.init(scene.frames[0], scene.boxes_xywh[0])
            results.append([tracker.update(frame) for frame in scene.frames[1:]])
    watched, plain = results
    lost = [number for number, result in enumerate(watched, start=1) if result.status == "lost"]
    assert set(lost) & set(GONE)
    assert watched[-1].status == "locked"
    assert watched[-1].box_xywh != plain[-1].box_xywh
    return SimpleNamespace(watched=watched, plain=plain, lost=lost)


@pytest.fixture(scope="module")
def dataset(scene, short_video, tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    write_sequence(root / "vanishing", scene.frames, scene.boxes_xywh)
    write_sequence(root / "short", short_video.frames[:5], short_video.boxes_xywh[:5])
    return root


@pytest.fixture(scope="module")
def both(bundle, dataset, tmp_path_factory):
    """What a plain evaluation and then a watched one leave in one folder."""
    results = tmp_path_factory.mktemp("both") / "results"
    for flags in ((), ("--watch",)):
        run = command(bundle, "--dataset", dataset, "-o", results, *flags)
        assert run.exit_code == 0, run.output
    return results


@pytest.fixture
def results(both, tmp_path):
    return shutil.copytree(both, tmp_path / "results")


def command(*arguments):
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def boxes_of(results):
    return [result.box_xywh for result in results]


def numbers(path):
    return np.loadtxt(path, delimiter=",")


# --- one pass


def test_each_file_holds_the_boxes_of_its_kind(both, followed):
    for name, expected in (("small_watched", followed.watched), ("small", followed.plain)):
        np.testing.assert_array_equal(numbers(both / name / "vanishing.txt")[1:], boxes_of(expected))


def test_both_are_scored_side_by_side(both, dataset):
    watched, plain = (json.loads((both / f"{name}.json").read_text()) for name in ("scores_watched", "scores"))
    assert (watched["watched"], watched["trackers"][0]["name"]) == (True, "small_watched")
    assert "watched" not in plain
    assert plain["trackers"][0]["name"] == "small"
    assert watched["trackers"][0]["success AUC"] > plain["trackers"][0]["success AUC"] + 0.1
    scored = command("--results", both, "--dataset", dataset)
    assert [line.split(" | ")[0] for line in scored.stdout.splitlines()[2:]] == ["| small_watched", "| small"]


def test_the_report_tells_them_apart_and_says_how_to_repeat_each(both, dataset):
    plain, watched = (accuracy_section(found, 0) for found in read_inputs([both]).evaluations)
    title = f"Accuracy on {dataset.name}"
    assert (plain.title, watched.title) == (title, f"{title}, watched")
    assert "siamtrt eval small --dataset" in plain.commands[0]
    assert "--watch" not in plain.commands[0]
    assert "siamtrt eval small --dataset" in watched.commands[0]
    assert " --watch -o " in watched.commands[0]


def test_workers_write_the_same(bundle, dataset, both, tmp_path):
    evaluate_bundles([bundle], dataset, tmp_path / "results", Options(watch=True, workers=2))
    expected = {path: data for path, data in untimed(both).items() if path.startswith("small_watched")}
    assert untimed(tmp_path / "results") == expected


def test_an_open_tracker_is_not_taken_for_the_other_kind(bundle):
    cache = TrackerCache()
    kinds = [type(cache.get(bundle, "onnxruntime", watch)) for watch in (False, True, False)]
    cache.close()
    assert kinds == [Tracker, WatchedTracker, Tracker]


# --- continued


def test_only_what_is_missing_is_done(bundle, dataset, both, results):
    (results / "small_watched" / "vanishing.txt").unlink()
    kept = (results / "small_watched" / "short.txt").stat().st_mtime_ns
    evaluate_bundles([bundle], dataset, results, WATCHED)
    assert (results / "small_watched" / "short.txt").stat().st_mtime_ns == kept
    assert untimed(results) == untimed(both)


@pytest.mark.parametrize("watch", [True, False])
def test_results_of_the_other_kind_are_not_gone_on_with(bundle, dataset, results, tmp_path, watch):
    """Whoever renames a bundle, or a tracker's results, is told."""
    wanted, other = ("small_watched", "small") if watch else ("small", "small_watched")
    shutil.rmtree(results / wanted)
    (results / other).rename(results / wanted)
    before = snapshot(results)
    with pytest.raises(ResultsError, match=rf"received watch {None if watch else True} in .*{wanted}; expected"):
        evaluate_bundles([bundle], dataset, results, Options(watch=watch))
    assert snapshot(results) == before


# --- VOT's protocols


def test_a_lost_target_has_no_confidence(bundle, scene, followed, tmp_path):
    """Though the place that was looked at may have a high score, the region given is another."""
    root = write_list(tmp_path / "VOT2018-LT", "vanishing")
    lines = [",".join(f"{value:g}" for value in box) for box in scene.boxes_xywh]
    write_vot_sequence(root / "vanishing", scene.frames, lines)
    evaluation, plain = (
        evaluate_bundles([bundle], root, tmp_path / "results", options) for options in (WATCHED, Options())
    )
    folder = tmp_path / "results" / "small_watched" / "longterm" / "vanishing"
    np.testing.assert_array_equal(
        numbers_after_the_first(folder / "vanishing_001.txt"), boxes_of(followed.watched)
    )
    confidences = [line[0] for line in numbers_after_the_first(folder / "vanishing_001_confidence.value")]
    scores = [result.score for result in followed.watched]
    assert min(scores[number - 1] for number in followed.lost) > 0
    assert confidences == [0 if number in followed.lost else score for number, score in enumerate(scores, start=1)]
    assert evaluation.trackers[0].scores[0] > plain.trackers[0].scores[0]


def numbers_after_the_first(path):
    return [[float(part) for part in line.split(",")] for line in path.read_text().splitlines()[1:]]


def test_supervised_and_real_time(bundle, scene, tmp_path):
    """A target that is hidden and comes back where it was: a watched tracker's region stays there meanwhile."""
    frames = [*scene.frames[: GONE.stop], scene.frames[GONE.start - 1]]
    truth = [*scene.boxes_xywh[: GONE.start], *[scene.boxes_xywh[GONE.start - 1]] * (len(GONE) + 1)]
    root = write_list(tmp_path / "VOT2018", "hidden")
    write_vot_sequence(root / "hidden", frames, [polygon_line(*box) for box in truth])
    options = {"watch": True, "interval": (2, 6)}
    evaluate_bundles([bundle], root, tmp_path / "results", Options(**options))
    evaluate_bundles([bundle], root, tmp_path / "results", Options(**options, protocol="realtime"))
    regions = numbers_after_the_first(tmp_path / "results/small_watched/baseline/hidden/hidden_001.txt")
    with WatchedTracker.load(bundle, "onnxruntime", threads=1) as tracker:
        tracker.init(frames[0], (truth[0] + (0, 0, 1, 1)).tolist())  # of a polygon the pixels at both ends count
        assert regions == [list(tracker.update(frame).box_xywh) for frame in frames[1:]]
    still = {tuple(region) for region in regions[GONE.start + 2 : GONE.stop - 1]}
    assert len(still) == 1
    for experiment, protocol in (("baseline", "supervised"), ("realtime", "realtime")):
        record = json.loads((tmp_path / "results/small_watched" / experiment / "run.json").read_text())
        assert (record["options"]["watch"], record["options"]["protocol"]) == (True, protocol)


# --- refused


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{toy}", "--dataset", "{data}", "-o", "new"], "received --watch for toy in "),
        (["{small}", "{toy}", "--dataset", "{data}", "-o", "new"], "received --watch for toy in "),
        (["--results", "{data}", "--dataset", "{data}"], "--results and --fps, --latency-ms, --ray or --watch"),
        (["{small}", "--dataset", "{data}", "-o", "new", "--protocol", "realtime", "--latency-ms", "14"],
         "received --watch with --latency-ms"),
    ],
    ids=["toy", "one of two", "results", "latency"],
)  # fmt: skip
def test_refused(bundle, dataset, tmp_path, monkeypatch, arguments, says):
    toy = save_drifting(tmp_path / "toy")
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    run = command(*(part.format(small=bundle, toy=toy, data=dataset) for part in arguments), "--watch")
    assert run.exit_code == 2, run.output
    assert len(run.stderr.splitlines()) == 1
    assert says in run.stderr
    assert not list(place.iterdir())


def test_the_help_explains_it():
    text = " ".join(command("--help").stdout.split())
    assert "--watch / --no-watch" in text
    assert "BUNDLE_watched" in text
    assert "default: no-watch" in text
