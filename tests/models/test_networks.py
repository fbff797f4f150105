"""The networks reproduce the references' published code."""

from __future__ import annotations

import pytest
import torch
from goldens import LIMIT, NETWORKS, Golden

from siamtrt.export.calls import example_inputs, graph_calls, run_calls
from siamtrt.models.checkpoints import load_network
from siamtrt.models.presets import PRESETS


@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_the_reference(shared_dir, tmp_path, name):
    """The file with the reference's parameter names loads as it is."""
    golden, preset = Golden(shared_dir / "goldens", name), PRESETS[name]
    module = load_network(golden.save(tmp_path / "model.pth"), name).module

    def run(call, feeds):
        with torch.no_grad():
            outputs = getattr(module, call.method)(*map(torch.from_numpy, feeds.values()))
        return [output.numpy() for output in outputs]

    calls = [call for call in graph_calls(module, preset) if not call.graph.startswith("search_")]
    examples = {key: value.numpy() for key, value in example_inputs(module).items()}
    errors = golden.errors(run_calls(calls, examples, golden.crop, run, lambda value, _: value))
    assert errors
    assert max(errors.values()) <= LIMIT


@pytest.mark.parametrize("version", [1, 2, 3])
def test_folding_the_search_convolution_into_the_template_changes_nothing(version):
    """v2 and v3 move the search side's 1x1 convolution into the kernels; the head applied plainly must agree."""
    torch.manual_seed(version)
    head = PRESETS[f"nanotrack_v{version}"].build().eval().ban_head
    for module in head.modules():  # statistics and scales away from their neutral values
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    channels = 96 if version == 3 else 48
    z, x = torch.randn(1, channels, 8, 8), torch.randn(1, channels, 16, 16)
    with torch.no_grad():
        kernel, *bias = head.template(z)[:2]
        response = kernel @ x.flatten(2) + (bias[0] if bias else 0)
        branches = [head.corr_pw] if version == 1 else [head.corr_pw_cls, head.corr_pw_reg]
        for branch, found in zip(branches, response.chunk(len(branches), dim=1), strict=True):
            left = branch.conv_kernel(z) if version > 1 else z
            right = branch.conv_search(x) if version > 1 else x
            expected = torch.einsum("ncp,ncq->npq", left.flatten(2), right.flatten(2))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
