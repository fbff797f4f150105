"""A bundle's graphs in each precision that is compared, and two contrasts: INT8 as people do it, and mere chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from siamtrt.calibration.collection import collect
from siamtrt.calibration.evaluation import GRAPHS, TEMPLATE, Models
from siamtrt.calibration.layers import Layer, coverage, find_layers
from siamtrt.calibration.pairs import Pair, PairCutter
from siamtrt.calibration.qdq import quantised
from siamtrt.calibration.ranges import ZERO_TENSOR_THRESHOLD
from siamtrt.calibration.record import Calibration, thresholds_of
from siamtrt.errors import CalibrationError
from siamtrt.export.precision import fp16_from_fp32
from siamtrt.manifest import Manifest
from siamtrt.runtime.search import ORDINARY
from siamtrt.runtime.state import state_from_box

VARIANTS = ("fp32", "fp16", "int8", "mixed", "naive", "shaken")
CALIBRATED = ("int8", "mixed")
NOISE_IMAGES = 8
NOISE_SEED = 0
SHAKE = 1e-6  # of a weight: a few roundings of FP32


def variant_models(
    name: str, models: Models, calibration: Calibration | None, manifest: Manifest, half: bool = False,
    threads: int | None = None,
) -> dict[str, ModelProto]:  # fmt: skip
    """The graphs of a bundle in one of `VARIANTS`.

    * fp32: as they are.
    * fp16: `fp16_from_fp32` with the calibration's FP32 nodes, or with none where there is no calibration.
    * int8: every convolution in INT8 with the calibrated thresholds.
    * mixed: the plan; convolutions in `calibration.kept` stay as they are.
    * naive: every convolution in INT8 with the largest magnitudes over noise, the contrast; see `noise_thresholds`.
    * shaken: FP32 with weights that differ by a millionth, the yardstick: what a track changes by chance.

    Graphs besides template and search are never INT8.

    Args:
        name: of `VARIANTS`.
        models: the bundle's FP32 graphs by name; left as they are.
        calibration: of these graphs.
        manifest: of the bundle.
        half: in "int8", "mixed" and "naive", what is not INT8 is FP16, as engines have it, rather than FP32.
        threads: CPU threads of a run; "naive" runs the FP32 graphs.

    Raises:
        CalibrationError: no such variant, or one that needs a calibration and has none; for "naive", a tracker that
            takes more than crops.
    """
    layers = int8_layers(name, models, calibration)
    if name == "fp32":
        return dict(models)
    if name == "fp16":
        return _halved(models, calibration)
    if name == "shaken":
        return {graph: _shaken(model) for graph, model in models.items()}
    thresholds = noise_thresholds(models, manifest, threads) if name == "naive" else _thresholds(calibration)
    changed = {graph: quantised(models[graph], layers[graph], thresholds[graph]) for graph in GRAPHS}
    return _halved({**models, **changed}, calibration) if half else {**models, **changed}


def int8_layers(name: str, models: Models, calibration: Calibration | None) -> dict[str, tuple[Layer, ...]]:
    """The convolutions of the template and search graph that a variant has in INT8; errors of `variant_models`."""
    if name not in VARIANTS:
        raise CalibrationError(
            "no such variant", received=repr(name), expected=", ".join(VARIANTS), fix="correct the name"
        )
    if name in CALIBRATED and calibration is None:
        raise CalibrationError(
            f"variant {name} needs a calibration", received="a bundle without one", expected="calibration.json",
            fix="siamtrt calibrate BUNDLE --calib SOURCE, or leave the variant out",
        )  # fmt: skip
    if name in ("fp32", "fp16", "shaken"):
        return dict.fromkeys(GRAPHS, ())
    kept = calibration.kept if name == "mixed" and calibration else {}
    return {
        graph: tuple(layer for layer in find_layers(models[graph]) if layer.name not in kept.get(graph, ()))
        for graph in GRAPHS
    }


def int8_share(name: str, models: Models, calibration: Calibration | None) -> float:
    """Of all the search graph's multiply-accumulates, those in INT8, 0..1; errors of `variant_models`."""
    return coverage(models[ORDINARY], int8_layers(name, models, calibration)[ORDINARY]).total


def noise_thresholds(
    models: Models, manifest: Manifest, threads: int | None = None, images: int = NOISE_IMAGES, seed: int = NOISE_SEED
) -> dict[str, dict[str, float]]:
    """The largest magnitude of every tensor over crops of uniform noise, by graph.

    The search graph sees the template tensors of a noise template.

    Raises:
        CalibrationError: a tracker that takes more than crops, or a tensor that is not finite.
    """
    PairCutter(manifest)  # refuses such a tracker
    histograms = collect(manifest, models, _noise_pairs(manifest, images, seed), threads)
    return {
        graph: {name: histogram.largest or ZERO_TENSOR_THRESHOLD for name, histogram in rows.items()}
        for graph, rows in histograms.items()
    }


def _noise_pairs(manifest: Manifest, count: int, seed: int) -> Iterator[Pair]:
    rng = np.random.default_rng(seed)
    shapes = [manifest.graphs[graph].inputs[0].shape for graph in (TEMPLATE, ORDINARY)]
    side = float(manifest.preprocessing.template_size)
    box = (0.0, 0.0, side, side)  # noise has no target; nothing is decoded
    for number in range(count):
        template, search = (rng.integers(0, 256, shape).astype(np.float32) for shape in shapes)
        yield Pair(template, search, state_from_box(box), (int(side), int(side)), box, f"noise {number}")


def _thresholds(calibration: Calibration | None) -> Mapping[str, Mapping[str, float]]:
    assert calibration is not None  # int8_layers saw to it
    return thresholds_of(calibration.ranges)


def _shaken(model: ModelProto) -> ModelProto:
    """A copy whose FP32 constants of two or more axes are multiplied by 1 +- `SHAKE`."""
    shaken, rng = ModelProto(), np.random.default_rng(NOISE_SEED)
    shaken.CopyFrom(model)
    for tensor in shaken.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            value = numpy_helper.to_array(tensor)
            factors = 1 + SHAKE * rng.choice([-1.0, 1.0], value.shape)
            tensor.CopyFrom(numpy_helper.from_array((value * factors).astype(np.float32), tensor.name))
    return shaken


def _halved(models: Models, calibration: Calibration | None) -> dict[str, ModelProto]:
    single = calibration.fp32 if calibration else {}
    return {graph: fp16_from_fp32(model, single.get(graph, ())) for graph, model in models.items()}
