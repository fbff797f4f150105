"""Result files and descriptions that `siamtrt eval` must refuse."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile

import pytest
from result_sets import BOX, write_boxes, write_description, write_runs, zipped

from siamtrt.benchmarks import result_files
from siamtrt.errors import ResultsError


@pytest.fixture
def description(tmp_path):
    return write_description(tmp_path / "VOT2018.json")


@pytest.fixture
def results(tmp_path):
    return write_runs(tmp_path / "results")


@pytest.fixture
def evaluate(fails, description, results, work):
    """`eval` must fail, and write nothing."""

    def run(source=results, dataset=description, *options):
        named = "--results", source, "--dataset", dataset, "-o", work / "scores"
        return fails("eval", *named, *(options or ("--interval", 2, 4)))

    return run


CAR = "lossy/baseline/car/car_001.txt"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no line"),
        (f"1\n{BOX}\n{BOX}\n", "3 lines; expected 4, one for each frame"),
        ("1\n" + f"{BOX}\n" * 4, "5 lines; expected 4"),
        (f"1\n{BOX}\n1,2,nan,4\n{BOX}\n", "line 3 '1,2,nan,4', which is not finite"),
        (f"1\n{BOX}\n3\n{BOX}\n", "line 3 '3', which is none of the codes 0 (skipped), 1 (initialised), 2 (failed)"),
        (f"1\n{BOX}\n10,10,9\n{BOX}\n", "line 3 '10,10,9', whose 3 numbers"),
        (f"{BOX}\n{BOX}\n{BOX}\n{BOX}\n", "line 1 without the code"),
        (f"1\n2\n{BOX}\n{BOX}\n", "line 3 with a region after a failure"),
        ("<html>\n" * 4, "line 1 '<html>', which is not numbers"),
    ],
)
def test_bad_lines(evaluate, results, text, says):
    (results / CAR).write_text(text)
    message = evaluate()
    assert message.startswith("bad result file: received")
    assert CAR in message
    assert says in message


def test_a_result_that_is_no_text(evaluate, results):
    (results / CAR).write_bytes(b"1\n\xff\xfe\n")
    assert evaluate().startswith(f"unreadable file: received {results / CAR}: ")


def test_results_too_large_to_be_any(evaluate, results, monkeypatch):
    monkeypatch.setattr(result_files, "LARGEST_TEXT", 10)
    assert "more than 10 bytes" in evaluate()


def test_missing_sequences_are_named(evaluate, results):
    shutil.rmtree(results / "lossy" / "baseline" / "car")
    message = evaluate()
    assert message.startswith("sequences missing in the results of lossy: received no car in")
    assert "all 2 sequences" in message


def test_the_first_missing_sequences_are_named(evaluate, tmp_path):
    names = [f"s{i}" for i in range(12)] + ["ball", "car"]
    content = json.loads((tmp_path / "VOT2018.json").read_text())
    (tmp_path / "VOT2018.json").write_text(json.dumps(dict.fromkeys(names, content["ball"])))
    assert "received no s0, s1, s2, s3, s4 and 7 more in" in evaluate()


def test_no_results(evaluate, tmp_path):
    missing, empty, boxes = tmp_path / "missing", tmp_path / "empty", write_boxes(tmp_path / "boxes")
    empty.mkdir()
    assert "which does not exist" in evaluate(missing)
    assert "0 .txt files" in evaluate(empty)
    assert "<tracker>/baseline/<sequence>/<sequence>_001.txt" in evaluate(boxes)
    assert "which is neither; expected a folder or a whole .zip" in evaluate(tmp_path / "VOT2018.json")


def test_a_tracker_twice(evaluate, results):
    shutil.copytree(results / "lossy", results / "old" / "lossy")
    assert evaluate().startswith("a tracker twice: received lossy/baseline/ball/ball_001.txt and old/lossy/")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_zip(evaluate, results, tmp_path, share):
    whole = zipped(results, tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: int(len(whole) * share)])
    assert "cut.zip, which is neither; expected a folder or a whole .zip" in evaluate(tmp_path / "cut.zip")


def test_a_damaged_zip(evaluate, results, tmp_path):
    path = zipped(results, tmp_path / "bad.zip")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo(f"packed/{CAR}").header_offset
    data[place + 30 + len(f"packed/{CAR}") + 2] ^= 0xFF
    path.write_bytes(data)
    message = evaluate(path)
    assert message.startswith("unreadable file")
    assert CAR in message


def test_an_encrypted_zip(evaluate, results, tmp_path):
    path = zipped(results, tmp_path / "secret.zip")
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of encryption
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + place] |= 1
    path.write_bytes(data)
    assert "encrypted" in evaluate(path)


@pytest.mark.parametrize("name", ["../car.txt", "/car.txt", "a/../../car.txt", "..\\car.txt", "C:\\car.txt"])
def test_a_zip_that_leads_outside(evaluate, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, "1\n")
    assert evaluate(tmp_path / "evil.zip").startswith("a file outside the results")


def test_a_link_that_leads_outside(evaluate, results, tmp_path):
    (tmp_path / "outside.txt").write_text("1\n")
    (results / "link.txt").symlink_to(tmp_path / "outside.txt")
    assert evaluate().startswith("a file outside the results: received 'link.txt'")
    (results / "link.txt").unlink()
    (results / "circle").symlink_to(results)  # is not followed
    (tmp_path / "linked").symlink_to(results)
    (results / CAR).write_text("")
    assert "no line" in evaluate(tmp_path / "linked")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gt_rect": None}, "no 'gt_rect' in sequence car"),
        ({"width": None}, "no 'width' in sequence car"),
        ({"width": 0}, "frames of 0x80"),
        ({"height": 1 << 20}, "frames of 100x1048576"),
        ({"height": "tall"}, "invalid literal"),
        ({"height": [1]}, "int()"),
        ({"gt_rect": []}, "no region"),
        ({"gt_rect": [[0]]}, "a frame without a region"),
        ({"gt_rect": [[1, 2, 3]]}, "'1,2,3', whose 3 numbers"),
        ({"gt_rect": [[1, 2, 3, float("nan")]]}, "not finite"),
        ({"gt_rect": 5}, "not iterable"),
        ({"occlusion": [1]}, "an attribute that is not one value a frame"),
    ],
)
def test_bad_descriptions(evaluate, description, changes, says):
    write_description(description, **changes)
    message = evaluate()
    assert message.startswith("bad description of a dataset")
    assert says in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\xff", "codec can't decode"),
        (b"[" * 100_000, "recursion"),
        (gzip.compress(b"{}" * 1000, mtime=0)[:-20], "end-of-stream"),
        (gzip.compress(b"{}", mtime=0)[:-8] + b"\0" * 8, "CRC"),
        (gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 50, "invalid block type"),
        (b"\x1f\x8bnonsense", "compression method"),
    ],
)
def test_descriptions_that_are_no_json(evaluate, tmp_path, content, says):
    (tmp_path / "VOT2018.json.gz").write_bytes(content)
    message = evaluate(dataset=tmp_path / "VOT2018.json.gz")
    assert message.startswith("unreadable file")
    assert says in message


@pytest.mark.parametrize("content", [[], {}, 5, None, {"car": 5}, {"car": {}}, {"car": {"gt_rect": [[1, 2, 3]]}}])
def test_json_that_is_no_description(evaluate, description, content):
    description.write_text(json.dumps(content))
    assert evaluate().startswith("bad description of a dataset")


def test_a_description_that_is_missing_or_too_large(evaluate, description, monkeypatch):
    assert "No such file" in evaluate(dataset=description.with_name("none.json"))
    monkeypatch.setattr(result_files, "LARGEST_JSON", 100)
    assert "more than 100 bytes" in evaluate()


@pytest.mark.parametrize("name", ["dataset.json", "VOT2014.json", "VOT20188.json"])
def test_no_known_year(fails, description, results, name):
    path = shutil.copy(description, description.with_name(name))
    message = fails("eval", "--results", results, "--dataset", path)
    assert message.startswith(f"no interval for the expected average overlap: received {name}")


@pytest.mark.parametrize("interval", [(7, 9), (5, 4)])
def test_an_interval_without_sequences(evaluate, results, description, interval):
    assert evaluate(results, description, "--interval", *interval).startswith("no sequence in the interval")


@pytest.fixture
def boxes(tmp_path):
    """A description and one tracker's results."""
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({name: {"gt_rect": [[10, 10, 9, 9]] * n} for name, n in (("ball", 6), ("car", 4))}))
    return write_boxes(tmp_path / "boxes"), path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{BOX}\n" * 3, "3 lines; expected 4"),
        (f"{BOX}\n" * 5, "5 lines; expected 4"),
        (f"{BOX}\n" * 2 + f"nan,1,1,1\n{BOX}", "line 3 'nan,1,1,1'; expected four finite numbers"),
        (f"{BOX}\n" * 3 + "1,2,3,4,5", "line 4 '1,2,3,4,5'"),
        (f"{BOX}\n\n{BOX}\n{BOX}", "line 2 ''"),
    ],
)
def test_bad_boxes(evaluate, boxes, text, says):
    (boxes[0] / "steady" / "car.txt").write_text(text)
    message = evaluate(*boxes)
    assert message.startswith("bad result file")
    assert says in message


def test_boxes_that_do_not_fit_the_dataset(evaluate, boxes, tmp_path, work):
    results, description = boxes
    (results / "steady" / "Car.txt").write_text(BOX)
    assert evaluate(*boxes).startswith("a sequence twice")
    (results / "steady" / "Car.txt").unlink()
    (results / "steady" / "ball.txt").unlink()
    assert "received no ball in" in evaluate(*boxes)
    (results / "steady" / "car.txt").unlink()
    (results / "steady" / "dog.txt").write_text(BOX)
    assert evaluate(*boxes).startswith("no results of these sequences")
    description.write_text(json.dumps({"a.b": {"gt_rect": [[1, 2, 3, 4]]}, "A-b": {"gt_rect": [[1, 2, 3, 4]]}}))
    assert evaluate(*boxes).startswith("a sequence twice")
    description.write_text('{"car": {"gt_rect": [[NaN, 1, 1, 1]]}}')
    assert evaluate(*boxes).startswith("a sequence without a target")
    assert evaluate(results, work).startswith("no sequences")


def test_annotated_folders_of_one_name_or_without_a_target(evaluate, short_video, tmp_path):
    results = write_boxes(tmp_path / "boxes")
    for folder in ("first", "second"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        shutil.copy(short_video.path, tmp_path / "data" / folder / "car.avi")
        (tmp_path / "data" / folder / "car.txt").write_text("nan,nan,nan,nan\n" * len(short_video.frames))
    assert evaluate(results, tmp_path / "data").startswith("a sequence twice: received car in")
    assert evaluate(results, tmp_path / "data" / "first").startswith("a sequence without a target")


def test_an_output_that_cannot_be_written(fails, results, description, work):
    message = fails(
        "eval", "--results", results, "--dataset", description, "--interval", 2, 4, "-o", work / "none" / "scores"
    )
    assert message.startswith("cannot write the output")


def test_the_error_of_a_library_call(refused, tmp_path):
    with refused(ResultsError, "does not exist"):
        result_files.find_files(tmp_path / "none")
