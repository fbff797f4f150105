"""The PyTorch module behind the session contract: the reference every other backend is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from siamtrt.errors import BundleError
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
