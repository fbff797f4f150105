"""Trackers on the same frames: who runs when, what is counted, and `siamtrt bench --compare` as a whole."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from siamtrt.benchmarks.metrics import success_auc
from siamtrt.benchmarks.race import Race, contenders_table, open_annotated, run_race, running_order, summaries
from siamtrt.cli import main
from siamtrt.errors import BoxError, FrameError, SourceError
from siamtrt.runtime.sources import FrameSource

BOX = (60.0, 80.0, 40.0, 40.0)


class Fake:
    """Answers with given boxes, and remembers what it got and when."""

    software, threads = "none", None

    def __init__(self, name, answers=(), log=None):
        self.name, self.answers, self.log = name, list(answers), [] if log is None else log
        self.given = []

    def init(self, frame, box_xywh):
        self.given.append((frame.copy(), box_xywh))

    def update(self, frame):
        self.given.append((frame.copy(), None))
        self.log.append(self.name)
        return self.answers.pop(0) if self.answers else BOX


def source_of(frames):
    return FrameSource("frames", iter(frames), len(frames))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_everyone_has_every_place_and_follows_every_other(count):
    rounds = [running_order(update, count) for update in range(2 * count)]
    assert all(sorted(row) == list(range(count)) for row in rounds)
    places = Counter(pair for row in rounds for pair in enumerate(row))
    assert places == dict.fromkeys(itertools.product(range(count), repeat=2), 2)
    follows = Counter(pair for row in rounds for pair in itertools.pairwise(row))
    assert follows == dict.fromkeys(itertools.permutations(range(count), 2), 2)
    assert running_order(2 * count, count) == rounds[0]


def test_the_same_frames_and_the_same_box_in_turns(short_video):
    log = []
    fakes = [Fake("a", [(1, 2, 3, 4), None, None], log), Fake("b", log=log), Fake("c", log=log)]
    race = run_race(fakes, source_of(short_video.frames[:6]), list(BOX), None, False)
    for fake in fakes:
        assert [box for _, box in fake.given] == [BOX] + [None] * 5
        assert np.array_equal([frame for frame, _ in fake.given], short_video.frames[:6])
    assert log == ["abc"[which] for update in range(5) for which in running_order(update, 3)]
    assert race.times_ms.shape == (5, 3)
    assert race.frame_size == (320, 240)
    kept = [BOX, (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), BOX, BOX]
    assert race.boxes_xywh[:, 0].tolist() == [list(box) for box in kept]
    assert race.lost.tolist() == [2, 0, 0]


def test_the_time_is_of_who_took_it(short_video, monkeypatch):
    """By a clock that runs only in updates and rests."""
    now = [0.0]
    monkeypatch.setattr("siamtrt.benchmarks.race.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("siamtrt.benchmarks.race.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    class Slow(Fake):
        def update(self, frame):
            now[0] += {"a": 1, "b": 10}[self.name]
            return super().update(frame)

    race = run_race([Slow("a"), Slow("b")], source_of(short_video.frames[:5]), BOX, None, False)
    np.testing.assert_allclose(race.times_ms, [[1e3, 10e3]] * 4)
    alone = now[0]
    run_race([Slow("a")], source_of(short_video.frames[:5]), BOX, None, False)
    assert now[0] - alone == pytest.approx(4.0)  # no rest


def test_stops_early_and_at_frames_of_another_size(short_video):
    assert run_race([Fake("a")], source_of(short_video.frames), BOX, 4, False).times_ms.shape == (3, 1)
    rival = Fake("a")
    with pytest.raises(FrameError, match="160x120"):
        run_race([rival], source_of([short_video.frames[0], np.zeros((120, 160, 3), np.uint8)]), BOX, None, False)
    assert len(rival.given) == 1
    with pytest.raises(BoxError):
        run_race([rival], source_of(short_video.frames), (400, 0, 9, 9), None, False)


def test_summaries():
    """Times after the warm-up; overlaps of every update but not of the given box."""
    times = np.array([[500, 500], [1, 4], [2, 6], [3, 20]], float)
    ours, theirs = np.array([(0, 0, 10, 10)] * 5, float), np.array([(0, 0, 10, 10)] * 5, float)
    theirs[1:3, 0] = 5, 20  # half of it, then beside it
    race = Race((32, 32), times, np.stack([ours, theirs], axis=1), np.array([0, 1]))
    truth = np.vstack([ours, ours])  # longer, where the race was stopped
    first, second = summaries([Fake("ours"), Fake("rival")], race, 1, truth)
    assert (first.name, first.ratio, first.mean_iou, first.success_auc, first.lost) == (
        "ours", 1.0, 1.0, success_auc(ours, ours), 0,
    )  # fmt: skip
    assert second.mean_iou == pytest.approx((1 / 3 + 0 + 1 + 1) / 4)
    assert second.success_auc == pytest.approx(success_auc(theirs, ours))
    assert (second.ratio, second.lost, second.raw_ms) == (3.0, 1, [4.0, 6.0, 20.0])
    assert second.update.p50_ms == 6.0
    assert second.update.p90_ms == pytest.approx(np.percentile([4, 6, 20], 90))
    assert second.update.p99_ms == pytest.approx(np.percentile([4, 6, 20], 99))
    table = "\n".join(contenders_table([first, second]))
    assert f"| rival | 6.000 | 17.200 | 19.720 | 3.00 | 0.583 | {second.success_auc:.3f} |" in table
    assert "the last one counts: rival in 1 updates" in table


@pytest.mark.parametrize("truth", [None, np.full((5, 4), np.nan)], ids=["none", "never visible"])
def test_summaries_without_truth(truth):
    boxes = np.array([[BOX]] * 5)
    (summary,) = summaries([Fake("ours")], Race((320, 240), np.ones((4, 1)), boxes, np.zeros(1, int)), 0, truth)
    assert summary.success_auc is None
    assert "success AUC" not in "\n".join(contenders_table([summary]))


@pytest.fixture
def annotated(short_video, tmp_path):
    """The short video in three forms: with a text beside it, in OTB's folders, and as images with GOT-10k's file."""
    lines = "\n".join(",".join(f"{value:g}" for value in box) for box in short_video.boxes_xywh)
    video = tmp_path / "short.avi"
    video.write_bytes(short_video.path.read_bytes())
    video.with_suffix(".txt").write_text(lines)
    for folder, images, truth in (("otb", "img", "groundtruth_rect.txt"), ("got", "", "groundtruth.txt")):
        (tmp_path / folder / images).mkdir(parents=True)
        (tmp_path / folder / truth).write_text(lines)
        for index, frame in enumerate(short_video.frames):
            cv2.imwrite(str(tmp_path / folder / images / f"{index:04d}.png"), frame)
    return tmp_path


@pytest.mark.parametrize("form", ["short.avi", "otb", "got"])
def test_ground_truth_is_found(annotated, short_video, form):
    source, truth = open_annotated(str(annotated / form))
    assert np.array_equal(truth, short_video.boxes_xywh)
    assert source.name == str(annotated / form)
    assert len(list(source)) == len(truth)


def test_sources_without_ground_truth(annotated, short_video):
    (annotated / "short.txt").unlink()
    for form in ("short.avi", "otb/img"):
        source, truth = open_annotated(str(annotated / form))
        assert (truth, len(list(source))) == (None, len(short_video.frames))
    (annotated / "short.txt").write_text(short_video.init)
    source, truth = open_annotated(str(annotated / "short.avi"))  # only where it begins
    assert (truth, len(list(source))) == (None, len(short_video.frames))


def test_sources_refused(annotated):
    with pytest.raises(SourceError, match="several sequences"):
        open_annotated(str(annotated))
    with pytest.raises(SourceError, match="no such source"):
        open_annotated(str(annotated / "absent"))
    with pytest.raises(SourceError, match="camera does not open"):
        open_annotated("99999999999")


def test_bench_beside_others(annotated, tiny_bundle, tiny_checkpoint, short_video, tmp_path):
    arguments = [
        "bench", str(tiny_bundle), str(annotated / "otb"), "--init", short_video.init, "--warm-up", "2", "--compare",
        "opencv,torch", "--checkpoint", str(tiny_checkpoint), "-o", str(tmp_path / "report"),
    ]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    ours, mil, torch = report["contenders"]
    assert [row["name"] for row in report["contenders"]] == ["siamtrt", "opencv:mil", "torch"]
    assert (report["source"], report["updates"]) == ("otb", len(short_video.frames) - 3)
    assert all(len(row["raw_ms"]) == report["updates"] for row in report["contenders"])
    assert ours["ratio"] == 1.0
    assert mil["ratio"] == pytest.approx(np.median(mil["raw_ms"]) / np.median(ours["raw_ms"]), rel=1e-3)
    assert torch["mean_iou"] > 0.999  # the same network
    assert torch["success_auc"] == pytest.approx(ours["success_auc"], abs=0.01)
    assert 0 < mil["success_auc"] <= 1
    inside, outside = np.array(report["raw_ms"]["total_ms"]), np.array(ours["raw_ms"])
    assert (inside <= outside + 1e-4).all()  # rounded
    assert "| opencv:mil |" in (tmp_path / "report.md").read_text()
    assert "| opencv:mil |" in result.stdout


def test_bench_alone_is_as_before(annotated, tiny_bundle, short_video, tmp_path):
    (annotated / "short.txt").write_text("notes")  # not looked at
    arguments = ["bench", str(tiny_bundle), str(annotated / "short.avi"), "--init", short_video.init, "--warm-up", "2"]
    result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "report.json").read_text())["contenders"] == []
    assert "IoU" not in result.stdout


def test_a_model_without_a_comparison(annotated, tiny_bundle, short_video):
    arguments = ["bench", str(tiny_bundle), str(annotated / "short.avi"), "--init", short_video.init]
    result = CliRunner().invoke(main, [*arguments, "--opencv-model", "vit=v.onnx"])
    assert result.exit_code == 2
    assert "without --compare" in result.stderr
