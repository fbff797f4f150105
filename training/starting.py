"""The network and the pairs that a config speaks of."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from siamtrt.errors import TrainingError
from siamtrt.models.checkpoints import load_network
from siamtrt.models.mobilenetv2 import PlainMobileNetV2
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.preset import Preset
from siamtrt.models.presets import get_preset
from siamtrt.tracking import AnchorDecoding
from siamtrt.training.config import Config
from siamtrt.training.imagenet import load_imagenet
from siamtrt.training.pairs import PairSampler, read_pools


def preset_with_anchors(name: str) -> Preset:
    """A preset that can be trained here.

    Raises:
        TrainingError: it has no anchors.
        SiamtrtError: no such preset.
    """
    preset = get_preset(name)
    if not isinstance(preset.decoding, AnchorDecoding):
        raise TrainingError(
            "a tracker that cannot be trained here", received=name, expected="a preset with anchors",
            fix="`siamtrt models` lists the presets",
        )
    return preset


def started(preset: Preset, init: str) -> SiameseNetwork:
    """The network before the first step; `init` as in `Config`.

    Raises:
        TrainingError: ImageNet weights for another backbone than MobileNetV2.
        CheckpointError: a file of weights that does not fit.
    """
    if init not in ("none", "imagenet"):
        return load_network(Path(init), preset.name).module
    net = preset.build()
    if init == "imagenet":
        backbone = getattr(net, "backbone", None)
        if not isinstance(backbone, PlainMobileNetV2):
            raise TrainingError(
                "no ImageNet weights for this backbone", received=preset.name, expected="a tracker on MobileNetV2",
                fix="give `init` a file of weights, or none",
            )
        load_imagenet(backbone)
    return net


def samplers(config: Config) -> tuple[PairSampler, PairSampler]:
    """Pairs to train on and to check with; the same ones where nothing is held back.

    Raises:
        TrainingError: unusable data, or a preset without anchors.
    """
    preset = preset_with_anchors(config.model)
    decoding = cast(AnchorDecoding, preset.decoding)
    training, checking = read_pools(config)
    crop, rules, looks = preset.preprocessing, config.pairs, config.appearance
    return (
        PairSampler(training, crop, decoding, rules, looks, config.seed),
        PairSampler(checking or training, crop, decoding, rules, looks, config.seed + 1),
    )
