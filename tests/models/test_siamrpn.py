"""SiamRPN that also classifies with the distractors' mean kernel (DaSiamRPN, sec. 3.3)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siamtrt.models.alexnet import AlexNet
from siamtrt.models.siamrpn import DistractorAwareSiamRPN, SiamRPN

ANCHORS = 2


class Pair:
    """The two networks with the same weights, a search crop, and kernels of a target and of three distractors."""

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.plain = SiamRPN(AlexNet(0.25), 64, ANCHORS).eval()
            for module in self.plain.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
                    torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(self.plain.rpn_head.loc_adjust.bias)
            self.aware = DistractorAwareSiamRPN(AlexNet(0.25), 64, ANCHORS).eval()
            self.aware.load_state_dict(self.plain.state_dict())
            self.crops = torch.randn(4, 1, 3, 127, 127)
            self.x = torch.randn(1, 3, 167, 167)
        with torch.no_grad():
            self.kernels = [self.plain.template(z) for z in self.crops]


@pytest.fixture(scope="module")
def pair():
    return Pair()


def close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_names_follow_the_outputs(pair):
    assert pair.plain.outputs == ("cls", "loc")
    assert pair.aware.outputs == ("cls", "loc", "distractor")


@torch.no_grad()
def test_template_is_siamrpns_and_a_zero_kernel(pair):
    cls, loc, none = pair.aware.template(pair.crops[0])
    close(cls, pair.kernels[0][0])
    close(loc, pair.kernels[0][1])
    assert none.shape == cls.shape == (1, 2 * ANCHORS, 64, 4, 4)
    assert none.count_nonzero() == 0


@torch.no_grad()
def test_cls_and_loc_are_siamrpns_whatever_the_distractors(pair):
    expected = pair.plain.search(pair.x, *pair.kernels[0])
    for distractors in (torch.zeros_like(pair.kernels[0][0]), pair.kernels[1][0]):
        cls, loc, _ = pair.aware.search(pair.x, *pair.kernels[0], distractors)
        close(cls, expected[0])
        close(loc, expected[1])


@torch.no_grad()
def test_a_zero_kernel_has_a_zero_response(pair):
    tensors = pair.aware.template(pair.crops[0])
    cls, _, likeness = pair.aware.search(pair.x, *tensors)
    assert likeness.shape == cls.shape
    assert likeness.count_nonzero() == 0


@pytest.mark.parametrize("count", [1, 2, 3])
@torch.no_grad()
def test_response_to_the_mean_kernel_is_the_mean_response(pair, count):
    """Each distractor's response is what SiamRPN gives when the distractor is its target."""
    each = [pair.plain.search(pair.x, *kernels)[0] for kernels in pair.kernels[1 : 1 + count]]
    mean = torch.stack([kernels[0] for kernels in pair.kernels[1 : 1 + count]]).mean(dim=0)
    *_, likeness = pair.aware.search(pair.x, *pair.kernels[0], mean)
    close(likeness, torch.stack(each).mean(dim=0))


@torch.no_grad()
def test_responses_are_plain_correlations(pair):
    """Classification features of the backbone's by themselves, multiplied and summed in NumPy at every position."""
    head = pair.plain.rpn_head
    features = head.search_cls_conv(pair.plain.backbone(pair.x)[0])[0].double().numpy()
    cls, _, likeness = pair.aware.search(pair.x, *pair.kernels[0], pair.kernels[2][0])
    for found, kernel in ((cls, pair.kernels[0][0]), (likeness, pair.kernels[2][0])):
        filters = kernel[0].double().numpy()
        side = features.shape[-1] - filters.shape[-1] + 1
        expected = np.zeros((2 * ANCHORS, side, side))
        for filter_, row, column in np.ndindex(expected.shape):
            expected[filter_, row, column] = (features[:, row : row + 4, column : column + 4] * filters[filter_]).sum()
        assert found.shape == (1, *expected.shape)
        np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5 * np.abs(expected).max())
