"""Our scores beside those of the got10k toolkit, on the references' boxes and on random ones, to 1e-6.

Its experiments run as they are, on folders laid out for them, and score result files that we write. Where its OTB part
leaves OTB's own toolkit (calcSeqErrRobust.m), ours follows the latter, and the test says so.
"""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

pytest.importorskip("got10k", reason="the got10k toolkit is not installed")
os.environ.setdefault("MPLBACKEND", "Agg")  # its reports draw plots

from got10k.datasets import OTB
from got10k.experiments import ExperimentGOT10k, ExperimentOTB, ExperimentUAV123
from got10k.utils.metrics import center_error, rect_iou

from siamtrt.benchmarks.evaluate import evaluate_bundles
from siamtrt.benchmarks.metrics import got_overlaps, precision, success_auc, success_curve
from siamtrt.benchmarks.one_pass import Truth, one_pass_scores
from siamtrt.benchmarks.otb_files import save_boxes
from siamtrt.benchmarks.score_results import score_results
from siamtrt.boxes import iou
from siamtrt.runtime.sequences import find_sequences

EXACT = {"abs": 1e-6, "rel": 0}
FRAME_SIZE = (320, 240)
NAMES = ("Basketball", "Bolt", "Boy", "Car4", "CarDark", "CarScale", "Coke", "Couple", "Crossing", "David2", "David3",
         "Deer", "Dog1", "Doll", "Dudek")  # of OTB, none of them cut to a range  # fmt: skip


def random_boxes(seed, frames, first=1.0, ragged=False):
    """(tracked, truth): a wandering target, and a tracker that is right, off, or somewhere else.

    Args:
        first: smallest coordinate of the truth.
        ragged: boxes also leave the frame, and have sides of half a pixel.
    """
    rng = np.random.default_rng(seed)
    corners = rng.uniform(first, 200, (frames, 2))
    sides = rng.uniform(0.5 if ragged else 5, 150, (frames, 2))
    truth = np.hstack([corners, sides])
    if rng.random() < 0.5:
        truth = np.maximum(truth.round(), 1 if first > 0 else truth.min())
    offsets = rng.choice([0.0, 0.0, 1.0, 20.0, 100.0], (frames, 1)) * rng.normal(0, 1, (frames, 4))
    tracked = truth + offsets
    tracked[:, 2:] = np.maximum(np.abs(tracked[:, 2:]), 0.5)
    tracked[0] = truth[0]
    return tracked, truth


def toolkit_report(folder, pairs):
    """What ExperimentOTB says of (tracked, truth) pairs, whose names are OTB's."""
    root = folder / "OTB"
    for name in OTB._OTB__otb13_seqs:  # all there, or it downloads them; those without ground truth are no sequences
        (root / name / "img").mkdir(parents=True)
    for name, (_, truth) in pairs.items():
        np.savetxt(root / name / "groundtruth_rect.txt", truth, delimiter=",", fmt="%.17g")
        for number in range(len(truth)):
            (root / name / "img" / f"{number:04d}.jpg").touch()
    save_boxes(folder / "results" / "OTB2013", "ours", {name: tracked for name, (tracked, _) in pairs.items()})
    experiment = ExperimentOTB(str(root), 2013, str(folder / "results"), str(folder / "reports"))
    assert sorted(experiment.dataset.seq_names) == sorted(pairs)
    return experiment.report(["ours"])["ours"]


def require_same_scores(report, pairs):
    """Scores by sequence, over all of them, and the success curve."""
    truths = {name: Truth(truth, "OTB") for name, (_, truth) in pairs.items()}
    means, rows = one_pass_scores({name: tracked for name, (tracked, _) in pairs.items()}, truths)
    assert means[0] == pytest.approx(report["overall"]["success_score"], **EXACT)
    assert means[1] == pytest.approx(report["overall"]["precision_score"], **EXACT)
    for name, (tracked, truth) in pairs.items():
        theirs = report["seq_wise"][name]
        assert rows[name][0] == pytest.approx(theirs["success_score"], **EXACT)
        assert rows[name][1] == pytest.approx(theirs["precision_score"], **EXACT)
        np.testing.assert_allclose(success_curve(tracked, truth), theirs["success_curve"], rtol=0, atol=1e-6)
        curve = [precision(tracked, truth, pixels) for pixels in range(51)]
        np.testing.assert_allclose(curve, theirs["precision_curve"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("version", [2, 3])
def test_otb_report_on_the_references_boxes(shared_dir, tmp_path, version):
    """Fifteen sequences under names of OTB; it knows no absent targets, so those frames are left out for both."""
    boxes = np.load(shared_dir / "goldens" / f"nanotrack_v{version}_boxes.npz")
    pairs = {}
    for name, sequence in zip(NAMES, find_sequences(shared_dir / "sequences"), strict=True):
        known = np.isfinite(sequence.truth_xywh).all(axis=1)
        pairs[name] = boxes[sequence.name][known, :4].astype(float), sequence.truth_xywh[known]
    require_same_scores(toolkit_report(tmp_path, pairs), pairs)


def test_otb_report_on_random_boxes(tmp_path):
    pairs = {name: random_boxes(seed, 5 + 3 * seed) for seed, name in enumerate(NAMES)}
    require_same_scores(toolkit_report(tmp_path, pairs), pairs)


def test_the_first_box_of_a_file_is_not_looked_at(tmp_path):
    """By its OTB part and by OTB's toolkit."""
    tracked, truth = random_boxes(0, 10)
    tracked[0] = 300, 200, 10, 10
    score = toolkit_report(tmp_path, {"Boy": (tracked, truth)})["overall"]["success_score"]
    means, _ = one_pass_scores({"Boy": tracked}, {"Boy": Truth(truth, "OTB")})
    assert means[0] == pytest.approx(score, **EXACT)
    assert means[0] > success_auc(tracked, truth)


@pytest.mark.parametrize("seed", range(5))
def test_a_truth_that_is_not_wholly_positive(seed):
    """OTB's toolkit, and pysot's, set overlap and distance of such frames to -1; got10k scores them like others.

    With that convention put upon its overlaps and distances, its curves give our scores.
    """
    tracked, truth = random_boxes(seed, 60, first=-40.0)
    assert 10 < (truth <= 0).any(axis=1).sum() < 50
    ignored = (truth <= 0).any(axis=1)
    theirs = rect_iou(tracked, truth), center_error(tracked, truth)
    overlaps, distances = (np.where(ignored, -1, part) for part in theirs)
    experiment = ExperimentOTB.__new__(ExperimentOTB)  # its dataset is not asked
    experiment.nbins_iou, experiment.nbins_ce = 21, 51
    success, distance = experiment._calc_curves(overlaps, distances)
    means, _ = one_pass_scores({"one": tracked}, {"one": Truth(truth, "OTB")})
    assert means[:2] == pytest.approx((success.mean(), distance[20]), **EXACT)
    as_they_have_it, _ = one_pass_scores({"one": tracked}, {"one": Truth(truth, "")})
    success, distance = experiment._calc_curves(*theirs)
    assert as_they_have_it[:2] == pytest.approx((success.mean(), distance[20]), **EXACT)


@pytest.mark.parametrize("seed", range(5))
def test_uav123_leaves_absent_frames_out(seed):
    """As our metrics do; the scores of UAV123 follow its own toolkit, which loses and wins them (test_one_pass)."""
    tracked, truth = random_boxes(seed, 40)
    truth[seed + 3 : seed + 9] = np.nan
    overlaps, distances = ExperimentUAV123._calc_metrics(None, tracked, truth)
    assert len(overlaps) == 34
    thresholds = np.linspace(0, 1, 21)
    assert success_auc(tracked, truth) == pytest.approx(np.greater(overlaps[:, None], thresholds).mean(), **EXACT)
    assert precision(tracked, truth) == pytest.approx((distances <= 20).mean(), **EXACT)


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_of_random_boxes(seed):
    """Its function moves what it is given into the frame in place; ours leaves it as it is."""
    tracked, truth = random_boxes(seed, 50, first=-60.0, ragged=True)
    np.testing.assert_allclose(iou(tracked, truth), rect_iou(tracked, truth), rtol=0, atol=1e-6)
    ours = got_overlaps(tracked, truth, FRAME_SIZE)
    before = tracked.copy()
    theirs = rect_iou(tracked[1:], truth[1:], bound=FRAME_SIZE)
    assert not np.array_equal(tracked, before)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


HIDDEN = {"GOT-10k_Val_000001": [3, 4], "GOT-10k_Val_000002": []}


def write_got(root, frames, boxes_xywh):
    """GOT-10k's validation part: two sequences, the target hidden in two frames of one."""
    for (name, hidden), count in zip(HIDDEN.items(), (12, 7), strict=True):
        folder = root / "val" / name
        folder.mkdir(parents=True)
        for number, frame in enumerate(frames[:count], start=1):
            cv2.imwrite(str(folder / f"{number:08d}.jpg"), frame)
        np.savetxt(folder / "groundtruth.txt", boxes_xywh[:count], delimiter=",", fmt="%.4f")
        seen = ~np.isin(np.arange(count), hidden)
        np.savetxt(folder / "cover.label", 8 * seen, fmt="%d")
        np.savetxt(folder / "absence.label", ~seen, fmt="%d")
        np.savetxt(folder / "cut_by_image.label", 0 * seen, fmt="%d")
        (folder / "meta_info.ini").write_text(f"[METAINFO]\nresolution: {FRAME_SIZE}\n")
    (root / "val" / "list.txt").write_text("\n".join(HIDDEN) + "\n")
    return root


@pytest.fixture
def got(short_video, tmp_path):
    return write_got(tmp_path / "data", short_video.frames, short_video.boxes_xywh + np.array([0.5, 0.25, 6.125, 0]))


def got_experiment(root, folder):
    """Its results are below `folder/results/GOT-10k`."""
    return ExperimentGOT10k(str(root), "val", str(folder / "results"), str(folder / "reports"))


def require_same_got_scores(row, theirs):
    """AO and SR over all frames and by sequence; AO and SR0.5 are the fourth and fifth score."""
    assert row.scores[3:5] == pytest.approx((theirs["overall"]["ao"], theirs["overall"]["sr"]), **EXACT)
    curve = theirs["overall"]["succ_curve"]  # at 0, 0.01, ..., 1
    assert (row.scores[4], row.scores[5]) == pytest.approx((curve[50], curve[75]), **EXACT)
    for name in HIDDEN:
        found = theirs["seq_wise"][name]
        assert row.sequences[name][3:5] == pytest.approx((found["ao"], found["sr"]), **EXACT)


def test_got10k_reads_what_eval_writes(got, tmp_path, tiny_bundle):
    """The network is untrained: a truth near its boxes is put into the dataset after it has run."""
    results = tmp_path / "results" / "GOT-10k"
    evaluate_bundles([tiny_bundle], got, results)
    for name in HIDDEN:
        boxes = np.loadtxt(results / "tiny" / name / f"{name}_001.txt", delimiter=",")
        boxes[1:, :2] += np.linspace(0, 30, len(boxes) - 1)[:, None]
        np.savetxt(got / "val" / name / "groundtruth.txt", boxes, delimiter=",", fmt="%.4f")
    (row,) = evaluate_bundles([tiny_bundle], got, results).trackers
    theirs = got_experiment(got, tmp_path).report(["tiny"])["tiny"]
    require_same_got_scores(row, theirs)
    assert 0 < theirs["overall"]["sr"] < 1
    assert theirs["overall"]["speed_fps"] > 0
    assert {path.name for path in (results / "tiny").iterdir()} == {*HIDDEN, "run.json"}


def test_what_got10k_writes_is_scored_as_it_does(got, tmp_path):
    """Two runs of one sequence and one of the other, boxes that leave the frame, three decimals."""
    experiment = got_experiment(got, tmp_path)
    results = tmp_path / "results" / "GOT-10k"
    for run, name in enumerate([*HIDDEN, "GOT-10k_Val_000001"]):
        truth = find_sequences(got / "val" / name)[0].truth_xywh
        boxes = np.nan_to_num(truth, nan=9.0) + np.random.default_rng(run).normal(0, 15, truth.shape)
        boxes[5:] -= (150, 0, 0, 0)
        boxes[:, 2:] = np.abs(boxes[:, 2:])
        run_file = results / "theirs" / name / f"{name}_{1 + run // 2:03d}.txt"
        experiment._record(str(run_file), boxes, np.full(len(boxes), 0.01 + run / 100))
    (row,) = score_results(results, got).trackers
    assert row.name == "theirs"
    require_same_got_scores(row, experiment.report(["theirs"])["theirs"])
