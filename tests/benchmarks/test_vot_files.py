"""Result files of other toolkits, and ours, through the command line: published scores, layouts, round trips."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from result_sets import SIZES, write_boxes, write_description, write_runs, zipped

from siamtrt.benchmarks.otb_files import boxes_of_description, find_boxes, read_boxes, save_boxes
from siamtrt.benchmarks.regions import Trajectory
from siamtrt.benchmarks.result_files import find_files, read_json
from siamtrt.benchmarks.score_results import score_results
from siamtrt.benchmarks.score_vot import interval_of
from siamtrt.benchmarks.vot_files import find_trajectories, read_trajectory, save_trajectory, sequences_of
from siamtrt.cli import main

PUBLISHED = {"LightTrack": 0.418, "NanoTrack": 0.311, "SiamAPN++": 0.268, "SiamAPN": 0.248, "SiamTPN": 0.190}
# The same five with VOT's own region library under the rules of pysot's toolkit, each overlap to single precision.
UNROUNDED = {"LightTrack": 0.41819, "NanoTrack": 0.31127, "SiamAPN++": 0.26801, "SiamAPN": 0.24805, "SiamTPN": 0.19019}
ACCURACY = {"LightTrack": 0.52928, "NanoTrack": 0.54242, "SiamAPN++": 0.57965, "SiamAPN": 0.55861, "SiamTPN": 0.64365}
LOST = {"LightTrack": 38, "NanoTrack": 70, "SiamAPN++": 94, "SiamAPN": 105, "SiamTPN": 152}


def rows(output):
    """The cells of a printed table, without header."""
    table = [line for line in output.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def evaluate(*arguments):
    result = CliRunner().invoke(main, ["eval", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def description(tmp_path):
    return write_description(tmp_path / "VOT2018.json")


@pytest.fixture
def results(tmp_path):
    return write_runs(tmp_path / "results")


def test_published_scores_on_vot2018(shared_dir, tmp_path):
    folder = shared_dir / "results"
    printed = evaluate(
        "--results", folder / "VOT2018.zip", "--dataset", folder / "VOT2018.json.gz", "-o", tmp_path / "scores"
    )
    assert {name: float(eao) for name, eao, *_ in rows(printed)} == PUBLISHED
    assert [row[0] for row in rows(printed)] == list(PUBLISHED)  # best first
    assert printed.splitlines()[2] == "| LightTrack | 0.418 | 0.529 | 0.178 | 38.000 |"
    report = json.loads((tmp_path / "scores.json").read_text())
    for tracker in report["trackers"]:
        assert tracker["EAO"] == pytest.approx(UNROUNDED[tracker["name"]], abs=1e-5)
        assert tracker["accuracy"] == pytest.approx(ACCURACY[tracker["name"]], abs=1e-5)
        assert tracker["lost number"] == LOST[tracker["name"]]
        assert tracker["robustness"] == pytest.approx(100 * tracker["lost number"] / 21356)
        assert len(tracker["curve"]) == 1500
    assert report["interval"] == [100, 356]
    assert report["frames"] == 21356


@pytest.mark.parametrize("version", [2, 3])
def test_reference_boxes_score_as_their_table_says(shared_dir, tmp_path, version):
    """The boxes are written as result files, and read and scored from there."""
    boxes = np.load(shared_dir / "goldens" / f"nanotrack_v{version}_boxes.npz")
    table = json.loads((shared_dir / "goldens" / f"nanotrack_v{version}_table.json").read_text())
    save_boxes(tmp_path / "results", "reference", {name: boxes[name][:, :4] for name in table})
    evaluate(
        "--results", tmp_path / "results", "--dataset", shared_dir / "sequences", "-o", tmp_path / "scores"
    )  # fmt: skip
    (tracker,) = json.loads((tmp_path / "scores.json").read_text())["trackers"]
    assert tracker["sequences"].keys() == table.keys()
    for name, row in table.items():
        assert tracker["sequences"][name]["success AUC"] == pytest.approx(row["success_auc"], abs=1e-4)
        assert tracker["sequences"][name]["precision at 20 px"] == pytest.approx(row["precision_20px"], abs=1e-4)
    assert tracker["success AUC"] == pytest.approx(np.mean([row["success_auc"] for row in table.values()]), abs=1e-4)


def test_otb2015_s_own_boxes_score_all_but_the_last_threshold(shared_dir, tmp_path):
    """IoU never exceeds 1. Three names as OTB writes them."""
    path = shared_dir / "results" / "OTB2015.json.gz"
    truth = boxes_of_description(read_json(path), path)
    assert len(truth) == 100
    written = {"carDark": "CarDark", "jogging_1": "Jogging-1", "skating2_2": "Skating2.2"}
    save_boxes(tmp_path, "truth", {written.get(name, name): boxes for name, boxes in truth.items()})
    (row,) = score_results(tmp_path, path).trackers
    assert row.scores[0] == pytest.approx(20 / 21, abs=1e-3)  # a few boxes there are empty
    assert row.scores[1] == 1


def test_scores_of_a_small_dataset_by_hand(results, description):
    """Half a box aside overlaps 50/150: ten columns of ten, five of them shared."""
    third, printed = 1 / 3, evaluate("--results", results, "--dataset", description, "--interval", 2, 4)
    curve = [third, (third / 2 + third) / 2, (third / 3 + third) / 2]
    assert rows(printed) == [
        ["steady", "1.000", "nan", "0.000", "0.000"],
        ["lossy", f"{np.mean(curve):.3f}", "nan", "10.000", "1.000"],
    ]


def test_a_report_has_null_where_there_is_no_score(results, description, tmp_path):
    """JSON has no NaN: no frame of so short sequences counts for accuracy."""
    evaluate("--results", results, "--dataset", description, "--interval", 2, 4, "-o", tmp_path / "scores")

    def refuse(constant):
        raise AssertionError(constant)

    report = json.loads((tmp_path / "scores.json").read_text(), parse_constant=refuse)
    assert [tracker["accuracy"] for tracker in report["trackers"]] == [None, None]
    assert report["trackers"][1]["curve"][:3] == pytest.approx([1, 1 / 3, 1 / 4])
    assert "EAO over sequences of 2 to 4 frames" in (tmp_path / "scores.md").read_text()


@pytest.mark.parametrize(
    ("name", "interval"),
    [("VOT2018.json.gz", (100, 356)), ("vot2015.json", (108, 371)), ("my_vot-2019.json", (46, 291))],
)
def test_the_year_in_a_description_s_name(name, interval):
    assert interval_of(Path("somewhere") / name) == interval


def test_folder_zip_and_gzip_are_the_same(results, description, tmp_path):
    packed = tmp_path / "VOT2018.json.gz"
    packed.write_bytes(gzip.compress(description.read_bytes()))
    renamed = shutil.copy(packed, tmp_path / "my_vot-2018.description")
    archive = zipped(results, tmp_path / "results.zip")
    wanted = score_results(results, description, (2, 4)).trackers
    assert len(wanted) == 2
    for source, dataset in ((results, packed), (archive, description), (archive, renamed)):
        found = score_results(source, dataset, (2, 4)).trackers
        assert repr(found) == repr(wanted)  # NaN is not equal to itself


def test_a_tracker_s_own_folder_or_zip(results, description, tmp_path):
    (row,) = score_results(results / "steady", description, (2, 4)).trackers
    assert (row.name, row.scores[0]) == ("steady", 1)
    shutil.make_archive(str(tmp_path / "mine"), "zip", results / "lossy")
    (row,) = score_results(tmp_path / "mine.zip", description, (2, 4)).trackers
    assert (row.name, row.scores[3]) == ("mine", 1)


def test_repetitions_are_averaged(results, description):
    folder = results / "steady" / "baseline" / "ball"
    (folder / "ball_002.txt").write_text("1\n10,10,9,9\n10,10,9,9\n10,10,9,9\n10,10,9,9\n2\n")
    row = next(row for row in score_results(results, description, (2, 4)).trackers if row.name == "steady")
    assert row.scores[2:] == (5, 0.5)


def test_sequences_of_other_datasets_do_not_matter(results, description):
    shutil.copytree(results / "lossy" / "baseline" / "ball", results / "steady" / "baseline" / "other")
    (results / "steady" / "baseline" / "other" / "ball_001.txt").rename(
        results / "steady" / "baseline" / "other" / "other_001.txt"
    )
    assert len(score_results(results, description, (2, 4)).trackers) == 2


def test_a_description_gives_corners_sizes_and_attributes(description):
    ball, car = sequences_of(read_json(description), description)
    assert (ball.name, ball.truth.shape, car.truth.shape) == ("ball", (6, 4, 2), (4, 4, 2))
    assert ball.frame_size == (100, 80)
    np.testing.assert_array_equal(ball.truth, [[(10, 10), (19, 10), (19, 19), (10, 19)]] * 6)
    assert {name: values.tolist() for name, values in car.attributes.items()} == {
        "occlusion": [True, False, False, False]
    }


def test_runs_of_ours_read_back_identically(tmp_path, description):
    rng = np.random.default_rng(0)
    sequences = sequences_of(read_json(description), description)
    written = {}
    for sequence in sequences:
        for repetition in (1, 2):
            boxes = [tuple(row) for row in rng.normal(50, 20, (SIZES[sequence.name] - 1, 8)).tolist()]
            boxes[1] = boxes[1][:4]
            written[sequence.name, repetition] = Trajectory(((1.0,), *boxes))
            save_trajectory(tmp_path / "runs", "ours", sequence.name, written[sequence.name, repetition], repetition)
    files = find_files(tmp_path / "runs")
    found = find_trajectories(files, sequences)
    with files.open() as opened:
        for sequence in sequences:
            for repetition, path in enumerate(found["ours"][sequence.name], start=1):
                assert read_trajectory(opened, path, len(sequence.truth)) == written[sequence.name, repetition]


def test_boxes_of_ours_read_back_identically(tmp_path):
    boxes = {name: np.random.default_rng(frames).normal(0, 100, (frames, 4)) for name, frames in SIZES.items()}
    paths = save_boxes(tmp_path / "boxes", "ours", boxes)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["boxes/ours/ball.txt", "boxes/ours/car.txt"]
    files = find_files(tmp_path / "boxes")
    found = find_boxes(files, list(boxes))["ours"]
    with files.open() as opened:
        for name, rows_of in boxes.items():
            np.testing.assert_array_equal(read_boxes(opened, found[name], len(rows_of)), rows_of)


@pytest.mark.parametrize("separator", [",", "\t", " ", ";", ", "])
def test_separators_of_boxes(tmp_path, separator):
    (tmp_path / "car.txt").write_bytes(f"\ufeff1{separator}2{separator}3.5{separator}4\r\n\r\n".encode())
    with find_files(tmp_path).open() as opened:
        np.testing.assert_array_equal(read_boxes(opened, "car.txt", 1), [(1, 2, 3.5, 4)])


def test_a_report_of_boxes_has_a_table_by_sequence(tmp_path):
    content = {name: {"gt_rect": [[10, 10, 9, 9]] * frames} for name, frames in SIZES.items()}
    content["car"]["gt_rect"][2] = [math.nan] * 4  # absent: not counted
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    results = write_boxes(tmp_path / "results")
    (results / "steady" / "car.txt").write_text("10,10,9,9\n10,10,9,9\n0,0,1,1\n10,30.5,9,9\n")
    printed = evaluate("--results", results, "--dataset", tmp_path / "boxes.json", "-o", tmp_path / "scores")
    near = f"{(1 + 2 / 3) / 2:.3f}"  # of precision, normalised or not: boxes are hit or far away
    assert rows(printed) == [["steady", f"{(20 / 21 + 2 / 3 * 20 / 21) / 2:.3f}", near, near]]
    markdown = (tmp_path / "scores.md").read_text()
    assert "2 sequences, 10 frames" in markdown
    assert f"| car | {2 / 3 * 20 / 21:.3f} |" in markdown
