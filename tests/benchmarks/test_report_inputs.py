"""Result files recognised by what they hold, and files that are none."""

from __future__ import annotations

import json
import math
import os
import shutil
from contextlib import suppress

import pytest
import report_files

from siamtrt.benchmarks import harness
from siamtrt.benchmarks.compare_report import as_markdown
from siamtrt.benchmarks.race import StageSummary
from siamtrt.benchmarks.report import as_page, report_of
from siamtrt.benchmarks.report_inputs import read_inputs
from siamtrt.errors import ResultsError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One of every kind. Not to be changed."""
    return report_files.write_all(tmp_path_factory.mktemp("written"))


@pytest.fixture
def folder(written, tmp_path):
    """A copy of it."""
    return shutil.copytree(written, tmp_path / "all")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """What `siamtrt eval` wrote. Not to be changed."""
    return report_files.write_evaluation(tmp_path_factory.mktemp("scored"))


def test_a_folder_gives_every_kind_and_leaves_other_files_alone(written):
    inputs = read_inputs([written])
    assert [found.content.model for found in inputs.benches] == ["nano", "heavy"]
    assert [found.content.frames for found in inputs.evaluations] == [13]
    assert [found.content.model for found in inputs.comparisons] == ["nano"]
    assert [found.content["environment"]["device"]["name"] for found in inputs.gpus] == ["test GPU"]
    assert [[row.fps for row in found.content.predictions] for found in inputs.predictions] == [[40, 120.5]]


def test_files_by_name_are_the_same_whatever_their_names_are(folder):
    for index, path in enumerate(sorted(folder.rglob("*.json"))):
        if path.name not in ("run.json", "list.json"):
            path.rename(folder.parent / f"{index}.results")
    inputs = read_inputs(sorted(folder.parent.glob("*.results")))
    amounts = inputs.benches, inputs.evaluations, inputs.comparisons, inputs.gpus, inputs.predictions
    assert [len(found) for found in amounts] == [2, 1, 1, 1, 1]


def test_a_file_named_twice_counts_once(folder):
    assert len(read_inputs([folder / "fast.json", folder, folder / "fast.json"]).benches) == 2


def test_what_is_read_is_what_was_written(tmp_path):
    report = report_files.bench(
        stages={"whole update": StageSummary(1.0, 2.0, 3.0)}, fps=1000.0,
        contenders=report_files.beside(siamtrt=1.0, opencv=2.0),
    )  # fmt: skip
    harness.save_report(report, tmp_path / "bench")
    assert read_inputs([tmp_path / "bench.json"]).benches[0].content == report


def test_an_evaluation_is_read_as_it_was_scored(scored):
    found = read_inputs([scored]).evaluations[0].content
    assert (found.columns[0], found.sequences, found.frames) == ("success AUC", 2, 13)
    assert [row.name for row in found.trackers] == ["steady", "lossy"]
    assert found.trackers[0].sequences.keys() == report_files.BOXES.keys()
    mean = sum(scores[0] for scores in found.trackers[0].sequences.values()) / 2
    assert found.trackers[0].scores[0] == pytest.approx(mean)


def test_a_comparison_is_read_without_its_boxes(written):
    found = read_inputs([written / "compare.json"]).comparisons[0].content
    assert all(not track.boxes_xywh for row in found.contenders for track in row.tracks)
    assert as_markdown(found).splitlines()[4:9] == as_markdown(report_files.comparison()).splitlines()[4:9]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), ("{}", "something else"), ("[1]", "something else"), ("7", "something else"),
     ("{", "unreadable"), ("[" * 100_000, "unreadable"), ('{"a": ' + "9" * 5000 + "}", "unreadable"),
     ("", "unreadable"), (b"\xff\xfe{}", "unreadable")],
    ids=["missing", "empty object", "list", "number", "cut", "deep", "long number", "empty", "no text"],
)  # fmt: skip
def test_a_named_file_that_is_none_is_refused(tmp_path, content, said):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ResultsError, match=said):
        read_inputs([path])


def test_a_folder_without_results_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"none of 1 \.json files"):
        read_inputs([tmp_path])


def test_hidden_and_special_files_of_a_folder_are_not_read(folder):
    (folder / ".staged.json").write_text("{")
    (folder / ".git").mkdir()
    (folder / ".git" / "index.json").write_text("{")
    os.mkfifo(folder / "pipe.json")
    assert len(read_inputs([folder]).benches) == 2


def test_a_damaged_file_in_a_folder_is_not_passed_over(folder):
    (folder / "slow.json").write_text((folder / "slow.json").read_text()[:-20])
    with pytest.raises(ResultsError, match=r"slow\.json"):
        read_inputs([folder])


def broken():
    """(kind, place, value): what no writer leaves at a place of its file."""
    for kind, places in {
        "fast.json": ["stages", "fps", "environment", "model", "frame_size"],
        "compare.json": ["contenders", "model", "skipped"],
        "scores.json": ["trackers", "dataset", "frames"],
        "deeper/gpu.json": ["environment", "xcorr", "kernels", "updates", "checks"],
        "deeper/prediction.json": ["predictions", "model"],
    }.items():
        for place in places:
            for value in (None, {}, [None], -1):
                yield pytest.param(kind, place, value, id=f"{kind}-{place}-{str(value)[:9]}")


@pytest.mark.parametrize(("kind", "place", "value"), list(broken()))
def test_a_file_with_a_wrong_part_is_refused_or_harmless(written, tmp_path, kind, place, value):
    content = json.loads((written / kind).read_text()) | {place: value}
    path = report_files.write_json(tmp_path / "file.json", content)
    with suppress(ResultsError):  # any other error is one the user cannot repair
        as_page(report_of(read_inputs([path]), "again"))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, -3, 1e308, 10**400, None, "1"], ids=lambda value: str(value)[:9]
)
def test_a_time_that_is_none_is_refused(written, tmp_path, value):
    content = json.loads((written / "fast.json").read_text())
    content["stages"]["network"]["p99_ms"] = value
    path = report_files.write_json(tmp_path / "fast.json", content)
    with pytest.raises(ResultsError, match=r"fast\.json"):
        read_inputs([path])


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1.0], ids=str)
def test_a_rate_that_is_none_is_refused(written, tmp_path, value):
    content = json.loads((written / "fast.json").read_text()) | {"fps": value}
    with pytest.raises(ResultsError, match=r"fast\.json"):
        read_inputs([report_files.write_json(tmp_path / "fast.json", content)])


def test_a_size_that_no_file_has_is_refused(written, tmp_path):
    content = json.loads((written / "compare.json").read_text())
    content["contenders"][0]["graph_bytes"] = 10**400
    with pytest.raises(ResultsError, match=r"compare\.json"):
        read_inputs([report_files.write_json(tmp_path / "compare.json", content)])


@pytest.mark.parametrize(
    ("change", "value"),
    [("success", [0.5]), ("success", []), ("success", [None] * 21), ("sequence", "other"), ("sequence", None)],
    ids=["one value", "no value", "no numbers", "another sequence", "no sequence"],
)
def test_a_comparison_whose_tracks_do_not_fit_is_refused(written, tmp_path, change, value):
    content = json.loads((written / "compare.json").read_text())
    content["contenders"][1]["tracks"][0][change] = value
    path = report_files.write_json(tmp_path / "compare.json", content)
    with pytest.raises(ResultsError, match=r"compare\.json"):
        read_inputs([path])


@pytest.mark.parametrize("value", [1e308, -1e308, 1e-320, math.nan, math.inf, 0], ids=str)
@pytest.mark.parametrize("part", ["success AUC", "update_ms", "sequences"])
def test_scores_and_times_of_any_size_can_be_shown(scored, tmp_path, part, value):
    content = json.loads(scored.read_text())
    for row in content["trackers"]:
        row["update_ms"] = {"ball": 5.0, "car": 6.0}
        if part == "success AUC":
            row[part] = value
        elif part == "update_ms":
            row[part] = {"ball": value}
        else:
            row[part]["ball"]["success AUC"] = value
    path = report_files.write_json(tmp_path / "odd.json", content)
    if abs(value) == 1e308:
        with pytest.raises(ResultsError, match="a score of"):
            read_inputs([path])
    else:
        assert "nan" not in as_page(report_of(read_inputs([path]), "again"))


def test_control_characters_and_long_texts_do_not_get_through(scored, tmp_path):
    name = "a\x00b\u202ec\ud800d\ne" + "f" * 5000
    content = json.loads(scored.read_text())
    content["trackers"][0]["name"] = name
    path = report_files.write_json(tmp_path / "hostile.json", content)
    found = read_inputs([path]).evaluations[0].content.trackers[0].name
    assert found.startswith("a\ufffdb\ufffdc\ufffdd\ufffdefff")
    assert len(found) == 2001
