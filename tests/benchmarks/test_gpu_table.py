"""The GPU benchmark from its command to the README's table, on the host's memory: its numbers are no GPU's."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from host_device import HostDevice

from siamtrt.benchmarks import gpu, gpu_environment, gpu_kernels, gpu_table
from siamtrt.benchmarks.gpu_sanitizer import SanitizerRun
from siamtrt.errors import SiamtrtError

pytestmark = [
    pytest.mark.xdist_group("gpu table"),  # one worker: what the module sets up is costly
    pytest.mark.usefixtures("one_registry"),
]

ROOT = Path(__file__).parents[2]
RUNS = [SanitizerRun("memcheck", "2099.1", 0, 0, 1.5, "ok"), SanitizerRun("racecheck", "2099.1", 0, 0, 1.5, "ok")]
TESTS_DEVICE = "device of the tests"


class Runtime:
    """In the place of CuPy's."""

    @staticmethod
    def getDeviceProperties(_):
        return {
            "name": TESTS_DEVICE.encode(), "major": 8, "minor": 7, "multiProcessorCount": 16,
            "totalGlobalMem": 2**33, "integrated": 1,
        }  # fmt: skip

    @staticmethod
    def driverGetVersion():
        return 13000

    @staticmethod
    def runtimeGetVersion():
        return 12090


@pytest.fixture(scope="module")
def command():
    """Runs the command with the host as device and one small case of each part; `runs` are the sanitizer's."""
    gpu_updates = pytest.importorskip("siamtrt.benchmarks.gpu_updates", reason="needs the export extra")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "MAPS": ((8, 9, 3),), "WARM_UP": 0, "RUNS": 1, "TARGETS": (1, 2), "gpu_name": lambda: TESTS_DEVICE,
            "gpu_environment": functools.partial(gpu_environment.gpu_environment, Runtime),
            "measure": functools.partial(gpu.measure, where="cpu"),
        }.items():  # fmt: skip
            patch.setattr(gpu, name, value)
        patch.setattr(gpu_kernels, "SEARCH", 63)
        for name, value in {"TRACKERS": ("siamrpn_alex_tiny",), "SLOTS": (1, 2), "STAGE_RUNS": 1}.items():
            patch.setattr(gpu_updates, name, value)
        patch.setattr(gpu_updates, "PAPER_OF", {"siamrpn_alex_tiny": "siamrpn_alex"})

        def run(output, runs, device=HostDevice):
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr("siamtrt.kernels.cupy_device.CupyDevice", device)
                inner.setattr(gpu, "find_sanitizer", lambda: "compute-sanitizer" if runs else None)
                inner.setattr(gpu, "run_sanitizer", lambda _: runs)
                return CliRunner().invoke(gpu.main, ["-o", str(output)])

        yield run


@pytest.fixture(scope="module")
def written(command, tmp_path_factory):
    """(path, what was said) of a whole report."""
    path = tmp_path_factory.mktemp("results") / "tests.json"
    result = command(path, RUNS)
    assert result.exit_code == 0, result.output
    return path, result.output


def test_the_command_writes_every_part(written):
    report = json.loads(written[0].read_text())
    assert list(report) == ["environment", "checks", "sanitizer", "xcorr", "kernels", "updates"]
    device = report["environment"]["device"]
    assert device == {
        "name": TESTS_DEVICE, "compute_capability": "8.7", "multiprocessors": 16, "memory_bytes": 2**33,
        "integrated": True, "driver": device["driver"], "cuda_driver": "13.0", "cuda": "12.9",
    }  # fmt: skip
    cases = [(dtype, targets) for dtype in ("float32", "float16") for targets in (1, 2)]
    assert [(row["dtype"], row["targets"]) for row in report["xcorr"]] == cases
    assert {(row["kernel"], row["dtype"], row["targets"]) for row in report["kernels"]} == {
        (kernel, *case) for kernel in ("crop", "decode") for case in cases
    }
    assert [(row["dtype"], row["slots"]) for row in report["updates"]] == cases
    first = report["updates"][0]
    assert first["paper"]["fps"] == 160
    assert (first["bytes_up"], first["bytes_down"]) == (1280 * 720 * 3, 48)
    assert set(first["eager_stages"]) == {"crop_ms", "network_ms", "decode_ms"}
    assert all(value > 0 for value in first["eager_stages"].values())
    assert "ok    memcheck: 0 errors" in written[1]


@pytest.fixture
def untimed(monkeypatch, command):
    """The same command without its long parts."""
    monkeypatch.setattr(gpu, "check_kernels", lambda _: [gpu.Check("crop_f32", 0.0, 1.0)])
    monkeypatch.setattr(gpu, "TARGETS", ())
    monkeypatch.setattr(gpu, "_time_others", lambda device, save, cases, where: save("updates", []))
    return command


def _table_with(written, sanitizer):
    report = {**json.loads(written[0].read_text()), "sanitizer": sanitizer}
    return gpu_table.gpu_table({"gpu.json": report})


def test_an_absent_sanitizer_is_recorded(untimed, written, tmp_path):
    result = untimed(tmp_path / "gpu.json", [])
    assert result.exit_code == 0, result.output
    assert "compute-sanitizer is not installed here" in result.output
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["sanitizer"] == [{"absent": "compute-sanitizer"}]
    assert "compute-sanitizer was absent" in _table_with(written, report["sanitizer"])


@pytest.mark.parametrize(
    ("errors", "code", "shown"),
    [(2, 9, "memcheck 2."), (None, 1, "memcheck failed (exit code 1)."), (0, 3, "memcheck failed (exit code 3).")],
)
def test_a_sanitizers_finding_fails_the_command_after_its_last_part(untimed, written, tmp_path, errors, code, shown):
    result = untimed(tmp_path / "gpu.json", [SanitizerRun("memcheck", "2099.1", errors, code, 1.0, "the last line")])
    assert result.exit_code == 1
    assert "WRONG memcheck" in result.output
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert "updates" in report
    assert f"compute-sanitizer 2099.1: {shown}" in _table_with(written, report["sanitizer"])


def test_a_wrong_kernel_is_not_timed(command, tmp_path):
    class Idle(HostDevice):
        def launch(self, launch):
            pass

    assert command(tmp_path / "gpu.json", RUNS, Idle).exit_code == 1
    assert list(json.loads((tmp_path / "gpu.json").read_text())) == ["environment", "checks"]


def test_the_table_shows_what_the_report_holds(written):
    reports = gpu_table.read_reports(written[0].parent)
    report, text = reports["tests.json"], gpu_table.gpu_table(reports)
    assert f"**{TESTS_DEVICE}, driver " in text
    assert "CUDA 12.9" in text
    assert "(benchmarks/results/tests.json)" in text
    assert "6 kernels equal their references; errors of compute-sanitizer 2099.1: memcheck 0, racecheck 0." in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| (`|float)", line)]
    assert len(rows) == 12
    for row, found in zip(report["xcorr"], rows[:4], strict=True):
        expected = [row["dtype"], str(row["targets"]), f"{row['ours_ms']:.4f}", f"{row['grouped_ms']:.4f}"]
        assert found == [*expected, f"{row['times_faster']:.1f}x", f"{row['roofline_share']:.0%}"]
    times = {(row["kernel"], row["dtype"], str(row["targets"])): f"{row['ms']:.4f}" for row in report["kernels"]}
    for dtype, targets, crop, decode in rows[4:8]:
        assert (crop, decode) == (times["crop", dtype, targets], times["decode", dtype, targets])
    one, two = report["updates"][:2]
    assert rows[8][:6] == [
        "`siamrpn_alex_tiny`", "float32", "1", f"{one['device_ms']:.3f}", f"{1e3 / one['device_ms']:.0f}", "1.00x",
    ]  # fmt: skip
    assert rows[8][6].startswith(f"{one['eager_ms'] / one['device_ms']:.1f}x")
    assert rows[8][7] == "160 on NVIDIA GTX 1060 (SiamRPN, abstract and sec. 5.2; hardware sec. 5.1)"
    assert rows[9][5] == f"{two['device_ms'] / one['device_ms']:.2f}x"
    assert "2764800 bytes up, 48 down" in text


@pytest.mark.parametrize("change", ["part", "device", "text"])
def test_another_file_is_refused(written, tmp_path, change):
    report = json.loads(written[0].read_text())
    del report["updates" if change == "part" else "environment"]
    text = json.dumps(report) if change != "text" else "not JSON"
    (tmp_path / "gpu.json").write_text(text)
    with pytest.raises(SiamtrtError, match="not a report of a GPU"):
        gpu_table.read_reports(tmp_path)
    result = CliRunner().invoke(gpu_table.main, ["--results", str(tmp_path)])
    assert result.exit_code == 1
    assert "not a report of a GPU" in result.output


def test_the_table_is_written_between_the_marks_and_nowhere_else(written, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- gpu-table -->\nold \\1\n<!-- /gpu-table -->\nafter\n")
    result = CliRunner().invoke(gpu_table.main, ["--results", str(written[0].parent), "--write", str(readme)])
    assert result.exit_code == 0, result.output
    table = gpu_table.gpu_table(gpu_table.read_reports(written[0].parent))
    assert readme.read_text() == f"before\n<!-- gpu-table -->\n{table}<!-- /gpu-table -->\nafter\n"
    readme.write_text("no marks\n")
    with pytest.raises(SiamtrtError, match="no place for the table"):
        gpu_table.with_table("no marks\n", table)


def test_the_readme_holds_the_table_of_the_committed_reports():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = gpu_table.gpu_table(gpu_table.read_reports(ROOT / gpu_table.RESULTS))
    assert gpu_table.with_table(text, table) == text, "run python -m siamtrt.benchmarks.gpu_table --write README.md"


def test_committed_reports_are_of_gpus():
    """Not of this file's device."""
    for report in gpu_table.read_reports(ROOT / gpu_table.RESULTS).values():
        assert report["environment"]["device"]["name"] != TESTS_DEVICE
        assert report["environment"]["device"]["driver"]


def test_without_reports_it_says_so(tmp_path):
    result = CliRunner().invoke(gpu_table.main, ["--results", str(tmp_path / "none")])
    assert result.exit_code == 0
    assert result.output == gpu_table.NOTHING
