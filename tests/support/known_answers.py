"""Networks and pairs whose answers are known beforehand."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from siamtrt.models.presets import get_preset
from siamtrt.runtime.decode import anchor_grid
from siamtrt.training.batches import Batch
from siamtrt.training.targets import encode_offsets

DECODING = get_preset("siamrpn_mobilev2_small").decoding
ANCHORS = anchor_grid(DECODING)
SIDE, KINDS = DECODING.score_size, 5
BOXES = np.array([[0, 0, 48, 48], [30, -20, 60, 40], [-40, 44, 30, 70]], np.float32)


def answered(boxes: np.ndarray, chosen: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs whose best anchors are these and whose offsets all lead to the boxes."""
    cls = torch.zeros(len(boxes), 2, len(ANCHORS))
    cls[range(len(boxes)), 1, chosen] = 5.0
    loc = torch.from_numpy(np.stack([encode_offsets(ANCHORS, box) for box in boxes]))
    return cls.reshape(-1, 2 * KINDS, SIDE, SIDE), loc.reshape(-1, 4 * KINDS, SIDE, SIDE)


class Answering(nn.Module):
    """Answers pair number n, which the crops hold as their pixels, with the n-th of these outputs."""

    def __init__(self, cls: torch.Tensor, loc: torch.Tensor) -> None:
        super().__init__()
        self.cls, self.loc = cls, loc

    def template(self, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (z[:, 0, 0, 0].long(),)

    def search(self, x: torch.Tensor, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert torch.equal(x[:, 0, 0, 0].long(), number)
        return self.cls[number], self.loc[number]


def held_batch(labels: np.ndarray, boxes: np.ndarray) -> Batch:
    crops = torch.arange(len(boxes)).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    offsets = np.stack([encode_offsets(ANCHORS, box) for box in boxes])
    return Batch(crops, crops, *map(torch.from_numpy, (labels, offsets, boxes)))
