"""Regions are pooled where the box is, and a candidate's similarity is the mean of three cosines."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from siamtrt.models.alexnet import GroupedAlexNet
from siamtrt.models.roi import FeatureGrid, feature_grid, pool_regions
from siamtrt.models.sint import SINT, unit_rows

GRID = FeatureGrid(origin=35.0, stride=8)


@pytest.fixture(scope="module")
def network() -> SINT:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SINT(candidates=4, width=32).eval()


def crop(seed: int, size: int = 255) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 255


def linear_backbone() -> GroupedAlexNet:
    """GroupedAlexNet whose features depend on every pixel of their receptive field."""
    backbone = GroupedAlexNet((4, 5), channels=(4, 4, 4, 4, 4)).eval()
    for stage in backbone.children():
        for name, layer in stage.named_children():
            if isinstance(layer, nn.MaxPool2d):
                setattr(stage, name, nn.AvgPool2d(layer.kernel_size, layer.stride))
            elif isinstance(layer, nn.ReLU):
                setattr(stage, name, nn.Identity())
            elif isinstance(layer, nn.Conv2d):
                nn.init.ones_(layer.weight)
    return backbone


@pytest.mark.parametrize(("index", "expected"), [(0, FeatureGrid(35.0, 8)), (1, FeatureGrid(43.0, 8))])
def test_a_feature_is_centred_on_the_middle_of_its_gradient(network, index, expected):
    assert network.grids[index] == expected
    image = torch.zeros(1, 3, 151, 151, requires_grad=True)
    features = linear_backbone()(image)[index]
    for row, column in ((0, 0), (2, 5), (features.shape[2] - 1, 1)):
        (gradient,) = torch.autograd.grad(features[0, :, row, column].sum(), image, retain_graph=True)
        support = gradient[0].abs().sum(0) > 0
        for axis, position in ((1, row), (0, column)):
            reached = torch.nonzero(support.any(axis)).flatten()
            assert (reached[0] + reached[-1]) / 2 == expected.origin + expected.stride * position


def test_padding_moves_the_grid_back():
    layers = [nn.Conv2d(3, 4, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(2, 2, 0), nn.Conv2d(4, 4, 3, 1, 1)]
    assert feature_grid(layers) == FeatureGrid(1.0, 4)


def bilinear(plane: np.ndarray, x: float, y: float) -> float:
    """One sample between the four neighbours; beyond the border, the border."""
    height, width = plane.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    a, b = x - left, y - top
    upper = (1 - a) * plane[top, left] + a * plane[top, right]
    lower = (1 - a) * plane[bottom, left] + a * plane[bottom, right]
    return (1 - b) * upper + b * lower


def pooled_by_loops(features: np.ndarray, box: np.ndarray, bins: int, samples: int) -> np.ndarray:
    """(C, H, W) features -> (bins, C, bins)."""
    x1, y1, x2, y2 = (box - GRID.origin) / GRID.stride
    points = bins * samples
    result = np.zeros((bins, len(features), bins))
    for channel, plane in enumerate(features):
        for row in range(points):
            for column in range(points):
                x = x1 + (x2 - x1) * (column + 0.5) / points
                y = y1 + (y2 - y1) * (row + 0.5) / points
                result[row // samples, channel, column // samples] += bilinear(plane, x, y) / samples**2
    return result


@pytest.mark.parametrize(("bins", "samples"), [(7, 1), (7, 2), (3, 4)])
def test_pooling_equals_bilinear_samples_one_by_one(bins, samples):
    rng = np.random.default_rng(bins + samples)
    features = rng.standard_normal((1, 3, 9, 12)).astype(np.float32)
    inside = [40.3, 37.1, 101.7, 90.2]
    boxes = np.array([inside, [0, 20, 60, 254], [70, 50, 71, 51], [150, 120, 250, 250]], np.float32)
    found = pool_regions(torch.from_numpy(features), torch.from_numpy(boxes), GRID, bins, samples).numpy()
    expected = np.stack([pooled_by_loops(features[0], box, bins, samples) for box in boxes.astype(np.float64)])
    assert found.shape == (4, bins, 3, bins)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_pooling_equals_opencv_remap():
    """At positions in steps of 1/32 feature, where OpenCV's table of weights is exact."""
    plane = np.random.default_rng(0).standard_normal((24, 24)).astype(np.float32)
    box = np.array([35 + 8 * 2.5, 35 + 8 * 4.25, 35 + 8 * (2.5 + 14 * 0.5), 35 + 8 * (4.25 + 14 * 0.75)], np.float32)
    steps = np.arange(14) + 0.5
    x, y = np.meshgrid(2.5 + 0.5 * steps, 4.25 + 0.75 * steps)
    samples = cv2.remap(plane, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    expected = samples.reshape(7, 2, 7, 2).mean((1, 3))
    found = pool_regions(torch.from_numpy(plane)[None, None], torch.from_numpy(box)[None], GRID)
    np.testing.assert_allclose(found[0, :, 0], expected, atol=1e-5)


def test_pooling_a_ramp_gives_the_crop_coordinates():
    """Features that hold the crop coordinate of their centre pool to the centres of a box's bins."""
    centres = GRID.origin + GRID.stride * torch.arange(24.0)
    ramps = torch.stack([centres.expand(24, 24), centres[:, None].expand(24, 24)])[None]
    found = pool_regions(ramps, torch.tensor([[60.0, 80.0, 130.0, 150.0]]), GRID)
    torch.testing.assert_close(found[0, 0, 0], 65.0 + 10 * torch.arange(7.0))
    torch.testing.assert_close(found[0, :, 1, 0], 85.0 + 10 * torch.arange(7.0))


def test_rows_of_any_scale_get_length_one_in_half_precision():
    rows = torch.rand(3, 18816, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-3], [1.0], [6e4]])
    found = unit_rows(rows.half()).float()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3), rtol=2e-3, atol=0)
    assert unit_rows(torch.zeros(1, 8)).abs().max() == 0


def test_similarity_is_the_mean_of_three_cosines(network):
    z, x = crop(1), crop(2)
    box = torch.tensor([[90.0, 100.0, 160.0, 150.0]])
    boxes = torch.tensor([[90.0, 100, 160, 150], [100, 90, 150, 140], [70, 70, 190, 200], [60, 110, 120, 170]])
    with torch.no_grad():
        (embedding,) = network.template(z, box)
        (similarity,) = network.search(x, embedding, boxes)
        target, candidates = (parts_by_loops(network, *pair) for pair in ((z, box), (x, boxes)))
    cosines = [nn.functional.cosine_similarity(a, b).numpy() for a, b in zip(target, candidates, strict=True)]
    assert embedding.shape == (1, 49 * (384 + 256) + 32)
    assert similarity.shape == (1, 4)
    np.testing.assert_allclose(similarity[0].numpy(), np.mean(cosines, axis=0), atol=1e-5)
    assert np.ptp(similarity.numpy()) > 1e-3


def parts_by_loops(network: SINT, image: torch.Tensor, boxes: torch.Tensor) -> list[torch.Tensor]:
    """Regions of both levels and the fully connected layer, pooled by PyTorch's own sampler."""
    regions = []
    for features, origin in zip(network.backbone(image), (35, 43), strict=True):
        size = features.shape[2]
        steps = (torch.arange(14) + 0.5) / 14
        for_boxes = []
        for x1, y1, x2, y2 in (boxes - origin) / 8:
            y, x = torch.meshgrid(y1 + (y2 - y1) * steps, x1 + (x2 - x1) * steps, indexing="ij")
            points = torch.stack([x, y], -1)[None] * 2 / (size - 1) - 1
            samples = nn.functional.grid_sample(features.relu(), points, padding_mode="border", align_corners=True)
            for_boxes.append(nn.functional.avg_pool2d(samples, 2)[0].transpose(0, 1).flatten())
        regions.append(torch.stack(for_boxes))
    return [*regions, network.fc6(regions[1])]


def test_the_target_itself_has_similarity_one(network):
    """Same crop, same box: template and search agree, wherever the box stands among the candidates."""
    box = torch.tensor([[90.0, 100.0, 160.0, 150.0]])
    boxes = torch.cat([box + 20, box - 20, box, box + 5])
    with torch.no_grad():
        (embedding,) = network.template(crop(1), box)
        (similarity,) = network.search(crop(1), embedding, boxes)
    assert embedding.norm().item() == pytest.approx(1, abs=1e-5)
    assert similarity[0, 2].item() == pytest.approx(1, abs=1e-5)
    assert similarity[0].argmax().item() == 2
    assert similarity[0, 3] < 1 - 1e-4


def test_a_shift_by_the_stride_moves_the_embedding_with_the_box(network):
    """Unpadded, the network sees a moved target as the same one."""
    image, box = crop(3, 263), torch.tensor([[90.0, 100.0, 160.0, 150.0]])
    with torch.no_grad():
        (embedding,) = network.template(image[:, :, :255, :255], box)
        (similarity,) = network.search(image[:, :, 8:, 8:], embedding, box - 8)
    assert similarity.item() == pytest.approx(1, abs=1e-5)
