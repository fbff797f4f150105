"""What systemd hears of the service, over a real socket: that it is ready, that its loop comes round, and its end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress

import pytest
from service_updates import wait_for
from stream_servers import hold, send_jpegs, serving

from siamtrt.benchmarks.serve_process import ask, served
from siamtrt.service import systemd as module
from siamtrt.service.systemd import Systemd

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
WATCHDOG_S = 1.0
WATCHDOG = {"WATCHDOG_USEC": str(round(1e6 * WATCHDOG_S))}
OUTPUT = "outputs: {jsonl: [{path: results.jsonl}]}\n"
# The whole of `siamtrt serve`, whose loop SIGUSR1 hangs: Python runs handlers in the main thread, and so does the loop.
HANGING = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(60))
from siamtrt.cli import main
main()
"""
# The same, with a line on standard error for everything sent to or connected to by the main program's own code.
AUDITED = """
import sys
sys.addaudithook(lambda event, _: event in ("socket.sendto", "socket.connect") and print(event, file=sys.stderr))
from siamtrt.cli import main
main()
"""


class Manager:
    """What systemd is to a service: a socket."""

    def __init__(self, place):
        self.environment = {"NOTIFY_SOCKET": place.replace("\0", "@")}
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link.bind(place)

    def next(self, timeout_s=30.0):
        """What it is told next, None without a word in time."""
        self.link.settimeout(timeout_s)
        try:
            return self.link.recv(100).decode()
        except (TimeoutError, BlockingIOError):
            return None

    def heard(self):
        """All that it was told meanwhile."""
        return [*iter(lambda: self.next(0.0), None)]


@pytest.fixture
def manager(tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    with manager.link:
        yield manager


@pytest.fixture
def looped(tmp_path, short_video):
    """The config of a service that plays the short video again and again."""
    shutil.copy(short_video.path, tmp_path / "short.avi")
    return f"source: short.avi\nloop: true\nrealtime: true\nhttp: {{port: 0}}\n{OUTPUT}"


@pytest.mark.parametrize("abstract", [False, True], ids=["file", "abstract"])
def test_what_is_told(tmp_path, abstract):
    manager = Manager(f"\0siamtrt test {os.getpid()}" if abstract else str(tmp_path / "notify"))
    with manager.link:
        told = Systemd({**manager.environment, **WATCHDOG})
        told.ready()
        told.alive()
        told.close()
        assert told.ended(0)
        assert manager.heard() == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_twice_in_the_watchdogs_time(manager, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    told = Systemd({**manager.environment, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())})
    for second in range(21):
        now[0] = 100.0 + second
        told.alive()
        told.alive()
        assert manager.heard() == (["WATCHDOG=1"] if second % 5 == 0 else [])


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "-1"}, {"WATCHDOG_USEC": "soon"},
     {**WATCHDOG, "WATCHDOG_PID": "1"}, {**WATCHDOG, "WATCHDOG_PID": "me"}],
    ids=["none", "empty", "zero", "negative", "text", "another", "nobody"],
)  # fmt: skip
def test_a_watchdog_that_is_none_or_anothers(manager, watchdog):
    told = Systemd({**manager.environment, **watchdog})
    told.alive()
    told.ready()
    assert manager.heard() == ["READY=1"]


def test_a_manager_that_does_not_read_is_not_waited_for(manager, monkeypatch):
    """What it did not hear is told again when it reads."""
    told = Systemd({**manager.environment, **WATCHDOG})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                other.sendto(b"X=1", manager.environment["NOTIFY_SOCKET"])
    start = time.monotonic()
    told.alive()
    told.close()
    assert time.monotonic() - start < 0.5
    assert set(manager.heard()) == {"X=1"}
    told.alive()
    assert manager.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize("place", ["", "gone", "x" * 200, "vsock:2:1234"], ids=["none", "gone", "long", "vsock"])
def test_nobody_to_tell(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    told = Systemd({"NOTIFY_SOCKET": place, **WATCHDOG})
    told.ready()
    told.alive()
    told.close()
    assert [*tmp_path.iterdir()] == []


def test_a_service_whose_source_is_silent_lives(tmp_path, manager, short_video):
    def silent(connection, number):
        send_jpegs(connection, short_video.frames[:4], 0.03)
        hold(connection)

    with serving(silent) as camera:
        config = f"source: http://127.0.0.1:{camera.port}/\nhttp: null\nunix: api.sock\n{OUTPUT}"
        with served(tmp_path, config, **manager.environment, **WATCHDOG) as running:
            assert manager.next() == "READY=1"
            assert wait_for(running.results)
            start, told = time.monotonic(), [manager.next(WATCHDOG_S) for _ in range(5)]
            assert told == ["WATCHDOG=1"] * 5
            assert time.monotonic() - start > 1.5 * WATCHDOG_S
            assert ask(running.unix, "/health").json["silent_s"] > WATCHDOG_S
            code, _ = running.end()
            *pings, last = manager.heard()
    assert (code, last) == (0, "STOPPING=1")
    assert set(pings) <= {"WATCHDOG=1"}


def test_a_loop_that_hangs_is_heard_of_no_more(tmp_path, manager, looped, monkeypatch):
    """Though the process lives and answers. What systemd then does tells where it hung."""
    monkeypatch.setattr("siamtrt.benchmarks.serve_process.COMMAND", (sys.executable, "-c", HANGING, "serve"))
    environment = {**manager.environment, **WATCHDOG, "PYTHONFAULTHANDLER": "1"}
    with served(tmp_path, looped, **environment) as running:
        assert manager.next() == "READY=1"
        assert [manager.next(WATCHDOG_S) for _ in range(2)] == ["WATCHDOG=1"] * 2
        running.process.send_signal(signal.SIGUSR1)
        manager.next(0.2)  # may have been on its way
        assert manager.next(2 * WATCHDOG_S) is None
        assert ask(running.http, "/health").json["silent_s"] > WATCHDOG_S
        code, _ = running.end(signal.SIGABRT)
    assert code in (-signal.SIGABRT, -signal.SIGSEGV)  # faulthandler reads other threads' stacks while they run
    assert manager.heard() == []
    assert "Fatal Python error: Aborted" in running.log
    assert "loop.py" in running.log


def test_without_systemd_nothing_is_told(tmp_path, manager, short_video, monkeypatch):
    monkeypatch.setattr("siamtrt.benchmarks.serve_process.COMMAND", (sys.executable, "-c", AUDITED, "serve"))
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(short_video.path, tmp_path / "short.avi")
    told = {}
    for name, environment in (("by hand", WATCHDOG), ("by systemd", {**WATCHDOG, **manager.environment})):
        with served(tmp_path, f"source: short.avi\nhttp: null\n{OUTPUT}", **environment) as running:
            assert running.process.wait(30) == 0
        told[name] = running.log.count("socket.sendto"), running.log.count("socket.connect"), manager.heard()
    heard = ["READY=1", "WATCHDOG=1", "STOPPING=1"]
    assert told == {"by hand": (0, 0, []), "by systemd": (len(heard), 0, heard)}
