"""ImageNet's weights in a backbone that eats raw BGR, against the network of the package that ships them."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from siamtrt.errors import CheckpointError, MissingPackageError, TrainingError
from siamtrt.models.mobilenetv2 import PlainMobileNetV2
from siamtrt.training import imagenet
from siamtrt.training.imagenet import load_imagenet

PIXELS = torch.randint(0, 256, (2, 3, 95, 95), generator=torch.Generator().manual_seed(0)).float()  # BGR


@pytest.fixture(scope="module")
def weights_file():
    try:
        return imagenet.imagenet_file()
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folded(weights_file):
    torch.manual_seed(0)
    backbone = PlainMobileNetV2()
    load_imagenet(backbone)
    return backbone.eval()


@pytest.fixture(scope="module")
def normalised():
    """The same pixels as ImageNet's networks take them: RGB in 0..1, less the mean, over the deviation."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (PIXELS.flip(1) / 255 - mean[:, None, None]) / std[:, None, None]


@torch.no_grad()
def test_first_layer(folded, normalised, weights_file):
    weights = torch.load(weights_file, weights_only=True)
    expected = functional.conv2d(normalised.double(), weights["features.0.0.weight"].double(), stride=2)
    norm = [weights[f"features.0.1.{name}"].double() for name in ("running_mean", "running_var", "weight", "bias")]
    expected = functional.relu6(functional.batch_norm(expected, *norm))
    torch.testing.assert_close(folded.features[0](PIXELS).double(), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_packages_own_network_gives_the_same_features(folded, normalised, weights_file):
    """Theirs pads its strided convolutions; with that taken out, on normalised RGB, both agree."""
    place = weights_file.parents[1] / "mobilenetv2_bottle.py"
    spec = importlib.util.spec_from_file_location("mobilenetv2_bottle", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.MobileNetV2_bottle()
    theirs.load_state_dict(torch.load(weights_file, weights_only=True), strict=False)
    for layer in theirs.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.padding = (0, 0)
    theirs.eval()
    fine = theirs.features[:7](normalised)
    expected = fine, theirs.features[7:14](fine)
    found = folded(PIXELS)
    assert [tuple(value.shape) for value in found] == [(2, 32, 11, 11), (2, 96, 5, 5)]
    for ours, wanted in zip(found, expected, strict=True):
        assert (ours - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("change", ["missing", "narrower", "other"])
def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path, change):
    torch.manual_seed(0)
    backbone = PlainMobileNetV2()
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    if change == "missing":
        del state["features.13.conv.7.weight"]
    elif change == "narrower":
        state["features.1.conv.0.weight"] = state["features.1.conv.0.weight"][:16]
    else:
        state = {"fc.weight": torch.zeros(3, 3)}
    torch.save(state, tmp_path / "other.pt")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(TrainingError, match=r"weights of another network: received no features\."):
        load_imagenet(backbone, tmp_path / "other.pt")
    torch.testing.assert_close(backbone.state_dict(), before, rtol=0, atol=0)


def test_a_file_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="unreadable checkpoint"):
        load_imagenet(PlainMobileNetV2(), path)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, imagenet.PACKAGE, None)
    with pytest.raises(MissingPackageError, match=r"siamtrt\[train\]"):
        load_imagenet(PlainMobileNetV2())
