"""`torchrun train_ranks.py CONFIG FOLDER`: train, and keep what each process ends with as FOLDER/<rank>.pt."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from siamtrt.training.config import load_config
from siamtrt.training.loop import Run
from siamtrt.training.processes import joined_processes

if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined_processes("cpu") as processes:
        run = Run(load_config(Path(sys.argv[1])), 0, "cpu", processes)
        run.train(progress=False)
    torch.save(run.net.state_dict(), Path(sys.argv[2]) / f"{processes.rank}.pt")
