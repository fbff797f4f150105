"""Faults: counted from any thread, bounded whatever comes, and logged seldom."""

import logging
import threading
import time

import numpy as np
import pytest

from siamtrt.service.faults import LONGEST_DETAIL, MOST_FAULTS, Faults


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def test_a_fault_has_its_count_and_the_last_detail_and_time():
    faults, start = Faults(), time.time()
    faults("gap", "1 s")
    faults("lost")
    faults("gap", ValueError("2 s"))
    gap, lost = faults.seen()
    assert (gap.kind, gap.count, gap.detail, lost.kind, lost.detail) == ("gap", 2, "2 s", "lost", "")
    assert start <= gap.time_s <= time.time()
    assert faults.counts() == {"gap": 2, "lost": 1}


def test_none_is_lost_between_threads():
    faults = Faults()
    threads = [
        threading.Thread(target=lambda own=own: [faults(kind) for _ in range(2000) for kind in ("shared", own)])
        for own in ("a", "b", "c", "d")
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert all(fault.count > 0 for fault in faults.seen())
    assert faults.counts() == {"shared": 8000, "a": 2000, "b": 2000, "c": 2000, "d": 2000}


def test_a_flood_of_kinds_becomes_one():
    faults = Faults()
    for number in range(10_000):
        faults(f"kind {number}", "why")
    *named, other = faults.seen()
    assert [fault.kind for fault in named] == [f"kind {number}" for number in range(MOST_FAULTS)]
    assert (other.kind, other.count, other.detail) == ("other", 10_000 - MOST_FAULTS, "kind 9999: why")
    faults("kind 3")
    assert faults.counts()["kind 3"] == 2


def test_each_output_has_its_own_count_and_reason():
    faults = Faults()
    faults("failed", "no disk", "jsonl a")
    faults("failed", "no network", "udp b")
    faults("gap", "1 s")
    faults("failed", "still no disk", "jsonl a")
    assert [(fault.of, fault.count, fault.told) for fault in faults.seen()] == [
        ("jsonl a", 2, "jsonl a: still no disk"), ("udp b", 1, "udp b: no network"), ("", 1, "1 s"),
    ]  # fmt: skip
    assert faults.counts() == {"failed": 3, "gap": 1}
    told = faults.as_json()
    times = {fault.kind + fault.of: round(fault.time_s, 3) for fault in faults.seen()}
    assert told == {
        "failed": {
            "count": 3, "last": "jsonl a: still no disk", "time": times["failedjsonl a"], "of": {
                "jsonl a": {"count": 2, "last": "still no disk", "time": times["failedjsonl a"]},
                "udp b": {"count": 1, "last": "no network", "time": times["failedudp b"]},
            },
        },
        "gap": {"count": 1, "last": "1 s", "time": times["gap"]},
    }  # fmt: skip


def test_a_flood_of_outputs_is_bounded_and_its_names_are_text():
    faults = Faults()
    for number in range(1000):
        faults("failed", "why", f"\x1b[2J\n{number} {'x' * 1000}")
    assert len(faults.seen()) == MOST_FAULTS + 1
    assert all(fault.told.isprintable() and len(fault.of) <= LONGEST_DETAIL for fault in faults.seen())
    assert faults.counts() == {"failed": MOST_FAULTS, "other": 1000 - MOST_FAULTS}


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        ("two\nlines\r\n\tand   more", "two lines and more"),
        ("a terminal's \x1b[2J", "a terminal's ?[2J"),
        (f"half a file name \udcff{'x' * LONGEST_DETAIL}", f"half a file name ?{'x' * (LONGEST_DETAIL - 18)}"),
        (None, "None"),
        (Unprintable(), "Unprintable without a text (RuntimeError)"),
    ],
    ids=["lines", "escapes", "long", "none", "unprintable"],
)
def test_details_are_one_short_printable_line(detail, text):
    faults = Faults()
    faults("kind", detail)
    assert faults.seen()[0].detail == text


@pytest.fixture
def now(monkeypatch):
    """The clock, to be set."""
    now = [100.0]
    monkeypatch.setattr("siamtrt.service.faults.time.monotonic", lambda: now[0])
    return now


def test_a_fault_is_logged_once_a_second_with_its_count(caplog, now):
    faults = Faults()
    with caplog.at_level(logging.WARNING, logger="siamtrt.service"):
        for _ in range(50):
            faults("gap", "away")
            faults("lost", "gone")
            faults("lost", "closed", "udp b")
        now[0] += 1.01
        faults("gap", "again")
        faults("gap", "again")
    assert caplog.messages == ["gap (1): away", "lost (1): gone", "lost (1): udp b: closed", "gap (51): again"]


def test_one_that_lasts_is_logged_less_and_less(caplog, now):
    """Until it has been away for as long; one that comes seldom is always logged."""
    faults, lines = Faults(), []
    with caplog.at_level(logging.WARNING, logger="siamtrt.service"):
        for tenth in range(3001):
            now[0] = 100 + tenth / 10
            faults("full", "no room")
            if tenth % 100 == 0:
                faults("gap", "away")
            lines += [(message.split()[0], tenth / 10) for message in caplog.messages]
            caplog.clear()
        seconds = [at_s for kind, at_s in lines if kind == "full"]
        np.testing.assert_allclose(seconds, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243], atol=0.2)
        assert [at_s for kind, at_s in lines if kind == "gap"] == list(range(0, 301, 10))
        now[0] += 200
        for _ in range(2):
            faults("full", "no room again")
            now[0] += 1.1
    assert caplog.messages == ["full (3002): no room again", "full (3003): no room again"]
