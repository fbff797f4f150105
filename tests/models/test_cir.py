"""The cropping-inside residual backbones equal SiamDW's code, and no feature depends on where the crop ends."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from siamtrt.models.cir import CIResInception22, CIResNet22, CIResNeXt22
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.siamfc import SiamFC
from siamtrt.models.siamrpn import SiamRPN

SEED = 7
LIMIT = 1e-4
STRIDE = 8
BACKBONE = ("features.features.", "backbone.")
NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "siamfcres22": (BACKBONE,),
    "siamfcincep22": (BACKBONE,),
    "siamfcnext22": (
        ("features.features.conv0.", "backbone.conv1."), ("features.features.bn0.", "backbone.bn1."), BACKBONE,
    ),
    "siamrpnres22": (
        BACKBONE,
        ("connect_model.template_cls.", "rpn_head.template_cls_conv."),
        ("connect_model.template_reg.", "rpn_head.template_loc_conv."),
        ("connect_model.search_cls.", "rpn_head.search_cls_conv."),
        ("connect_model.search_reg.", "rpn_head.search_loc_conv."),
        ("connect_model.adjust.", "rpn_head.loc_adjust."),
    ),
}  # fmt: skip
NETWORKS: dict[str, Callable[[], SiameseNetwork]] = {
    "siamfcres22": lambda: SiamFC(CIResNet22(), 0.1),
    "siamfcincep22": lambda: SiamFC(CIResInception22(), 0.1),
    "siamfcnext22": lambda: SiamFC(CIResNeXt22(), 0.1),
    "siamrpnres22": lambda: SiamRPN(CIResNet22(), 512),
}


def _renamed(name: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    theirs, ours = next(pair for pair in prefixes if name.startswith(pair[0]))
    return ours + name.removeprefix(theirs)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_siamdw(shared_dir, name):
    """The authors' parameters load strictly under new prefixes, and the outputs agree."""
    folder = shared_dir / "goldens"
    spec = importlib.util.spec_from_file_location("golden_recipe", folder / "recipe.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    shapes = json.loads((folder / f"siamdw_{name}.keys.json").read_text())["keys"]
    weights = {
        _renamed(key, NAMES[name]): torch.as_tensor(value) for key, value in recipe.state_dict(shapes, SEED).items()
    }
    assert len(weights) == len(shapes)
    network = NETWORKS[name]().eval()
    network.load_state_dict(weights)
    with torch.no_grad():
        kernels = network.template(torch.from_numpy(recipe.image(127, SEED)))
        found = network.search(torch.from_numpy(recipe.image(255, SEED + 1)), *kernels)
    golden = np.load(folder / f"siamdw_{name}.seed{SEED}.npz")
    for output, value in zip(network.outputs, found, strict=True):
        expected = golden[output]
        assert value.shape == expected.shape
        assert np.abs(value.numpy() - expected).max() <= LIMIT * np.abs(expected).max()


@pytest.mark.parametrize("backbone", [CIResNet22, CIResInception22, CIResNeXt22])
def test_a_feature_is_the_same_wherever_the_crop_begins_and_ends(backbone):
    """Crops taken whole strides apart share the features they have in common, those on the border included."""
    torch.manual_seed(0)
    network = backbone().eval()
    for module in network.modules():  # PyTorch's own initialisation leaves the 3x3 convolutions next to no influence
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    pixels = 255 * torch.rand(1, 3, 127 + STRIDE, 127 + 2 * STRIDE)
    with torch.no_grad():
        whole = network(pixels)[-1]
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 2)):
            top, left = down * STRIDE, right * STRIDE
            part = network(pixels[:, :, top : top + 127, left : left + 127])[-1]
            expected = whole[:, :, down : down + 5, right : right + 5]
            assert part.shape == expected.shape == (1, whole.shape[1], 5, 5)
            assert (part - expected).abs().max() <= LIMIT * expected.abs().max()
