"""Whole updates on a GPU: the device's tracker beside eager PyTorch with crop and decoding on the CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from siamtrt.benchmarks.gpu import milliseconds
from siamtrt.export.calls import Call, example_inputs, graph_calls, repeated, run_calls
from siamtrt.kernels.launch import Buffer, Device
from siamtrt.manifest import GraphSpec, Manifest, Source, TensorSpec
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.preset import Preset
from siamtrt.models.presets import get_preset
from siamtrt.models.seeded import seeded_network
from siamtrt.runtime.device import DeviceTracker
from siamtrt.runtime.torch_session import TorchDeviceSession, TorchSession
from siamtrt.runtime.tracker import Tracker

TRACKERS = ("siamrpn_alex_dwxcorr", "siamrpn_mobilev2_l234_dwxcorr", "siamrpn_r50_l234_dwxcorr")
PAPER_OF = {"siamrpn_alex_dwxcorr": "siamrpn_alex"}  # whose figure stands beside ours where a preset has none
SLOTS = (1, 4, 16, 64)
STAGES, STAGE_RUNS = ("crop_ms", "network_ms", "decode_ms"), 20
FRAME_SIZE = (1280, 720)


@dataclasses.dataclass(frozen=True)
class UpdateTime:
    """Median milliseconds of an update of `slots` targets, and of the eager FP32 tracker's update of one.

    Attributes:
        eager_stages: median milliseconds of the eager tracker's crop, network and decoding.
        paper: a published speed: "fps", "hardware" and "source".
        bytes_up, bytes_down: copied to and from the device in one update.
    """

    tracker: str
    dtype: str
    slots: int
    device_ms: float
    eager_ms: float
    eager_stages: dict[str, float]
    paper: dict[str, Any] | None
    bytes_up: int
    bytes_down: int


class Traffic:
    """A device that counts what is copied to and from it while frames are tracked.

    Attributes:
        up, down: bytes.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.up = self.down = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def upload(self, array: np.ndarray) -> Buffer:
        """See `Device.upload`."""
        self.up += array.nbytes
        return self._device.upload(array)

    def send(self, source: np.ndarray, target: Buffer) -> None:
        """See `Device.send`."""
        self.up += source.nbytes
        self._device.send(source, target)

    def fetch(self, source: Buffer, target: np.ndarray) -> Callable[[], None]:
        """See `Device.fetch`."""
        self.down += target.nbytes
        return self._device.fetch(source, target)


def manifest_of(network: SiameseNetwork, preset: Preset, batch: int = 1, dtype: str = "float32") -> Manifest:
    """A manifest without a bundle: tensors as the network gives them, no files, no parity.

    Args:
        dtype: of every tensor.
    """
    graphs: dict[str, GraphSpec] = {}

    def run(call: Call, feeds: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            outputs = getattr(network, call.method)(*feeds.values())
        named = dict(zip(call.outputs, outputs, strict=True))
        sides = ({key: tuple(value.shape) for key, value in side.items()} for side in (feeds, named))
        inputs, found = (tuple(TensorSpec(key, shape, dtype) for key, shape in side.items()) for side in sides)
        graphs[call.graph] = GraphSpec(f"{call.graph}.none", "0" * 64, inputs, found)
        return list(outputs)

    calls = graph_calls(network, preset, batch)
    run_calls(calls, example_inputs(network), lambda _, shape: torch.zeros(shape), run, repeated)
    return Manifest(
        preset.name, preset.paper, Source("none", "0" * 64), graphs, preset.preprocessing, preset.decoding,
        preset.tracking, {"none": 0.0}, {}, strategies=preset.strategies, batch=batch,
    )  # fmt: skip


def device_tracker(device: Device, name: str, batch: int, half: bool, where: str = "cuda") -> DeviceTracker:
    """The device's tracker of a preset with seeded weights, its network in PyTorch."""
    preset = get_preset(name)
    network = seeded_network(preset)
    manifest = manifest_of(network, preset, batch, "float16" if half else "float32")
    module = (network.half() if half else network).to(where)
    sessions = {graph: TorchDeviceSession(module, graph, spec, device) for graph, spec in manifest.graphs.items()}
    return DeviceTracker(manifest, device, sessions)


def eager_tracker(name: str, where: str = "cuda") -> Tracker:
    """The ordinary tracker of a preset with the same weights, its network in eager PyTorch, FP32."""
    preset = get_preset(name)
    network = seeded_network(preset)
    manifest = manifest_of(network, preset)
    sessions = {graph: TorchSession(network, graph, spec, where) for graph, spec in manifest.graphs.items()}
    return Tracker(manifest, sessions)


def time_updates(
    device: Device, name: str, half: bool, slots: tuple[int, ...] = SLOTS, where: str = "cuda"
) -> list[UpdateTime]:
    """Updates on a random 1280x720 frame in host memory, which every update uploads."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (FRAME_SIZE[1], FRAME_SIZE[0], 3), dtype=np.uint8)
    with eager_tracker(name, where) as eager:
        eager.init(frame, (600, 300, 80, 60))
        eager_ms = milliseconds(device, lambda: eager.update(frame), repeat=1)
        stages = _stages(eager, frame)
    times = []
    for count in slots:
        traffic = Traffic(device)
        tracker = device_tracker(cast(Device, traffic), name, count, half, where)
        for index in range(count):
            tracker.add(frame, (100 + 15 * index, 100 + 8 * index, 80, 60))
        took = milliseconds(device, lambda tracker=tracker: tracker.update(frame), repeat=1)  # type: ignore[misc]
        traffic.up = traffic.down = 0
        tracker.update(frame)
        dtype = "float16" if half else "float32"
        times.append(
            UpdateTime(name, dtype, count, took, eager_ms, stages, _paper(name), traffic.up, traffic.down)
        )
        tracker.close()
    return times


def _stages(tracker: Tracker, frame: np.ndarray) -> dict[str, float]:
    rows = [tracker.update(frame).times for _ in range(STAGE_RUNS)]
    return {stage: float(np.median([getattr(row, stage) for row in rows])) for stage in STAGES}


def _paper(name: str) -> dict[str, Any] | None:
    figure = get_preset(PAPER_OF.get(name, name)).paper_figure
    return dataclasses.asdict(figure) if figure else None
