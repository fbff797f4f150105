"""compute-sanitizer over the kernels' checks: a stand-in program, and the checks on the host's memory."""

from __future__ import annotations

import sys
import time
import types

import pytest
from host_device import HostDevice

from siamtrt.benchmarks import gpu_sanitizer
from siamtrt.benchmarks.gpu_sanitizer import FOUND, WRONG, find_sanitizer, run_sanitizer

PROGRAM = """#!/bin/sh
if [ "$1" = --version ]; then echo 'NVIDIA (R) Compute Sanitizer'; echo 'Version 2099.1.0.0 (build 1)'; exit; fi
[ "$1 $3 $4" = "--tool --error-exitcode 9" ] || exit 70
tool=$2; shift 4
echo '========= COMPUTE-SANITIZER'
"$@" || code=$?
"""
SUMMARY = "echo '========= ERROR SUMMARY: {0} errors'; [ {0} = 0 ] || exit 9; exit ${{code:-0}}\n"


def _program(tmp_path, rest):
    path = tmp_path / "compute-sanitizer"
    path.write_text(PROGRAM + rest)
    path.chmod(0o755)
    return str(path)


def test_every_tool_that_finds_nothing_passes(tmp_path):
    runs = run_sanitizer(_program(tmp_path, SUMMARY.format(0)), checks=["true"])
    assert [run.tool for run in runs] == ["memcheck", "racecheck", "initcheck", "synccheck"]
    assert {(run.version, run.errors, run.exit_code, run.passed) for run in runs} == {("2099.1.0.0", 0, 0, True)}
    assert runs[0].last_line == "========= ERROR SUMMARY: 0 errors"


@pytest.mark.parametrize(
    ("rest", "checks", "errors", "code"),
    [
        (SUMMARY.format(2), ["true"], 2, FOUND),
        ("echo '========= RACECHECK SUMMARY: 4 hazards displayed (4 errors)'; exit 9\n", ["true"], 4, FOUND),
        (SUMMARY.format(0), ["sh", "-c", f"exit {WRONG}"], 0, WRONG),
        ("echo 'no device'; exit 1\n", ["true"], None, 1),
        ("exit 0\n", ["true"], None, 0),
    ],
)
def test_what_it_finds_is_told(tmp_path, rest, checks, errors, code):
    (run,) = run_sanitizer(_program(tmp_path, rest), ["memcheck"], checks)
    assert (run.errors, run.exit_code, run.passed) == (errors, code, False)


def test_a_tool_that_hangs_is_stopped_with_its_children(tmp_path):
    start, left = time.perf_counter(), tmp_path / "left"
    checks = ["sh", "-c", f"echo begun; sleep 2; touch {left}; sleep 60"]
    (run,) = run_sanitizer(_program(tmp_path, ""), ["memcheck"], checks, limit_s=1.0)
    assert (run.errors, run.exit_code, run.last_line, run.passed) == (None, None, "begun", False)
    assert time.perf_counter() - start < 30
    time.sleep(1.5)
    assert not left.exists()


def test_it_is_found_on_the_path_and_in_the_toolkit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    if find_sanitizer():
        pytest.skip("compute-sanitizer is installed here")
    (tmp_path / "cuda" / "bin").mkdir(parents=True)
    assert find_sanitizer() is None
    expected = _program(tmp_path / "cuda" / "bin", "")
    assert find_sanitizer() == expected
    monkeypatch.setenv("PATH", str(tmp_path / "cuda" / "bin"))
    monkeypatch.delenv("CUDA_HOME")
    assert find_sanitizer() == expected


class Broken(HostDevice):
    """Loses every launch."""

    def launch(self, launch):
        pass


@pytest.mark.parametrize(("device", "code"), [(HostDevice, 0), (Broken, WRONG)])
def test_what_runs_under_it_checks_the_kernels_without_a_memory_pool(monkeypatch, capsys, device, code):
    allocators = []
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(set_allocator=allocators.append))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr("siamtrt.kernels.cupy_device.CupyDevice", device)
    with pytest.raises(SystemExit) as stopped:
        gpu_sanitizer.main()
    assert (stopped.value.code, allocators) == (code, [None])
    assert ("crop_f32 is off by" in capsys.readouterr().out) == bool(code)
