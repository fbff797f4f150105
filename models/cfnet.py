"""CFNet: a correlation filter, solved for in the Fourier domain, makes the template's kernel (CFNet, sec. 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from siamtrt.models.alexnet import GroupedAlexNet
from siamtrt.models.fourier import Dft2
from siamtrt.models.network import ExtraGraph, SiameseNetwork
from siamtrt.models.xcorr import shared_xcorr

CHANNELS = 32  # of the features the filter is learned on (CFNet, fig. 1)
STRIDE = 4
MARGIN = 16  # feature cells cut from each side of the filter: half of what 255 px have over 127 px, at the stride
SMALLEST_PEAK = 0.01  # keeps a blank template's kernel finite


class CFNetBackbone(nn.Module):
    """AlexNet's first convolutions at a total stride of 4, ending in 32 channels.

    Args:
        depth: convolutions, 1 to 5. The fifth ends as it is, the others in batch norm and ReLU.
    """

    def __init__(self, depth: int = 5) -> None:
        super().__init__()
        self.depth = depth
        if depth == 1:
            self.convolutions: nn.Module = nn.Conv2d(3, CHANNELS, 11, stride=STRIDE)
        else:
            channels = (*(96, 256, 384, 384)[: depth - 1], CHANNELS)
            self.convolutions = GroupedAlexNet(levels=(depth,), channels=channels, strides=(2, 1))
        self.end = nn.Identity() if depth == 5 else nn.Sequential(_norm(), nn.ReLU())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, 255, 255) pixels -> [(N, 32, s, s)]: s 62, 57, 53, 51, 49 for depths 1 to 5."""
        features = self.convolutions(x)
        return [self.end(features if self.depth == 1 else features[-1])]


def _norm() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(CHANNELS, eps=1e-6, momentum=0.05)


def gaussian_target(side: int, sigma: float) -> np.ndarray:
    """(side, side) response the filter is to have on its own template: 1 at no shift, [0, 0], falling off around it."""
    shift = np.arange(side)
    shift = np.minimum(shift, side - shift)
    line = np.exp(-(shift**2) / (2 * sigma**2))
    return np.outer(line, line)


class CorrelationFilter(nn.Module):
    """The linear filter whose circular correlation with the features is a Gaussian (CFNet, sec. 3.4).

    It minimises, over filters w with target y and features x of n = side * side cells,
    1/n * |sum_c w_c (circularly correlated with) x_c - y|^2 + ridge * |w|^2.

    Args:
        side: of the features.
        sigma: of the Gaussian, in cells.
        ridge: weight of the regularisation.
    """

    window: Tensor
    target: Tensor

    def __init__(self, side: int, sigma: float, ridge: float) -> None:
        super().__init__()
        self.dft = Dft2(side)
        self.side = side
        self.ridge = ridge
        window = np.outer(np.hanning(side), np.hanning(side))
        target = np.fft.rfft2(gaussian_target(side, sigma), norm="ortho").real  # symmetric, hence a real spectrum
        self.register_buffer("window", torch.from_numpy(window).float(), persistent=False)
        self.register_buffer("target", torch.from_numpy(target).float(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(1, C, side, side) features -> the filter on them under a cosine window, (1, C, side, side).

        Solved for features of peak 1, which changes nothing but the range of their powers: 32 flat channels of 4 would
        overflow FP16.
        """
        features = features * self.window
        peak = features.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=SMALLEST_PEAK)
        re, im = self.dft(features / peak)
        power = (re * re + im * im).sum(dim=1, keepdim=True)
        gain = self.target / (power + self.ridge / peak / peak)
        return self.dft.inverse((re * gain, im * gain)) / (peak * self.side)


class CFNet(SiameseNetwork):
    """CFNet split in two: all that the correlation filter costs is in `template`.

    Template and search crop have the same size and scale, 255 px of which the middle 127 hold target and context; the
    filter is learned on all of the template and cropped to what these 127 px give. The response is scaled and shifted
    by two learned numbers; the scale goes into the kernel.

    Choices where the paper leaves it open are bertinetto/cfnet's: ridge 10, a Gaussian of 8 px, Hann windows, batch
    norm and ReLU at the end of the variants below conv5, a scale of 1 and a bias of -0.5 before training. That the
    bias is in the response at tracking time is ours: it is what the network is trained with.

    Args:
        backbone: pixels -> [one feature level of total stride 4], see `CFNetBackbone`.
        side: of the template's features.
        sigma: of the Gaussian target in template pixels.
        ridge: weight of the filter's regularisation.
        template_lr: weight of the new frame in the rolling average of the kernel; 0 keeps the first frame's and has no
            "update" graph.
    """

    outputs = ("response",)

    def __init__(
        self, backbone: nn.Module, side: int = 49, sigma: float = 8.0, ridge: float = 10.0, template_lr: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.filter = CorrelationFilter(side, sigma / STRIDE, ridge)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(-0.5))
        self.template_lr = template_lr

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, 255, 255) template crop -> (1, 32, k, k) kernel: k 30, 25, 21, 19, 17 for depths 1 to 5."""
        learned = self.filter(self.backbone(z)[-1])
        return (learned[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN] * self.scale,)

    def search(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 255, 255) search crops, one a scale, and the kernel -> (N, 1, 33, 33) response."""
        return (shared_xcorr(self.backbone(x)[-1], kernel) + self.bias,)

    def update(self, z: Tensor, kernel: Tensor) -> tuple[Tensor, ...]:
        """A template crop at the target found and the kernel so far -> the kernel to go on with."""
        return (kernel + self.template_lr * (self.template(z)[0] - kernel),)

    def extra_graphs(self) -> tuple[ExtraGraph, ...]:
        """`update`, if the kernel is to change."""
        if not self.template_lr:
            return ()
        return (ExtraGraph("update", ("z", "kernel0"), ("updated_kernel0",)),)
