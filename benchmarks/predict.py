"""What frame rate a bundle should reach on a GPU nobody has at hand: a prediction with its error, never a measurement.

The GPU's part of an update is what `DeviceTracker` runs: the crop kernel, the search graph as TensorRT fuses it, what
else the tracker runs a frame, and the decoding kernel. The host's part is a number of milliseconds: what published
trackers take for cropping, decoding and Python, unless the user knows better. Only with it was the error stated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from siamtrt.benchmarks.devices import Device, Precision, device_titled
from siamtrt.benchmarks.gpu_table import RESULTS
from siamtrt.benchmarks.onnx_work import graph_work
from siamtrt.benchmarks.published_speeds import BAR, Comparison, compare_measured, compare_published, spread
from siamtrt.benchmarks.published_speeds import as_table as figures_table
from siamtrt.benchmarks.roofline import Bound, GroupTime, Operation, Work, bound_shares, fused, renamed, times
from siamtrt.manifest import CalibratedGraph, GraphSpec, Manifest, load_manifest, verified_file

PER_FRAME = ("search", "refine", "update")
SHOWN_LAYERS = 15
DISCLAIMER = (
    "A prediction, not a measurement: crop, network by TensorRT and decoding on the GPU at its highest clock, and "
    "{host:.1f} ms an update on the host. The papers' figures include eager PyTorch, and crop and decoding on the CPU."
)


@dataclass(frozen=True)
class BundleWork:
    """What an update of a bundle computes.

    Attributes:
        precision: of the run.
        source: where each layer's precision comes from, in words.
        works: crop, graphs and decoding in order.
    """

    manifest: Manifest
    precision: Precision
    source: str
    works: tuple[Work, ...]


@dataclass(frozen=True)
class Prediction:
    """An update on one device.

    Attributes:
        precision: what its dense layers run in; narrower ones than the device has fall back.
        rows: the time of every kernel.
        host_ms: of an update, on the CPU.
        factors: smallest and largest ratio of prediction to publication, of figures nothing was fitted on.
    """

    device: Device
    precision: Precision
    rows: tuple[GroupTime, ...]
    host_ms: float
    factors: tuple[float, float]

    @property
    def gpu_ms(self) -> float:
        return sum(row.ms for row in self.rows)

    @property
    def fps(self) -> float:
        """Of the whole update, the host's part after the GPU's."""
        return 1e3 / (self.gpu_ms + self.host_ms)

    @property
    def fps_range(self) -> tuple[float, float]:
        """Where the frame rate lies if the prediction is as far off as the worst of the known figures."""
        return self.fps / self.factors[1], self.fps / self.factors[0]

    @property
    def shares(self) -> dict[Bound, float]:
        """Of the GPU's part."""
        return bound_shares(self.rows)


def bundle_work(bundle: Path, precision: Precision) -> BundleWork:
    """The work of a bundle's update, from its graphs.

    INT8 takes the graphs of the bundle's calibration where it has one, else every convolution is taken for INT8.

    Raises:
        BundleError: no bundle, or a file of it is missing or was changed.
        SiamtrtError: a graph without static shapes.
    """
    manifest = load_manifest(bundle)
    works, calibrated = [_crop_work(manifest)], []
    for name in PER_FRAME:
        if spec := manifest.graphs.get(name):
            record = _calibration_of(manifest, name, spec)
            works.append(renamed(_work(bundle, spec, record, precision), name))
            calibrated.append(record is not None)
    works.append(_decode_work(manifest))
    return BundleWork(manifest, precision, _source(precision, all(calibrated)), tuple(works))


def _calibration_of(manifest: Manifest, name: str, spec: GraphSpec) -> CalibratedGraph | None:
    record = manifest.calibrated.get(name)
    return record if record and record.graph_sha256 == spec.sha256 else None


def _work(bundle: Path, spec: GraphSpec, record: CalibratedGraph | None, precision: Precision) -> Work:
    path = verified_file(bundle, spec.file, spec.sha256)
    if record and precision == "int8":
        path = verified_file(bundle, record.file, record.sha256)
    return graph_work(onnx.load(path), record.fp32_nodes if record else ())


def _source(precision: Precision, calibrated: bool) -> str:
    if precision == "int8" and not calibrated:
        return "every convolution taken for INT8: the bundle is not calibrated"
    return "layer by layer from the bundle's calibration" if calibrated and precision != "fp32" else "every layer"


def _crop_work(manifest: Manifest) -> Work:
    """The crop kernel reads about as many pixels as it writes."""
    (x,) = (tensor for tensor in manifest.graphs["search"].inputs if tensor.name == "x")
    number, channels, height, width = x.shape
    operation = Operation("crop", "Crop", "other", ("frame",), ("x",))
    return Work((operation,), dict.fromkeys(("frame", "x"), number * channels * height * width), frozenset(("x",)))


def _decode_work(manifest: Manifest) -> Work:
    """The decoding kernel reads the head's outputs and writes a state."""
    outputs = manifest.graphs["search"].outputs
    sizes = {tensor.name: _elements(tensor.shape) for tensor in outputs}
    operation = Operation("decode", "Decode", "other", tuple(sizes), ("state",))
    return Work((operation,), {**sizes, "state": 1}, frozenset(("state",)))


def _elements(shape: Iterable[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def known_figures(results: Path = RESULTS) -> tuple[Comparison, ...]:
    """Published figures, and measured ones where the folder has reports, each beside its prediction."""
    return (*compare_published(), *compare_measured(results))


def predict(work: BundleWork, device: Device, host_ms: float, factors: tuple[float, float]) -> Prediction:
    """The update's time on a device.

    Args:
        host_ms, factors: see `Prediction`; from `published_overheads` and `spread`.
    """
    groups = [group for part in work.works for group in fused(part)]
    return Prediction(device, device.effective(work.precision), times(groups, device, work.precision), host_ms, factors)


def ranked(
    work: BundleWork, devices: Iterable[Device], host_ms: float, factors: tuple[float, float]
) -> list[Prediction]:
    """Predictions, slowest first: the first that suffices is the least that does."""
    return sorted((predict(work, device, host_ms, factors) for device in devices), key=lambda one: -one.gpu_ms)


def report(
    work: BundleWork, predictions: Sequence[Prediction], known: Sequence[Comparison], *, host_ms: float, layers: bool,
    figures: bool,
) -> str:  # fmt: skip
    """Markdown: what was predicted, a line a device, sources where there is but one, and the error.

    Args:
        known: from `known_figures`; the error.
        layers: with the costliest kernels of each device.
        figures: with the table of `known`.
    """
    parts = [heading(work, host_ms), as_table(work, predictions) if predictions else "No device reaches that.\n"]
    parts += [layers_table(one) for one in predictions if layers]
    parts += [sources_of(one.device) for one in predictions if len(predictions) == 1]
    parts += [error_line(known), *([figures_table(known)] if figures else [])]
    return "\n".join(parts)


def as_table(work: BundleWork, predictions: Sequence[Prediction]) -> str:
    """Markdown, a line a device."""
    lines = [
        "| device | precision | on the GPU, ms | frames/s | range | bound by compute | memory | launch | the paper's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in predictions:
        low, high = one.fps_range
        shares = " | ".join(f"{one.shares[bound]:.0%}" for bound in ("compute", "memory", "launch"))
        lines.append(
            f"| {one.device.name} | {one.precision} | {one.gpu_ms:.2f} | {one.fps:.0f} | {low:.0f} to {high:.0f} | "
            f"{shares} | {paper_note(work.manifest, one)} |"
        )
    return "\n".join(lines) + "\n"


def paper_note(manifest: Manifest, prediction: Prediction) -> str:
    """The paper's frame rate on the same hardware and the ratio to it, or nothing."""
    figure = manifest.paper_figure
    if figure is None or device_titled(figure.hardware) != prediction.device:
        return ""
    return f"{figure.fps:g} in PyTorch ({figure.source}): {prediction.fps / figure.fps:.1f}x"


def heading(work: BundleWork, host_ms: float) -> str:
    """What is predicted, in two lines."""
    manifest = work.manifest
    targets = f", {manifest.batch} targets an update" if manifest.batch > 1 else ""
    gmacs = sum(part.macs for part in work.works) / 1e9
    kernels = sum(len(fused(part)) for part in work.works)
    return (
        f"{manifest.model}, {work.precision} ({work.source}){targets}: {gmacs:.3f} GMAC in {kernels} kernels\n"
        f"{DISCLAIMER.format(host=host_ms)}\n"
    )


def error_line(figures: Sequence[Comparison]) -> str:
    """How far the prediction is off where a figure is known."""
    tests = [row for row in figures if not row.fitted]
    low, high = spread(figures)
    held = sum(row.holds for row in tests)
    return (
        f"Error: predicted / published frames/s are {low:.2f} to {high:.2f} in {len(tests)} figures, {held} of them "
        f"within {BAR:g}x; 2 more were fitted on. Mostly eager PyTorch with its overheads; no engine of ours is among "
        "them.\n"
    )


def layers_table(prediction: Prediction, number: int = SHOWN_LAYERS) -> str:
    """Markdown, the costliest kernels first."""
    lines = ["| kernel | precision | ms | share | bound by | MMAC | MB |", "|---|---|---|---|---|---|---|"]
    for row in sorted(prediction.rows, key=lambda row: -row.ms)[:number]:
        lines.append(
            f"| {row.group.name} | {row.precision} | {row.ms:.4f} | {row.ms / prediction.gpu_ms:.1%} | {row.bound} | "
            f"{row.group.macs / 1e6:.1f} | {row.bytes_moved / 1e6:.2f} |"
        )
    return "\n".join(lines) + "\n"


def sources_of(device: Device) -> str:
    """Where a device's numbers come from, and what was not verified."""
    rates = ", ".join(f"{name} {value:g}" for name, value in (
        ("FP32 TFLOPS", device.fp32_tflops), ("FP16 TFLOPS", device.fp16_tflops), ("INT8 TOPS", device.int8_tops),
        ("GB/s", device.bandwidth_gbs), ("MHz", device.clock_mhz), ("SMs", device.sms),
    ) if value is not None)  # fmt: skip
    doubts = f" Not verified: {device.unverified}." if device.unverified else ""
    return f"{device.title}: {rates}. Sources: {'; '.join(device.sources)}.{doubts}\n"


def as_json(work: BundleWork, predictions: Sequence[Prediction], figures: Sequence[Comparison]) -> str:
    """Everything the tables show, for programs."""
    return json.dumps({
        "model": work.manifest.model, "precision": work.precision, "targets": work.manifest.batch,
        "predictions": [_said(one) for one in predictions],
        "figures": [
            {"what": row.what, "fps": row.fps, "predicted_fps": row.predicted_fps, "ratio": row.ratio,
             "fitted": row.fitted, "source": row.source}
            for row in figures
        ],
    }, indent=1) + "\n"  # fmt: skip


def _said(one: Prediction) -> dict[str, Any]:
    return {
        "device": one.device.name, "precision": one.precision, "gpu_ms": one.gpu_ms, "host_ms": one.host_ms,
        "fps": one.fps, "fps_range": one.fps_range, "bound_by": one.shares, "kernels": len(one.rows),
    }  # fmt: skip
