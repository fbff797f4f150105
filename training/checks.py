"""How good a network is on pairs that it was not trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from siamtrt.boxes import iou
from siamtrt.models.network import SiameseNetwork
from siamtrt.training.batches import Batch
from siamtrt.training.losses import head_loss
from siamtrt.training.targets import TARGET, corner_boxes

AT_ONCE = 32  # pairs


@torch.no_grad()
def answers(net: SiameseNetwork, pairs: Batch) -> tuple[Tensor, Tensor]:
    """Raw cls (N, 2A, S, S) and loc (N, 4A, S, S) of N pairs, for a network in evaluation mode."""
    crops = zip(pairs.template.split(AT_ONCE), pairs.search.split(AT_ONCE), strict=True)
    outputs = [net.search(x, *net.template(z)) for z, x in crops]
    cls, loc = (torch.cat(maps) for maps in zip(*outputs, strict=True))
    return cls, loc


def best_overlaps(cls: Tensor, loc: Tensor, boxes: Tensor, anchors: np.ndarray) -> np.ndarray:
    """IoU of the best-scored box with the truth, (N,).

    Args:
        cls, loc: see `answers`.
        boxes: (N, 4) true cx, cy, w, h relative to the search crop's centre.
        anchors: (P, 4) as `anchor_grid`'s.
    """
    count = len(cls)
    logits, offsets = cls.reshape(count, 2, -1), loc.reshape(count, 4, -1)
    best = (logits[:, 1] - logits[:, 0]).argmax(dim=1)
    chosen = offsets[torch.arange(count), :, best].double().cpu().numpy()
    anchor = anchors[best.cpu().numpy()].astype(np.float64)
    found = np.concatenate([chosen[:, :2] * anchor[:, 2:] + anchor[:, :2], np.exp(chosen[:, 2:]) * anchor[:, 2:]], 1)
    return iou(corner_boxes(found), corner_boxes(boxes.double().cpu().numpy()))


def checked(
    net: SiameseNetwork, held: Batch, anchors: np.ndarray, loc_weight: float, smooth_l1: float, hardest: int = 0
) -> tuple[float, float, float]:
    """Both losses on held-back pairs, and the mean IoU of their best-scored box where the template matches.

    The last is NaN where none does. The network is in evaluation mode; for weights see `head_loss`.
    """
    cls, loc = answers(net, held)
    parts = head_loss(cls, loc, held.labels, held.offsets, loc_weight, smooth_l1, hardest)
    matching = (held.labels == TARGET).any(dim=1).cpu().numpy()
    overlaps = best_overlaps(cls, loc, held.boxes, anchors)[matching]
    return parts[0].item(), parts[1].item(), float(overlaps.mean()) if matching.any() else float("nan")
