"""Training from a config to weights: `siamtrt train`. A killed run goes on to the same weights."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from siamtrt.errors import TrainingError
from siamtrt.models.network import SiameseNetwork
from siamtrt.training.batches import Batch, batches, collated
from siamtrt.training.checks import checked
from siamtrt.training.config import Config
from siamtrt.training.curve import Curve
from siamtrt.training.losses import head_loss
from siamtrt.training.processes import Processes, StopRequest, chosen_device, share_means
from siamtrt.training.schedule import optimiser_of, prepare_step
from siamtrt.training.snapshots import bad_snapshot, load_snapshot, save_snapshot
from siamtrt.training.starting import preset_with_anchors, samplers, started
from siamtrt.training.weights import save_weights

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.safetensors"
GRADIENT_NORM = 10.0


@dataclass(frozen=True)
class Outcome:
    """Of one step, over all processes: both losses, and whether one of them was asked to stop."""

    cls_loss: float
    loc_loss: float
    stops: bool

    @property
    def loss(self) -> float:
        return self.cls_loss + self.loc_loss


class Pace:
    """Pairs a second since the first batch came, and the share of that time spent waiting for batches."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.waited, self.pairs = 0.0, 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a batch; the first, for which workers have to start, does not count."""
        asked = time.monotonic()
        yield
        now = time.monotonic()
        if self.began is None:
            self.began = now
        else:
            self.waited += now - asked

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - (self.began or math.inf), 1e-9)

    @property
    def rate(self) -> float:
        return self.pairs / self.seconds

    def __str__(self) -> str:
        return f"{self.rate:.1f} pairs/s, waiting {self.waited / self.seconds:.0%}"


class Run:
    """One training run in this process.

    Args:
        config: see `Config`.
        workers: processes that draw pairs; 0 draws in this one. The weights are the same at any number.
        device: of the network, "cuda" or "cpu"; by what there is for None.
        processes: see `Processes`. BatchNorm's statistics are each process's own, as is a loss's mean over anchors.
        fresh: begin anew where there is a checkpoint.

    Raises:
        TrainingError: a preset without anchors, unusable data, a checkpoint of another config.
    """

    def __init__(
        self, config: Config, workers: int = 1, device: str | None = None, processes: Processes | None = None,
        fresh: bool = False,
    ) -> None:  # fmt: skip
        self.config, self.workers, self.processes = config, workers, processes or Processes()
        self.device = torch.device(chosen_device(device))
        self.folder = Path(config.output)
        if config.batch % self.processes.count:
            raise TrainingError(
                "a batch that does not divide", received=f"{config.batch} pairs for {self.processes.count} processes",
                expected="a multiple", fix="change `batch` in the config",
            )  # fmt: skip
        state = None if fresh else load_snapshot(self.folder / CHECKPOINT, config, self.device)
        torch.manual_seed(config.seed)
        net = started(preset_with_anchors(config.model), "none" if state else config.init)
        self.net = net.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = optimiser_of(self.net, config)
        self.sampler, self.check_sampler = samplers(config)
        self.average = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.step = 0
        self.recent: list[list[float]] = []
        if state is not None:
            self._restore(state)

    @property
    def complete(self) -> bool:
        """Whether the last step has been done."""
        return self.step >= self.config.schedule.steps

    @functools.cached_property
    def held(self) -> Batch:
        """The pairs of every check."""
        return collated([self.check_sampler[number] for number in range(self.config.check_pairs)])

    def train(self, progress: bool = True) -> Path:
        """Run to the last step, or until Ctrl-C or SIGTERM, which end after the step in hand or the next and save.

        Returns:
            The file of weights.

        Raises:
            TrainingError: a loss that is not finite; what was saved before stays.
        """
        leads, steps = self.processes.leads, self.config.schedule.steps
        self.folder.mkdir(parents=True, exist_ok=True)
        curve = Curve(self.folder, self.step)
        pace, stops = Pace(), False
        ahead = batches(self.sampler, self.config.batch, range(self.step, steps), self.workers, self.processes)
        bar = tqdm(total=steps, initial=self.step, unit="step", disable=None if progress and leads else True)
        with StopRequest() as stop, contextlib.closing(ahead), bar:
            while not (self.complete or stops):
                with pace.waiting():
                    batch = next(ahead)
                outcome = self.train_step(batch, stop)
                self.step, stops = self.step + 1, outcome.stops
                self.recent.append([outcome.cls_loss, outcome.loc_loss])
                pace.pairs += self.config.batch
                bar.update()
                bar.set_postfix_str(f"{pace}, loss {outcome.loss:.3f}", refresh=False)
                if leads and (self.complete or self.step % self.config.check_every == 0):
                    self._check(curve, pace, bar)
                if leads and (self.complete or stops or self.step % self.config.save_every == 0):
                    self.save()
        return self.folder / WEIGHTS

    def train_step(self, batch: Batch, stop: StopRequest | None = None) -> Outcome:
        """One update, the processes' gradients taken together.

        Raises:
            TrainingError: a loss that is not finite.
        """
        prepare_step(self.net, self.optimiser, self.step, self.config)
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            cls, loc = self.net.search(batch.search, *self.net.template(batch.template))
        rules = self.config
        parts = head_loss(
            cls, loc, batch.labels, batch.offsets, rules.loc_weight, rules.smooth_l1, rules.pairs.hardest
        )
        self.optimiser.zero_grad(set_to_none=True)
        (parts[0] + parts[1]).backward()
        asked = parts[0].new_tensor(float(stop is not None and stop.made))
        figures = torch.stack([*parts, asked]).detach()
        figures = share_means(self.net, figures, self.processes)
        nn.utils.clip_grad_norm_(self.net.parameters(), GRADIENT_NORM)
        self.optimiser.step()
        self._take_average()
        cls_loss, loc_loss, stops = figures.tolist()
        if not math.isfinite(cls_loss + loc_loss):
            raise TrainingError(
                "training diverged", received=f"loss {cls_loss} + {loc_loss} at step {self.step}",
                expected="finite losses", fix="lower `schedule.rate` or lengthen `schedule.warm_up`",
            )
        return Outcome(cls_loss, loc_loss, stops > 0)

    @torch.no_grad()
    def _take_average(self) -> None:
        """The running mean of weights and statistics, faster at the start so that the first weights are forgotten."""
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        for name, value in self.net.state_dict().items():
            kept = self.average[name]
            if value.is_floating_point():
                kept.lerp_(value, 1 - decay)
            else:
                kept.copy_(value)

    def averaged(self) -> SiameseNetwork:
        """The network with the weights that are kept, ready to track."""
        net = preset_with_anchors(self.config.model).build()
        net.load_state_dict(self.average)
        return net.eval().to(self.device)

    def _check(self, curve: Curve, pace: Pace, bar: Any) -> None:
        cls, loc = np.mean(self.recent, axis=0)
        held_cls, held_loc, overlap = checked(
            self.averaged(), self.held.to(self.device), self.sampler.anchors, self.config.loc_weight,
            self.config.smooth_l1, self.config.pairs.hardest,
        )  # fmt: skip
        rate = self.optimiser.param_groups[0]["lr"]
        curve.add((self.step, rate, cls, loc, held_cls, held_loc, overlap, pace.rate))
        self.recent = []
        bar.write(
            f"step {self.step}: loss {cls:.3f} + {loc:.3f}, held back {held_cls:.3f} + {held_loc:.3f}, "
            f"IoU of the best box {overlap:.3f}, {pace}", file=sys.stderr,
        )  # fmt: skip

    def save(self) -> None:
        """Write the weights, then what resumes the run; each whole or not at all."""
        save_weights(self.average, self.folder / WEIGHTS)
        state = {
            "step": self.step, "net": self.net.state_dict(), "optimiser": self.optimiser.state_dict(),
            "average": self.average, "recent": self.recent,
        }  # fmt: skip
        save_snapshot(state, self.config, self.folder / CHECKPOINT)

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; older ones lack "recent"."""
        try:
            for name in ("average", "net"):  # the first only to see that it fits
                self.net.load_state_dict(state[name])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average, self.step, self.recent = state["average"], int(state["step"]), state.get("recent", [])
        except Exception as error:  # whatever a file that another program wrote may hold
            raise bad_snapshot(self.folder / CHECKPOINT, error) from error
