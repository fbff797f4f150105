"""A tracker's operators as PyTorch dispatches them, from its preset alone: no weights, no export, no arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from siamtrt.benchmarks.roofline import PLAIN_CHANNELS, Kind, Operation, Work
from siamtrt.export.calls import Call, example_inputs, graph_calls, run_calls
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.preset import Preset

PER_FRAME = ("search", "refine", "update")
POINTWISE = frozenset((
    "relu", "relu_", "add", "add_", "mul", "mul_", "sub", "div", "div_", "sigmoid", "exp", "hardtanh", "hardtanh_",
    "hardswish", "hardswish_", "hardsigmoid", "clamp", "sqrt", "rsqrt", "neg", "tanh", "pow", "leaky_relu",
    "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
))  # fmt: skip


class Recorder(TorchDispatchMode):
    """Records every operator that would launch a kernel; views pass their tensor's name on."""

    def __init__(self, constants: Iterable[Tensor]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.elements: dict[str, int] = {}
        self._constants = {id(tensor) for tensor in constants}
        self._names: dict[int, str] = {}
        self._kept: list[Tensor] = []  # so that no id is given twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs, outputs = _tensors(args), _tensors(result if isinstance(result, tuple | list) else (result,))
        self._kept += [*inputs, *outputs]
        if not outputs or not inputs:
            return result
        returns = func._schema.returns
        viewed = any(value.alias_info is not None and not value.alias_info.is_write for value in returns)
        if viewed or func._schema.name == "aten::_unsafe_view":
            self._pass_on(inputs[0], outputs)
        else:
            self._record(func._schema.name.removeprefix("aten::"), args, inputs, outputs)
        return result

    def _pass_on(self, source: Tensor, views: list[Tensor]) -> None:
        for view in views:
            if id(source) in self._constants:
                self._constants.add(id(view))
            else:
                self._names[id(view)] = self.name_of(source)

    def _record(self, op: str, args: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        reads = [tensor for tensor in inputs if id(tensor) not in self._constants]
        if not reads:
            self._constants.update(map(id, outputs))
            return
        names = tuple(self.name_of(tensor) for tensor in reads)
        kind, macs, side = _cost(op, args, outputs[0])
        if kind == "pointwise":
            outputs = outputs[:1]  # of batch norm: the others are statistics nobody reads
        for index, tensor in enumerate(outputs):
            self._names[id(tensor)] = f"t{len(self.operations)}.{index}"
        written = tuple(self.name_of(tensor) for tensor in outputs if tensor.numel())
        weights = sum(tensor.numel() for tensor in inputs if id(tensor) in self._constants)
        self.operations.append(Operation(str(len(self.operations)), op, kind, names, written, macs, weights, side))

    def name_of(self, tensor: Tensor) -> str:
        """The name of an activation, a new one for one that comes from outside."""
        name = self._names.setdefault(id(tensor), f"in{len(self._names)}")
        self.elements[name] = tensor.numel()
        return name


def _tensors(values: Any) -> list[Tensor]:
    """The tensors among arguments, also those in lists."""
    found = []
    for value in values:
        found += [value] if isinstance(value, Tensor) else _tensors(value) if isinstance(value, list | tuple) else []
    return found


def _cost(op: str, args: Any, y: Tensor) -> tuple[Kind, int, tuple[int, int]]:
    """Kind, multiply-accumulates, and rows and columns of the output."""
    if op == "convolution":
        weight, groups = args[1], args[8]
        plain = groups > 1 and weight.shape[1] < PLAIN_CHANNELS
        channels = y.shape[1]
        macs = (prod(args[0].shape) if args[6] else prod(y.shape)) * prod(weight.shape[1:])
        return "plain" if plain else "matrix", macs, (y.numel() // channels, channels)
    if op in ("mm", "bmm", "addmm"):
        left = args[1] if op == "addmm" else args[0]
        return "matrix", y.numel() * left.shape[-1], (y.numel() // y.shape[-1], y.shape[-1])
    return ("pointwise" if op.split(".")[0] in POINTWISE else "other"), 0, (1, 1)


def traced_work(preset: Preset, batch: int = 1, graphs: Iterable[str] = PER_FRAME) -> dict[str, Work]:
    """The operators of every named graph that a tracker has, as written: nothing folded, merged or hoisted.

    A network is traced on the meta device, which needs neither its weights nor time.
    """
    with torch.device("meta"), torch.no_grad():
        network = preset.build().eval().to("meta")
        calls = graph_calls(network, preset, batch)
        examples = {name: value.to("meta") for name, value in example_inputs(network).items()}
        wanted = [call for call in calls if call.graph in ("template", *graphs)]
        works: dict[str, Work] = {}
        run_calls(wanted, examples, lambda _, shape: torch.empty(shape), _tracing(network, works),
                  lambda tensor, count: torch.cat([tensor] * count))  # fmt: skip
    return {name: work for name, work in works.items() if name != "template"}


def _tracing(network: SiameseNetwork, works: dict[str, Work]) -> Callable[[Call, dict[str, Tensor]], list[Tensor]]:
    def run(call: Call, feeds: dict[str, Tensor]) -> list[Tensor]:
        constants = [*network.parameters(), *network.buffers()]
        with Recorder(constants) as recorder:
            outputs = getattr(network, call.method)(*feeds.values())
        names = frozenset(recorder.name_of(tensor) for tensor in outputs)
        works[call.graph] = Work(tuple(recorder.operations), recorder.elements, names)
        return list(outputs)

    return run
