"""`siamtrt serve` from its config to its end."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from served_loops import streaming
from service_loops import HandFeed, QuickTracker, frame_of
from service_updates import wait_for
from stream_servers import hold, send_jpegs, serving

from siamtrt.benchmarks.serve_process import COMMAND, ask, connected, control, served
from siamtrt.cli import main
from siamtrt.default_tracker import default_bundle
from siamtrt.service.config import EXAMPLE_TEXT, ServiceConfig
from siamtrt.service.faults import Faults
from siamtrt.service.serve import open_tracker, serve

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
END_S = 1.5  # the bar is 1 s, where nothing else runs; benchmarks/serve_faults.py holds to it
OURS = {"siamtrt http", "siamtrt log"}  # threads
OUTPUT = "outputs: {jsonl: [{path: results.jsonl}]}\n"


@pytest.fixture
def served_video(tmp_path, short_video):
    """The config of a service that plays the short video again and again."""
    shutil.copy(short_video.path, tmp_path / "short.avi")
    box = list(map(float, short_video.boxes_xywh[0]))
    return f"source: short.avi\nloop: true\nrealtime: true\ntarget: {box}\nhttp: {{port: 0}}\n{OUTPUT}"


def test_from_start_to_sigterm(tmp_path, served_video):
    """All results are in the file, systemd was told, and the socket is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        config = f"{served_video}unix: api.sock\nbundles: {{other: {default_bundle()}}}\n"
        with served(tmp_path, config, NOTIFY_SOCKET=str(tmp_path / "notify")) as running:
            assert systemd.recv(100) == b"READY=1"
            link = connected(running.http)
            lines = streaming(link)
            first = json.loads(next(lines))
            assert first["status"] == "locked"
            assert ask(running.unix, "/health").json["healthy"]
            assert control(running.unix, {"command": "switch", "bundle": "other"}).json == {"bundle": "other"}
            assert ask(running.http, "/result").json["status"] == "locked"
            assert wait_for(lambda: len(running.results()) > first["frame"] + 5)
            code, took_s = running.end()
            assert (code, took_s < END_S) == (0, True), (took_s, running.log)
            streamed = [first, *map(json.loads, lines)]
    results = running.results()
    assert results[results.index(first) :][: len(streamed)] == streamed
    assert len(results) - results.index(first) - len(streamed) <= 1  # a reader may miss the last
    assert [row["frame"] for row in results] == sorted({row["frame"] for row in results})
    assert not (tmp_path / "api.sock").exists()
    assert "Traceback" not in running.log
    assert "siamtrt: INFO siamrpn_mobilev2_small tracks" in running.log


def test_a_kill_and_a_new_start(tmp_path, served_video):
    """The socket that the kill left is replaced, the file of results goes on with whole lines."""
    config = f"{served_video}unix: api.sock\n"
    with served(tmp_path, config) as running:
        assert wait_for(lambda: len(running.results()) > 3)
        assert running.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert (tmp_path / "api.sock").is_socket()
    before = len(running.results())
    with served(tmp_path, config) as running:
        assert ask(running.unix, "/health").status == 200
        assert wait_for(lambda: len(running.results()) > before + 3)
        code, took_s = running.end(signal.SIGINT)
    assert (code, took_s < END_S) == (0, True), (took_s, running.log)


def test_the_end_while_everything_hangs(tmp_path, short_video):
    """The source is silent, a bundle is being opened, one client does not read, and one waits for an answer."""
    slow = shutil.copytree(default_bundle(), tmp_path / "slow")
    os.truncate(slow / "search.onnx", 1 << 34)  # a sparse file, whose hash takes many seconds

    def silent(connection, number):
        send_jpegs(connection, short_video.frames[:4], 0.03)
        hold(connection)

    config = f"bundles: {{slow: slow}}\nhttp: {{port: 0}}\n{OUTPUT}"
    with serving(silent) as camera, ExitStack() as opened:
        source = f"source: http://127.0.0.1:{camera.port}/\n"
        running = opened.enter_context(served(tmp_path, source + config))
        assert wait_for(lambda: len(running.results()) >= 2, 10)
        links = [opened.enter_context(connected(running.http)) for _ in range(3)]
        streaming(links[0])
        send_control(links[1], {"command": "switch", "bundle": "slow"})
        send_control(links[2], {"command": "start", "box": [1, 2, 30, 40]})
        time.sleep(0.3)
        code, took_s = running.end()
    assert (code, took_s < END_S) == (0, True), (took_s, running.log)
    assert len(running.results()) >= 2


def send_control(link, message):
    """Post a message, and wait for no answer."""
    body = json.dumps(message).encode()
    head = "POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def test_the_first_box_comes_within_a_second(short_video, tmp_path):
    """Of a service that is ready: the tracker is warm."""
    tracker = open_tracker(ServiceConfig(source="none"), None)
    try:
        start = time.monotonic()
        tracker.init(short_video.frames[0], short_video.boxes_xywh[0])
        tracker.update(short_video.frames[1])
        assert time.monotonic() - start < 1.0
    finally:
        tracker.close()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in this process with a config: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run_config(config, *options):
        (tmp_path / "service.yaml").write_text(config)
        result = CliRunner().invoke(main, ["serve", "service.yaml", *options])
        return result.exit_code, result.stdout, result.stderr

    return run_config


def test_a_finite_source_ends_it(run, tmp_path, short_video):
    """With a result for every frame, none dropped."""
    shutil.copy(short_video.path, tmp_path / "short.avi")
    code, out, _ = run(f"source: short.avi\nhttp: null\n{OUTPUT}")
    assert (code, out) == (0, "")
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(len(short_video.frames)))


@pytest.fixture
def busy_port():
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("config", "mistake"),
    [
        ("source: nothing.avi\n", "no such source"), ("source: text.avi\n", "unreadable video"),
        ("source: short.avi\nbundle: nothing\n", "not a bundle"),
        ("source: short.avi\nbundles: {night: nothing}\n", "not a bundle"),
        ("source: short.avi\nhttp: {port: BUSY}\n", "cannot listen"),
        ("source: short.avi\nhttp: {host: 192.0.2.1, port: 0, token_file: token}\n", "cannot listen"),
        ("source: short.avi\nunix: text.avi\nhttp: {port: 0}\n", "no socket"),
        ("source: short.avi\ntarget: [900, 900, 5, 5]\nunix: new.sock\nhttp: null\n", "target box outside the frame"),
        ("source: short.avi\noutputs: {jsonl: [{path: no/where.jsonl}]}\n", "JSON Lines output cannot be written"),
        ("source: short.avi\noutputs: {udp: [{host: nowhere.invalid, port: 1}]}\nhttp: {port: 0}\n", None),
        ("source: short.avi\nhttp: {host: 0.0.0.0}\n", "without http.token_file"),
        ("source: short.avi\nhttp: {token_file: nothing}\n", "unusable token file"),
        ("source: [", "unreadable config"),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_cannot_be_served(run, tmp_path, short_video, busy_port, config, mistake):
    """One line, exit code 2, and no file or socket more than before."""
    shutil.copy(short_video.path, tmp_path / "short.avi")
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "service.yaml").touch()
    before = sorted(tmp_path.iterdir())
    code, out, err = run(config.replace("BUSY", str(busy_port)))
    if mistake is None and code == 0:
        pytest.skip("no name server says that there is no such host")
    lines = [line for line in err.splitlines() if not line.startswith(("siamtrt: INFO", "siamtrt: WARNING"))]
    assert (code, out, len(lines)) == (2, "", 1), err
    assert (mistake or "has no address") in lines[0]
    assert ". Fix: " in lines[0]
    assert sorted(tmp_path.iterdir()) == before
    assert wait_for(lambda: not {thread.name for thread in threading.enumerate()} & OURS)


def test_a_target_that_is_not_in_the_first_frame_ends_it_there(run, tmp_path, short_video):
    shutil.copy(short_video.path, tmp_path / "short.avi")
    code, _, err = run(f"source: short.avi\ntarget: [900, 900, 5, 5]\nhttp: null\n{OUTPUT}")
    assert (code, "target box outside the frame" in err) == (2, True)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


def test_a_tracker_that_fails_at_the_configs_target_ends_it(monkeypatch, short_video):
    """Without it the service would go on without a target, and nobody would know."""
    broken = QuickTracker()
    broken.failing = RuntimeError("the driver went away")
    monkeypatch.setattr("siamtrt.service.serve.open_tracker", lambda *_: broken)
    config = ServiceConfig(source=str(short_video.path), loop=True, http=None, target=(1, 2, 30, 40))
    with pytest.raises(RuntimeError, match="the driver went away"):
        serve(config, Faults())
    assert broken.closed == 1


class LateFeed(HandFeed):
    """Gives nothing at first."""

    asked = 0

    def newest(self, timeout_s):
        self.asked += 1
        return None if self.asked == 1 else super().newest(timeout_s)


@pytest.mark.parametrize("frames", [0, 1], ids=["none", "one"])
def test_the_configs_target_waits_for_the_first_frame_however_late(monkeypatch, frames):
    """That none ever came is no mistake."""
    tracker, feed = QuickTracker(), LateFeed()
    for _ in range(frames):
        feed.put(frame_of())
    feed.end()
    hours = SimpleNamespace(monotonic=itertools.count(0, 3600).__next__)
    monkeypatch.setattr("siamtrt.service.commands.time", hours)
    monkeypatch.setattr("siamtrt.service.serve.open_tracker", lambda *_: tracker)
    monkeypatch.setattr("siamtrt.service.serve.open_feed", lambda *_, **__: feed)
    serve(ServiceConfig(source="by hand", http=None, target=(1, 2, 30, 40)), Faults())
    assert (len(tracker.frames), feed.closed, tracker.closed) == (2 * frames, 1, 1)


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(tmp_path, served_video):
    """The pipe is full, and every result's failure is logged."""
    config = served_video.replace("results.jsonl", "/dev/full") + "unix: api.sock\n"
    (tmp_path / "service.yaml").write_text(config)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(1 << 10))
    os.set_blocking(writing, True)
    with ExitStack() as opened:
        opened.callback(os.close, reading)
        opened.callback(os.close, writing)
        process = opened.enter_context(subprocess.Popen([*COMMAND, "service.yaml"], cwd=tmp_path, stderr=writing))
        opened.callback(process.kill)
        address = f"unix:{tmp_path / 'api.sock'}"
        assert wait_for((tmp_path / "api.sock").is_socket, 30)
        assert wait_for(lambda: "output_failed" in ask(address, "/health").json["faults"])
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - start < END_S


def test_check(run, tmp_path):
    assert run("source: nothing.avi\n", "--check") == (
        0, f"service.yaml: fine, siamrpn_mobilev2_small tracks {tmp_path / 'nothing.avi'}\n", ""
    )  # fmt: skip
    assert run("source: nothing.avi\nbundle: nothing\n", "--check")[0] == 2
    assert run("sorce: nothing.avi\n", "--check")[0] == 2


def test_the_example_is_printed():
    result = CliRunner().invoke(main, ["serve", "--example"])
    assert (result.exit_code, result.stdout) == (0, EXAMPLE_TEXT)
    assert CliRunner().invoke(main, ["serve"]).exit_code == 2


def test_a_stop_before_it_runs_is_an_end_like_any_other(tmp_path, monkeypatch):
    """What was made before is closed again."""
    closed = []

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    class Open:
        def close(self):
            closed.append(self)

    monkeypatch.setattr("siamtrt.service.serve.open_tracker", lambda *_: Open())
    monkeypatch.setattr("siamtrt.service.serve.open_feed", interrupted)
    serve(ServiceConfig(source=str(tmp_path)), Faults())
    assert len(closed) == 1


def test_a_tracker_that_fails_when_it_is_warmed_is_closed(monkeypatch):
    closed = []

    class Cold:
        def init(self, frame, box):
            assert frame.dtype == np.uint8
            raise RuntimeError("no memory")

        def close(self):
            closed.append(self)

    monkeypatch.setattr("siamtrt.runtime.watched.WatchedTracker.load", lambda *_, **__: Cold())
    with pytest.raises(RuntimeError):
        open_tracker(ServiceConfig(source="none"), None)
    assert len(closed) == 1
