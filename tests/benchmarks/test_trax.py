"""VOT's own toolkit, and the client of its protocol's package, run our default tracker as a process."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("trax", reason="needs the vot extra")

import trax
from trax.client import Client
from vot_folders import polygon_line, write_list, write_vot_sequence

from siamtrt import Tracker
from siamtrt.cli import main
from siamtrt.default_tracker import default_bundle
from siamtrt.runtime.sequences import find_sequences

TEXT = {"rtol": 0, "atol": 1e-4}  # four decimals, then single precision
SERVER = (sys.executable, "-m", "siamtrt.cli", "trax")
HANG_SECONDS = 60  # of a process that takes half a second
STACK = "title: small\nexperiments:\n  plain:\n    type: unsupervised\n    repetitions: 2\n"


@pytest.fixture(scope="module")
def there_and_back(short_video):
    """24 frames and boxes off whole pixels."""
    frames = np.concatenate([short_video.frames, short_video.frames[::-1]])
    boxes = np.concatenate([short_video.boxes_xywh, short_video.boxes_xywh[::-1]]) + np.array([0.25, 0.5, 0, 0])
    return SimpleNamespace(frames=frames, boxes=boxes)


def tracked(frames, box):
    """Boxes and scores of the default tracker from the second frame on."""
    with Tracker.load() as tracker:
        tracker.init(frames[0], box)
        results = [tracker.update(frame) for frame in frames[1:]]
    return np.array([result.box_xywh for result in results]), np.array([result.score for result in results])


# --- VOT's toolkit


@pytest.fixture
def toolkit():
    """What `vot evaluate` is made of."""
    try:
        import numba

        numba.config.DISABLE_JIT = True  # compiling takes longer than all these tests
        from vot.experiment import run_experiment
        from vot.tracker import Registry
        from vot.workspace import Workspace
    except (ImportError, TypeError) as error:  # see test_against_vot_toolkit.py
        pytest.skip(f"the vot-toolkit is not installed, or does not import: {error}")
    return SimpleNamespace(run_experiment=run_experiment, Registry=Registry, Workspace=Workspace)


def printed_entry(*arguments):
    result = CliRunner().invoke(main, ["trax", "--print-ini", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def workspace(there_and_back, tmp_path):
    """Two sequences, one with polygons, and an experiment that runs each twice from its first frame."""
    frames, boxes = there_and_back.frames, there_and_back.boxes
    sequences = tmp_path / "sequences"
    write_vot_sequence(sequences / "ball", frames, [polygon_line(*box) for box in boxes], "")
    later = [",".join(f"{value:g}" for value in box) for box in boxes[4:]]
    write_vot_sequence(sequences / "later", frames[4:], later, "")
    write_list(sequences, "ball", "later")
    (tmp_path / "config.yaml").write_text("stack: ./stack.yaml\nregistry: [./trackers.ini]\n")
    (tmp_path / "stack.yaml").write_text(STACK)
    return tmp_path


@pytest.mark.parametrize("link", ["pipe", "socket"])
def test_the_toolkit_runs_the_default_tracker(toolkit, workspace, there_and_back, link):
    """Its boxes and confidences are ours on the same frames, from the boxes that `siamtrt eval` gives."""
    (workspace / "trackers.ini").write_text(printed_entry("ours") + f"socket = {link == 'socket'}\n")
    opened = toolkit.Workspace.load(str(workspace))
    (experiment,), tracker = opened.stack, opened.registry["ours"]
    toolkit.run_experiment(experiment, tracker, opened.dataset)
    first = {"ball": 0, "later": 4}
    for sequence in find_sequences(workspace / "sequences"):
        boxes, scores = tracked(there_and_back.frames[first[sequence.name] :], sequence.truth_xywh[0])
        runs = experiment.gather(tracker, opened.dataset[sequence.name])
        assert len(runs) == 2
        for run in runs:
            found = [[getattr(region, side) for side in ("x", "y", "width", "height")] for region in run.regions()[1:]]
            np.testing.assert_allclose(found, boxes, **TEXT)
            confidences = [run.properties(frame)["confidence"] for frame in range(1, len(run))]
            np.testing.assert_allclose(confidences, scores, rtol=1e-6)


def test_the_toolkit_reads_any_path(toolkit, tmp_path):
    bundle = shutil.copytree(default_bundle(), tmp_path / "my 100% bundle")
    (tmp_path / "trackers.ini").write_text(printed_entry("ours", bundle))
    tracker = toolkit.Registry([str(tmp_path)])["ours"]
    assert shlex.split(tracker.describe()["command"])[-2:] == ["trax", str(bundle.resolve())]


@pytest.mark.parametrize(("arguments", "part"), [(["my tracker"], "my tracker"), (["ours", "nowhere"], "not a bundle")])
def test_entries_that_would_not_work(tmp_path, arguments, part):
    result = CliRunner().invoke(main, ["trax", "--print-ini", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert part in result.stderr


# --- any client


@contextmanager
def served():
    """A client of a process of ours, ended after a while whatever happens, and the process."""
    process = subprocess.Popen(SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    alarm = threading.Timer(HANG_SECONDS, process.kill)
    alarm.start()
    client = None
    try:
        client = Client((process.stdin.fileno(), process.stdout.fileno()), log=lambda text: None)
        yield client, process
    finally:
        alarm.cancel()
        process.kill()
        if client:
            client.quit()  # one that is only dropped calls its log after that has gone
        process.communicate()


def quit_cleanly(client, process):
    client.quit()
    assert process.wait(HANG_SECONDS) == 0
    assert process.stderr.read() == b""


def started(client, image, region):
    """What the tracker says of a first frame: a region and its properties."""
    (answer,), _ = client.initialize(image, [(region, {})], {})
    return answer


def sent(kind, frame, folder):
    """A frame as a client has it."""
    if kind == "memory":
        return {"color": trax.MemoryImage.create(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))}
    data = cv2.imencode(".png", frame)[1].tobytes()
    if kind == "buffer":
        return {"color": trax.BufferImage.create(data)}
    path = folder / "a frame's 100%.png"
    path.write_bytes(data)
    return {"color": trax.FileImage.create(str(path))}


def test_frames_in_every_form_and_targets_one_after_another(there_and_back, tmp_path):
    frames = there_and_back.frames[:6]
    targets = {"path": there_and_back.boxes[0], "memory": (90, 60, 50, 30), "buffer": (65, 85, 30, 30)}
    with served() as (client, process):
        assert set(client.image_formats) == set(targets)
        for kind, box in targets.items():
            region, properties = started(client, sent(kind, frames[0], tmp_path), trax.Rectangle.create(*box))
            assert region.bounds() == pytest.approx(box)
            assert float(properties["confidence"]) == 1
            found = [client.frame(sent(kind, frame, tmp_path), {}, [])[0] for frame in frames[1:]]
            boxes, scores = tracked(frames, box)
            np.testing.assert_allclose([region.bounds() for ((region, _),) in found], boxes, **TEXT)
            np.testing.assert_allclose([float(said["confidence"]) for ((_, said),) in found], scores, rtol=1e-6)
        quit_cleanly(client, process)


def test_grey_pixels(there_and_back):
    """Of 16 bits the higher eight, as OpenCV reads files of them."""
    box = there_and_back.boxes[0]
    grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in there_and_back.frames[:3]]
    boxes, _ = tracked([cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) for frame in grey], box)
    with served() as (client, process):
        for frames in (grey, [frame.astype(np.uint16) * 256 + 99 for frame in grey]):
            first, *images = ({"color": trax.MemoryImage.create(frame)} for frame in frames)
            started(client, first, trax.Rectangle.create(*box))
            found = [client.frame(image, {}, [])[0][0][0].bounds() for image in images]
            np.testing.assert_allclose(found, boxes, **TEXT)
        quit_cleanly(client, process)


def test_targets_of_other_shapes(there_and_back, tmp_path):
    """A mask and an upright polygon of its pixels give their bounding box, a leaning one the same box as for `eval`."""
    mask = np.zeros((240, 320), np.uint8)
    mask[40:60, 40] = mask[50, 30:55] = 1
    leaning = [(50.0, 40.0), (60.0, 30.0), (80.0, 50.0), (70.0, 60.0)]
    cases = [
        (trax.Mask.create(mask), (30, 40, 25, 20)),
        (trax.Polygon.create([(30.0, 40.0), (54.0, 40.0), (54.0, 59.0), (30.0, 59.0)]), (30, 40, 25, 20)),
        (trax.Polygon.create(leaning), (65 - 10, 45 - 10, 21, 21)),  # 400 of the bounding box's 900 square pixels
    ]
    with served() as (client, process):
        for region, expected in cases:
            found, _ = started(client, sent("path", there_and_back.frames[0], tmp_path), region)
            assert found.bounds() == pytest.approx(expected, abs=1e-4)
        quit_cleanly(client, process)


def test_a_client_is_told_why_it_ends(there_and_back, tmp_path):
    with served() as (client, process):
        image = sent("path", there_and_back.frames[0], tmp_path)
        with pytest.raises(trax.TraxException, match="target box outside the frame: received 500,0,10,10; expected"):
            started(client, image, trax.Rectangle.create(500, 0, 10, 10))
        assert process.wait(HANG_SECONDS) == 2
        assert process.stderr.read().startswith(b"siamtrt: target box outside the frame: received 500,0,10,10; ")


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
def frame_file(there_and_back, tmp_path):
    path = tmp_path / "frame.png"
    cv2.imwrite(str(path), there_and_back.frames[0])
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


# --- faults


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


def test_a_service_managers_stop():
    with served() as (_, process):
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 130
        assert process.stderr.read() == b"siamtrt: interrupted, nothing half-written\n"


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "trax", None)
    monkeypatch.delitem(sys.modules, "siamtrt.benchmarks.trax_server", raising=False)
    result = CliRunner().invoke(main, ["trax"])
    assert result.exit_code == 2
    assert "pip install 'siamtrt[vot]'" in result.stderr
