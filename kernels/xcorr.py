"""NumPy reference of depthwise cross-correlation, which the operator and the CUDA kernel are judged by."""

from __future__ import annotations

import numpy as np


def depthwise_xcorr_ref(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate each channel of `x` with the same channel of `kernel` (SiamRPN++, sec. 3.4).

    Args:
        x: (N, C, H, W) search features.
        kernel: (N, C, h, w) template features, h <= H and w <= W.

    Returns:
        (N, C, H-h+1, W-w+1) in the dtype of `x`, summed in double precision.

    Raises:
        ValueError: batch or channels differ, or the kernel is larger than the features.
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[:2] != kernel.shape[:2]:
        raise ValueError(f"x {x.shape} and kernel {kernel.shape}; expected (N, C, H, W) and (N, C, h, w)")
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))
    response = np.einsum("ncijhw,nchw->ncij", windows, kernel, dtype=np.float64, casting="unsafe")
    return response.astype(x.dtype)
