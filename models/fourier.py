"""Two-dimensional Fourier transforms of real maps as products with constant matrices.

No backend need know complex numbers or FFTs: a spectrum is a pair of real tensors. At the sides of trackers' feature
maps, 6 to 62, the matrices cost less than the convolutions beside them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

Spectrum = tuple[Tensor, Tensor]  # real and imaginary part


class Dft2(nn.Module):
    """Discrete Fourier transform of (..., side, side) maps, orthonormal: the sum of squares stays, within FP16's range.

    A real map's spectrum is its own mirror image, conjugated: only the columns 0 to side // 2 are kept, K of them.

    Args:
        side: rows and columns of a map.
    """

    columns: Tensor
    rows: Tensor
    columns_back: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        index = np.arange(side)
        angle = 2 * np.pi / side * (np.outer(index, index) % side)
        cosine, sine = np.cos(angle) / np.sqrt(side), np.sin(angle) / np.sqrt(side)
        kept = side // 2 + 1
        # Inverse: a kept column stands for its mirror image too, but for column 0 and, if side is even, the last.
        weight = np.where((2 * index[:kept]) % side == 0, 1.0, 2.0)[:, None]
        self._constant("columns", np.hstack([cosine[:, :kept], -sine[:, :kept]]))
        self._constant("rows", np.block([[cosine, sine], [-sine, cosine]]))
        self._constant("columns_back", np.vstack([weight * cosine[:kept], -weight * sine[:kept]]))

    def _constant(self, name: str, matrix: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(matrix).float(), persistent=False)

    def forward(self, x: Tensor) -> Spectrum:
        """(..., side, side) maps -> their spectra, real and imaginary part, each (..., side, K)."""
        re, im = (x @ self.columns).chunk(2, dim=-1)
        re, im = (self.rows @ torch.cat([re, im], dim=-2)).chunk(2, dim=-2)
        return re, im

    def inverse(self, spectrum: Spectrum) -> Tensor:
        """Spectra of real maps, each part (..., side, K) -> (..., side, side) maps."""
        re, im = (self.rows.T @ torch.cat(spectrum, dim=-2)).chunk(2, dim=-2)
        return torch.cat([re, im], dim=-1) @ self.columns_back


def times(a: Spectrum, b: Spectrum) -> Spectrum:
    """a * b, element by element."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def conjugate(a: Spectrum) -> Spectrum:
    """a with the sign of its imaginary part turned."""
    return a[0], -a[1]


def power(a: Spectrum) -> Tensor:
    """|a|^2, element by element."""
    return a[0] * a[0] + a[1] * a[1]
