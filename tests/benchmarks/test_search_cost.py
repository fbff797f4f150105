"""Our search graphs cost no more than the naive split's, and less where a layer went to the template."""

from __future__ import annotations

import dataclasses

import pytest
from click.testing import CliRunner

from siamtrt.benchmarks import search_cost
from siamtrt.benchmarks.search_cost import SearchCost, search_costs
from siamtrt.models.alexnet import AlexNet
from siamtrt.models.presets import PRESETS
from siamtrt.models.siamrpn import SiamRPN

pytestmark = pytest.mark.usefixtures("one_registry")

# What each head makes of its template's features. Kernels of SiamRPN++: cls and loc, 3x3 on 6x6 features. Of SiamRPN:
# 10 and 20 filters. NanoTrack v2: two 1x1 convolutions and two products with the search side's weights and bias, on
# 8x8 features; its backbone ends in two 1x1 convolutions of 64 channels which the export composes.
HOISTED = {
    "siamrpn_alex_tiny": 2 * 64 * 16 * 64 * 9,
    "siamrpn_alex": 30 * 32 * 16 * 32 * 9,
    "nanotrack_v2": 64 * (2 * 48 * 48 + 2 * 48 * 48 + 2 * 48) - 64 * 64 * 64,
}
# The convolutions of SiamRPN's backbone at an eighth of its width, its head's two, and the correlation, on 287 px.
SMALL_SIAMRPN = (
    12 * 139**2 * 3 * 121 + 32 * 65**2 * 12 * 25 + 48 * 30**2 * 32 * 9 + 48 * 28**2 * 48 * 9 + 32 * 26**2 * 48 * 9
    + 64 * 24**2 * 32 * 9 + 30 * 21**2 * 32 * 16
)  # fmt: skip


def _preset(name):
    preset = PRESETS[name]
    return dataclasses.replace(preset, build=lambda: SiamRPN(AlexNet(0.125), 32)) if name == "siamrpn_alex" else preset


@pytest.mark.parametrize("name", HOISTED)
def test_search_graph_costs_less_than_the_naive_split(name):
    (cost,) = search_costs(_preset(name))
    assert cost.hoisted == HOISTED[name]
    assert cost.search <= cost.written
    assert cost.search < cost.naive
    assert cost.holds
    if name == "siamrpn_alex":
        assert cost.search == cost.written == SMALL_SIAMRPN
    if name == "nanotrack_v2":  # on 16x16 positions
        assert cost.written - cost.search == 16 * 16 * 64 * 64


def test_every_crop_of_the_batch_and_every_search_graph_counts():
    """SiamFC searches three scales; its template has nothing but a backbone, so both splits cost the same."""
    (cost,) = search_costs(PRESETS["siamfc_alexnet"])
    assert cost.crops == (3, 255)
    assert cost.hoisted == 0
    assert cost.search == cost.naive
    assert cost.holds


def _cost(search, written, hoisted):
    return SearchCost("siamrpn_alex_tiny", "search", (1, 287), search, 5, written, hoisted)


@pytest.mark.parametrize(
    ("cost", "holds"),
    [
        (_cost(10, 10, 0), True),
        (_cost(11, 10, 0), False),
        (_cost(10, 10, 1), True),
        (_cost(11, 10, 1), False),
        (_cost(12, 10, 1), False),
    ],
)
def test_the_command_fails_where_the_bar_is_missed(monkeypatch, cost, holds):
    monkeypatch.setattr(search_cost, "search_costs", lambda preset: [cost])
    result = CliRunner().invoke(search_cost.main, ["siamrpn_alex_tiny"])
    assert result.exit_code == (0 if holds else 1)
    assert "| siamrpn_alex_tiny | search | 1 x 287 px |" in result.output
    assert ("siamrpn_alex_tiny search" in result.output) is not holds
