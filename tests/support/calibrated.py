"""A calibration made by hand of a few real pairs, and sequences with labels to measure with."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from siamtrt.calibration.collection import collect
from siamtrt.calibration.evaluation import GRAPHS, Damage
from siamtrt.calibration.layers import find_layers, quantised_tensors
from siamtrt.calibration.pairs import sample_pairs
from siamtrt.calibration.record import Calibration, PlanPoint, Range, Settings
from siamtrt.manifest import load_manifest
from siamtrt.runtime.sequences import open_sequences


def labelled(video, boxes_xywh, folder, name="short"):
    """A copy of a video with its boxes beside it."""
    path = Path(folder) / f"{name}{Path(video).suffix}"
    shutil.copy(video, path)
    path.with_suffix(".txt").write_text("\n".join(",".join(map(repr, map(float, box))) for box in boxes_xywh))
    return path


def graphs_of(bundle):
    """The FP32 graphs of a bundle."""
    return {graph: onnx.load(bundle / spec.file) for graph, spec in load_manifest(bundle).graphs.items()}


def calibration_of(bundle, source, kept=3):
    """Min-max ranges of eight pairs; the first `kept` convolutions of the search graph stay in FP16."""
    manifest, models = load_manifest(bundle), graphs_of(bundle)
    with sample_pairs(manifest, open_sequences([source]), 8) as pairs:
        histograms = collect(manifest, models, pairs)
    layers = {graph: find_layers(models[graph]) for graph in GRAPHS}
    ranges = {
        graph: {name: Range(rows[name].largest, "min-max", {}) for name in quantised_tensors(layers[graph])}
        for graph, rows in histograms.items()
    }
    return Calibration(
        graphs={graph: manifest.graphs[graph].sha256 for graph in GRAPHS},
        settings=Settings(("short",), ("0" * 64,), 8, 0, "min-max", 0.02), pairs=8, ranges=ranges, layers=(),
        points=(PlanPoint(kept, 0.5, Damage(1.0, 0.0, 1.0)),),
        kept={"template": (), "search": tuple(layer.name for layer in layers["search"][:kept])},
        fp32=dict.fromkeys(GRAPHS, ()), largest={graph: {} for graph in GRAPHS}, zero=dict.fromkeys(GRAPHS, ()),
        skipped=(),
    )  # fmt: skip
