"""A tracker's network -> its graphs as ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from onnx import ModelProto
from torch import Tensor, nn

from siamtrt.export.calls import Call, example_inputs, graph_calls, repeated, run_calls
from siamtrt.export.operator import with_operator_function
from siamtrt.export.rewrites import simplified, with_composed_pointwise, with_merged_siblings
from siamtrt.manifest import TensorSpec
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.preset import Preset


class Branch(nn.Module):
    """One method of a network as a forward pass."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return getattr(self.network, self.method)(*tensors)


@dataclass(frozen=True)
class ExportedGraph:
    """One graph with its tensors in order."""

    model: ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def export_graphs(network: SiameseNetwork, preset: Preset, batch: int = 1) -> dict[str, ExportedGraph]:
    """Export every graph of a network in evaluation mode, the search graph for `batch` targets.

    Returns:
        `{"template": ..., "search": ..., ...}`; the template's outputs are inputs of the search graphs.
    """
    graphs: dict[str, ExportedGraph] = {}

    def export(call: Call, feeds: dict[str, Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():
            outputs = getattr(network, call.method)(*feeds.values())
        graphs[call.graph] = _export(Branch(network, call.method), feeds, dict(zip(call.outputs, outputs, strict=True)))
        return outputs

    calls = graph_calls(network, preset, batch)
    run_calls(calls, example_inputs(network), lambda _, shape: torch.zeros(shape), export, repeated)
    return graphs


def _export(branch: nn.Module, inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> ExportedGraph:
    with torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            branch.eval(), tuple(inputs.values()), dynamo=True, input_names=list(inputs), output_names=list(outputs),
            verbose=False,
        )  # fmt: skip
    assert program is not None  # so it is with dynamo=True
    model = with_composed_pointwise(with_merged_siblings(simplified(program.model_proto)))
    return ExportedGraph(with_operator_function(model), _specs(inputs), _specs(outputs))


def _specs(tensors: dict[str, Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's notes on packages that Siamese trackers do not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
