"""SINT: candidate boxes matched with the target by the inner product of their embeddings (Tao et al., CVPR 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamtrt.models.alexnet import GroupedAlexNet
from siamtrt.models.network import SiameseNetwork
from siamtrt.models.roi import feature_grid, pool_regions

LEVELS = (4, 5)  # convolutions whose regions are pooled
CHANNELS = (384, 256)
PARTS = len(LEVELS) + 1  # of an embedding: both levels and the fully connected layer
EPSILON = 1e-4  # keeps quotients finite where a region is zero; a normal number in FP16


def unit_rows(rows: Tensor) -> Tensor:
    """(K, D) -> the same rows at length 1, to 5e-5; a row of zeros stays zero.

    Divided by its largest magnitude first, a row's sum of squares lies in 1..D: FP16, whose largest number is
    65504, holds it for the 18,816 values of a region of the fourth convolution whatever their scale.
    """
    scaled = rows / (rows.abs().amax(1, keepdim=True) + EPSILON)
    return scaled / (scaled.square().sum(1, keepdim=True) + EPSILON).sqrt()


class SINT(SiameseNetwork):
    """Embeds boxes of a crop; a candidate's similarity is the inner product of its embedding and the target's.

    An embedding joins the region pooled from the fourth convolution, that from the fifth and the fully connected
    layer's output on the latter, each at length 1 (the authors' deployed network does this with VGG-16's conv4_3
    and conv5_3 and 4096 outputs). Divided by sqrt(3) it has length 1 as a whole, and the similarity is the mean of
    the three cosines, within -1..1; it orders candidates as their Euclidean distances do.

    SINT++ (Wang et al., CVPR 2018) trains a SINT with generated hard positives; deployed, it is the same network.

    Choices of ours: the AlexNet variant, as SiamFC's unpadded network at stride 8; average bilinear pooling, which
    two matrix products compute, instead of maximum pooling of whole features; `width` 512 instead of 4096, whose
    51 million weights would take 206 MB; crops around the target instead of the whole frame at 512x512. Template
    and search crop have the same size, 255, and the same scale, so that target and candidate are pooled from equal
    surroundings; in a 127-pixel crop the fifth level's centres, 43 to 83, would not reach the target's edges.

    Args:
        candidates: boxes of a search crop, K.
        width: outputs of the fully connected layer.
        bins: parts along each side of a region.
        samples: bilinear samples along each side of a part.
    """

    outputs = ("similarity",)

    def __init__(self, candidates: int = 303, width: int = 512, bins: int = 7, samples: int = 2) -> None:
        super().__init__()
        self.backbone = GroupedAlexNet(LEVELS)
        self.fc6 = nn.Linear(bins * CHANNELS[-1] * bins, width)
        self.candidates, self.bins, self.samples = candidates, bins, samples
        self.sizes = [*(bins * channels * bins for channels in CHANNELS), width]
        self.grids = [feature_grid(self._layers(level)) for level in LEVELS]

    def _layers(self, level: int) -> list[nn.Module]:
        """Layers of the backbone up to a convolution."""
        stages = [self.backbone.get_submodule(f"conv{stage}") for stage in range(1, level + 1)]
        return [layer for stage in stages for layer in stage.children()]

    def template_inputs(self) -> dict[str, Tensor]:
        """The target's box in the template crop, (1, 4) x1, y1, x2, y2."""
        return {"box": torch.tensor([[95.0, 95.0, 159.0, 159.0]])}

    def search_inputs(self) -> dict[str, Tensor]:
        """The candidates in the search crop, (K, 4) x1, y1, x2, y2."""
        shifts = torch.linspace(-32, 32, self.candidates)
        return {"boxes": self.template_inputs()["box"] + shifts[:, None]}

    def _parts(self, crop: Tensor, boxes: Tensor) -> list[Tensor]:
        """Crop (1, 3, S, S) and boxes (K, 4) -> the embeddings' parts, each (K, D) with rows of length 1."""
        levels = self.backbone(crop)
        levels[-1] = levels[-1].relu()  # the backbone leaves its last convolution without one
        regions = [
            pool_regions(level, boxes, grid, self.bins, self.samples).flatten(1)
            for level, grid in zip(levels, self.grids, strict=True)
        ]
        return [unit_rows(part) for part in (*regions, self.fc6(regions[-1]))]

    def template(self, z: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, T, T) template crop and the target's box (1, 4) -> its embedding (1, D) of length 1."""
        return (torch.cat(self._parts(z, box), dim=1) / PARTS**0.5,)

    def search(self, x: Tensor, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, S, S) search crop, the target's embedding (1, D) and boxes (K, 4) -> similarity (1, K).

        Part by part, because the K joined embeddings would be 39 MB.
        """
        pieces = embedding.split(self.sizes, dim=1)
        products = [piece @ part.T for piece, part in zip(pieces, self._parts(x, boxes), strict=True)]
        return (torch.cat(products).sum(0, keepdim=True) / PARTS**0.5,)
