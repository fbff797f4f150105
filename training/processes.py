"""The processes that train together, and the wish to stop that they share."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from siamtrt.errors import TrainingError


@dataclass(frozen=True)
class Processes:
    """This process among those of a `torchrun`; alone without one."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0


def chosen_device(name: str | None) -> str:
    """ "cuda" or "cpu"; by what there is for None and "auto".

    Raises:
        TrainingError: CUDA is asked for where there is none.
    """
    there_is = torch.cuda.is_available()
    if name == "cuda" and not there_is:
        raise TrainingError(
            "no GPU to train on", received="--device cuda, which this PyTorch does not see", expected="a CUDA device",
            fix="use --device cpu, or install a PyTorch built for CUDA; `siamtrt doctor` lists what is there",
        )
    return name if name in ("cuda", "cpu") else "cuda" if there_is else "cpu"


@contextlib.contextmanager
def joined_processes(device: str | None = None) -> Iterator[Processes]:
    """Those of the `torchrun` this is in, each with a GPU of its own on "cuda"; see `chosen_device`.

    Raises:
        TrainingError: more processes on this machine than it has GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    on_gpu = chosen_device(device) == "cuda"
    if on_gpu:
        index = int(os.environ["LOCAL_RANK"])
        if index >= torch.cuda.device_count():
            raise TrainingError(
                "more processes than GPUs", received=f"process {index} with {torch.cuda.device_count()} GPUs",
                expected="one GPU a process", fix="lower torchrun's --nproc-per-node",
            )  # fmt: skip
        torch.cuda.set_device(index)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def share_means(net: nn.Module, figures: Tensor, processes: Processes) -> Tensor:
    """Put the mean over the processes into every gradient, in one message, and return that of the (F,) figures."""
    if processes.count == 1:
        return figures
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), figures])
    dist.all_reduce(flat)
    flat /= processes.count
    *means, figures = flat.split([*(gradient.numel() for gradient in gradients), len(figures)])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    return figures


class StopRequest:
    """A context in which Ctrl-C or SIGTERM sets `made`, so that a step ends whole; a second one interrupts."""

    def __init__(self) -> None:
        self.made = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # signals are its alone
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.made:
            raise KeyboardInterrupt
        self.made = True
