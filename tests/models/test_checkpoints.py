"""Checkpoints load in the forms their authors publish."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from siamtrt.models.checkpoints import load_network, read_state_dict
from siamtrt.models.presets import PRESETS


@pytest.fixture(scope="module")
def tiny_state():
    torch.manual_seed(1)
    return PRESETS["siamrpn_alex_tiny"].build().state_dict()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_published_nanotrack_loads_strictly_and_is_recognised(shared_dir, version):
    path = shared_dir / "weights" / f"nanotrackv{version}.pth"
    network = load_network(path)
    assert network.preset.name == f"nanotrack_v{version}"
    assert not network.module.training
    state = read_state_dict(path)
    loaded = network.module.state_dict()
    assert state.keys() == loaded.keys()
    assert all(torch.equal(state[name], loaded[name]) for name in state)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "network"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_and_prefixes_are_removed(tmp_path, tiny_state, wrapper, prefix):
    state = {prefix + name: value for name, value in tiny_state.items()}
    path = tmp_path / "model.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    loaded = load_network(path).module.state_dict()
    assert all(torch.equal(loaded[name], tiny_state[name]) for name in tiny_state)


def test_half_precision_safetensors_load_as_float32(tmp_path, tiny_state):
    path = tmp_path / "model.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in tiny_state.items()}, path)
    loaded = load_network(path).module.state_dict()
    name = "backbone.features.0.weight"
    assert loaded[name].dtype == torch.float32
    torch.testing.assert_close(loaded[name], tiny_state[name], rtol=1e-3, atol=1e-4)


def test_files_without_step_counters_load(tmp_path, tiny_state):
    """PyTorch before 0.4.1 saved no num_batches_tracked."""
    path = tmp_path / "old.pth"
    torch.save({k: v for k, v in tiny_state.items() if not k.endswith("num_batches_tracked")}, path)
    assert load_network(path).preset.name == "siamrpn_alex_tiny"
