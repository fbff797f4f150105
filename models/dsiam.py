"""DSiam: transformations of template and search features, learned from the last frame (DSiam, sec. 3)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from siamtrt.models.fourier import Dft2, Spectrum, conjugate, power, times
from siamtrt.models.network import ExtraGraph, SiameseNetwork
from siamtrt.models.xcorr import shared_xcorr

SMALLEST_PEAK = 0.01  # keeps the transformation learned from blank features finite
SMALLEST_RIDGE = 1e-5  # of features of peak 1: less would raise rounding errors beyond 1e-4, and vanish in FP16


def learned_transformation(dft: Dft2, source: Tensor, wanted: Tensor, ridge: float) -> Spectrum:
    """The circular convolution that takes one feature map to another (DSiam, sec. 3).

    Each channel by itself minimises, over kernels t and n = side * side cells, 1/n * |t (convolved with) source -
    wanted|^2 + ridge * |t|^2. Solved for sources of peak 1, see `CorrelationFilter`.

    Args:
        dft: of the features' side.
        source, wanted: (1, C, side, side) features.
        ridge: weight of the regularisation; not below 1e-5 times the squared peak of `source`.

    Returns:
        The kernel's spectrum, each part (1, C, side, side // 2 + 1): 1 where the convolution keeps a frequency.
    """
    peak = source.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=SMALLEST_PEAK)
    given, goal = dft(source / peak), dft(wanted / peak)
    re, im = times(goal, conjugate(given))
    weight = power(given) + (ridge / peak / peak).clamp(min=SMALLEST_RIDGE)
    return re / weight, im / weight


def transformed(dft: Dft2, features: Tensor, transformation: Spectrum) -> Tensor:
    """(N, C, side, side) features, circularly convolved with the kernel of the given spectrum."""
    return dft.inverse(times(dft(features), transformation))


class DSiam(SiameseNetwork):
    """DSiam split in three: `update` learns from frame t-1 what `search` applies to frame t.

    A level's response is the correlation of v * f(O_1) with w * f(Z_t), * a circular convolution: v takes the first
    frame's target features towards the last frame's, w takes the last search crop's features towards those it has with
    its surroundings faded out. The levels' responses are added with a learned weight for each position of each level.
    Both transformations start as the identity and are tensors of the template, so that nothing here keeps state.

    Learning rates, ridges, levels 4 (after its ReLU) and 5, and plain weights without softmax are tsingqguo/DSiam's.
    Ours: the rates blend the transformations, not the features, and there is no cosine window on the features, so that
    the identity gives SiamFC; the fading is a Hann window, of which that code's Hamming times Hann times a Gaussian of
    100 template sides differs at the border; the weights start equal; the response has siamfc-pytorch's scale.

    Args:
        backbone: pixels -> one feature level for each of `channels`.
        channels: of the levels.
        template_sides, search_sides: of the levels' features.
        search_size: side of the search crop in pixels.
        ridges: regularisation of v and of w.
        learning_rates: share of the learned transformation, in v and in w, that is not the identity.
        scale: of the response; folded into the kernels.
    """

    outputs = ("response",)
    fading: Tensor

    def __init__(
        self, backbone: nn.Module, channels: Sequence[int] = (384, 256), template_sides: Sequence[int] = (8, 6),
        search_sides: Sequence[int] = (24, 22), search_size: int = 255, ridges: tuple[float, float] = (1e-5, 10.0),
        learning_rates: tuple[float, float] = (0.49, 0.29), scale: float = 0.001,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone = backbone
        self.channels = tuple(channels)
        self.levels = len(self.channels)
        self.template_dfts = nn.ModuleList(Dft2(side) for side in template_sides)
        self.search_dfts = nn.ModuleList(Dft2(side) for side in search_sides)
        self.sides = tuple(template_sides) + tuple(search_sides)
        self.ridges, self.learning_rates, self.scale = ridges, learning_rates, scale
        window = torch.from_numpy(np.outer(np.hanning(search_size), np.hanning(search_size))).float()
        self.register_buffer("fading", window, persistent=False)
        response = search_sides[0] - template_sides[0] + 1
        self.fusion = nn.Parameter(torch.full((self.levels, response, response), 1 / self.levels))

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, 127, 127) template crop -> features, then identities.

        Returns:
            A (1, C, t, t) tensor of features each level; for v, then w, and each level the real, then the imaginary
            part of a spectrum, (1, C, t, t // 2 + 1) for v and (1, C, s, s // 2 + 1) for w.
        """
        # Made of the input: the FP16 converter fails at constants that are a graph's outputs, and 5 MB would be stored.
        zero = z[:, :1, :1, :1] * 0
        parts: list[Tensor] = []
        for channels, side in zip(self.channels * 2, self.sides, strict=True):
            shape = (1, channels, side, side // 2 + 1)
            parts += [(zero + 1).expand(shape), zero.expand(shape)]
        return (*self.backbone(z), *parts)

    def search(self, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, S, S) search crops, one a scale, and the template's tensors -> (N, 1, R, R) response."""
        first = tensors[: self.levels]
        spectra = list(zip(tensors[self.levels :: 2], tensors[self.levels + 1 :: 2], strict=True))
        responses = []
        for level, features in enumerate(self.backbone(x)):
            appearance, background = spectra[level], spectra[self.levels + level]
            kernel = transformed(self.template_dfts[level], first[level], appearance) * self.scale  # type: ignore[arg-type]
            features = transformed(self.search_dfts[level], features, background)  # type: ignore[arg-type]
            responses.append(shared_xcorr(features, kernel) * self.fusion[level])
        return (functools.reduce(torch.add, responses),)

    def update(self, z: Tensor, x: Tensor, *first: Tensor) -> tuple[Tensor, ...]:
        """Learn both transformations from the last frame.

        Args:
            z: (1, 3, T, T) template crop at the target found there.
            x: (1, 3, S, S) search crop at the target found there.
            first: the first frame's features, a level each.

        Returns:
            The spectra, in the order `template` gives them.
        """
        parts: list[Tensor] = []
        v_rate, w_rate = self.learning_rates
        for dft, source, wanted in zip(self.template_dfts, first, self.backbone(z), strict=True):
            parts += _blended(learned_transformation(dft, source, wanted, self.ridges[0]), v_rate)  # type: ignore[arg-type]
        for dft, features in zip(self.search_dfts, self.backbone(torch.cat([x, x * self.fading])), strict=True):
            source, wanted = features.chunk(2)
            parts += _blended(learned_transformation(dft, source, wanted, self.ridges[1]), w_rate)  # type: ignore[arg-type]
        return tuple(parts)

    def extra_graphs(self) -> tuple[ExtraGraph, ...]:
        """`update`, of every transformation, from the crops at the target found and the first frame's features."""
        first = tuple(f"kernel{level}" for level in range(self.levels))
        updated = tuple(f"updated_kernel{index}" for index in range(self.levels, 5 * self.levels))
        return (ExtraGraph("update", ("z", "x", *first), updated),)


def _blended(transformation: Spectrum, rate: float) -> Spectrum:
    """The transformation's `rate` and the identity's rest."""
    re, im = transformation
    return 1 - rate + rate * re, rate * im
