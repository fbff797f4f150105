"""The PyTorch module behind the session contracts: the reference every other backend is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from siamtrt.errors import BundleError
from siamtrt.kernels.launch import Buffer, Device
from siamtrt.manifest import GraphSpec, Manifest
from siamtrt.models.checkpoints import load_network
from siamtrt.models.network import method_of
from siamtrt.runtime.session import CheckedSession, Feeds


class TorchSession(CheckedSession):
    """One branch of a module in evaluation mode, on the CPU or a GPU.

    Args:
        module: a `SiameseNetwork`.
        graph: name of one of its graphs.
        spec: its tensors, from the manifest.
        device: where to run.
    """

    def __init__(self, module: nn.Module, graph: str, spec: GraphSpec, device: str = "cpu") -> None:
        super().__init__(graph, "torch", spec)
        self._device = device
        self._branch = getattr(module.to(device).eval(), method_of(graph))

    def _run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            arrays = [np.ascontiguousarray(feeds[spec.name]) for spec in self.inputs]  # torch takes no negative strides
            results = self._branch(*(torch.from_numpy(array).to(self._device) for array in arrays))
        return {spec.name: result.cpu().numpy() for spec, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        super().close()
        self._branch = None


class TorchDeviceSession:
    """One branch of a network that reads and writes buffers; on a GPU, in the order of the device's stream.

    Args:
        module: a `SiameseNetwork` in evaluation mode, on the device the memory is on.
        graph: name of one of its graphs.
        spec: its tensors, from the manifest.
        device: gives the memory and, on a GPU, the stream.
    """

    def __init__(self, module: nn.Module, graph: str, spec: GraphSpec, device: Device) -> None:
        self._branch = getattr(module, method_of(graph))
        self._device = device
        stream = getattr(device, "stream", None)  # CuPy's, where the memory is a GPU's
        self._stream = torch.cuda.ExternalStream(stream.ptr) if stream is not None else None
        self.inputs: Mapping[str, Buffer] = {t.name: device.upload(np.zeros(t.shape, t.dtype)) for t in spec.inputs}
        self.outputs: Mapping[str, Buffer] = {t.name: device.empty(t.shape, t.dtype) for t in spec.outputs}
        self._given = [tensor_of(buffer) for buffer in self.inputs.values()]
        self._wanted = [tensor_of(buffer) for buffer in self.outputs.values()]

    def run(self) -> None:
        """See `DeviceSession.run`."""
        self._device.enqueue(self._forward)

    def _forward(self) -> None:
        with torch.inference_mode(), torch.cuda.stream(self._stream) if self._stream else nullcontext():
            for wanted, result in zip(self._wanted, self._branch(*self._given), strict=True):
                wanted.copy_(result)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `DeviceSession.capture`: PyTorch's own capture, which keeps the memory it allocates meanwhile."""
        if self._stream is None:
            return self._device.capture(work)
        graph, stream = torch.cuda.CUDAGraph(), self._stream
        with torch.cuda.graph(graph, stream=stream):
            work()

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay

    def close(self) -> None:
        """See `DeviceSession.close`."""
        self._branch, self._given, self._wanted = None, [], []


def tensor_of(buffer: Any) -> Tensor:
    """A tensor on a buffer's own memory, by its `__cuda_array_interface__` or `__array_interface__`."""
    if hasattr(buffer, "__cuda_array_interface__"):
        return torch.as_tensor(buffer, device="cuda")
    return torch.from_numpy(np.asarray(buffer))


def load_module(manifest: Manifest, checkpoint: Path | str | None, threads: int | None = None) -> nn.Module:
    """The network of the checkpoint a bundle came from; `threads` sets PyTorch's process-wide count.

    Raises:
        BundleError: no checkpoint given, or another one than the bundle records.
        CheckpointError: see `load_network`.
    """
    wanted = manifest.source
    if checkpoint is None:
        raise BundleError(
            "the torch backend runs the checkpoint", received="none", expected=wanted.checkpoint,
            fix=f"pass checkpoint=... (on the command line --checkpoint {wanted.checkpoint})",
        )
    network = load_network(checkpoint, manifest.model)
    if network.sha256 != wanted.sha256:
        raise BundleError(
            "not the bundle's checkpoint", received=f"{checkpoint}, sha256 {network.sha256[:12]}",
            expected=f"{wanted.checkpoint}, sha256 {wanted.sha256[:12]}", fix="pass that file, or export this one",
        )
    if threads:
        torch.set_num_threads(threads)
    return network.module
