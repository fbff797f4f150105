"""What a head's answers cost."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from siamtrt.training.targets import BACKGROUND, TARGET


def head_loss(
    cls: Tensor, loc: Tensor, labels: Tensor, offsets: Tensor, loc_weight: float, smooth_l1: float, hardest: int = 0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy, targets and background in equal parts, and smooth L1 of the offsets (SiamRPN, eqs. 2 to 5).

    Args:
        cls: (N, 2A, S, S) raw background and target logits.
        loc: (N, 4A, S, S) raw offsets.
        labels: (N, P) int64, P = A*S*S in `anchor_grid`'s order: TARGET, BACKGROUND or IGNORED.
        offsets: (N, 4, P) wanted offsets.
        loc_weight: of the second part.
        smooth_l1: where it turns linear.
        hardest: of a pair's background, only so many anchors count, those that cost most; 0 counts all.

    Returns:
        The two parts, the second weighted; their sum is the loss.
    """
    log_probability = functional.log_softmax(cls.float().reshape(len(cls), 2, -1), dim=1)
    is_target = labels == TARGET
    target = _mean(-log_probability[:, 1], is_target)
    background = _background(-log_probability[:, 0], labels == BACKGROUND, hardest)
    misses = functional.smooth_l1_loss(
        loc.float().reshape(len(loc), 4, -1), offsets, reduction="none", beta=smooth_l1
    )
    return (target + background) / 2, loc_weight * _mean(misses.sum(dim=1), is_target)


def _background(costs: Tensor, where: Tensor, hardest: int) -> Tensor:
    if not hardest:
        return _mean(costs, where)
    chosen = costs.where(where, -1.0).topk(min(hardest, costs.shape[1]), dim=1).values  # costs are never negative
    return _mean(chosen, chosen >= 0)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean of the (N, P) values where the mask holds; 0 where it never does."""
    return (values * where).sum() / where.sum().clamp(min=1)
