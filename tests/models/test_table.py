"""The table of trackers, against figures that are known otherwise."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from siamtrt.export.macs import graph_macs
from siamtrt.models.presets import PRESETS
from siamtrt.models.table import as_table, model_rows


@pytest.fixture(scope="module")
def rows():
    return {row.preset.name: row for row in model_rows()}


def test_every_preset_has_a_row(rows):
    assert list(rows) == list(PRESETS)
    assert len(as_table(list(rows.values())).splitlines()) == 2 + len(PRESETS)


def test_search_cost_is_that_of_the_exported_graph(rows, exported):
    """AlexNet gains nothing from the rewrites but merging, which saves no multiplication: both counts must agree."""
    name = "siamrpn_alex_dwxcorr"
    macs = graph_macs(onnx.load(exported(name) / "search.onnx"))
    assert rows[name].search_gmacs == pytest.approx(macs / 1e9, rel=1e-9)


def test_parameters_are_those_of_the_reference(rows, shared_dir):
    from goldens import NETWORKS, Golden

    buffers = ("running_mean", "running_var", "num_batches_tracked")
    for name in NETWORKS:
        shapes = Golden(shared_dir / "goldens", name).shapes
        count = sum(np.prod(shape) for key, shape in shapes.items() if not key.endswith(buffers))
        assert rows[name].parameters_m == pytest.approx(count / 1e6)
