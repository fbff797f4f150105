"""The file behind `siamtrt train CONFIG`: what is trained, on what, and how."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from siamtrt.config_files import Example, read_config
from siamtrt.errors import TrainingError
from siamtrt.training.augment import Appearance

EXAMPLE = Example(TrainingError, "training.config.Config", "training/small.yaml")
LARGEST_SEED = (1 << 63) - 2  # torch takes 64 bits, and the check draws with the next one


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        path: relative to the config.
        format: see `datasets.FORMATS`.
        weight: how often its pairs are drawn, relative to the other sources'.
        span: largest distance in frames between template and search image of a video.
    """

    path: str
    format: str
    weight: float = 1.0
    span: int = 100


@dataclass(frozen=True)
class Pairs:
    """How pairs are drawn; lengths are in crop pixels.

    Attributes:
        shift: largest offset of the target from the search crop's centre, uniform (SiamRPN++, sec. 3.1: 64 of 255).
        log_scale: largest change of the search side, as a logarithm; also of its aspect, `log_aspect`.
        template_shift, template_log_scale: jitter of the template.
        negatives: share of pairs whose template shows another object (DaSiamRPN, sec. 3.2).
        distractors: share of those that are of the target's category, where other groups have such.
        hardest: of a pair's background, how many anchors train, those that cost most at the moment; 0 draws them at
            random, 64 with the positives (SiamRPN, sec. 3.3).
        min_side: boxes with a smaller side, in image pixels, are left out.
        max_share: so are those whose sides' geometric mean is more of the image's; around them there is nothing to see.
    """

    shift: float = 64.0
    log_scale: float = 0.18
    log_aspect: float = 0.1
    template_shift: float = 4.0
    template_log_scale: float = 0.05
    negatives: float = 0.2
    distractors: float = 0.5
    hardest: int = 0
    min_side: float = 8.0
    max_share: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps.

    Linear from `rate / 5` to `rate` over `warm_up` steps, then exponential to `final_rate` at the last step
    (SiamRPN++, sec. 4.1). The backbone is frozen before `backbone_from` and then learns at `backbone_share` of it.
    """

    steps: int
    rate: float = 0.005
    final_rate: float = 0.0005
    warm_up: int = 500
    backbone_from: int = 1 << 62
    backbone_share: float = 0.1


@dataclass(frozen=True)
class Config:
    """A training run.

    Attributes:
        model: a preset with anchors.
        output: folder of the checkpoint, the weights and the curve; relative to the config.
        init: "imagenet" for the backbone (MobileNetV2), a file of weights, or "none".
        frozen: prefix of the parameters that are never trained, e.g. the first stages of the backbone.
        backbone: prefix of the parameters that `schedule.backbone_from` speaks of.
        batch: pairs a step, over all processes.
        optimiser: "sgd" with momentum 0.9, as the papers have it, or "adamw".
        loc_weight: balances the losses (SiamRPN, eq. 5; pysot: 1.2).
        smooth_l1: where the regression loss turns linear (SiamRPN, eq. 4).
        average: of the weights that are kept, the decay of their running mean; 0 keeps the last ones.
        precision: of the network's arithmetic on the way forward.
        held_back: share of the groups (videos, stills) that only check.
    """

    model: str
    output: str
    data: tuple[Source, ...]
    schedule: Schedule
    init: str = "none"
    frozen: tuple[str, ...] = ()
    backbone: str = "backbone."
    batch: int = 32
    seed: int = 0
    pairs: Pairs = field(default_factory=Pairs)
    appearance: Appearance = field(default_factory=Appearance)
    optimiser: Literal["sgd", "adamw"] = "sgd"
    weight_decay: float = 1e-4
    loc_weight: float = 1.2
    smooth_l1: float = 1 / 9
    average: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    held_back: float = 0.05
    check_every: int = 500
    check_pairs: int = 256
    save_every: int = 250


def load_config(path: Path) -> Config:
    """Read and check a YAML file; `output`, `init` and data paths become absolute.

    Raises:
        TrainingError: unreadable, an unknown or missing field, a value out of range.
    """
    config = read_config(path, Config, EXAMPLE, tuples=(tuple[str, ...], tuple[Source, ...]))
    for what, fine in _rules(config).items():
        if not fine:
            raise EXAMPLE.unusable(path, what)
    return _absolute(config, path.resolve().parent)


def _numbers(part: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a config, by its field; not those in lists."""
    for name, value in vars(part).items():
        if is_dataclass(value):
            yield from _numbers(value, f"{where}{name}.")
        elif isinstance(value, (int, float)):
            yield where + name, value


def _rules(config: Config) -> dict[str, bool]:
    """What must hold, in words that name the field."""
    schedule, pairs = config.schedule, config.pairs
    outside = [f"{name} {value}" for name, value in _numbers(config) if not 0 <= value < math.inf]
    return {
        f"{', '.join(outside)}, negative or not finite": not outside,
        f"seed {config.seed}, above {LARGEST_SEED}": config.seed <= LARGEST_SEED,
        "no data": bool(config.data),
        f"steps {schedule.steps}, below 1": schedule.steps >= 1,
        f"rate {schedule.rate} to {schedule.final_rate}, not positive": min(schedule.rate, schedule.final_rate) > 0,
        f"batch {config.batch}, below 1": config.batch >= 1,
        f"held_back {config.held_back}, not within 0..0.5": 0 <= config.held_back <= 0.5,
        f"average {config.average}, not within 0..1": 0 <= config.average < 1,
        f"negatives {pairs.negatives}, not within 0..1": 0 <= pairs.negatives <= 1,
        f"distractors {pairs.distractors}, not within 0..1": 0 <= pairs.distractors <= 1,
        f"max_share {pairs.max_share}, not within 0..1": 0 < pairs.max_share <= 1,
        "a weight or span of data that is not positive": all(
            0 < source.weight < math.inf and source.span >= 0 for source in config.data
        ),
        f"check_every {config.check_every} or save_every {config.save_every}, below 1": (
            min(config.check_every, config.save_every) >= 1
        ),
        f"check_pairs {config.check_pairs}, below 1": config.check_pairs >= 1,
    }


def _absolute(config: Config, base: Path) -> Config:
    sources = tuple(replace(source, path=str(base / source.path)) for source in config.data)
    init = config.init if config.init in ("none", "imagenet") else str(base / config.init)
    return replace(config, data=sources, init=init, output=str(base / config.output))
