"""Faults: counted from any thread, bounded whatever comes, and logged seldom."""

import logging
import threading
import time

import pytest

from siamtrt.service.faults import LONGEST_DETAIL, MOST_KINDS, Faults


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
    assert [fault.kind for fault in named] == [f"kind {number}" for number in range(MOST_KINDS)]
    assert (other.kind, other.count, other.detail) == ("other", 10_000 - MOST_KINDS, "kind 9999: why")
    faults("kind 3")
    assert faults.counts()["kind 3"] == 2


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


def test_a_kind_is_logged_once_a_second_with_its_count(caplog, monkeypatch):
    faults, now = Faults(), [100.0]
    monkeypatch.setattr("siamtrt.service.faults.time.monotonic", lambda: now[0])
    with caplog.at_level(logging.WARNING, logger="siamtrt.service"):
        for _ in range(50):
            faults("gap", "away")
            faults("lost", "gone")
        now[0] += 1.01
        faults("gap", "again")
        faults("gap", "again")
    assert caplog.messages == ["gap (1): away", "lost (1): gone", "gap (51): again"]
