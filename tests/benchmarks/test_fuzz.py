"""Hostile input of every kind, a few hundred of each; `python -m siamtrt.benchmarks.fuzz` throws 10,000."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from siamtrt.benchmarks import fuzz_control as control_module
from siamtrt.benchmarks import fuzz_manifests as manifest_module
from siamtrt.benchmarks.fuzz import control_row, manifest_row, mavlink_row
from siamtrt.benchmarks.fuzz_control import HostileClient, fuzz_control
from siamtrt.benchmarks.fuzz_manifests import fuzz_manifests
from siamtrt.benchmarks.fuzz_mavlink import Outcome
from siamtrt.default_tracker import default_bundle
from siamtrt.errors import BundleError


def test_control_messages():
    outcome = fuzz_control(200, 1)
    assert control_row(outcome)[1] == []
    assert outcome.statuses[400] > 80
    assert len(outcome.statuses) >= 5
    assert outcome.faults["control_refused"] > 60
    assert outcome.faults["http_malformed"] > 10


def test_manifests():
    outcome = fuzz_manifests(200, 1)
    assert manifest_row(outcome)[1] == []
    assert outcome.refused > 150
    assert outcome.tracked > 0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("graphs", "search", "file"), "x" * 5000), (("graphs", "search", "inputs", 0, "shape", 0), True),
        (("parity", "cls"), 10**400), (("preprocessing", "context_amount"), 1e308),
        (("preprocessing", "context_amount"), 10**400), (("decoding", "stride"), 10**400),
        (("decoding", "stride"), float("nan")), (("tracking", "lr"), float("-inf")),
    ],
    ids=range(8),
)  # fmt: skip
def test_what_once_crashed_is_refused(tmp_path, path, value):
    bundle = Path(shutil.copytree(default_bundle(), tmp_path / "bundle"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    node = manifest
    for key in path[:-1]:
        node = node[key]
    assert path[-1] in (node if isinstance(node, dict) else range(len(node)))
    node[path[-1]] = value
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError):
        manifest_module._open_and_track(bundle)


def test_what_code_of_its_own_raises_is_a_crash(monkeypatch):
    monkeypatch.setattr(manifest_module.WatchedTracker, "load", lambda *_, **__: {}["no such key"])
    outcome = fuzz_manifests(3, 0)
    assert outcome.crashes == Counter({"KeyError": 3})
    assert "no such key" in manifest_row(outcome)[1][0]


def test_a_file_where_none_belongs_is_found(monkeypatch):
    def stray(bundle):
        (bundle.parent / "stray").touch()

    monkeypatch.setattr(manifest_module, "_open_and_track", stray)
    assert "outer/stray" in fuzz_manifests(1, 0).stray


CONTROL = control_module.ControlOutcome(10, Counter({200: 1, 400: 8, 0: 1}), {}, (), 0, True, 0, 0.2, 1.0)
MAVLINK = Outcome(10, 1, 1, Counter({0: 2, 4: 3}), Counter(), 0, True, 1.0)


@pytest.mark.parametrize(
    "change",
    [{"statuses": Counter({500: 1})}, {"faults": {"http_failed": 1}}, {"stray": ("canary",)}, {"grown_bytes": 10**8},
     {"alive": False}, {"exit_code": -11}],
    ids=range(6),
)  # fmt: skip
def test_what_counts_against_the_service(change):
    assert control_row(CONTROL)[1] == []
    assert control_row(dataclasses.replace(CONTROL, **change))[1]


def test_the_rows():
    assert control_row(CONTROL)[0] == "| control messages | 10 | 8 | 1 | 1 | 0 | 0 | 1 |"
    assert mavlink_row(MAVLINK) == ("| MAVLink packets | 10 | 3 | 2 | 5 | 0 | 0 | 1 |", [])
    assert mavlink_row(dataclasses.replace(MAVLINK, answers=0))[1]


def test_the_same_seed_throws_the_same(monkeypatch):
    def requests(seed):
        client = HostileClient(random.Random(seed))
        return [client._garbage() for _ in range(50)]

    assert requests(3) == requests(3) != requests(4)
