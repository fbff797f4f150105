"""The learning rate at its corners, the optimiser's groups, and what is frozen when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from siamtrt.training.config import Config, Schedule
from siamtrt.training.schedule import learning_rate, optimiser_of, prepare_step

LONG = Schedule(steps=1000, rate=0.005, final_rate=0.0005, warm_up=100)


class Toy(nn.Module):
    """A backbone of two stages and a head, with BatchNorm in both."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        )
        self.head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.Sigmoid(), nn.BatchNorm2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


@pytest.fixture
def config():
    schedule = Schedule(steps=8, rate=1e-3, final_rate=1e-4, warm_up=2, backbone_from=4, backbone_share=0.1)
    return Config("toy", "out", (), schedule, frozen=("backbone.0.",), weight_decay=0.01)


def test_rate_at_the_corners():
    """A fifth at the start (SiamRPN++, sec. 4.1), the whole at the end of the warm-up, the last at the last step."""
    assert learning_rate(0, LONG) == pytest.approx(0.001)
    assert learning_rate(50, LONG) == pytest.approx(0.003)
    assert learning_rate(99, LONG) < 0.005
    assert learning_rate(100, LONG) == pytest.approx(0.005)
    assert learning_rate(999, LONG) == pytest.approx(0.0005)


def test_rate_rises_linearly_and_falls_exponentially():
    rates = [learning_rate(step, LONG) for step in range(1000)]
    rises = [b - a for a, b in pairwise(rates[:101])]
    falls = [b / a for a, b in pairwise(rates[100:])]
    assert rises == pytest.approx([0.00004] * 100)
    assert falls == pytest.approx([0.1 ** (1 / 899)] * 899)


@pytest.mark.parametrize(("steps", "warm_up"), [(1, 0), (1, 5), (5, 5), (6, 5), (3, 500)])
def test_short_schedules_stay_within_the_rates(steps, warm_up):
    """No warm-up, nothing but warm-up, one step after it."""
    schedule = replace(LONG, steps=steps, warm_up=warm_up)
    rates = [learning_rate(step, schedule) for step in range(steps)]
    assert all(0.0005 <= rate <= 0.005 for rate in rates)
    if warm_up == 0:
        assert rates[0] == 0.005


def test_groups_hold_every_parameter_that_learns_once(config):
    """The frozen stage is in none; vectors do not decay; the backbone has its share of the rate."""
    net = Toy()
    groups = optimiser_of(net, config).param_groups
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    found = {names[id(parameter)]: group for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found)
    assert set(found) == {name for name in names.values() if not name.startswith("backbone.0.")}
    for name, group in found.items():
        assert group["weight_decay"] == (0.01 if name in ("backbone.1.0.weight", "head.0.weight") else 0.0)
        assert group["share"] == (0.1 if name.startswith("backbone.") else 1.0)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_what_changes_at_which_step(config, optimiser):
    """The frozen stage never, the rest of the backbone from step 4 on, its statistics never, the head always."""
    torch.manual_seed(0)
    config, net = replace(config, optimiser=optimiser), Toy().double()
    steps = optimiser_of(net, config)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for step in range(config.schedule.steps):
        prepare_step(net, steps, step, config)
        steps.zero_grad()
        net(torch.randn(4, 3, 2, 2).double()).pow(3).sum().backward()
        steps.step()
        after = {name: value.clone() for name, value in net.state_dict().items()}
        changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
        head = {name for name in after if name.startswith("head.")}
        tuned = {f"backbone.1.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")} if step >= 4 else set()
        assert changed == head | tuned, step
        before = after


def test_rates_of_the_groups(config):
    net = Toy()
    optimiser = optimiser_of(net, config)
    prepare_step(net, optimiser, 2, config)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
