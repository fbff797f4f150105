"""Pooling of boxes from a feature map by matrix products alone, which every TensorRT version runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class FeatureGrid(NamedTuple):
    """Where features lie in the crop: feature `i` is centred on crop pixel `origin + stride * i`, on both axes."""

    origin: float
    stride: int


def feature_grid(layers: Iterable[nn.Module]) -> FeatureGrid:
    """Receptive-field centres behind square convolutions and max poolings applied one after the other.

    A layer of kernel k, padding p and stride s moves the first centre by (k - 1) / 2 - p steps of the grid before
    it, and makes the step s times as long. Modules of other kinds are taken as pointwise.
    """
    origin, stride = 0.0, 1
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, padding, step = (
                value if isinstance(value, int) else int(value[0])
                for value in (layer.kernel_size, layer.padding, layer.stride)
            )
            origin += stride * ((kernel - 1) / 2 - padding)
            stride *= step
    return FeatureGrid(origin, stride)


def _bin_weights(low: Tensor, high: Tensor, size: int, bins: int, samples: int) -> Tensor:
    """(K,) ends of an interval in features -> (K, bins, size), the weight of each feature in each bin's mean.

    Linear interpolation at position y weighs feature i by the hat max(0, 1 - |y - i|). Positions outside the map
    are moved onto its border, so that every bin's weights sum to 1.
    """
    points = bins * samples
    fractions = (torch.arange(points, dtype=low.dtype, device=low.device) + 0.5) / points
    positions = (low[:, None] + (high - low)[:, None] * fractions).clamp(0, size - 1)
    index = torch.arange(size, dtype=low.dtype, device=low.device)
    hats = (1 - (positions[:, :, None] - index).abs()).relu()
    return hats.reshape(-1, bins, samples, size).mean(2)


def pool_regions(features: Tensor, boxes: Tensor, grid: FeatureGrid, bins: int = 7, samples: int = 2) -> Tensor:
    """Average bilinear samples of a feature map in `bins` x `bins` equal parts of each box.

    Bilinear sampling separates into rows and columns, hence into two matrix products (RoIAlign's pooling: Mask
    R-CNN, sec. 3).

    Args:
        features: (1, C, H, W).
        boxes: (K, 4) corners x1, y1, x2, y2 in pixels of the crop; the centre of its first pixel is 0, 0.
        grid: of the features.
        bins: parts along each side of a box.
        samples: bilinear samples along each side of a bin.

    Returns:
        (K, bins, C, bins): bins' rows, channels, bins' columns, the order in which the second product leaves them.
    """
    _, channels, height, width = features.shape
    x1, y1, x2, y2 = ((boxes - grid.origin) / grid.stride).unbind(1)
    rows = _bin_weights(y1, y2, height, bins, samples)
    columns = _bin_weights(x1, x2, width, bins, samples)
    # One product for all boxes: (K bins, H) x (H, C W).
    lines = rows.flatten(0, 1) @ features[0].transpose(0, 1).flatten(1)
    pooled = lines.reshape(-1, bins * channels, width) @ columns.transpose(1, 2)
    return pooled.reshape(-1, bins, channels, bins)
