"""What is to be measured on a GPU, in one command: `python -m siamtrt.benchmarks.gpu -o gpu.json`.

Right first: every kernel beside its NumPy reference, and again under compute-sanitizer (`gpu_sanitizer`). Then time:
the correlation of SiamRPN++'s maps in one launch beside PyTorch's grouped convolutions and the memory's own speed, crop
and decode (`gpu_kernels`), and whole updates (`gpu_updates`). `gpu_table` makes a README's table of it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from siamtrt.benchmarks.environment import gpu_name
from siamtrt.benchmarks.gpu_environment import gpu_environment
from siamtrt.benchmarks.gpu_sanitizer import SanitizerRun, find_sanitizer, run_sanitizer
from siamtrt.files import write_whole
from siamtrt.kernels.crop import crop_ref
from siamtrt.kernels.decode import DecodeConstants, decode_ref, window_table
from siamtrt.kernels.launch import ENTRY_OF, Buffer, Device, frame_of, plan_crop, plan_decode, plan_xcorr
from siamtrt.kernels.state import TARGET
from siamtrt.kernels.xcorr import depthwise_xcorr_ref

WARM_UP, RUNS = 5, 30
MAPS = ((512, 29, 5), (512, 29, 5), (512, 29, 5))  # channels of both branches, sides of x and of the template, a level
TARGETS = (1, 4, 16, 64)


@dataclasses.dataclass(frozen=True)
class Check:
    """A kernel beside its reference: the largest difference, and what is allowed."""

    kernel: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        """NaN does not pass."""
        return self.error <= self.limit


def check_kernels(device: Device, seed: int = 0) -> list[Check]:
    """Every kernel in FP32 and FP16 on random input, with targets on the frame's border and an empty slot."""
    rng = np.random.default_rng(seed)
    checks = []
    for dtype, limits in ((np.float32, (1e-3, 1e-5, 0.01)), (np.float16, (0.5, 1e-3, 0.01))):
        errors = _crop_error(device, rng, dtype), _xcorr_error(device, rng, dtype), _decode_error(device, rng, dtype)
        names = (f"{kernel}_{ENTRY_OF[np.dtype(dtype)]}" for kernel in ("crop", "xcorr", "decode"))
        checks += [Check(*row) for row in zip(names, errors, limits, strict=True)]
    return checks


def _some_targets() -> np.ndarray:
    targets = np.zeros(3, TARGET)
    targets["center"], targets["size"] = [(320, 200), (5, 470), (600, 10)], [(80, 60), (40, 40), (12, 33)]
    targets["fill"], targets["active"] = (100, 110, 120, 0), (1, 1, 0)
    return targets


def _crop_error(device: Device, rng: np.random.Generator, dtype: Any) -> float:
    """In grey levels."""
    pixels, targets = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8), _some_targets()
    frame, state = device.upload(pixels), device.upload(targets)
    crops = device.upload(np.zeros((3, 3, 255, 255), dtype))
    device.launch(plan_crop(frame_of(frame, "bgr"), state, crops, 127))
    expected = crop_ref(pixels, targets, 255, 127, dtype=dtype)
    return float(np.abs(crops.get().astype(float) - expected.astype(float)).max())


def _xcorr_error(device: Device, rng: np.random.Generator, dtype: Any) -> float:
    """As a share of the largest magnitude."""
    worst = 0.0
    entries = [_xcorr_entry(device, rng, dtype, 2, 16, side, kernel) for side, kernel in ((29, 5), (26, 4), (13, 7))]
    device.launch(plan_xcorr(entries))
    for x, kernel, y in entries:
        expected = depthwise_xcorr_ref(x.get().astype(np.float32), kernel.get().astype(np.float32))
        worst = max(worst, float(np.abs(y.get().astype(np.float32) - expected).max() / np.abs(expected).max()))
    return worst


def _xcorr_entry(
    device: Device, rng: np.random.Generator, dtype: Any, targets: int, channels: int, side: int, kernel: int
) -> tuple[Buffer, Buffer, Buffer]:
    shapes = [(targets, channels, edge, edge) for edge in (side, kernel, side - kernel + 1)]
    x, z = (rng.standard_normal(shape, np.float32).astype(dtype) for shape in shapes[:2])
    return device.upload(x), device.upload(z), device.empty(shapes[2], dtype)


def _decode_error(device: Device, rng: np.random.Generator, dtype: Any) -> float:
    """Of centre and size in pixels; infinite where another proposal was chosen."""
    targets, constants = _some_targets(), DecodeConstants(stride=8, scale_size=127, penalty_k=0.05, lr=0.38)
    cls = rng.standard_normal((3, 10, 25, 25)).astype(dtype)
    loc = (0.3 * rng.standard_normal((3, 20, 25, 25))).astype(dtype)
    sides = np.array([(104, 32), (88, 40), (64, 64), (40, 80), (32, 96)], np.float32)
    window = window_table(25, 0.42)
    state = device.upload(targets)
    logits, offsets, table, anchors = (device.upload(array) for array in (cls, loc, window, sides))
    device.launch(plan_decode(state, logits, offsets, table, anchors, constants, (640, 480)))
    found, expected = state.get(), decode_ref(targets, cls, loc, window, sides, constants, (640, 480))
    if not (found["position"] == expected["position"]).all() or not (found["status"] == expected["status"]).all():
        return float("inf")
    return float(max(np.abs(found[name] - expected[name]).max() for name in ("center", "size")))


def milliseconds(device: Device, work: Callable[[], object], repeat: int = 10) -> float:
    """Median over runs of the time one call takes, `repeat` of them queued at once."""
    samples = []
    for _ in range(WARM_UP + RUNS):
        device.synchronize()
        start = time.perf_counter()
        for _ in range(repeat):
            work()
        device.synchronize()
        samples.append(1e3 * (time.perf_counter() - start) / repeat)
    return float(np.median(samples[WARM_UP:]))


def time_xcorr(
    device: Device, dtype: Any, targets: int, grouped: Callable[[list[Any]], Callable[[], None]]
) -> dict[str, Any]:
    """The correlation of SiamRPN++'s maps: ours in one launch, the same by `grouped`, and the memory's own speed."""
    rng = np.random.default_rng(0)
    entries = [_xcorr_entry(device, rng, dtype, targets, *sizes) for sizes in MAPS]
    launch, moved = plan_xcorr(entries), sum(_bytes(buffer) for entry in entries for buffer in entry)
    source, target = (device.empty((moved // 2,), np.uint8) for _ in range(2))
    copy_ms = milliseconds(device, lambda: device.copy(source, target))
    ours_ms, grouped_ms = milliseconds(device, lambda: device.launch(launch)), milliseconds(device, grouped(entries))
    return {
        "dtype": np.dtype(dtype).name, "targets": targets, "bytes": moved, "ours_ms": ours_ms, "grouped_ms": grouped_ms,
        "times_faster": grouped_ms / ours_ms, "roofline_share": copy_ms / ours_ms,
    }  # fmt: skip


def _bytes(buffer: Buffer) -> int:
    return int(np.prod(buffer.shape)) * buffer.dtype.itemsize


def torch_grouped(entries: Sequence[tuple[Any, Any, Any]]) -> Callable[[], None]:
    """Six grouped convolutions, a level and a branch each, on the same memory."""
    import torch
    import torch.nn.functional as F

    from siamtrt.runtime.torch_session import tensor_of

    halves = []
    for x, kernel, _ in entries:
        features, weight = tensor_of(x), tensor_of(kernel)
        for f, w in zip(features.chunk(2, dim=1), weight.chunk(2, dim=1), strict=True):
            n, c, h, width = f.shape
            halves.append((f.reshape(1, n * c, h, width).contiguous(), w.reshape(n * c, 1, *w.shape[2:]).contiguous()))

    def run() -> None:
        with torch.inference_mode():
            for features, weight in halves:
                F.conv2d(features, weight, groups=features.shape[1])

    return run


Save = Callable[[str, Sequence[Any]], None]


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False, writable=True), required=True,
    help="JSON to write, part by part.",
)  # fmt: skip
def main(output: Path) -> None:
    """Check and time the kernels on this machine's GPU, through CuPy."""
    if gpu_name() is None:
        raise click.UsageError(
            "received no GPU that CuPy can use, expected one; pip install 'siamtrt[cuda,export]' on a GPU machine"
        )
    from siamtrt.kernels.cupy_device import CupyDevice

    report: dict[str, Any] = {"environment": gpu_environment()}

    def save(part: str, rows: Sequence[Any]) -> None:
        """After every part, so that a failure in a later one loses nothing."""
        report[part] = [row if isinstance(row, dict) else dataclasses.asdict(row) for row in rows]
        write_whole(output, (json.dumps(report, indent=1) + "\n").encode())

    if not measure(CupyDevice(), save, find_sanitizer()):
        raise SystemExit(1)


def measure(device: Device, save: Save, sanitizer: str | None, where: str = "cuda") -> bool:
    """Every part in order: "checks", "sanitizer", "xcorr", "kernels", "updates".

    Args:
        save: takes the name of a part and its rows, dictionaries or dataclasses.
        sanitizer: compute-sanitizer, or None where it is absent.
        where: PyTorch's name of the device.

    Returns:
        Whether every kernel was right and no sanitizer found anything. A wrong kernel is not timed.
    """
    save("checks", checks := check_kernels(device))
    for check in checks:
        verdict = "ok   " if check.passed else "WRONG"
        click.echo(f"{verdict} {check.kernel}: off by {check.error:.2e}, limit {check.limit:g}")
    if not all(check.passed for check in checks):
        return False
    runs = run_sanitizer(sanitizer) if sanitizer else []
    save("sanitizer", runs or [{"absent": "compute-sanitizer"}])
    click.echo("\n".join(map(_said_run, runs)) or "compute-sanitizer is not installed here")

    cases = [(dtype, targets) for dtype in (np.float32, np.float16) for targets in TARGETS]
    save("xcorr", [_said(time_xcorr(device, *case, torch_grouped)) for case in cases])
    _time_others(device, save, cases, where)
    return all(run.passed for run in runs)


def _time_others(device: Device, save: Save, cases: Sequence[tuple[Any, int]], where: str) -> None:
    """Crop, decode and whole updates, whose modules import this one."""
    from siamtrt.benchmarks.gpu_kernels import time_kernels
    from siamtrt.benchmarks.gpu_updates import SLOTS, TRACKERS, time_updates

    save("kernels", times := [row for case in cases for row in time_kernels(device, *case)])
    for time_ in times:
        click.echo(f"{time_.kernel} {time_.dtype}, {time_.targets} targets: {time_.ms:.3f} ms")
    updates: list[Any] = []
    for name in TRACKERS:
        for half in (False, True):
            updates += time_updates(device, name, half, SLOTS, where)
            save("updates", updates)
    for row in updates:
        click.echo(
            f"{row.tracker} {row.dtype}, {row.slots} targets: {row.device_ms:.3f} ms an update; "
            f"eager FP32 with one target: {row.eager_ms:.3f} ms"
        )


def _said_run(run: SanitizerRun) -> str:
    errors = "no summary" if run.errors is None else f"{run.errors} errors"
    verdict = "ok   " if run.passed else "WRONG"
    return f"{verdict} {run.tool}: {errors}, exit code {run.exit_code}, {run.seconds:.0f} s; {run.last_line}"


def _said(case: dict[str, Any]) -> dict[str, Any]:
    click.echo(
        f"xcorr {case['dtype']}, {case['targets']} targets: {case['ours_ms']:.3f} ms, {case['times_faster']:.1f}x "
        f"six grouped convolutions, {case['roofline_share']:.0%} of a copy's speed"
    )
    return case


if __name__ == "__main__":
    main()
