"""Every tensor of the tracker's graphs over calibration pairs, as histograms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto
from onnx.shape_inference import infer_shapes

from siamtrt.calibration.evaluation import GRAPHS, TEMPLATE, Models
from siamtrt.calibration.histogram import Histogram
from siamtrt.calibration.pairs import Pair
from siamtrt.manifest import Manifest
from siamtrt.runtime.ort_session import session_options
from siamtrt.runtime.search import ORDINARY

Histograms = dict[str, dict[str, Histogram]]


class _Watched:
    """A graph with every floating-point tensor among its outputs."""

    def __init__(self, model: ModelProto, threads: int | None) -> None:
        watched = ModelProto()
        watched.CopyFrom(model)
        self.outputs = [value.name for value in model.graph.output]
        self.tensors = float_tensors(model)
        named = set(self.outputs)
        new = [name for name in self.tensors if name not in named]
        watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in new)
        data = watched.SerializeToString()
        options = session_options(len(data), threads)
        self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._names = [*self.outputs, *new]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every tensor by name, the graph's inputs too."""
        return {**feeds, **dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))}


def float_tensors(model: ModelProto) -> tuple[str, ...]:
    """FP32 tensors that nodes of the main graph make, in order."""
    inferred = infer_shapes(model, strict_mode=False).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    made = (name for node in model.graph.node for name in node.output if name)  # "" is an output left out
    return tuple(name for name in made if types.get(name, TensorProto.FLOAT) == TensorProto.FLOAT)


def collect(manifest: Manifest, models: Models, pairs: Iterable[Pair], threads: int | None = None) -> Histograms:
    """Run the FP32 graphs on pairs and count every tensor's magnitudes; memory does not grow with the pairs.

    The search graph sees the template tensors that the template graph computed of the pair.

    Args:
        manifest: of the bundle.
        models: its FP32 graphs "template" and "search".
        pairs: to run on.
        threads: CPU threads of a run; see `OrtSession`.

    Returns:
        `{graph: {tensor: Histogram}}`, the graphs' inputs among the tensors.

    Raises:
        CalibrationError: a value that is not finite.
    """
    watched = {graph: _Watched(models[graph], threads) for graph in GRAPHS}
    inputs = {graph: [tensor.name for tensor in manifest.graphs[graph].inputs] for graph in GRAPHS}
    histograms: Histograms = {
        graph: {name: Histogram(name) for name in (*inputs[graph], *watched[graph].tensors)} for graph in GRAPHS
    }
    for pair in pairs:
        made = watched[TEMPLATE].run({inputs[TEMPLATE][0]: pair.template})
        crop, *kernels = inputs[ORDINARY]
        found = watched[ORDINARY].run({crop: pair.search, **{name: made[name] for name in kernels}})
        for graph, tensors in ((TEMPLATE, made), (ORDINARY, found)):
            for name, histogram in histograms[graph].items():
                histogram.add(tensors[name])
    return histograms
