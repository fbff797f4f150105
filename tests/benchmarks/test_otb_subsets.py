"""OTB's subsets by `--layout`, from folders and from descriptions."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from siamtrt.benchmarks.otb_files import of_layout, sequences_of_folder, truths_of_description
from siamtrt.benchmarks.otb_subsets import IN_BOTH, IN_NEITHER, ONLY_50, ONLY_2013, SUBSETS, split_subset
from siamtrt.benchmarks.result_files import read_json
from siamtrt.benchmarks.score_results import score_results
from siamtrt.errors import ResultsError

TARGETS = {"Jogging": ("Jogging-1", "Jogging-2"), "Skating2": ("Skating2-1", "Skating2-2"), "Human4": ("Human4-2",)}
SIZES = {"OTB-2013": 51, "OTB-50": 50, "OTB-2015": 100}


def names_of(subset):
    """As the folders' sequences are called here."""
    return [name for folder in sorted(SUBSETS[subset]) for name in TARGETS.get(folder, (folder,))]


def test_the_parts_are_apart():
    parts = (IN_BOTH, ONLY_2013, ONLY_50, IN_NEITHER)
    assert sum(map(len, parts)) == len(set().union(*parts)) == 98


@pytest.mark.parametrize(("subset", "count"), SIZES.items())
def test_sequences_are_chosen_by_folder(subset, count):
    everything = names_of("OTB-2015")
    chosen, missing = split_subset(everything, subset)
    assert chosen == names_of(subset)
    assert len(chosen) == count
    assert missing == []
    as_pysot = [name.replace("-", "_").lower() for name in everything]
    assert len(split_subset(as_pysot, subset)[0]) == count
    as_got10k = [name.replace("-", ".") for name in everything if name != "Human4-2"]
    assert split_subset([*as_got10k, "Human4"], subset) == (
        [name for name in [*as_got10k, "Human4"] if split_subset([name], subset)[0]], [],
    )  # fmt: skip
    assert split_subset(everything[2:], "OTB-2015")[1] == ["Basketball", "Biker"]
    assert split_subset(["Skater", "Skater2-1", "Dog11"], "OTB-50")[0] == []


@pytest.mark.parametrize(("subset", "count"), SIZES.items())
def test_of_the_published_description(shared_dir, subset, count):
    path = shared_dir / "results" / "OTB2015.json.gz"
    assert len(truths_of_description(read_json(path), path, subset)) == count


def test_of_the_got10k_toolkit():
    lists = pytest.importorskip("got10k.datasets", reason="the got10k toolkit is not installed").OTB
    for subset, name in (("OTB-2013", "otb13"), ("OTB-50", "tb50"), ("OTB-2015", "tb100")):
        assert set(getattr(lists, f"_OTB__{name}_seqs")) == SUBSETS[subset]


@pytest.fixture
def folder(tmp_path):
    """All of OTB-2013 but Woman, and one sequence more."""
    for name in {*SUBSETS["OTB-2013"], "Vase"} - {"Woman"}:
        (tmp_path / "data" / name / "img").mkdir(parents=True)
        for number in (1, 2, 3):
            (tmp_path / "data" / name / "img" / f"{number:04d}.jpg").touch()
        for target in (".1", ".2") if name == "Jogging" else ("",):
            (tmp_path / "data" / name / f"groundtruth_rect{target}.txt").write_text("1,2,3,4\n" * 3)
    return tmp_path / "data"


def add_woman(folder):
    (folder / "Woman" / "img").mkdir(parents=True)
    for number in (1, 2, 3):
        (folder / "Woman" / "img" / f"{number:04d}.jpg").touch()
    (folder / "Woman" / "groundtruth_rect.txt").write_text("1,2,3,4\n" * 3)


def test_a_folder_that_lacks_one_names_it(folder):
    with pytest.raises(ResultsError, match=r"OTB-2013 is not whole: received .*data without Woman; .* 50 folders"):
        sequences_of_folder(folder, "OTB-2013")
    add_woman(folder)
    chosen = [sequence.name for sequence in sequences_of_folder(folder, "OTB-2013")]
    assert len(chosen) == 51
    assert "Vase" not in chosen
    assert {"Jogging-1", "Jogging-2", "Woman"} <= set(chosen)
    assert len(sequences_of_folder(folder)) == 52


def test_only_what_is_laid_out_as_otb_counts(folder):
    add_woman(folder)
    others = [dataclasses.replace(sequence, layout="TLP") for sequence in sequences_of_folder(folder)]
    with pytest.raises(ResultsError, match=r"no sequence of that layout: received --layout OTB-2013 .* expected TLP"):
        of_layout(others, "OTB-2013", folder)


def test_results_are_scored_on_the_subset(tmp_path):
    content = {name: {"gt_rect": [[5, 5, 10, 10]] * 2} for name in names_of("OTB-2015")}
    path = tmp_path / "OTB2015.json"
    path.write_text(json.dumps(content))
    (tmp_path / "results" / "ours").mkdir(parents=True)
    for name in content:
        shift = 0 if name in names_of("OTB-50") else 100
        np.savetxt(tmp_path / "results" / "ours" / f"{name}.txt", [[5, 5, 10, 10], [5 + shift, 5, 10, 10]], "%g", ",")
    scores = {subset: score_results(tmp_path / "results", path, layout=subset) for subset in (*SIZES, None)}
    assert [scores[subset].sequences for subset in (*SIZES, None)] == [51, 50, 100, 100]
    assert scores["OTB-50"].trackers[0].scores[1] == 1.0
    assert scores["OTB-2015"].trackers[0].scores == scores[None].trackers[0].scores
    assert scores["OTB-2015"].trackers[0].scores[1] == pytest.approx(0.75)
    with pytest.raises(ResultsError, match="a description has no layouts: received --layout NfS30"):
        score_results(tmp_path / "results", path, layout="NfS30")
    del content["Woman"]
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=r"OTB-50 is not whole: .* without Woman"):
        score_results(tmp_path / "results", path, layout="OTB-50")
