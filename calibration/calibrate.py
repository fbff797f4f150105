"""From a bundle and videos to `calibration.json`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto
from tqdm import tqdm

from siamtrt.calibration.choice import choose_ranges
from siamtrt.calibration.collection import Histograms, collect
from siamtrt.calibration.evaluation import GRAPHS, Evaluator, Models
from siamtrt.calibration.halves import fp32_nodes, largest_magnitudes
from siamtrt.calibration.histogram import Histogram
from siamtrt.calibration.labels import labels_by_tracking
from siamtrt.calibration.layers import Layer, quantised_tensors
from siamtrt.calibration.pairs import Pair, Pairs, sample_pairs
from siamtrt.calibration.plan import Quantiser, choose_plan, kept_layers, layers_of, rank_layers
from siamtrt.calibration.ranges import thresholds
from siamtrt.calibration.record import Calibration, Range, Settings, thresholds_of
from siamtrt.calibration.store import store, stored
from siamtrt.errors import CalibrationError
from siamtrt.export.macs import graph_macs
from siamtrt.manifest import Manifest, load_manifest, sha256_of, verified_file
from siamtrt.precision import AUTO, DEFAULT_IOU_DROP, DEFAULT_PAIRS, ESTIMATORS
from siamtrt.runtime.sequences import Sequence, open_sequences

PLAN_PAIRS = 64  # of all, evenly
# Pairs for what is repeated for every layer: as many as a few 1e12 multiplications allow, some minutes on two cores.
LEAST_PAIRS, MOST_PAIRS = 4, 64
LAYERWISE_MACS = 3e12
CANDIDATES = 4  # thresholds tried for a tensor


@dataclass(frozen=True)
class Options:
    """How to calibrate.

    Attributes:
        pairs: template and search pairs to sample, at least 8.
        seed: of the sampling, 0 or more.
        ranges: an estimator of `ESTIMATORS` for every tensor, or "auto": for each tensor the one that disturbs the
            outputs least.
        max_iou_drop: most that INT8 may take from the mean IoU with FP32's boxes in one step, 0..1.
        threads: CPU threads of a run; see `OrtSession`. Not among the recorded settings: up to 3 threads gave the
            same bits in every tensor, 5 other last bits in MobileNetV2, which `DIGITS` mostly hides.
        progress: show bars on stderr.

    Raises:
        CalibrationError: a value outside its range.
    """

    pairs: int = DEFAULT_PAIRS
    seed: int = 0
    ranges: str = AUTO
    max_iou_drop: float = DEFAULT_IOU_DROP
    threads: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if self.ranges not in (AUTO, *ESTIMATORS) or not 0 <= self.max_iou_drop <= 1 or self.seed < 0:
            raise CalibrationError(
                "unusable options",
                received=f"ranges {self.ranges!r}, max_iou_drop {self.max_iou_drop}, seed {self.seed}",
                expected=f"ranges of {', '.join((AUTO, *ESTIMATORS))}; a drop in 0..1; a seed of at least 0",
                fix="correct them",
            )  # fmt: skip


def calibrate(bundle: Path | str, sources: Several[str | Path], options: Options | None = None) -> Calibration:
    """Measure a bundle's tensors on real pairs, choose INT8 ranges and a precision plan, and store them in it.

    What was written before is used again if graphs, sources and options are the same.

    Args:
        bundle: directory written by `siamtrt export`.
        sources: see `open_sequences`, in any order; of one with one box alone, FP32 tracking gives the others.
        options: see `Options`.

    Raises:
        BundleError: the bundle is incomplete or edited.
        SourceError: a source cannot be read.
        CalibrationError: see `sample_pairs`; a tensor that is not finite.
    """
    root, options = Path(bundle), options or Options()
    manifest = load_manifest(root)
    models = load_models(root, manifest)
    sequences, settings = _settings(open_sequences(sources), options)
    known = stored(root, manifest)
    if known is not None and known.settings == settings:
        return known
    label = labels_by_tracking(root, options.threads, options.progress)
    with sample_pairs(manifest, sequences, options.pairs, options.seed, label, options.progress) as pairs:
        calibration = _calibrated(manifest, models, pairs, settings, options).rounded()
    store(calibration, models, root)
    return calibration


def load_models(bundle: Path, manifest: Manifest) -> dict[str, ModelProto]:
    """The template and search graph, their hashes verified.

    Raises:
        BundleError: a file is missing or was changed.
    """
    specs = {graph: manifest.graphs[graph] for graph in GRAPHS}
    return {graph: onnx.load(verified_file(bundle, spec.file, spec.sha256)) for graph, spec in specs.items()}


def _settings(sequences: Several[Sequence], options: Options) -> tuple[list[Sequence], Settings]:
    """The sequences by name and content, so that the order of the sources does not matter, and what identifies all."""
    rows = sorted(((sequence.name, _fingerprint(sequence), sequence) for sequence in sequences), key=itemgetter(0, 1))
    names, hashes, ordered = zip(*rows, strict=True)
    settings = Settings(names, hashes, options.pairs, options.seed, options.ranges, options.max_iou_drop)
    return list(ordered), settings


def _fingerprint(sequence: Sequence) -> str:
    """SHA-256 of the boxes and of the video, or of the images and their names.

    Of the whole files: re-rendered bitmaps have the same names and sizes. It takes a fraction of decoding them.
    """
    digest = hashlib.sha256(np.ascontiguousarray(sequence.truth_xywh, np.float64).tobytes())
    if sequence.frames.is_file():
        digest.update(sha256_of(sequence.frames).encode())
    else:
        for path in sorted(path for path in sequence.frames.iterdir() if path.is_file()):
            digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _calibrated(manifest: Manifest, models: Models, pairs: Pairs, settings: Settings, options: Options) -> Calibration:
    watched = tqdm(pairs, "ranges", unit="pair", disable=None if options.progress else True)
    histograms = collect(manifest, models, watched, options.threads)
    layers = layers_of(models)
    ranges = _ranges(manifest, models, layers, histograms, pairs, options)
    quantiser = Quantiser(models, layers, thresholds_of(ranges))
    with Evaluator(manifest, models, _spread(pairs, _layerwise_pairs(models, layers)), options.threads) as evaluator:
        ranked = rank_layers(evaluator, quantiser, options.progress)
    with Evaluator(manifest, models, _spread(pairs, PLAN_PAIRS), options.threads) as evaluator:
        points = choose_plan(evaluator, quantiser, ranked, options.max_iou_drop)
    return Calibration(
        graphs={graph: manifest.graphs[graph].sha256 for graph in GRAPHS}, settings=settings, pairs=len(pairs),
        ranges=ranges, layers=ranked, points=points, kept=kept_layers(ranked, points, options.max_iou_drop),
        fp32={graph: fp32_nodes(models[graph], histograms[graph]) for graph in GRAPHS},
        largest={graph: largest_magnitudes(histograms[graph]) for graph in GRAPHS},
        zero={graph: _zero(histograms[graph]) for graph in GRAPHS}, skipped=pairs.skipped,
    )  # fmt: skip


def _zero(histograms: Mapping[str, Histogram]) -> tuple[str, ...]:
    return tuple(name for name, histogram in histograms.items() if histogram.largest == 0)


def _ranges(
    manifest: Manifest, models: Models, layers: dict[str, tuple[Layer, ...]], histograms: Histograms, pairs: Pairs,
    options: Options,
) -> dict[str, dict[str, Range]]:  # fmt: skip
    proposed = {
        graph: {name: thresholds(histograms[graph][name]) for name in quantised_tensors(layers[graph])}
        for graph in GRAPHS
    }
    if options.ranges != AUTO:
        return {
            graph: {name: Range(values[options.ranges], options.ranges, values) for name, values in rows.items()}
            for graph, rows in proposed.items()
        }
    total = sum(map(len, proposed.values()))
    few = _layerwise_pairs(models, layers, CANDIDATES)
    with (
        Evaluator(manifest, models, _spread(pairs, few), options.threads) as evaluator,
        tqdm(total=total, desc="estimators", unit="tensor", disable=None if options.progress else True) as bar,
    ):
        return {
            graph: choose_ranges(evaluator, graph, models[graph], layers[graph], proposed[graph], bar)
            for graph in GRAPHS
        }


def _layerwise_pairs(models: Models, layers: Mapping[str, Several[Layer]], runs: int = 1) -> int:
    """How many pairs to look at `runs` times for every layer; by multiplications, so that it is the same anywhere."""
    work = sum(graph_macs(models[graph]) * len(rows) for graph, rows in layers.items())
    return int(np.clip(LAYERWISE_MACS / max(1, runs * work), LEAST_PAIRS, MOST_PAIRS // runs))


def _spread(pairs: Pairs, count: int) -> list[Pair]:
    """`count` of the pairs, evenly over all sequences; all where there are fewer."""
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int)]
