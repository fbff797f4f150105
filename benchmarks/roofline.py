"""How long a network takes on a GPU it was never run on: a roofline a fused layer, and an overhead a launch.

A layer that TensorRT runs as one kernel takes the longer of its arithmetic and its memory traffic, and the overhead of
a kernel besides (Williams et al., "Roofline", CACM 2009). Two global efficiencies and one overhead, nothing a layer or
a device: see `Model`. Activations that stay in the L2 cache are charged as memory, so small networks on large GPUs are
predicted too slow rather than too fast.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from siamtrt.benchmarks.devices import Device, Precision

Kind = Literal["matrix", "plain", "pointwise", "other"]
Bound = Literal["compute", "memory", "launch"]
BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
PLAIN_CHANNELS = 8  # a group of fewer input channels does not fill a tensor core's product


@dataclass(frozen=True)
class Model:
    """The constants of the prediction.

    Attributes:
        compute: share of the peak rate that a layer reaches whose blocks fill every SM. 0.6: the best kernels of cuDNN
            and TensorRT keep 60 to 80 % of it, thin layers less; the 36 frames/s that NVIDIA gives for ResNet-50 with
            TensorRT on a Jetson Nano (from memory) are 36 x 2 x 4.1 GMAC of 472 GFLOPS, 0.63.
        memory: share of the data sheet's bandwidth that a stream reaches. 0.75: desktop cards copy at 0.8 to 0.9 of it,
            Jetsons, whose CPU shares the memory, at 0.6 to 0.8 (from memory).
        launch_cycles: of the SMs' clock, from one kernel's last block to the next one's first full wave. 3000 are 2 us
            at 1.5 GHz, what a short kernel of a CUDA graph takes beyond its work (assumed, not measured).
        tile: rows and columns of the output that one block computes. 64, the middle of the usual 32 to 128. The last
            wave of blocks leaves SMs idle.
    """

    compute: float = 0.6
    memory: float = 0.75
    launch_cycles: float = 3000
    tile: int = 64


DEFAULT_MODEL = Model()


@dataclass(frozen=True)
class Operation:
    """One operator of a graph.

    Attributes:
        kind: "matrix" for dense products, which tensor cores take; "plain" for depthwise ones, which they do not;
            "pointwise" for what fuses into the operator before it; "other" for pooling, softmax, copies.
        macs: multiply-accumulates.
        reads, writes: names of activations.
        weights: elements of constants.
        side: rows (positions) and columns (channels) of the output of a matrix product.
        precision: what the graph asks of this operator, or None for the precision of the run.
    """

    name: str
    op: str
    kind: Kind
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    macs: int = 0
    weights: int = 0
    side: tuple[int, int] = (1, 1)
    precision: Precision | None = None

    def with_precision(self, precision: Precision) -> Operation:
        """The same, asked for in a precision."""
        return dataclasses.replace(self, precision=precision)


@dataclass(frozen=True)
class Work:
    """The operators of one inference in order, and the elements of every activation."""

    operations: tuple[Operation, ...]
    elements: Mapping[str, int]
    outputs: frozenset[str] = frozenset()

    @property
    def macs(self) -> int:
        return sum(operation.macs for operation in self.operations)


@dataclass(frozen=True)
class Group:
    """Operators that are one kernel, the first of which gives its kind and name.

    Attributes:
        read, written: elements of activations from and to memory.
    """

    operations: tuple[Operation, ...]
    read: int
    written: int

    @property
    def first(self) -> Operation:
        return self.operations[0]

    @property
    def name(self) -> str:
        """The operators' types, "Conv+Relu", and the first one's name."""
        return f"{'+'.join(operation.op for operation in self.operations)} {self.first.name}"

    @property
    def macs(self) -> int:
        return sum(operation.macs for operation in self.operations)

    @property
    def weights(self) -> int:
        return sum(operation.weights for operation in self.operations)


def fused(work: Work) -> tuple[Group, ...]:
    """Groups as TensorRT fuses them: what is pointwise joins the product or pointwise operator that feeds it alone.

    Convolution + batch norm + activation + residual sum become one kernel, as do chains of pointwise operators. The
    size must stay: a gate of one value a channel is multiplied in a kernel of its own. Where both sides of a sum could
    take it, the later one does: the earlier's output is finished then.
    Source: the layer fusion catalog, docs.nvidia.com/deeplearning/tensorrt/latest/performance/fusion-catalog.html
    """
    readers = _readers(work.operations)
    groups: list[list[Operation]] = []
    home: dict[str, int] = {}
    for operation in work.operations:
        open_ends = [home[name] for name in operation.reads
                     if name in home and readers[name] == 1 and name not in work.outputs
                     and groups[home[name]][0].kind != "other"
                     and work.elements[name] == _elements(operation.writes, work)]  # fmt: skip
        if operation.kind == "pointwise" and open_ends:
            index = max(open_ends)
            groups[index].append(operation)
        else:
            index = len(groups)
            groups.append([operation])
        home.update(dict.fromkeys(operation.writes, index))
    return tuple(_group(members, work, readers) for members in groups)


def unfused(work: Work) -> tuple[Group, ...]:
    """A group an operator, as eager PyTorch runs them."""
    readers = _readers(work.operations)
    return tuple(_group([operation], work, readers) for operation in work.operations)


def _readers(operations: Iterable[Operation]) -> Counter[str]:
    """How many operators read each tensor."""
    return Counter(name for operation in operations for name in set(operation.reads))


def _group(members: Sequence[Operation], work: Work, readers: Counter[str]) -> Group:
    """What its operators hand to each other stays in registers; what nobody reads is not written."""
    inside = {name for operation in members for name in operation.writes}
    within = _readers(members)
    read = within.keys() - inside
    written = {name for name in inside if name in work.outputs or readers[name] > within[name]}
    return Group(tuple(members), _elements(read, work), _elements(written, work))


def _elements(names: Iterable[str], work: Work) -> int:
    return sum(work.elements[name] for name in names)


@dataclass(frozen=True)
class GroupTime:
    """Milliseconds of one group, by arithmetic, memory traffic and overhead of the launch; and its traffic in bytes."""

    group: Group
    precision: Precision
    bytes_moved: int
    compute_ms: float
    memory_ms: float
    launch_ms: float

    @property
    def ms(self) -> float:
        return max(self.compute_ms, self.memory_ms) + self.launch_ms

    @property
    def bound(self) -> Bound:
        """Which of the three is largest."""
        parts: dict[Bound, float] = {
            "compute": self.compute_ms, "memory": self.memory_ms, "launch": self.launch_ms
        }  # fmt: skip
        return max(parts, key=lambda name: parts[name])


def group_time(group: Group, device: Device, precision: Precision, model: Model = DEFAULT_MODEL) -> GroupTime:
    """The time of a group on a device at its highest clock.

    Args:
        precision: of the run; an operator's own comes first. In an INT8 run what multiplies is INT8 and the rest FP16.
            Where the device has no kernels of a precision, the next wider one it has is taken.
    """
    used = device.effective(_precision(group.first, precision))
    rate = device.peak("fp32" if group.first.kind != "matrix" else used) * model.compute
    compute = group.macs / (rate * _occupancy(group.first, device, model))
    moved = BYTES[used] * (group.read + group.written + group.weights)
    memory = moved / (device.bandwidth_gbs * 1e9 * model.memory)
    launch = model.launch_cycles / (device.clock_mhz * 1e6)
    return GroupTime(group, used, moved, 1e3 * compute, 1e3 * memory, 1e3 * launch)


def _precision(operation: Operation, run: Precision) -> Precision:
    if operation.precision is not None and run != "fp32":
        return operation.precision
    return "fp16" if run == "int8" and operation.kind not in ("matrix", "plain") else run


def _occupancy(operation: Operation, device: Device, model: Model) -> float:
    """Share of the SMs that a matrix product's blocks keep busy, the last wave included; others fill them all."""
    if operation.kind != "matrix":
        return 1.0
    rows, columns = operation.side
    blocks = -(-rows // model.tile) * -(-columns // model.tile)
    return blocks / (-(-blocks // device.sms) * device.sms)


def times(
    groups: Iterable[Group], device: Device, precision: Precision, model: Model = DEFAULT_MODEL
) -> tuple[GroupTime, ...]:
    """`group_time` of every group; its sum is the prediction."""
    return tuple(group_time(group, device, precision, model) for group in groups)


def bound_shares(rows: Sequence[GroupTime]) -> dict[Bound, float]:
    """What share of the whole time is spent in groups bound by compute, memory and launch."""
    whole = sum(row.ms for row in rows)
    return {bound: sum(row.ms for row in rows if row.bound == bound) / whole if whole else 0.0
            for bound in ("compute", "memory", "launch")}  # fmt: skip


def renamed(work: Work, prefix: str) -> Work:
    """The same work with the graph's name before every operator's, for reports of several graphs."""
    operations = (dataclasses.replace(operation, name=f"{prefix}/{operation.name}") for operation in work.operations)
    return dataclasses.replace(work, operations=tuple(operations))
