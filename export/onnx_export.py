"""A tracker module -> its template and search graphs as ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from onnx import ModelProto
from torch import Tensor, nn

from siamtrt.export.operator import with_operator_function
from siamtrt.export.rewrites import simplified, with_composed_pointwise, with_merged_siblings
from siamtrt.manifest import TensorSpec

OUTPUTS = ("cls", "loc")


class Branch(nn.Module):
    """One method of a module, "template" or "search", as a forward pass."""

    def __init__(self, module: nn.Module, graph: str) -> None:
        super().__init__()
        self.module, self.graph = module, graph

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return getattr(self.module, self.graph)(*tensors)


@dataclass(frozen=True)
class ExportedGraph:
    """One graph with its tensors in order."""

    model: ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def export_split(module: nn.Module, template_size: int, search_size: int) -> dict[str, ExportedGraph]:
    """Export both branches of a module in evaluation mode, batch 1.

    Args:
        module: `template(z) -> kernels` and `search(x, *kernels) -> (cls, loc)`.
        template_size, search_size: sides of the crops in pixels.

    Returns:
        `{"template": ..., "search": ...}`; the template's outputs are the search graph's later inputs.
    """
    z = torch.zeros(1, 3, template_size, template_size)
    x = torch.zeros(1, 3, search_size, search_size)
    with torch.no_grad():
        kernels = module.template(z)  # type: ignore[operator]
        outputs = module.search(x, *kernels)  # type: ignore[operator]
    names = [f"kernel{index}" for index in range(len(kernels))]
    return {
        "template": _export(Branch(module, "template"), (z,), ("z",), kernels, names),
        "search": _export(Branch(module, "search"), (x, *kernels), ("x", *names), outputs, OUTPUTS),
    }


def _export(
    branch: nn.Module, inputs: tuple[Tensor, ...], input_names: tuple[str, ...], outputs: tuple[Tensor, ...],
    output_names: list[str] | tuple[str, ...],
) -> ExportedGraph:  # fmt: skip
    with torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            branch.eval(), inputs, dynamo=True, input_names=list(input_names), output_names=list(output_names),
            verbose=False,
        )  # fmt: skip
    assert program is not None  # so it is with dynamo=True
    model = with_composed_pointwise(with_merged_siblings(simplified(program.model_proto)))
    return ExportedGraph(with_operator_function(model), _specs(input_names, inputs), _specs(output_names, outputs))


def _specs(names: list[str] | tuple[str, ...], tensors: tuple[Tensor, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, tuple(tensor.shape)) for name, tensor in zip(names, tensors, strict=True))


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
