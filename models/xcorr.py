"""Depthwise and pixelwise cross-correlation, as eager PyTorch and as the exported operator.

SiamRPN++, sec. 3.4; the pixelwise form is AlphaRefine's (sec. 3.2), used by NanoTrack.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

OPERATOR = "siamtrt::DepthwiseXCorr"


def _grouped(x: Tensor, kernel: Tensor) -> Tensor:
    n, c, h, w = kernel.shape
    response = F.conv2d(x.reshape(1, n * c, *x.shape[2:]), kernel.reshape(n * c, 1, h, w), groups=n * c)
    return response.reshape(n, c, *response.shape[2:])


def _symbolic(x: Tensor, kernel: Tensor) -> Tensor:
    """The operator as one node of its own name; `siamtrt.export` supplies its body."""
    n, c, h, w = kernel.shape
    shape = (n, c, x.shape[2] - h + 1, x.shape[3] - w + 1)
    return torch.onnx.ops.symbolic(OPERATOR, (x, kernel), {"group": n * c}, dtype=x.dtype, shape=shape, version=1)


def depthwise_xcorr(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each channel of `x` with the same channel of `kernel`.

    Args:
        x: (N, C, H, W) search features.
        kernel: (N, C, h, w) template features.

    Returns:
        (N, C, H-h+1, W-w+1).
    """
    return _symbolic(x, kernel) if torch.onnx.is_in_onnx_export() else _grouped(x, kernel)


def pixelwise_xcorr(x: Tensor, kernel: Tensor) -> Tensor:
    """Dot product of every template position with every search position.

    Args:
        x: (N, C, H, W) search features.
        kernel: (N, K, C), one row per template position.

    Returns:
        (N, K, H, W).
    """
    n, c, h, w = x.shape
    return (kernel @ x.reshape(n, c, h * w)).reshape(n, kernel.shape[1], h, w)


def upchannel_xcorr(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve `x` with the filters the template made of itself (SiamRPN, eq. 1).

    Args:
        x: (N, C, H, W) search features.
        kernel: (N, O, C, h, w), O filters a sample.

    Returns:
        (N, O, H-h+1, W-w+1).
    """
    n, filters, c, h, w = kernel.shape
    response = F.conv2d(x.reshape(1, n * c, *x.shape[2:]), kernel.reshape(n * filters, c, h, w), groups=n)
    return response.reshape(n, filters, *response.shape[2:])


def shared_xcorr(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every sample of `x` with one kernel, all channels together (SiamFC, eq. 1).

    Args:
        x: (N, C, H, W) search features, one sample a scale or angle.
        kernel: (1, C, h, w) template features.

    Returns:
        (N, 1, H-h+1, W-w+1).
    """
    return F.conv2d(x, kernel)
