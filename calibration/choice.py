"""The range of each tensor: of what the estimators propose, the one whose INT8 disturbs the tracker's outputs least."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from onnx import ModelProto, TensorProto, helper
from tqdm import tqdm

from siamtrt.calibration.evaluation import Evaluator, Tensors
from siamtrt.calibration.layers import Layer, quantised_tensors
from siamtrt.calibration.qdq import quantised, scale_of
from siamtrt.calibration.record import Range

SAME = 0.02  # thresholds closer than this share of the larger are tried once


def choose_ranges(
    evaluator: Evaluator, graph: str, model: ModelProto, layers: Iterable[Layer],
    proposed: Mapping[str, Mapping[str, float]], progress: tqdm[None] | None = None,
) -> dict[str, Range]:  # fmt: skip
    """For each tensor, quantise its layers alone with each proposed threshold and compare the graph's outputs.

    Args:
        evaluator: gives pairs and their FP32 results.
        graph: "template" or "search".
        model: that graph in FP32.
        layers: those that are to be INT8.
        proposed: thresholds of each of their tensors by estimator.
        progress: advanced by one a tensor.
    """
    layers = tuple(layers)
    ranges = {}
    for name in quantised_tensors(layers):
        candidates = _different(proposed[name])
        errors: dict[str, float] = {}
        if len(candidates) > 1:
            probe = _Probe(evaluator, graph, model, _readers(layers, name), name, proposed)
            errors = {method: probe.error(proposed[name][method]) for method in candidates}
        method = min(errors, key=errors.__getitem__) if errors else candidates[0]
        ranges[name] = Range(proposed[name][method], method, dict(proposed[name]), errors)
        if progress is not None:
            progress.update()
    return ranges


def _different(proposed: Mapping[str, float]) -> list[str]:
    """Estimators whose thresholds are not nearly another's."""
    kept: list[str] = []
    for method, value in proposed.items():
        if all(abs(value - proposed[other]) > SAME * max(value, proposed[other]) for other in kept):
            kept.append(method)
    return kept


def _readers(layers: Iterable[Layer], name: str) -> list[Layer]:
    """The layers that need a tensor in INT8; their other operands stay as they are where that can be."""
    inputs = [dataclasses.replace(layer, skip=None) for layer in layers if layer.input == name]
    return inputs or [layer for layer in layers if layer.skip == name]


class _Probe:
    """A graph with one tensor's layers in INT8, the tensor's scale an input."""

    def __init__(
        self, evaluator: Evaluator, graph: str, model: ModelProto, layers: list[Layer], name: str,
        proposed: Mapping[str, Mapping[str, float]],
    ) -> None:  # fmt: skip
        widest = {tensor: max(values.values()) for tensor, values in proposed.items()}
        probed = quantised(model, layers, widest)
        pairs = {node.input[0]: node.input[1] for node in probed.graph.node if node.op_type == "QuantizeLinear"}
        self._scale = pairs[name]
        probed.graph.input.append(helper.make_tensor_value_info(self._scale, TensorProto.FLOAT, []))
        self._evaluator, self._graph = evaluator, graph
        self._session = evaluator.raw_session(probed)
        self._outputs = [value.name for value in model.graph.output]

    def error(self, threshold: float) -> float:
        """Mean over pairs and outputs of the squared error as a share of the output's variance."""
        return float(np.mean([self._error(*case, threshold) for case in self._evaluator.cases(self._graph)]))

    def _error(self, feeds: Tensors, exact: Tensors, threshold: float) -> float:
        found = self._session.run(self._outputs, {**feeds, self._scale: scale_of(threshold)})
        return float(np.mean([_share(exact[name], value) for name, value in zip(self._outputs, found, strict=True)]))


def _share(exact: np.ndarray, found: np.ndarray) -> float:
    spread = float(exact.var())
    error = float(np.square(found - exact, dtype=np.float64).mean())
    return error / spread if spread else error
