"""Train the placeholder tracker for minutes on rendered scenes: `python -m siamtrt.training.placeholder`.

The weights show the pipeline on a fresh clone; they are nothing to deploy.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import click
import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]

from siamtrt.models.presets import Preset, get_preset
from siamtrt.models.siamrpnpp import SiamRPNpp
from siamtrt.runtime.crop import context_side, mean_colour, subwindow
from siamtrt.runtime.decode import anchor_grid
from siamtrt.runtime.state import state_from_box
from siamtrt.tracking import AnchorDecoding
from siamtrt.training.batches import Batch, collated
from siamtrt.training.checks import checked
from siamtrt.training.losses import head_loss
from siamtrt.training.scenes import TRAINING_PHOTOS, Scene, make_scene
from siamtrt.training.targets import assign_anchors
from siamtrt.training.weights import save_weights


@dataclass(frozen=True)
class Recipe:
    """How the placeholder is trained.

    `shift` is the largest offset of the target from the search crop's centre, in crop pixels, drawn uniformly
    (SiamRPN++, sec. 3.1: 64). `log_scale` and `template_jitter` are the largest changes of the search side (as a
    logarithm) and of the template's box (as a share of its sides). `negatives` is the share of pairs whose
    template shows another object. `loc_weight` balances the losses (SiamRPN, eq. 5; pysot: 1.2), `smooth_l1` is
    where the regression loss turns linear (eq. 4). `warm_up` is a share of the time. A scene is up to `span` frames
    long.
    """

    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 1e-3
    warm_up: float = 0.05
    loc_weight: float = 1.2
    smooth_l1: float = 1 / 9
    shift: float = 64.0
    log_scale: float = 0.18
    template_jitter: float = 0.04
    negatives: float = 0.2
    pairs_per_scene: int = 4
    span: int = 150
    sizes: tuple[tuple[int, int], ...] = ((640, 360), (480, 360), (480, 270))
    check_every: int = 150
    check_pairs: int = 96


class PairSampler:
    """Pairs of crops from rendered scenes, cut as the tracker cuts them, with the target away from the centre.

    Args:
        rng: of scenes, frames, shifts and the choice of anchors.
        preset: an anchor-based tracker; gives crop sizes, context and anchors.
        recipe: the jitter.
    """

    def __init__(self, rng: np.random.Generator, preset: Preset, recipe: Recipe) -> None:
        if not isinstance(preset.decoding, AnchorDecoding):
            raise TypeError(f"{preset.name} has no anchors")
        self.rng, self.crop, self.recipe = rng, preset.preprocessing, recipe
        self.anchors = anchor_grid(preset.decoding)
        self._uses = 0
        self._scene = self._fresh_scene()
        self._other_template = self._template(self._scene, 0)

    def batch(self, count: int) -> Batch:
        """Draw `count` pairs."""
        return collated([self._pair() for _ in range(count)]).to(torch.device("cpu"))

    def _fresh_scene(self) -> Scene:
        size = self.recipe.sizes[self.rng.integers(len(self.recipe.sizes))]
        return make_scene(int(self.rng.integers(2**62)), size, TRAINING_PHOTOS)

    def _pair(self) -> tuple[np.ndarray, ...]:
        if self._uses == self.recipe.pairs_per_scene:
            self._other_template = self._template(self._scene, 0)
            self._scene, self._uses = self._fresh_scene(), 0
        self._uses += 1
        matches = self.rng.random() >= self.recipe.negatives
        first, second = (int(index) for index in self.rng.integers(self.recipe.span, size=2))
        template = self._template(self._scene, first) if matches else self._other_template
        search, box = self._search(self._scene, second)
        labels, offsets = assign_anchors(self.anchors, box, self.rng, matches=matches)
        return template, search, labels, offsets, box.astype(np.float32)

    def _template(self, scene: Scene, index: int) -> np.ndarray:
        x, y, width, height = scene.box(index)
        dx, dy, dw, dh = self.rng.uniform(-1, 1, 4) * self.recipe.template_jitter * np.array([width, height] * 2)
        frame = scene.frame(index)
        state = state_from_box((x + dx - dw / 2, y + dy - dh / 2, width + dw, height + dh))
        side = max(1, round(context_side(state.size_wh, self.crop.context_amount)))
        return subwindow(frame, state.center_xy, side, self.crop.template_size, mean_colour(frame))

    def _search(self, scene: Scene, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop and the target's cx, cy, w, h in it, relative to its centre."""
        frame, state, size = scene.frame(index), state_from_box(scene.box(index)), self.crop.search_size
        exact = context_side(state.size_wh, self.crop.context_amount) * size / self.crop.template_size
        side = max(1, round(exact * math.exp(self.rng.uniform(-1, 1) * self.recipe.log_scale)))
        shift = self.rng.uniform(-1, 1, 2) * self.recipe.shift
        zoom = size / side
        centre = (state.center_xy[0] - shift[0] / zoom, state.center_xy[1] - shift[1] / zoom)
        crop = subwindow(frame, centre, side, size, mean_colour(frame))
        return crop, np.array([*shift, state.size_wh[0] * zoom, state.size_wh[1] * zoom])


def learning_rate(progress: float, recipe: Recipe) -> float:
    """Linear warm-up, then a half cosine to zero; `progress` is the share of the time that has passed, 0..1."""
    if progress < recipe.warm_up:
        return recipe.rate * progress / recipe.warm_up
    return recipe.rate * (1 + math.cos(math.pi * (progress - recipe.warm_up) / (1 - recipe.warm_up))) / 2


def train(net: SiamRPNpp, preset: Preset, path: Path, minutes: float, seed: int, recipe: Recipe) -> bool:
    """Train for `minutes` or until Ctrl-C; `path` always holds the best weights so far, whole.

    Returns:
        Whether anything was written: not if stopped before the first check.
    """
    sampler = PairSampler(np.random.default_rng([seed, 0]), preset, recipe)
    held_back = PairSampler(np.random.default_rng([seed, 1]), preset, recipe).batch(recipe.check_pairs)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=recipe.weight_decay)
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start, budget, step, best = time.monotonic(), minutes * 60, 0, math.inf
    with contextlib.suppress(KeyboardInterrupt), tqdm(total=round(budget), unit="s", desc="training") as bar:
        while (elapsed := time.monotonic() - start) < budget:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(elapsed / budget, recipe)
            loss = train_step(net, optimiser, sampler.batch(recipe.batch), recipe)
            step += 1
            now = time.monotonic() - start
            bar.update(min(round(now), round(budget)) - bar.n)
            bar.set_postfix_str(f"{step * recipe.batch / now:.1f} pairs/s, loss {loss:.3f}", refresh=False)
            if step % recipe.check_every == 0 or now >= budget:
                *parts, overlap = checked(net.eval(), held_back, sampler.anchors, recipe.loc_weight, recipe.smooth_l1)
                net.train()
                held_loss = sum(parts)
                bar.write(f"step {step}: held-back loss {held_loss:.3f}, mean IoU of the best box {overlap:.3f}")
                if held_loss < best:
                    best = held_loss
                    save_weights(net.state_dict(), path)
    return best < math.inf


def train_step(net: SiamRPNpp, optimiser: torch.optim.Optimizer, batch: Batch, recipe: Recipe) -> float:
    """One update; returns the loss. Convolutions run in bfloat16, twice as fast where the CPU has it."""
    with torch.autocast("cpu", torch.bfloat16):
        cls, loc = net.search(batch.search, *net.template(batch.template))
    parts = head_loss(cls, loc, batch.labels, batch.offsets, recipe.loc_weight, recipe.smooth_l1)
    loss = parts[0] + parts[1]
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    optimiser.step()
    return loss.item()


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=20.0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="a .safetensors file")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def main(minutes: float, out: Path, seed: int, threads: int) -> None:
    """Train the placeholder preset on rendered scenes."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.manual_seed(seed)
    preset = get_preset("placeholder")
    net = cast(SiamRPNpp, preset.build())
    out.parent.mkdir(parents=True, exist_ok=True)
    written = train(net, preset, out, minutes, seed, Recipe())
    click.echo(f"wrote {out}" if written else "stopped before the first check: nothing written")


if __name__ == "__main__":
    main()
