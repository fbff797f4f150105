"""Published frame rates beside what the roofline predicts for them: which two it was fitted on, how far off the others.

A published rate is that of a whole tracker: the network, cropping and decoding in Python on the CPU, and in eager
PyTorch the time to issue every kernel. Two constants stand for these, the same for every row: `Overheads`.

They are fitted on two rows, chosen among all pairs because the worst of the others is least off then; so the ratios of
the others are not independent of the choice. They are sensitive, too: efficiencies of `roofline.Model` a sixth lower or
higher move the host's 4.8 ms to 2.3 or 6.6 ms, and the worst ratio to 2.8 or 1.7.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from siamtrt.benchmarks.devices import Device, Precision, device_titled, find_device
from siamtrt.benchmarks.gpu_table import read_reports
from siamtrt.benchmarks.roofline import DEFAULT_MODEL, Model, Work, fused, times, unfused
from siamtrt.errors import SiamtrtError
from siamtrt.papers import paper_speed

Runtime = Literal["pytorch", "tensorrt"]
BAR = 1.6  # the wanted factor between prediction and publication
ZOO = "STVIR/pysot, MODEL_ZOO.md: GTX-1080Ti"
UNKNOWN = "collected for this project, first publication unknown; whether with or without reading the video too"


@dataclass(frozen=True)
class PublishedSpeed:
    """A published frame rate.

    Attributes:
        model: the preset.
        fps: lowest and highest published.
        search_side: pixels of the search crop where the publication's is not the preset's.
        fitted: one of the two that `Overheads` were fitted on.
    """

    model: str
    device: str
    runtime: Runtime
    precision: Precision
    fps: tuple[float, float]
    source: str
    search_side: int | None = None
    fitted: bool = False


def _eager(model: str, device: str, fps: float, source: str, **more: Any) -> PublishedSpeed:
    return PublishedSpeed(model, device, "pytorch", "fp32", (fps, fps), source, **more)


def _stated(model: str, device: str, tracker: str, note: str = "", **more: Any) -> PublishedSpeed:
    """A row of the papers' `SPEEDS`."""
    speed = paper_speed(tracker)
    bound = f": more than {speed.fps:g}" * speed.at_least
    return _eager(model, device, speed.fps, speed.source + bound + note, **more)


PUBLISHED: tuple[PublishedSpeed, ...] = (
    _eager("siamrpn_alex_dwxcorr", "gtx-1080-ti", 180, ZOO),
    _eager("siamrpn_mobilev2_l234_dwxcorr", "gtx-1080-ti", 75, ZOO, fitted=True),
    _eager("siamrpn_r50_l234_dwxcorr", "gtx-1080-ti", 35, ZOO),
    _eager("siammask_r50_l3", "gtx-1080-ti", 56, ZOO),
    _stated("siamrpn_r50_l234_dwxcorr", "titan-xp", "SiamRPN++, ResNet-50"),
    _stated("siamrpn_mobilev2_l234_dwxcorr", "titan-xp", "SiamRPN++, MobileNetV2"),
    _stated("siamrpn_r18_l234_dwxcorr", "titan-xp", "SiamRPN++, ResNet-18", fitted=True),
    _stated("siamrpn_alex", "gtx-1060", "SiamRPN", ", crops of 255 px", search_side=255),
    _eager("siamrpn_alex_dwxcorr", "rtx-3060", 78.5, UNKNOWN),
    PublishedSpeed("siamrpn_alex_dwxcorr", "rtx-3060", "tensorrt", "fp16", (128.5, 128.5), UNKNOWN),
    PublishedSpeed("nanotrack_v2", "jetson-tx2", "tensorrt", "fp16", (70, 122), UNKNOWN + "; version not stated"),
)


@dataclass(frozen=True)
class Overheads:
    """What a published tracker takes besides its kernels.

    Attributes:
        host_ms: cropping, decoding and reading a frame, on the CPU, an update.
        issue_us: a kernel of eager PyTorch.
    """

    host_ms: float
    issue_us: float


@dataclass(frozen=True)
class Comparison:
    """A prediction beside the frame rate published or measured.

    Attributes:
        what: model, device, runtime and precision in words.
        gpu_ms: the roofline's part of the prediction.
        kernels: launches in it.
    """

    what: str
    fps: tuple[float, float]
    gpu_ms: float
    kernels: int
    predicted_fps: float
    source: str
    fitted: bool = False

    @property
    def ratio(self) -> float:
        """Predicted over published; of a range, over its nearer end, and 1 within it."""
        low, high = self.fps
        return self.predicted_fps / min(max(self.predicted_fps, low), high)

    @property
    def holds(self) -> bool:
        """Within the factor of `BAR`."""
        return 1 / BAR <= self.ratio <= BAR


def compare_published(model: Model = DEFAULT_MODEL) -> tuple[Comparison, ...]:
    """Every row of `PUBLISHED` beside its prediction."""
    overheads = published_overheads(model)
    return tuple(_compared(row, *_gpu_cost(row, model), overheads) for row in PUBLISHED)


def published_overheads(model: Model = DEFAULT_MODEL) -> Overheads:
    """What the two rows of `PUBLISHED` that say so leave for the host, and for issuing kernels."""
    first, second = ((1e3 / row.fps[0], *_gpu_cost(row, model)) for row in PUBLISHED if row.fitted)
    return fit_overheads(first, second)


def fit_overheads(first: tuple[float, float, int], second: tuple[float, float, int]) -> Overheads:
    """Two equations, two unknowns: published ms = predicted GPU ms + the host's ms + kernels x the time to issue one.

    Args:
        first, second: published ms, predicted GPU ms and kernels of eager PyTorch; different numbers of kernels.
    """
    rest, other_rest = first[0] - first[1], second[0] - second[1]
    issue_ms = (rest - other_rest) / (first[2] - second[2])
    return Overheads(rest - first[2] * issue_ms, 1e3 * issue_ms)


def _gpu_cost(row: PublishedSpeed, model: Model) -> tuple[float, int]:
    """Predicted GPU ms and kernels of an update."""
    group = unfused if row.runtime == "pytorch" else fused
    groups = [one for work in works_of(row.model, row.search_side).values() for one in group(work)]
    return sum(one.ms for one in times(groups, find_device(row.device), row.precision, model)), len(groups)


def _compared(row: PublishedSpeed, gpu_ms: float, kernels: int, overheads: Overheads) -> Comparison:
    issued = kernels if row.runtime == "pytorch" else 0
    predicted = 1e3 / (gpu_ms + overheads.host_ms + 1e-3 * overheads.issue_us * issued)
    what = f"{row.model}, {find_device(row.device).title}, {row.runtime} {row.precision}"
    return Comparison(what, row.fps, gpu_ms, kernels, predicted, row.source, row.fitted)


@functools.cache
def works_of(name: str, search_side: int | None = None, batch: int = 1) -> Mapping[str, Work]:
    """A preset's traced graphs of a frame, on its own or another search crop; see `traced_work`."""
    from siamtrt.benchmarks.traced_work import traced_work
    from siamtrt.models.presets import get_preset

    preset = get_preset(name)
    if search_side is not None:
        preprocessing = dataclasses.replace(preset.preprocessing, search_size=search_side)
        preset = dataclasses.replace(preset, preprocessing=preprocessing)
    return traced_work(preset, batch)


def compare_measured(folder: Path, model: Model = DEFAULT_MODEL) -> tuple[Comparison, ...]:
    """Whole updates in reports of `siamtrt.benchmarks.gpu`, whose networks PyTorch runs as one CUDA graph, unfused.

    No report, or a GPU that is not in the table, gives no row.

    Raises:
        SiamtrtError: a JSON file that is no whole report.
    """
    reports = read_reports(folder) if folder.is_dir() else {}
    devices = {name: device_titled(report["environment"]["device"]["name"]) for name, report in reports.items()}
    return tuple(_measured(name, row, device, model) for name, device in devices.items() if device
                 for row in reports[name]["updates"])  # fmt: skip


def _measured(name: str, row: Mapping[str, Any], device: Device, model: Model) -> Comparison:
    precision: Precision = "fp16" if row["dtype"] == "float16" else "fp32"
    groups = [one for work in works_of(row["tracker"], None, row["slots"]).values() for one in unfused(work)]
    gpu_ms = sum(one.ms for one in times(groups, device, precision, model))
    fps = 1e3 / row["device_ms"]
    what = f"{row['tracker']}, {device.title}, CUDA graph {precision}, {row['slots']} targets"
    return Comparison(what, (fps, fps), gpu_ms, len(groups), 1e3 / gpu_ms, name)


def spread(rows: Iterable[Comparison]) -> tuple[float, float]:
    """Smallest and largest ratio of the rows that nothing was fitted on, 1 between them.

    Raises:
        SiamtrtError: there is no such row.
    """
    ratios = [row.ratio for row in rows if not row.fitted]
    if not ratios:
        raise SiamtrtError(
            "no error can be stated", received="no published row that was not fitted on", expected="at least one",
            fix="see PUBLISHED in benchmarks/published_speeds.py",
        )  # fmt: skip
    return min(1.0, *ratios), max(1.0, *ratios)


def as_table(rows: Iterable[Comparison]) -> str:
    """Markdown, a row a figure."""
    lines = ["| figure | published frames/s | predicted | ratio | GPU part, ms | kernels | used as | source |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        low, high = row.fps
        published = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        use = "fitted" if row.fitted else f"test: {'within' if row.holds else 'BEYOND'} {BAR:g}x"
        lines.append(
            f"| {row.what} | {published} | {row.predicted_fps:.1f} | {row.ratio:.2f} | {row.gpu_ms:.2f} | "
            f"{row.kernels} | {use} | {row.source} |"
        )
    return "\n".join(lines) + "\n"
