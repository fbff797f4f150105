"""Attributes of sequences, from the toolkits' files and from descriptions, and scores by attribute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from siamtrt.benchmarks.attributes import (
    COLUMNS,
    OTB_ATTRIBUTES,
    attributes_of,
    grouped,
    scores_by_attribute,
)
from siamtrt.benchmarks.one_pass import truths_of
from siamtrt.benchmarks.score_results import save_report, score_results
from siamtrt.errors import ResultsError, SourceError
from siamtrt.runtime.sequence import Sequence

BOX = "5,5,10,10\n"


def sequence(frames, name, layout):
    return Sequence(name, Path(frames), np.ones((2, 4)), layout=layout)


def write(path, *flags, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(separator.join(map(str, flags)) + "\n")


def flags_of(columns, *names):
    assert set(names) <= set(columns)
    return [int(name in names) for name in columns]


@pytest.mark.parametrize(
    ("layout", "frames", "file", "name"),
    [
        ("OTB", "Jogging/img", "anno/att/jogging-1.txt", "Jogging-1"),
        ("OTB", "Jogging/img", "att/Jogging.1.txt", "Jogging-1"),
        ("UAV123", "data_seq/UAV123/bike1", "anno/UAV123/att/bike1.txt", "bike1"),
        ("UAV20L", "data_seq/UAV123/bike1", "anno/UAV20L/att/bike1.txt", "bike1"),
        ("UAV123_10fps", "data_seq/UAV123_10fps/bike1", "anno/UAV123_10fps/att/bike1.txt", "bike1"),
        ("LaSOT", "cat/cat-3/img", "annos/att/cat-3.txt", "cat-3"),
        ("LaSOT", "cat-3/img", "att/cat-3.txt", "cat-3"),
    ],
)
@pytest.mark.parametrize("separator", [",", "\t", " "])
def test_where_the_toolkits_keep_them(tmp_path, layout, frames, file, name, separator):
    columns = COLUMNS[layout]
    write(tmp_path / file, *flags_of(columns, "fast motion", columns[0], columns[-1]), separator=separator)
    write((tmp_path / file).with_name("other.txt"), *flags_of(columns, "out of view"))
    assert set(attributes_of(sequence(tmp_path / frames, name, layout))) == {"fast motion", columns[0], columns[-1]}
    assert attributes_of(sequence(tmp_path / frames, "unknown", layout)) == ()


def test_relative_folders(tmp_path, monkeypatch):
    write(tmp_path / "att" / "Boy.txt", *flags_of(OTB_ATTRIBUTES, "deformation"))
    (tmp_path / "Boy").mkdir()
    monkeypatch.chdir(tmp_path / "Boy")
    assert attributes_of(sequence("img", "Boy", "OTB")) == ("deformation",)


# In the order of the toolkits' attFigName (UAV123, LaSOT) and of the papers' plots.
ABBREVIATED = {
    "OTB": "IV OPR SV OCC DEF MB FM IPR OV BC LR",
    "UAV123": "SV ARC LR FM FOC POC OV BC IV VC CM SOB",
    "LaSOT": "IV POC DEF MB CM ROT BC VC SV FOC FM OV LR ARC",
}
MEANING = {
    "ARC": "aspect ratio change", "BC": "background clutter", "CM": "camera motion", "DEF": "deformation",
    "FM": "fast motion", "FOC": "full occlusion", "IPR": "in-plane rotation", "IV": "illumination variation",
    "LR": "low resolution", "MB": "motion blur", "OCC": "occlusion", "OPR": "out-of-plane rotation",
    "OV": "out of view", "POC": "partial occlusion", "ROT": "rotation", "SOB": "similar object",
    "SV": "scale variation", "VC": "viewpoint change",
}  # fmt: skip


@pytest.mark.parametrize(("layout", "names"), ABBREVIATED.items())
def test_the_columns_are_in_the_toolkits_order(layout, names):
    assert COLUMNS[layout] == tuple(MEANING[name] for name in names.split())


def test_other_layouts_and_dtb70_have_none(tmp_path):
    """DTB70 is laid out as OTB; its attributes are others."""
    for name in ("Animal1", "Boy"):
        write(tmp_path / "att" / f"{name}.txt", *[1] * 11)
    assert attributes_of(sequence(tmp_path / "Animal1/img", "Animal1", "OTB")) == ()
    assert attributes_of(sequence(tmp_path / "Boy/img", "Boy", "TLP")) == ()
    assert len(attributes_of(sequence(tmp_path / "Boy/img", "Boy", "OTB"))) == 11


@pytest.mark.parametrize("text", ["", "1,0\n", "1,0,0,0,0,0,0,0,0,0,2\n", f"{'1,' * 10}1\n{'1,' * 10}1\n", "\0\xff"])
def test_damaged_files_are_named(tmp_path, text):
    path = tmp_path / "att" / "Boy.txt"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(SourceError, match=r"Boy\.txt"):
        attributes_of(sequence(tmp_path / "Boy/img", "Boy", "OTB"))


def test_means_by_hand():
    groups = grouped({"a": ["fast", "small"], "b": ["small"], "c": []})
    assert groups == {"fast": ["a"], "small": ["a", "b"]}
    rows = {"a": (0.5, 1.0), "b": (0.25, 0.0), "c": (9.0, 9.0)}
    assert scores_by_attribute(rows, groups) == {"fast": (0.5, 1.0), "small": (0.375, 0.5)}


@pytest.fixture
def otb(tmp_path):
    """Boy blurred, Car4 dark and blurred, Coke neither; and a tracker that has half of each frame of Car4."""
    root = tmp_path / "data"
    for name in ("Boy", "Car4", "Coke"):
        (root / name / "img").mkdir(parents=True)
        (root / name / "groundtruth_rect.txt").write_text(BOX * 3)
        for number in (1, 2, 3):
            (root / name / "img" / f"{number}.jpg").touch()
    write(root / "anno" / "att" / "Boy.txt", *flags_of(OTB_ATTRIBUTES, "motion blur"))
    write(root / "anno" / "att" / "car4.txt", *flags_of(OTB_ATTRIBUTES, "motion blur", "illumination variation"))
    results = tmp_path / "results"
    for tracker, boxes in (("half", "5,5,10,5\n"), ("whole", BOX)):
        (results / tracker).mkdir(parents=True)
        for name in ("Boy", "Car4", "Coke"):
            (results / tracker / f"{name}.txt").write_text(BOX + (boxes if name == "Car4" else BOX) * 2)
    return root, results


def test_scores_by_attribute_are_in_the_report(otb, tmp_path):
    root, results = otb
    evaluation = score_results(results, root)
    assert evaluation.attributes == {"illumination variation": 1, "motion blur": 2}
    half = next(row for row in evaluation.trackers if row.name == "half")
    assert half.attributes["illumination variation"] == half.sequences["Car4"]
    both = np.mean([half.sequences["Boy"], half.sequences["Car4"]], axis=0)
    assert half.attributes["motion blur"] == pytest.approx(both)
    as_json, markdown = save_report(evaluation, tmp_path / "scores")
    content = json.loads(as_json.read_text())
    assert content["attributes"] == {"illumination variation": 1, "motion blur": 2}
    (row,) = (row for row in content["trackers"] if row["name"] == "half")
    assert row["attributes"]["motion blur"]["success AUC"] == half.attributes["motion blur"][0]
    assert "\n| success AUC | sequences | whole | half |\n" in markdown.read_text()
    assert f"\n| motion blur | 2 | 0.952 | {half.attributes['motion blur'][0]:.3f} |\n" in markdown.read_text()


def test_without_attributes_the_report_says_nothing(otb, tmp_path):
    root, results = otb
    for path in (root / "anno" / "att").iterdir():
        path.unlink()
    assert not any(truth.attributes for truth in truths_of([sequence(root / "Boy/img", "Boy", "OTB")]).values())
    as_json, markdown = save_report(score_results(results, root), tmp_path / "scores")
    assert '"attributes"' not in as_json.read_text()
    assert "| sequences |" not in markdown.read_text()


def test_attributes_of_a_description(otb, tmp_path):
    _, results = otb
    content = {name: {"gt_rect": [[5, 5, 10, 10]] * 3, "attr": ["Motion Blur"]} for name in ("Boy", "Car4")}
    content["Coke"] = {"gt_rect": [[5, 5, 10, 10]] * 3}
    path = tmp_path / "OTB.json"
    path.write_text(json.dumps(content))
    evaluation = score_results(results, path)
    assert evaluation.attributes == {"Motion Blur": 2}
    for wrong in ("Motion Blur", [1], {"Motion Blur": 1}, None):
        content["Boy"]["attr"] = wrong
        path.write_text(json.dumps(content))
        with pytest.raises(ResultsError, match=r"bad description of a dataset: received attr .* in sequence 'Boy'"):
            score_results(results, path)
