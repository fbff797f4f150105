"""SiamRPN++'s experiment on the centre bias: `python -m siamtrt.training.centre_bias CONFIG -o DIR`.

A network with padding that is trained on centred targets learns to answer "the centre"; uniformly shifted ones prevent
that (sec. 3.1, fig. 1 and 2).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
import numpy as np
import torch
from torch import Tensor

from siamtrt.errors import SiamtrtError
from siamtrt.files import staged_file, write_whole
from siamtrt.models.network import SiameseNetwork
from siamtrt.pictures import new_figure
from siamtrt.tracking import AnchorDecoding
from siamtrt.training.augment import Appearance
from siamtrt.training.batches import Batch, batches
from siamtrt.training.checks import answers, best_overlaps
from siamtrt.training.config import Config, load_config
from siamtrt.training.loop import Run
from siamtrt.training.starting import preset_with_anchors, samplers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPERS_CROP = 255  # pixels of the search crop that the shifts speak of
TESTED_SHIFT = 64.0  # of the pairs that every network answers
AS_THEY_ARE = Appearance(colour=0, grey=0, flip=0, blur=0, small=0, noise=0, cover=0, fill=0, turn=0)
RESULTS, PICTURE = "centre_bias.json", "centre_bias.png"
BRIGHTEST = 4.0  # times an even distribution, in the picture


@dataclass(frozen=True)
class Bias:
    """How a network answers pairs whose targets are shifted uniformly.

    Attributes:
        shift: that it was trained with, in the paper's pixels.
        heat: (S, S) share of the target's probability at each position; sums to 1.
        central_share: of that in the central third of both axes.
        best_central_share: of the best-scored positions there.
        iou_near, iou_far: mean IoU of the best box where the target is within half of the shift, and beyond.
    """

    shift: float
    heat: np.ndarray
    central_share: float
    best_central_share: float
    iou_near: float
    iou_far: float


def crop_pixels(shift: float, config: Config) -> float:
    """A length in the paper's pixels in those of the config's search crop."""
    return shift * preset_with_anchors(config.model).preprocessing.search_size / PAPERS_CROP


def shifted_config(config: Config, shift: float, steps: int, folder: Path) -> Config:
    """The config with this shift and a schedule of as many steps, its parts in proportion; the same pairs otherwise."""
    plan, share = config.schedule, steps / config.schedule.steps
    plan = replace(
        plan, steps=steps, warm_up=round(plan.warm_up * share), backbone_from=round(plan.backbone_from * share)
    )
    return replace(
        config, schedule=plan, output=str(folder / f"shift_{shift:g}"), check_every=steps,
        save_every=max(1, steps // 10), pairs=replace(config.pairs, shift=crop_pixels(shift, config)),
    )  # fmt: skip


def measuring_pairs(config: Config, count: int) -> Batch:
    """Held-back pairs whose target is anywhere within `TESTED_SHIFT`, changed in no other way."""
    rules = replace(
        config.pairs, shift=crop_pixels(TESTED_SHIFT, config), log_scale=0.0, log_aspect=0.0, template_shift=0.0,
        template_log_scale=0.0, negatives=0.0,
    )  # fmt: skip
    sampler = samplers(replace(config, pairs=rules, appearance=AS_THEY_ARE))[1]
    (pairs,) = batches(sampler, count, range(1))
    return pairs


def measured(net: SiameseNetwork, pairs: Batch, anchors: np.ndarray, shift: float, reach: float) -> Bias:
    """Heat map and figures of one network in evaluation mode; `reach` is the pairs' largest shift in crop pixels."""
    cls, loc = answers(net, pairs)
    heat = position_chances(cls)
    overlaps = best_overlaps(cls, loc, pairs.boxes, anchors)
    far = np.abs(pairs.boxes[:, :2].cpu().numpy()).max(axis=1) > reach / 2
    middle = _middle(heat.shape[-1])
    best = heat.reshape(len(heat), -1).argmax(axis=1)
    total = heat.sum(axis=0) / heat.sum()
    return Bias(
        shift, total, float(total[middle].sum()), float(middle.ravel()[best].mean()),
        float(overlaps[~far].mean()), float(overlaps[far].mean()),
    )  # fmt: skip


def position_chances(cls: Tensor) -> np.ndarray:
    """Raw (N, 2A, S, S) cls -> (N, S, S) float64 probability that a target is there: the best anchor's."""
    count, channels, rows, columns = cls.shape
    chances = cls.double().reshape(count, 2, channels // 2, rows, columns).softmax(dim=1)[:, 1]
    return chances.amax(dim=1).cpu().numpy()


def _middle(size: int) -> np.ndarray:
    """(S, S) bool: the central third of both axes."""
    inside = np.abs(np.arange(size) - (size - 1) / 2) <= size / 6
    return inside[:, None] & inside


def true_heat(pairs: Batch, size: int, stride: int) -> np.ndarray:
    """(S, S) share of the targets whose centre is nearest to each position; sums to 1."""
    cells = np.rint(pairs.boxes[:, :2].cpu().numpy() / stride).astype(int) + size // 2
    heat = np.zeros((size, size))
    np.add.at(heat, tuple(np.clip(cells, 0, size - 1).T[::-1]), 1 / len(cells))
    return heat


def save_results(biases: Sequence[Bias], truth: np.ndarray, folder: Path, figure: Figure) -> None:
    """Write figures and maps as JSON, and the maps side by side as PNG, drawn in an empty figure."""
    middle = _middle(len(truth))
    plain = {
        "true_central_share": truth[middle].sum(), "true_heat": truth.round(6).tolist(),
        "shifts": [{**vars(bias), "heat": bias.heat.round(6).tolist()} for bias in biases],
    }  # fmt: skip
    write_whole(folder / RESULTS, json.dumps(plain, indent=1).encode())
    axes = np.atleast_1d(figure.subplots(1, len(biases) + 1))
    panels = [(f"shift {bias.shift:g}: {bias.central_share:.0%} in the middle", bias.heat) for bias in biases]
    for axis, (title, heat) in zip(axes, [*panels, (f"targets: {truth[middle].sum():.0%}", truth)], strict=True):
        shown = axis.imshow(heat * heat.size, vmin=0, vmax=BRIGHTEST)
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=9)
    figure.colorbar(shown, ax=axes, label="times an even distribution")
    with staged_file(folder / PICTURE) as staging:
        figure.savefig(staging, format="png")


def as_table(biases: Sequence[Bias], truth: np.ndarray) -> str:
    """A Markdown table of the figures."""
    lines = ["| shift | mass in the middle | best there | IoU near | IoU far |", "|---|---|---|---|---|"]
    lines += [
        f"| {b.shift:g} | {b.central_share:.3f} | {b.best_central_share:.3f} | {b.iou_near:.3f} | {b.iou_far:.3f} |"
        for b in biases
    ]
    return "\n".join([*lines, f"| the targets | {truth[_middle(len(truth))].sum():.3f} | | | |"])


def _parsed_shifts(text: str) -> list[float]:
    try:
        shifts = [float(part) for part in text.split(",")]
    except ValueError:
        shifts = []
    if not shifts or not all(0 <= shift < PAPERS_CROP / 2 for shift in shifts) or len(set(shifts)) < len(shifts):
        raise SiamtrtError(
            "no shifts to train with", received=repr(text), expected="different numbers of 0 to 127, in pixels of 255",
            fix="e.g. --shifts 0,16,32,64",
        )
    return shifts


def experiment(
    config: Config, shifts: Sequence[float], steps: int, folder: Path, pairs: int, workers: int
) -> tuple[list[Bias], np.ndarray] | None:
    """Train a network a shift, from the same start and pairs, and let all answer the same held-back pairs.

    Returns:
        The networks' answers and the targets' own distribution; None if Ctrl-C ended it, to go on another time.

    Raises:
        TrainingError: see `Run`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tested = measuring_pairs(config, pairs)
    reach, biases = crop_pixels(TESTED_SHIFT, config), []
    for shift in shifts:
        click.echo(f"shift {shift:g} ...", err=True)
        run = Run(shifted_config(config, shift, steps, folder), workers)
        run.train()
        if not run.complete:
            return None
        biases.append(measured(run.averaged(), tested.to(run.device), run.sampler.anchors, shift, reach))
    decoding = cast(AnchorDecoding, preset_with_anchors(config.model).decoding)
    return biases, true_heat(tested, decoding.score_size, decoding.stride)


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--shifts", default="0,16,32,64", show_default=True, help="In pixels of a 255-pixel search crop.")
@click.option("--steps", type=click.IntRange(1), required=True, help="Of each training.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of results and runs.")
@click.option("--pairs", type=click.IntRange(16), default=512, show_default=True, help="To measure with.")
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True)
@click.option("--threads", type=click.IntRange(1, 64))
def main(config: Path, shifts: str, steps: int, output: Path, pairs: int, workers: int, threads: int | None) -> None:
    """Train CONFIG's network once a shift and show where it then sees targets that may be anywhere.

    The same command goes on where an interrupted one ended.

    Example: python -m siamtrt.training.centre_bias training/small.yaml --steps 150 -o out/centre_bias
    """
    if threads:
        torch.set_num_threads(threads)
    try:
        chosen = _parsed_shifts(shifts)
        figure = new_figure(2.6 * len(chosen) + 3.2, 3.0)  # first: without matplotlib nothing begins
        found = experiment(load_config(config), chosen, steps, output, pairs, workers)
        if found is None:
            click.echo("stopped and saved; the same command goes on", err=True)
            sys.exit(130)
        save_results(*found, output, figure)
    except SiamtrtError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    click.echo(as_table(*found))
    click.echo(f"wrote {output / RESULTS} and {output / PICTURE}")


if __name__ == "__main__":
    main()
