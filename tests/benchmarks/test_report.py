"""The report's content: curves, commands, Markdown, sizes, and what is said where something is missing."""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import report_files
from click.testing import CliRunner

from siamtrt.benchmarks import report, report_curves, result_files, score_results
from siamtrt.benchmarks.one_pass import Truth, one_pass_scores
from siamtrt.benchmarks.report_curves import curves_of, sequence_curves
from siamtrt.benchmarks.report_inputs import read_inputs
from siamtrt.benchmarks.report_markdown import as_markdown
from siamtrt.cli import main
from siamtrt.papers import SPEEDS, SURVEY

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "<script>alert(1)</script>\"'&|`*[x](javascript:alert(1))"


class Tags(HTMLParser):
    """Fails where an element is not closed; keeps tables, elements' names and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(paths, command="siamtrt report all -o report.html"):
    return report.as_page(report.report_of(read_inputs(paths), command))


@pytest.fixture
def folder(tmp_path):
    """One of every kind, with boxes and truth."""
    return report_files.write_all(tmp_path)


@pytest.fixture
def evaluated(tmp_path):
    return report_files.write_evaluation(tmp_path)


def test_the_command_writes_a_page_and_its_markdown_twin(folder, tmp_path):
    result = CliRunner().invoke(main, ["report", str(folder), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 0, result.output
    assert result.output == f"wrote {tmp_path}/report.html\nwrote {tmp_path}/report.md\n"
    page, markdown = ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md"))
    again = f"siamtrt report {folder} -o {tmp_path}/report.html"
    said = Tags(page).text
    for text in (again, "181.8 FPS", "22.7 FPS", "siamtrt compare nano --source clips", "test GPU", "jetson-large"):
        assert text in said
        assert text in markdown.replace("\\", "")
    for row in (*SPEEDS, *SURVEY):
        assert row.tracker in said
        assert row.tracker in markdown.replace("\\", "")


def test_the_page_has_every_figure_and_tables_with_headers(folder):
    page = page_of([folder])
    titles = re.findall(r"<h3>(.*?)</h3>", page)
    assert titles == [
        "Here, on truth", "As published, on OTB2015", "Where the time goes", "Success", "Precision",
        "Success by precision", "Size against accuracy",
    ]  # fmt: skip
    tables = re.findall(r"<table>.*?</table>", page, re.S)
    assert len(tables) >= 10
    for table in tables:
        columns = table.count('<th scope="col"')
        rows = re.findall(r"<tr>.*?</tr>", table[table.index("<tbody>") :], re.S)
        assert "<caption>" in table
        assert all(row.count('<th scope="row"') == 1 and row.count("<td") == columns - 1 for row in rows)


def test_nothing_of_the_page_is_loaded_from_elsewhere(folder):
    page = page_of([folder])
    assert not re.search(r"(src|href)=\"(?!#|data:,)|url\(|@import|<script|https?://(?!www\.w3\.org)", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize("field", ["tracker", "sequence", "dataset", "model", "environment", "command"])
def test_hostile_names_are_shown_and_not_obeyed(folder, tmp_path, field):
    names = ("scores", "fast", "compare")
    scores, bench, compare = (json.loads((folder / f"{name}.json").read_text()) for name in names)
    if field == "tracker":
        scores["trackers"][0]["name"] = HOSTILE
    elif field == "sequence":
        for row in scores["trackers"]:
            row["sequences"][HOSTILE] = row["sequences"].pop("ball")
    elif field == "dataset":
        scores["dataset"] = HOSTILE
    elif field == "model":
        bench["model"] = compare["model"] = HOSTILE
    elif field == "environment":
        bench["environment"] = {"cpu": HOSTILE, "gpu": HOSTILE, "packages": {HOSTILE: HOSTILE}}
    else:
        compare["command"] = HOSTILE + "\n```\n<b>"
    for name, content in zip(names, (scores, bench, compare), strict=True):
        report_files.write_json(folder / f"{name}.json", content)
    made = report.report_of(read_inputs([folder]), "again")
    page = Tags(report.as_page(made))
    assert not {"script", "b", "img", "iframe"} & set(page.seen)
    assert HOSTILE.rsplit("/", 1)[-1] in page.text
    markdown = as_markdown(made)
    outside = re.sub(r"^(`{3,})bash\n.*?^\1$", "", markdown, flags=re.S | re.M)
    assert "<script" not in outside.replace("\\<", "")
    lines = [line for line in outside.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    marks = [index for index, line in enumerate(lines) if set(line) <= set("| -:")]
    for start, end in zip(marks, [*(index - 1 for index in marks[1:]), len(lines)], strict=True):
        assert len(set(widths[start - 1 : end])) == 1  # no name makes or ends a column


def test_no_command_ends_its_own_block_of_markdown(folder):
    content = json.loads((folder / "compare.json").read_text()) | {"command": "```"}
    report_files.write_json(folder / "compare.json", content)
    markdown = as_markdown(report.report_of(read_inputs([folder]), "again"))
    assert "````bash\n```\n````" in markdown


def test_curves_are_those_of_the_scores(evaluated):
    found = read_inputs([evaluated]).evaluations[0]
    curves = curves_of(found.content, found.path.parent)
    for row, scored in zip(curves, found.content.trackers, strict=True):
        assert (row.name, row.success.mean()) == (scored.name, pytest.approx(scored.scores[0], abs=1e-12))
        assert row.precision[20] == pytest.approx(scored.scores[1], abs=1e-12)
    lossy = next(row for row in curves if row.name == "lossy")
    shares = [(1 + 0 * len(boxes)) / len(boxes) for boxes in report_files.BOXES.values()]  # only the first is nearer
    assert lossy.precision[8] == pytest.approx(np.mean(shares))
    assert lossy.precision[9] == 1.0


@pytest.mark.parametrize("layout", ["", "LaSOT", "UAV123", "OTB"])
def test_frames_without_a_usable_truth_count_as_in_the_scores(layout):
    rng = np.random.default_rng(0)
    truth = rng.uniform(20, 60, (400, 4))
    runs = truth + rng.uniform(-20, 20, (2, 400, 4))
    truth[50:200] = np.nan
    truth[300:330, 0] = 0.0
    truth = Truth(truth, layout)
    scores, _ = one_pass_scores({"a": runs}, {"a": truth})
    success, near = sequence_curves(runs, truth)
    assert (success.mean(), near[20]) == pytest.approx(scores[:2], abs=1e-12)


def test_boxes_and_scores_may_move_together(evaluated, tmp_path):
    (tmp_path / "moved").mkdir()
    shutil.move(evaluated, tmp_path / "moved" / "scores.json")
    for tracker in report_files.OFFSETS:
        shutil.move(tmp_path / "results" / tracker, tmp_path / "moved" / tracker)
    assert "No success and precision plots" not in page_of([tmp_path / "moved"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda path: (path / "truth.json").unlink(), "no dataset at"),
     (lambda path: shutil.rmtree(path / "results"), "no boxes of"),
     (lambda path: shutil.rmtree(path / "results" / "lossy"), "no boxes of lossy"),
     (lambda path: (path / "results" / "lossy" / "car.txt").write_text("1,1,1,1\n" * 5), "on file")],
    ids=["no dataset", "no boxes", "a tracker less", "other boxes"],
)  # fmt: skip
def test_a_page_without_curves_says_why(evaluated, tmp_path, spoil, said):
    spoil(tmp_path)
    page = html.unescape(page_of([evaluated]))
    assert re.search(rf"No success and precision plots: [^<]*{said}", page)
    assert "<h3>Success</h3>" not in page


@pytest.mark.parametrize("name", ["..", "../elsewhere", "/"])
def test_a_trackers_name_leads_nowhere_else(evaluated, tmp_path, monkeypatch, name):
    (tmp_path.parent / "elsewhere").mkdir(exist_ok=True)
    content = json.loads(evaluated.read_text())
    content["trackers"][0]["name"] = name
    report_files.write_json(evaluated, content)
    looked = []
    monkeypatch.setattr(report_curves, "find_files", lambda root: looked.append(root) or result_files.find_files(root))
    assert f"No success and precision plots: no boxes of {name}" in page_of([evaluated])
    assert looked == [tmp_path / "results"]


def test_expected_overlap_and_failures_of_vot(tmp_path):
    rows = tuple(
        score_results.TrackerScores(name, (eao, 0.5, robustness, 9.0), curve=[0.9, 0.5, eao])
        for name, eao, robustness in (("a", 0.4, 0.2), ("b", 0.3, 0.1))
    )
    evaluation = score_results.Evaluation(
        "VOT2018.zip", "VOT2018.json", ("EAO", "accuracy", "robustness", "lost number"), 2, 90, (2, 3), rows
    )
    path, _ = score_results.save_report(evaluation, tmp_path / "vot")
    page = page_of([path])
    assert "<h3>Expected overlap</h3>" in page
    assert 'class="span"' in page
    table = next(part for part in page.split("<table>") if "<caption>Scores, best first" in part)
    cells = re.findall(r'<td class="(best )?bar"[^>]*>([\d.]+)', table)
    best = [text for mark, text in cells if mark]
    assert best == ["0.400", "0.500", "9.000", "0.500", "0.100", "9.000"]  # of robustness the least
    assert "siamtrt eval --results VOT2018.zip --dataset VOT2018.json --interval 2 3 -o scores" in page


def test_scores_by_attribute(tmp_path):
    rows = tuple(
        score_results.TrackerScores(
            name, (auc, 0.5, 0.5), {"ball": (auc, 0.5, 0.5)}, attributes={"fast motion": (auc / 2, 0.1, 0.1)}
        )
        for name, auc in (("a", 0.8), ("b", 0.6))
    )
    evaluation = score_results.Evaluation(
        "results", "OTB2015", ("success AUC", "precision at 20 px", "normalised precision"), 1, 9, None, rows,
        attributes={"fast motion": 39},
    )  # fmt: skip
    path, _ = score_results.save_report(evaluation, tmp_path / "scores")
    table = next(part for part in page_of([path]).split("<table>") if "<caption>success AUC by attribute" in part)
    assert re.findall(r">([\w.]+)</t[dh]>", table.split("<tbody>")[1].split("</tbody>")[0]) == ["39", "0.400", "0.300"]
    assert "fast motion" in table


def test_thousands_of_sequences_stay_below_a_megabyte(tmp_path, evaluated):
    content = json.loads(evaluated.read_text())
    names = [f"a_long_name_of_a_sequence_{index:05d}" for index in range(1500)]
    sequences = {name: {key: 0.123456 for key in content["trackers"][0] if " " in key} for name in names}
    content["trackers"] = [
        {**content["trackers"][0], "name": f"tracker {index}", "sequences": sequences} for index in range(8)
    ]
    path = report_files.write_json(tmp_path / "many.json", content)
    page = page_of([path])
    assert len(page.encode()) < report.LARGEST_PAGE
    assert "easiest are left out" in page


def test_too_much_for_a_page_is_said_and_nothing_is_written(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(report, "LARGEST_PAGE", 10_000)
    result = CliRunner().invoke(main, ["report", str(folder), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 2
    assert "too much for one page" in result.output
    assert not list(tmp_path.glob("*report*"))


@pytest.mark.parametrize(
    ("results", "output", "said"),
    [("all", "report.txt", "no name for a page"), ("all", "no/report.html", "cannot write"),
     ("nothing", "report.html", "no such file"), ("all/run.json", "report.html", "something else")],
)  # fmt: skip
def test_mistakes_are_one_line_and_leave_nothing(folder, tmp_path, results, output, said):
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(main, ["report", str(tmp_path / results), "-o", str(tmp_path / output)])
    assert result.exit_code == 2
    assert said in result.output
    assert result.output.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_whose_twin_has_no_place_is_not_written(folder, tmp_path):
    (tmp_path / "report.md").mkdir()
    result = CliRunner().invoke(main, ["report", str(folder), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 2
    assert not (tmp_path / "report.html").exists()


def test_the_markdown_of_a_result_is_not_replaced(folder, tmp_path):
    before = (folder / "fast.md").read_text()  # `bench -o fast` writes fast.json and fast.md
    result = CliRunner().invoke(main, ["report", str(folder / "fast.json"), "-o", str(folder / "fast.html")])
    assert result.exit_code == 2
    assert "another name" in result.output
    assert (folder / "fast.md").read_text() == before


def test_without_jinja_the_extra_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = CliRunner().invoke(main, ["report", str(folder), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 2
    assert "siamtrt[report]" in result.output


def test_the_same_files_give_the_same_page(folder):
    assert page_of([folder]) == page_of([folder])


def test_benchmarks_of_one_model_are_told_apart(tmp_path):
    from siamtrt.benchmarks.harness import save_report

    for name, backend in (("a", "onnxruntime"), ("b", "tensorrt"), ("c", "tensorrt")):
        save_report(report_files.bench(backend=backend), tmp_path / name)
    text = Tags(page_of([tmp_path])).text
    for name in ("nano, onnxruntime", "nano, tensorrt, b", "nano, tensorrt, c"):
        assert f"{name}: 181.8 FPS" in text


def test_rivals_of_a_benchmark_stand_beside_it_fastest_first(tmp_path):
    from siamtrt.benchmarks.harness import save_report

    others = report_files.beside(siamtrt=5.5, torch=22.0, **{"opencv:mil": 33.0})
    save_report(report_files.bench(contenders=others), tmp_path / "a")
    table = next(part for part in page_of([tmp_path]).split("<table>") if "<caption>nano beside others" in part)
    rows = re.findall(r"<th scope=\"row\"[^>]*>(.*?)</th>(.*?)</tr>", table)
    assert [name for name, _ in rows] == ["siamtrt", "torch", "opencv:mil"]
    assert re.findall(r">([^<]+)</td>", rows[1][1]) == [
        "22.000", "44.000", "66.000", "4.00", "0.900", "\N{EN DASH}", "software of torch",
    ]  # fmt: skip


def test_speed_beside_the_papers(tmp_path):
    from siamtrt.benchmarks.harness import save_report

    save_report(report_files.bench(), tmp_path / "a")
    save_report(replace(report_files.bench("other", 20.0), paper=None), tmp_path / "b")
    rows = re.findall(r"<tr><th scope=\"row\"[^>]*>(.*?)</th>", page_of([tmp_path]).split("as published, and ours")[-1])
    assert rows[0] == "ours: nano"  # 181.8 FPS, before SiamRPN's 160
    assert rows[len(SPEEDS) + 1] == "ours: other"  # 9.1 FPS
    text = Tags(page_of([tmp_path])).text
    assert "1.82 times its paper's 100 (NVIDIA Titan Xp, some paper, sec. 1)" in text
    assert "no published rate" in text


@pytest.mark.parametrize(
    ("models", "fps", "origin"),
    [([], "200.0", "evaluation"), (["steady"], "181.8", "bench"), (["steady", "steady"], "200.0", "evaluation")],
    ids=["no benchmark", "one of its name", "two of its name"],
)
def test_a_trackers_speed_is_its_benchmarks_or_its_evaluations(evaluated, tmp_path, models, fps, origin):
    from siamtrt.benchmarks.harness import save_report

    content = json.loads(evaluated.read_text())
    for row in content["trackers"]:
        row["update_ms"] = {"ball": 5.0, "car": 4.0}
    report_files.write_json(evaluated, content)
    for index, model in enumerate(models):
        save_report(report_files.bench(model), tmp_path / f"bench{index}")
    table = next(part for part in page_of([tmp_path]).split("<table>") if "<caption>Here, on truth" in part)
    cells = re.search(r">steady</th><td>([\d.]+)</td><td>[\d.]+</td><td class=\"word\">(\w+)<", table)
    assert cells.groups() == (fps, origin)


def test_curves_of_thousands_of_frames_stay_small(tmp_path):
    curve = [1 / (1 + index / 50) for index in range(29_700)]  # VOT's longest sequences
    rows = tuple(
        score_results.TrackerScores(f"tracker {index}", (0.4, 0.5, 0.2, 9.0), curve=curve) for index in range(5)
    )
    columns = ("EAO", "accuracy", "robustness", "lost number")
    evaluation = score_results.Evaluation("VOT.zip", "VOT2018.json", columns, 2, 29_700, (100, 356), rows)
    page = page_of([score_results.save_report(evaluation, tmp_path / "vot")[0]])
    assert len(page.encode()) < report.LARGEST_PAGE
    lines = re.findall(r'<polyline [^>]*points="([^"]*)"', page)
    assert len(lines) == 5
    assert all(line.split()[0].startswith("64.0,") and len(line.split()) < 500 for line in lines)
