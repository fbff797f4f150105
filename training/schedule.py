"""The learning rate of a step, and which parameters learn."""

from __future__ import annotations

import torch
from torch import nn

from siamtrt.training.config import Config, Schedule

MOMENTUM = 0.9


def learning_rate(step: int, schedule: Schedule) -> float:
    """Rate of step 0, 1, ...: linear warm-up, then exponential decay; see `Schedule`."""
    if step < schedule.warm_up:
        return schedule.rate * (0.2 + 0.8 * step / schedule.warm_up)
    length = max(1, schedule.steps - 1 - schedule.warm_up)
    return schedule.rate * (schedule.final_rate / schedule.rate) ** ((step - schedule.warm_up) / length)


def optimiser_of(net: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Two groups, the backbone's and the rest; vectors (BatchNorm, biases) do not decay, and are two groups more."""
    groups = []
    for in_backbone in (False, True):
        for is_matrix in (True, False):
            chosen = [
                parameter
                for name, parameter in net.named_parameters()
                if name.startswith(config.backbone) == in_backbone
                and (parameter.ndim > 1) == is_matrix
                and not name.startswith(config.frozen)
            ]
            decay = config.weight_decay if is_matrix else 0.0
            groups.append({"params": chosen, "weight_decay": decay, "share": _share(config, in_backbone)})
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=0.0)


def _share(config: Config, in_backbone: bool) -> float:
    return config.schedule.backbone_share if in_backbone else 1.0


def prepare_step(net: nn.Module, optimiser: torch.optim.Optimizer, step: int, config: Config) -> None:
    """Set rates and what is frozen for a step. The backbone's BatchNorm keeps ImageNet's statistics throughout."""
    rate = learning_rate(step, config.schedule)
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]
    tuned = step >= config.schedule.backbone_from
    for name, parameter in net.named_parameters():
        in_backbone = name.startswith(config.backbone)
        parameter.requires_grad_(not name.startswith(config.frozen) and (tuned or not in_backbone))
    net.train()
    for name, module in net.named_modules():
        if f"{name}.".startswith(config.backbone):
            module.eval()
