"""TraX's lines as a client writes and reads them, in any order and broken off: what stdout says, and how it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import cv2
import pytest
from click.testing import CliRunner

pytest.importorskip("trax", reason="needs the vot extra")

from siamtrt.cli import main

HANG_SECONDS = 60  # of a process that takes half a second
SERVER = (sys.executable, "-m", "siamtrt.cli", "trax")
LOUD_AND_SLOW_TRACKER = """
import os
import time
from types import SimpleNamespace
from siamtrt.benchmarks import trax_server

class Loud:
    manifest = SimpleNamespace(model="loud")
    state = SimpleNamespace(score=1.0)
    def init(self, frame, box):
        print("from Python", flush=True)
        os.system("echo from below")
    def update(self, frame):
        print("from Python", flush=True)
        time.sleep(1)
        corners = ((1, 2), (30.5, 2), (30.5, 9), (1, 9.25))
        return SimpleNamespace(box_xywh=(1, 2, 3, 4), polygon=corners, score=0.5)

trax_server.PATIENCE_SECONDS = 0.5  # the client has gone long before it is answered
trax_server.serve(Loud())
"""


def messages(result):
    """TraX's lines of stdout, which has no others."""
    lines = result.stdout.decode().splitlines()
    assert all(line.startswith("@@TRAX:") for line in lines), lines
    return lines


def requests(*texts):
    return "".join(f"@@TRAX:{text}\n" for text in texts).encode()


def run(data, *command):
    return subprocess.run(command or SERVER, input=data, capture_output=True, timeout=HANG_SECONDS)


@pytest.fixture
def frame_file(short_video, tmp_path):
    path = tmp_path / "frame.png"
    cv2.imwrite(str(path), short_video.frames[0])
    return path


START = 'initialize "60,80,40,40"'


def test_stdout_is_traxs_and_rotated_boxes_are_polygons(frame_file):
    shown = f'frame "file://{frame_file}"'
    result = run(requests(START, shown, shown, "quit"), sys.executable, "-c", LOUD_AND_SLOW_TRACKER)
    hello, first, second = messages(result)
    assert "trax.region=rectangle;polygon;" in hello
    assert first == '@@TRAX:state "60.0000,80.0000,40.0000,40.0000" "confidence=1.0" '
    polygon = "1.0000,2.0000,30.5000,2.0000,30.5000,9.0000,1.0000,9.2500"
    assert second == f'@@TRAX:state "{polygon}" "confidence=0.5" '
    assert result.stderr.count(b"from") == 3
    assert result.returncode == 0


UNDELAYED_TRACKER = """
import os
import socket
from types import SimpleNamespace
from siamtrt.benchmarks.trax_server import serve

class Undelayed:
    manifest = SimpleNamespace(model="undelayed")
    state = SimpleNamespace(score=1.0)
    def init(self, frame, box):
        with socket.socket(fileno=os.dup(int(os.environ["TRAX_OUT"]))) as link:
            print("no delay:", link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

serve(Undelayed())
"""


def test_answers_through_a_socket_are_not_held_back(frame_file):
    """TraX writes an answer in pieces; with Nagle's algorithm the second waits 40 ms for the first one's receipt."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(HANG_SECONDS)
        environment = {**os.environ, "TRAX_SOCKET": str(listener.getsockname()[1])}
        command = (sys.executable, "-c", UNDELAYED_TRACKER)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        with listener.accept()[0] as link:
            link.sendall(requests(START, f'frame "file://{frame_file}"', "quit"))
            printed, _ = process.communicate(timeout=HANG_SECONDS)
    assert printed == "no delay: 1\n"


FAULTS = {
    "nothing": ((), "the TraX session broke off"),
    "gone after a frame": ((START, "{frame}", "{frame}"), "received the end of the connection"),
    "no such image": ((START, 'frame "file:///nowhere/1.jpg"', "quit"), "received /nowhere/1.jpg (not an image)"),
    "bytes that are no image": ((START, 'frame "data:image/jpeg;AAAA"', "quit"), "4 bytes (not an image)"),
    "a path that TraX does not read": ((START, 'frame "file:///é.jpg"', "quit"), "expected whole requests in ASCII"),
    "a frame of another size": (
        (START, "{frame}", f'frame "image:2;2;rgb;{"A" * 16}"', "quit"), "frame size changed: received 2x2"),
    "no box": (('initialize "1"', "{frame}", "quit"), "received special; expected one rectangle or polygon"),
    "two targets": ((START, START, "{frame}", "quit"), "received rectangle, rectangle; expected one"),
    "a frame first": (("{frame}", "quit"), "tracker has no target"),
}  # fmt: skip


def require_one_line(stderr, part):
    (line,) = stderr.splitlines()
    assert line.startswith("siamtrt: ")
    for expected in (part, ": received ", "; expected ", ". Fix: "):
        assert expected in line


@pytest.mark.parametrize("name", FAULTS)
def test_faults_end_the_process_in_one_line(frame_file, name):
    told, part = FAULTS[name]
    result = run(requests(*(request.format(frame=f'frame "file://{frame_file}"') for request in told)))
    assert result.returncode == 2
    require_one_line(result.stderr.decode(), part)
    assert messages(result)[-1].startswith("@@TRAX:quit")


def test_garbage_is_passed_over(frame_file):
    garbage = b"hello\n@@TRA\n\x01\n" * 1000
    result = run(garbage + requests(START, f'frame "file://{frame_file}"', "quit"))
    assert (result.returncode, result.stderr) == (0, b"")
    assert messages(result)[1].startswith('@@TRAX:state "60.0000,80.0000')


def test_a_client_that_goes_within_a_request(frame_file):
    """TraX itself would read the end for ever; what came before is answered."""
    result = run(requests(START, f'frame "file://{frame_file}"') + b'@@TRAX:initialize "60,80')
    assert result.returncode == 2
    require_one_line(result.stderr.decode(), "received the end of the connection")
    assert len(messages(result)) == 2


@pytest.mark.parametrize("port", ["1", "none"])
def test_nobody_at_the_port(monkeypatch, port):
    monkeypatch.setenv("TRAX_SOCKET", port)
    result = CliRunner().invoke(main, ["trax"])
    assert (result.exit_code, result.stdout) == (2, "")
    require_one_line(result.stderr, f"received TRAX_SOCKET={port}")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "trax", None)
    monkeypatch.delitem(sys.modules, "siamtrt.benchmarks.trax_server", raising=False)
    result = CliRunner().invoke(main, ["trax"])
    assert result.exit_code == 2
    assert "pip install 'siamtrt[vot]'" in result.stderr
