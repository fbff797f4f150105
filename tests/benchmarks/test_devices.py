"""The table of GPUs: complete, consistent with itself, and found by name."""

from __future__ import annotations

import pytest

from siamtrt.benchmarks.devices import DEVICES, PRECISIONS, device_titled, find_device
from siamtrt.errors import SiamtrtError

WANTED = {
    "gtx-1060", "titan-xp", "rtx-2080-ti", "rtx-3060", "rtx-4090", "jetson-nano", "jetson-tx2", "jetson-xavier-nx",
    "jetson-agx-xavier", "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-thor", "a100", "h100",
}  # fmt: skip
CORES_PER_SM = {"7.2": 64, "7.5": 64, "8.0": 64}  # 128 elsewhere
# Dense FP16 operations a clock and SM: white papers of Volta, Turing, Ampere, Ada, Hopper, Blackwell.
FP16_PER_CLOCK = {
    "5.3": 512, "6.2": 512, "7.2": 1024, "7.5": 1024, "8.0": 2048, "8.6": 1024, "8.7": 2048, "8.9": 1024, "9.0": 4096,
    "11.0": 8192,
}  # fmt: skip


def test_table_has_the_devices_once():
    names = [device.name for device in DEVICES]
    assert len(names) == len(set(names))
    assert set(names) >= WANTED


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_rates_agree_with_each_other(device):
    """The clock, the SMs and the rates come from different places."""
    clock = device.clock_mhz * 1e-6
    cores = CORES_PER_SM.get(device.compute_capability, 128)
    assert device.fp32_tflops == pytest.approx(device.sms * cores * 2 * clock, rel=0.01)
    if device.fp16_tflops is not None:
        assert device.fp16_tflops == pytest.approx(
            device.sms * FP16_PER_CLOCK[device.compute_capability] * clock, rel=0.01
        )
    if device.int8_tops is not None:
        assert device.int8_tops == pytest.approx((device.fp16_tflops or 2 * device.fp32_tflops) * 2, rel=0.01)
    assert device.bandwidth_gbs > 0
    assert device.sources
    assert all(source.strip() for source in device.sources)
    assert any(source.startswith("techpowerup.com/gpu-specs/") for source in device.sources)


def test_precision_support():
    """Pascal's desktop cards have no useful FP16, Maxwell's and Pascal's Jetsons no INT8."""
    effective = {device.name: [device.effective(precision) for precision in PRECISIONS] for device in DEVICES}
    assert effective["titan-xp"] == ["fp32", "fp32", "int8"]
    assert effective["jetson-nano"] == effective["jetson-tx2"] == ["fp32", "fp16", "fp16"]
    assert effective["jetson-orin-nano"] == ["fp32", "fp16", "int8"]
    assert find_device("titan-xp").supports("int8")
    with pytest.raises(ValueError, match="titan-xp has no fp16"):
        find_device("titan-xp").peak("fp16")


def test_finding_devices():
    assert find_device("Jetson-TX2").title == "Jetson TX2"
    with pytest.raises(SiamtrtError, match=r"unknown device: received gtx-1; expected gtx-1060, .*h100 or all"):
        find_device("gtx-1")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NVIDIA Titan Xp", "titan-xp"),
        ("NVIDIA GTX 1060", "gtx-1060"),
        ("NVIDIA GTX 1080", "gtx-1080"),
        ("NVIDIA GeForce GTX 1080 Ti", "gtx-1080-ti"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("hardware not stated", None),
    ],
)
def test_titles_as_papers_and_drivers_write_them(text, name):
    found = device_titled(text)
    assert (found.name if found else None) == name
