"""Every fault of the service in short; `python -m siamtrt.benchmarks.serve_faults` takes ten seconds for each."""

from __future__ import annotations

import dataclasses
from collections import Counter

from siamtrt.benchmarks import serve_faults as module
from siamtrt.benchmarks.serve_faults import Outcome, Row, serve_faults

LOADED = 4  # the suite runs on two workers: gaps are compared with so many times the bar
ROW = Row("a fault", 3, Counter({"named": 2}), ("named", "other"), 30, 40.0)


def test_every_fault_is_counted_and_named_and_results_go_on(monkeypatch):
    monkeypatch.setattr(module, "BLOCKED_MS", LOADED * module.BLOCKED_MS)
    monkeypatch.setattr(module, "END_BAR_S", 2 * module.END_BAR_S)
    monkeypatch.setattr(module, "CUTS", 3)
    monkeypatch.setattr(module, "CUT_OFF_S", 0.5)
    outcome = serve_faults(0.5)
    assert outcome.misses == ["scrapers that hang: not counted as http_slow_client or http_idle"]  # only after 10 s
    rows = {row.fault: row for row in outcome.rows}
    assert rows["the stream cut"].counted["stream_lost"] == 3
    assert rows["100 malformed messages a second"].counted["control_refused"] == 50
    assert all(row.results > 1 for row in outcome.rows)


def test_what_is_a_miss():
    assert ROW.miss == ""
    assert dataclasses.replace(ROW, counted=Counter({"strange": 3})).miss == "a fault: not counted as named or other"
    assert dataclasses.replace(ROW, gap_ms=900.0).miss == "a fault: 900 ms without a result"
    assert dataclasses.replace(ROW, gap_ms=900.0, named=("stream_lost",), counted=Counter(stream_lost=1)).miss == ""
    assert Outcome([ROW], 0, 0.5).misses == []
    assert Outcome([ROW], -11, 3.0).misses == ["exit code -11", "3.0 s from SIGTERM to the end"]
