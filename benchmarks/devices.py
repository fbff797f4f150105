"""GPUs that a tracker's speed is predicted for: peak rates, memory bandwidth and where each number comes from.

Rates count a multiplication and an addition as two operations, dense, at the boost clock or the module's highest one.
FP16 accumulates in FP16 on GeForce, where data sheets give twice the rate of FP32 accumulation. A rate called "derived"
is SMs x operations per SM and clock (the architecture's white paper) x clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from siamtrt.errors import SiamtrtError

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

PASCAL = "NVIDIA GeForce GTX 1080 whitepaper (2016): DP4A, FP16 at 1/64"
TURING = "NVIDIA Turing GPU Architecture whitepaper, appendix A"
AMPERE = "NVIDIA Ampere GA102 GPU Architecture whitepaper, rates per SM"
ADA = "NVIDIA Ada GPU Architecture whitepaper, appendix A"
VOLTA = "NVIDIA Tesla V100 whitepaper, rates per SM; NVIDIA Jetson AGX Xavier and Xavier NX data sheets"
ORIN = "NVIDIA Jetson AGX Orin Series technical brief and Jetson Orin data sheets"
GUIDE = "CUDA C++ Programming Guide, throughput of native arithmetic instructions"
SUPPORT = "TensorRT 8.2 support matrix: docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-825/support-matrix"
TENSOR = "FP16 and INT8 rates: from memory of the white paper or data sheet"
DERIVED = "FP16 and INT8 rates: derived, the rates per SM from memory of the white paper"


@dataclass(frozen=True)
class Device:
    """One GPU at its highest clock.

    Attributes:
        name: what `--device` takes.
        title: what people and `nvidia-smi` call it.
        compute_capability: "8.7".
        sms: streaming multiprocessors.
        clock_mhz: of the SMs.
        fp32_tflops, fp16_tflops, int8_tops: peak, dense; None where TensorRT has no kernels for a precision there.
        bandwidth_gbs: of the memory, 10^9 bytes a second.
        sources: of the numbers.
        unverified: what of them could not be checked against its source, or empty.
    """

    name: str
    title: str
    compute_capability: str
    sms: int
    clock_mhz: float
    fp32_tflops: float
    fp16_tflops: float | None
    int8_tops: float | None
    bandwidth_gbs: float
    sources: tuple[str, ...]
    unverified: str = ""

    def supports(self, precision: Precision) -> bool:
        """Whether TensorRT has kernels of that precision for the device."""
        return self._rates()[precision] is not None

    def effective(self, precision: Precision) -> Precision:
        """The precision that a layer meant for `precision` runs in: INT8 falls back to FP16, and both to FP32."""
        candidates = PRECISIONS[: PRECISIONS.index(precision) + 1]
        return next(name for name in reversed(candidates) if self.supports(name))

    def peak(self, precision: Precision) -> float:
        """Multiply-accumulates a second of matrix products in a precision that the device supports."""
        rate = self._rates()[precision]
        if rate is None:
            raise ValueError(f"{self.name} has no {precision}")
        return rate * 1e12 / 2

    def _rates(self) -> dict[Precision, float | None]:
        return {"fp32": self.fp32_tflops, "fp16": self.fp16_tflops, "int8": self.int8_tops}


def _page(slug: str) -> str:
    """SMs, boost clock, FP32 rate and bandwidth were read there, in a copy of 2025: RightNow-GPU-Database on GitHub."""
    return f"techpowerup.com/gpu-specs/{slug}"


def _pascal(name: str, title: str, sms: int, clock_mhz: float, fp32: float, bandwidth: float, slug: str) -> Device:
    """A desktop card: FP16 is 64 times slower than FP32 and not used; INT8 is DP4A, four times FP32's rate."""
    sources = (_page(slug), PASCAL, GUIDE, SUPPORT)
    int8 = round(4 * fp32, 2)
    return Device(name, title, "6.1", sms, clock_mhz, fp32, None, int8, bandwidth, sources, "INT8 rate: derived")


DEVICES: tuple[Device, ...] = (
    _pascal("gtx-1060", "GeForce GTX 1060 6GB", 10, 1709, 4.38, 192.2, "geforce-gtx-1060-6-gb.c2862"),
    _pascal("gtx-1080", "GeForce GTX 1080", 20, 1733, 8.87, 320.3, "geforce-gtx-1080.c2839"),
    _pascal("gtx-1080-ti", "GeForce GTX 1080 Ti", 28, 1582, 11.34, 484.4, "geforce-gtx-1080-ti.c2877"),
    _pascal("titan-xp", "NVIDIA TITAN Xp", 30, 1582, 12.15, 547.6, "titan-xp.c2948"),
    Device("rtx-2080-ti", "GeForce RTX 2080 Ti", "7.5", 68, 1545, 13.45, 107.6, 215.2, 616,
           (_page("geforce-rtx-2080-ti.c3305"), TURING), TENSOR),
    Device("rtx-3060", "GeForce RTX 3060", "8.6", 28, 1777, 12.74, 50.9, 101.9, 360,
           (_page("geforce-rtx-3060-12-gb.c3682"), AMPERE), DERIVED),
    Device("rtx-4090", "GeForce RTX 4090", "8.9", 128, 2520, 82.58, 330.3, 660.6, 1010,
           (_page("geforce-rtx-4090.c3889"), ADA), TENSOR),
    Device("jetson-nano", "Jetson Nano", "5.3", 1, 921, 0.236, 0.472, None, 25.6,
           (_page("jetson-nano.c3643"), GUIDE, SUPPORT)),
    Device("jetson-tx2", "Jetson TX2", "6.2", 2, 1300, 0.666, 1.33, None, 59.7,
           (_page("jetson-tx2.c3231"), GUIDE, SUPPORT)),
    Device("jetson-xavier-nx", "Jetson Xavier NX", "7.2", 6, 1100, 0.845, 6.76, 13.5, 59.7,
           (_page("jetson-xavier-nx-8-gb.c3642"), VOLTA),
           DERIVED + "; NVIDIA's first data sheets give 51.2 GB/s; accelerators left out"),
    Device("jetson-agx-xavier", "Jetson AGX Xavier", "7.2", 8, 1377, 1.41, 11.3, 22.6, 136.5,
           (_page("jetson-agx-xavier-32-gb.c4088"), VOLTA), TENSOR + "; accelerators left out"),
    Device("jetson-orin-nano", "Jetson Orin Nano 8GB", "8.7", 8, 625, 1.28, 10.2, 20.5, 68.2,
           (_page("jetson-orin-nano-8-gb.c4082"), ORIN),
           "INT8 rate: half of the data sheet's 40 sparse TOPS, from memory; FP16: half of INT8"),
    Device("jetson-orin-nano-super", "Jetson Orin Nano Super", "8.7", 8, 1020, 2.09, 16.7, 33.4, 102.4,
           (_page("jetson-orin-nano-super.c4377"), ORIN),
           "INT8 rate: half of the data sheet's 67 sparse TOPS, from memory; FP16: half of INT8"),
    Device("jetson-orin-nx", "Jetson Orin NX 16GB", "8.7", 8, 918, 1.88, 15.0, 30.1, 102.4,
           (_page("jetson-orin-nx-16-gb.c4086"), ORIN), DERIVED + "; accelerators left out"),
    Device("jetson-agx-orin", "Jetson AGX Orin 64GB", "8.7", 16, 1300, 5.33, 42.6, 85.2, 204.8,
           (_page("jetson-agx-orin-64-gb.c4085"), ORIN),
           "INT8 rate: half of the GPU's 170 sparse TOPS, from memory; FP16: half of INT8; accelerators left out"),
    Device("jetson-thor", "Jetson AGX Thor T5000", "11.0", 20, 1575, 8.06, 258, 517, 273.2,
           (_page("jetson-t5000.c4370"), "torring.dev/blog/2026/rtx-spark-throttling: 1570 MHz, FP16 rate per SM",
            "forums.developer.nvidia.com/t/356355: 20 SMs"),
           "clock: TechPowerUp has 2525 MHz; FP32 rate: derived; INT8 taken for twice FP16"),
    Device("a100", "NVIDIA A100-SXM4-40GB", "8.0", 108, 1410, 19.49, 312, 624, 1560,
           (_page("a100-sxm4-40-gb.c3506"), "NVIDIA A100 Tensor Core GPU data sheet"), TENSOR),
    Device("h100", "NVIDIA H100 80GB HBM3", "9.0", 132, 1830, 61.8, 989.4, 1978.9, 3360,
           (_page("h100-sxm5-80-gb.c3900"), "NVIDIA H100 Tensor Core GPU data sheet, SXM5"),
           TENSOR + "; clock: the tensor cores' 1830 MHz, TechPowerUp has 1980 and 66.9 FP32 TFLOPS"),
)  # fmt: skip


def find_device(name: str) -> Device:
    """The device of a name.

    Raises:
        SiamtrtError: no such name; the message lists them all.
    """
    found = [device for device in DEVICES if device.name == name.lower()]
    if not found:
        raise SiamtrtError(
            "unknown device", received=name, expected=", ".join(device.name for device in DEVICES) + " or all",
            fix="name one of them; another GPU is one entry in benchmarks/devices.py",
        )  # fmt: skip
    return found[0]


def device_titled(text: str) -> Device | None:
    """The device that a driver's or a paper's wording means, such as "NVIDIA Titan Xp", or None.

    Words are compared without case; the vendor's and the product line's name, and memory sizes, are left out.
    """
    wanted = _words(text)
    return next((device for device in DEVICES if _words(device.title) == wanted), None)


def _words(title: str) -> tuple[str, ...]:
    keep: Callable[[str], bool] = lambda word: word not in ("nvidia", "geforce") and not word.endswith("gb")  # noqa: E731
    return tuple(filter(keep, title.lower().replace("-", " ").split()))


def names(devices: Iterable[Device]) -> list[str]:
    """What `--device` takes."""
    return [device.name for device in devices]
