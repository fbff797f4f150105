"""Results in a file: whole lines whatever happens to disk, folder, reader or process."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from service_updates import FRAME, update_of, wait_for

from siamtrt.errors import ServiceError
from siamtrt.service import jsonl, reopening
from siamtrt.service.faults import Faults
from siamtrt.service.jsonl import JsonlConfig, JsonlOutput
from siamtrt.service.loop import END_S
from siamtrt.service.worker import OutputListener

SUPPORT = str(Path(__file__).parents[1] / "support")
LINE = len(update_of(100).encoded()) + 1


@pytest.fixture
def impatient(monkeypatch):
    """Tries again sooner than in a second."""
    monkeypatch.setattr(reopening, "RETRY_S", 0.05)


@pytest.fixture
def open_output():
    outputs = []

    def opened(path, **settings):
        outputs.append(JsonlOutput(JsonlConfig(str(path), **settings)))
        return outputs[-1]

    yield opened
    for output in outputs:
        output.close()


def numbers_in(path):
    """Frame numbers of a file in which every line is whole."""
    text = path.read_bytes()
    assert text.endswith(b"\n") or not text
    return [json.loads(line)["frame"] for line in text.splitlines()]


def fails(output, number=0):
    """What sending raised, None where it did not."""
    try:
        output.send(update_of(number))
    except OSError as error:
        return error
    return None


def test_each_line_can_be_read_at_once(tmp_path, open_output):
    output = open_output(tmp_path / "results.jsonl")
    assert output.name == f"jsonl {tmp_path / 'results.jsonl'}"
    for number in range(5):
        output.send(update_of(number))
        assert numbers_in(tmp_path / "results.jsonl") == list(range(number + 1))
    assert json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0]) == update_of(0).as_json()


def test_everything_is_written_at_the_end(tmp_path):
    faults = Faults()
    listener = OutputListener(JsonlOutput(JsonlConfig(str(tmp_path / "results.jsonl"))), faults)
    for number in range(100):
        listener.take(update_of(number), FRAME)
    listener.close()
    assert listener.ended(END_S)
    assert numbers_in(tmp_path / "results.jsonl") == list(range(100))
    assert faults.seen() == []


def test_files_are_renamed_by_size_and_the_oldest_is_forgotten(tmp_path, open_output):
    output = open_output(tmp_path / "results.jsonl", rotate_mb=LINE * 10 / 1e6, keep=2)
    for number in range(100, 200):
        output.send(update_of(number))
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 30 * LINE
    names = ["results.jsonl.2", "results.jsonl.1", "results.jsonl"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    assert [numbers_in(tmp_path / name) for name in names] == [
        list(range(170, 180)), list(range(180, 190)), list(range(190, 200))
    ]  # fmt: skip


def test_a_full_file_of_an_earlier_run_is_renamed_too(tmp_path, open_output):
    for run in range(3):
        output = open_output(tmp_path / "results.jsonl", rotate_mb=LINE / 1e6, keep=4)
        output.send(update_of(100 + run))
        output.close()
    assert [numbers_in(tmp_path / f"results.jsonl{end}") for end in (".2", ".1", "")] == [[100], [101], [102]]


@pytest.mark.parametrize("half", [b'{"frame":7,"ti', b"\0" * 5000, b'{"frame":7\0\0\0'], ids=["line", "zeros", "both"])
@pytest.mark.parametrize("before", [0, 3, 100])  # the last: more than is looked through
def test_a_line_that_a_power_cut_left_half_written_is_cut_off(tmp_path, open_output, half, before, monkeypatch):
    monkeypatch.setattr(jsonl, "LONGEST_TAIL", 6000)
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"".join(update_of(number).encoded() + b"\n" for number in range(before)) + half)
    open_output(path).send(update_of(before))
    assert numbers_in(path) == list(range(before + 1))


@pytest.mark.parametrize("content", [b"a letter to my mother", b"{" * 7000], ids=["letter", "large"])
def test_a_file_of_something_else_is_set_aside_unchanged(tmp_path, open_output, content, monkeypatch):
    monkeypatch.setattr(jsonl, "LONGEST_TAIL", 6000)
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    open_output(path).send(update_of(0))
    assert (tmp_path / "results.jsonl.1").read_bytes() == content
    assert numbers_in(path) == [0]


def test_a_link_stays_and_what_it_points_to_is_renamed(tmp_path, open_output):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "results.jsonl"
    link.symlink_to("disk/results.jsonl")
    output = open_output(link, rotate_mb=LINE / 1e6)
    for number in (100, 101):
        output.send(update_of(number))
    assert link.is_symlink()
    assert (numbers_in(tmp_path / "disk" / "results.jsonl.1"), numbers_in(link)) == ([100], [101])


def test_moved_or_removed_it_is_made_anew(tmp_path, open_output):
    path = tmp_path / "results.jsonl"
    output = open_output(path)
    output.send(update_of(0))
    path.rename(tmp_path / "moved")
    output.send(update_of(1))
    path.unlink()
    output.send(update_of(2))
    assert (numbers_in(tmp_path / "moved"), numbers_in(path)) == ([0], [2])
    path.unlink()
    path.touch()  # as logrotate's `create`
    output.send(update_of(3))
    assert numbers_in(path) == [3]


@pytest.mark.usefixtures("impatient")
def test_a_folder_that_is_removed_is_used_again_when_it_is_back(tmp_path, open_output):
    folder = tmp_path / "stick"
    folder.mkdir()
    output = open_output(folder / "results.jsonl")
    output.send(update_of(0))
    shutil.rmtree(folder)
    assert isinstance(fails(output), FileNotFoundError)
    folder.write_text("in its place")
    assert wait_for(lambda: isinstance(fails(output), NotADirectoryError))
    folder.unlink()
    folder.mkdir()
    assert wait_for(lambda: fails(output, 3) is None)
    assert numbers_in(folder / "results.jsonl") == [3]


@pytest.mark.usefixtures("impatient")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_permission_that_is_lost_is_waited_for(tmp_path, open_output):
    output = open_output(tmp_path / "results.jsonl", rotate_mb=LINE / 1e6)
    output.send(update_of(100))
    tmp_path.chmod(0o500)
    assert isinstance(fails(output), PermissionError)
    tmp_path.chmod(0o700)
    assert wait_for(lambda: fails(output, 101) is None)


@pytest.mark.usefixtures("impatient")
def test_a_rename_that_fails_stops_the_file_from_growing(tmp_path, open_output):
    path, obstacle = tmp_path / "results.jsonl", tmp_path / "results.jsonl.1"
    obstacle.mkdir()
    output = open_output(path, rotate_mb=LINE / 1e6, keep=1)
    output.send(update_of(100))
    for number in range(101, 120):
        assert isinstance(fails(output, number), IsADirectoryError)
    assert numbers_in(path) == [100]
    obstacle.rmdir()
    assert wait_for(lambda: fails(output, 120) is None)
    assert (numbers_in(obstacle), numbers_in(path)) == ([100], [120])


def test_a_full_device_is_counted_with_its_name_and_not_opened_for_each_line(monkeypatch):
    faults, opened = Faults(), []
    really_open = os.open
    monkeypatch.setattr("siamtrt.service.jsonl.os.open", lambda *how: opened.append(how[0]) or really_open(*how))
    listener = OutputListener(JsonlOutput(JsonlConfig("/dev/full")), faults)
    for number in range(200):
        listener.take(update_of(number), FRAME)
    listener.close()
    assert listener.ended(END_S)
    (failed,) = faults.seen()
    assert (failed.kind, failed.count) == ("output_failed", 200)
    assert failed.told.startswith("jsonl /dev/full: OSError: [Errno 28]")
    assert len(opened) <= 2


LIMITED = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from service_updates import update_of
from siamtrt.service import jsonl, reopening
from siamtrt.service.jsonl import JsonlConfig, JsonlOutput
reopening.RETRY_S = 0.02
def fill(place, path, make_room):
    output, failed, number = JsonlOutput(JsonlConfig(place)), [], 0
    while len(failed) < 20:
        number += 1
        try:
            output.send(update_of(number))
        except OSError as error:
            failed.append(error.errno)
        assert Path(path).read_bytes().endswith(b"}\\n"), "half a line"
    make_room()
    time.sleep(0.03)
    output.send(update_of(0))
    output.close()
    print(number - 20, set(failed), file=sys.stderr)
"""
NO_MORE_THAN = """
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
fill(sys.argv[3], sys.argv[2], lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2))
"""
ON_A_FULL_DISK = """
ballast = Path(sys.argv[2]).with_name("ballast")
ballast.write_bytes(bytes(40_000))
fill(sys.argv[2], sys.argv[2], ballast.unlink)
print(Path(sys.argv[2]).read_text())
"""


def _run(code, *arguments, before=(), stdout=subprocess.PIPE):
    command = [*before, sys.executable, "-c", LIMITED + code, SUPPORT, *map(str, arguments)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30)


@pytest.mark.parametrize("place", ["file", "-"])
def test_a_file_that_may_not_grow_keeps_whole_lines_and_goes_on_later(tmp_path, place):
    path = tmp_path / "results.jsonl"
    with (tmp_path / "results.jsonl").open("wb") as redirected:
        done = _run(NO_MORE_THAN, path, path if place == "file" else "-", stdout=redirected)
    assert done.returncode == 0, done.stderr
    *numbers, last = numbers_in(path)
    assert (numbers, last) == (list(range(1, len(numbers) + 1)), 0)
    assert done.stderr == f"{len(numbers)} {{27}}\n"  # EFBIG
    assert 4500 < len(numbers) * LINE < 5200


def test_a_full_disk_keeps_whole_lines_and_goes_on_when_there_is_room(tmp_path):
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=64k tmpfs "{tmp_path}" && exec "$0" "$@"']
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    done = _run(ON_A_FULL_DISK, tmp_path / "results.jsonl", before=mount)
    assert done.returncode == 0, done.stderr
    numbers = [json.loads(line)["frame"] for line in done.stdout.splitlines() if line]
    assert numbers == [*range(1, len(numbers)), 0]
    assert len(numbers) > 20
    assert done.stderr == f"{len(numbers) - 1} {{28}}\n"  # ENOSPC


@pytest.mark.usefixtures("impatient")
def test_a_pipe_is_written_to_when_somebody_reads_it(tmp_path, open_output):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    output = open_output(path)  # returns without a reader
    assert fails(output).errno == 6  # ENXIO
    for _ in range(2):  # readers come and go
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        assert wait_for(lambda: fails(output, 5) is None)
        assert json.loads(os.read(reader, 4096).splitlines()[-1])["frame"] == 5
        os.close(reader)
        assert isinstance(fails(output), BrokenPipeError)


def test_a_reader_that_stops_reading_delays_nothing(tmp_path):
    path, faults = tmp_path / "pipe", Faults()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    listener = OutputListener(JsonlOutput(JsonlConfig(str(path))), faults)
    start = time.monotonic()
    for number in range(3000):  # the pipe takes 64 KiB, some 400 lines
        listener.take(update_of(number), FRAME)
        time.sleep(1e-5)
    assert time.monotonic() - start < 3
    listener.close()
    assert not listener.ended(0.1)
    assert {"output_behind", "output_hangs"} == set(faults.counts())
    text = bytearray()
    threading.Thread(target=lambda: listener.ended(10)).start()
    while b'"frame":2999' not in text:
        assert wait_for(lambda: text.extend(_all_of(reader)) or text)
    assert listener.ended(5)
    os.close(reader)
    numbers = [json.loads(line)["frame"] for line in text.splitlines()]
    assert numbers == sorted(numbers)
    assert numbers[-256:] == list(range(2744, 3000))


def _all_of(reader):
    try:
        return os.read(reader, 1 << 16)
    except BlockingIOError:
        return b""


STDOUT = """
import sys
sys.path.insert(0, sys.argv[1])
from service_updates import update_of
from siamtrt.service.jsonl import JsonlConfig, JsonlOutput
output = JsonlOutput(JsonlConfig("-", rotate_mb=1e-4))
for number in range(20):
    output.send(update_of(number))
"""


def test_a_dash_is_standard_output(tmp_path):
    command = [sys.executable, "-c", STDOUT, SUPPORT]
    piped = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert [json.loads(line)["frame"] for line in piped.stdout.splitlines()] == list(range(20)), piped.stderr
    with (tmp_path / "file").open("wb") as file:
        subprocess.run(command, stdout=file, check=True, cwd=tmp_path)
    assert numbers_in(tmp_path / "file") == list(range(20))  # a shell's file is the shell's: it is not renamed
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, text=True)
    assert "ServiceError" in closed.stderr
    assert "standard output is closed" in closed.stderr


@pytest.mark.parametrize("path", ["missing/results.jsonl", ".", "file/results.jsonl", "x" * 300])
def test_a_place_that_cannot_be_is_refused_at_once(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="cannot be written"):
        JsonlOutput(JsonlConfig(str(tmp_path / path)))
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "settings", [{"path": ""}, {"path": "a\0b"}, {"rotate_mb": 0.0}, {"rotate_mb": float("nan")}, {"keep": 0}],
    ids=["empty", "zero byte", "no size", "nan", "keep none"],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(ServiceError, match="unusable settings"):
        JsonlConfig(**{"path": "results.jsonl", **settings})
