"""The GPU benchmark's checks and comparisons, on the host's memory."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from host_device import HostDevice

from siamtrt.benchmarks import gpu
from siamtrt.kernels.state import TARGET


class Broken(HostDevice):
    """Loses every launch of one kernel."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def launch(self, launch):
        if launch.name != self.name:
            super().launch(launch)


def test_kernels_pass():
    checks = gpu.check_kernels(HostDevice())
    assert [check.kernel for check in checks] == [
        "crop_f32", "xcorr_f32", "decode_f32", "crop_f16", "xcorr_f16", "decode_f16",
    ]  # fmt: skip
    assert all(check.passed for check in checks), checks


@pytest.mark.parametrize("name", ["crop", "xcorr", "decode"])
def test_a_kernel_that_does_nothing_does_not_pass(name):
    failed = {check.kernel for check in gpu.check_kernels(Broken(name)) if not check.passed}
    assert failed == {f"{name}_f32", f"{name}_f16"}


def test_both_sides_of_the_correlation_compute_the_same(monkeypatch):
    """What is timed against each other: our launch and the grouped convolutions, on the same memory."""
    torch = pytest.importorskip("torch", reason="needs the export extra")
    monkeypatch.setattr(gpu, "MAPS", ((8, 11, 5), (4, 9, 3)))
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    monkeypatch.setattr(gpu, "RUNS", 1)
    results, seen = [], []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *a, **k: results.append(convolve(*a, **k)) or results[-1])

    def grouped(entries):
        seen.extend(entries)
        return gpu.torch_grouped(entries)

    row = gpu.time_xcorr(HostDevice(), np.float32, 2, grouped)
    assert row["bytes"] == 4 * sum(int(np.prod(buffer.shape)) for entry in seen for buffer in entry)
    assert len(results) % 4 == 0
    for index, (_, _, y) in enumerate(seen):
        branches = [results[2 * index + branch].reshape(2, -1, *y.shape[2:]) for branch in (0, 1)]
        np.testing.assert_allclose(torch.cat(branches, dim=1).numpy(), y.get(), atol=1e-4)


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    if gpu.gpu_name():
        pytest.skip("there is a GPU")
    result = CliRunner().invoke(gpu.main, ["-o", str(tmp_path / "gpu.json")])
    assert result.exit_code == 2
    assert "no GPU that CuPy can use" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("half", [False, True])
def test_updates_that_are_timed_follow_the_target(short_video, half):
    """The device's tracker and the eager one, as the benchmark makes them, agree; in FP16 within two pixels."""
    gpu_updates = pytest.importorskip("siamtrt.benchmarks.gpu_updates", reason="needs the export extra")
    box = tuple(short_video.boxes_xywh[0])
    tracker = gpu_updates.device_tracker(HostDevice(), "siamrpn_alex_tiny", 2, half, "cpu")
    with gpu_updates.eager_tracker("siamrpn_alex_tiny", "cpu") as eager:
        eager.init(short_video.frames[0], box)
        tracker.add(short_video.frames[0], box)
        for frame in short_video.frames[1:5]:
            expected = eager.update(frame)
            np.testing.assert_allclose(tracker.update(frame)[0].box_xywh, expected.box_xywh, atol=2 if half else 0.05)


def test_updates_are_timed(monkeypatch):
    gpu_updates = pytest.importorskip("siamtrt.benchmarks.gpu_updates", reason="needs the export extra")
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    monkeypatch.setattr(gpu, "RUNS", 1)
    rows = gpu_updates.time_updates(HostDevice(), "siamrpn_alex_tiny", False, (1, 2), "cpu")
    assert [row.slots for row in rows] == [1, 2]
    assert all(row.device_ms > 0 for row in rows)
    assert rows[0].eager_ms == rows[1].eager_ms > 0
    assert {row.bytes_up for row in rows} == {1280 * 720 * 3}
    assert [row.bytes_down for row in rows] == [TARGET.itemsize, 2 * TARGET.itemsize]
