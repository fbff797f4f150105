"""Hostile packets: the camera answers on, its memory stays, nothing is written or run."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("pymavlink", reason="needs the mavlink extra")
from siamtrt.benchmarks.fuzz_mavlink import fuzz_mavlink

PACKETS = 2000
LEAST_GROWTH = 30 << 20  # bytes; the packets together are less than 1 MB
FORBIDDEN = {
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn", "subprocess.Popen", "os.remove",
    "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "compile",
    "pickle.find_class", "ctypes.dlopen", "urllib.Request",
}  # fmt: skip


@pytest.fixture
def watched():
    """What was written, run or compiled since."""
    seen, watching = [], [True]

    def note(event, arguments):
        if not watching:
            return
        if event in FORBIDDEN:
            seen.append((event, arguments))
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            seen.append((event, arguments))

    fuzz_mavlink(100, seed=1)  # imports, and opens the tracker
    sys.addaudithook(note)  # stays, and does nothing later
    yield seen
    watching.clear()


def test_survives_hostile_packets(watched):
    outcome = fuzz_mavlink(PACKETS, seed=0)
    assert outcome.survived, outcome
    assert outcome.packets == PACKETS
    assert outcome.answers == PACKETS // 50
    assert outcome.grown_bytes < LEAST_GROWTH
    assert outcome.faults["mavlink_bad_packet"] > PACKETS // 10
    accepted, denied, unsupported = (outcome.results[result] for result in (0, 2, 3))
    assert min(accepted, denied, unsupported) > PACKETS // 50  # the commands got as far as that
    assert set(outcome.faults) <= {"mavlink_bad_packet", "mavlink_unsent"}
    assert watched == []
