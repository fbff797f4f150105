"""Which positions of an elongated target's template take part in the correlation (Siam-BM)."""

from __future__ import annotations

import numpy as np


def aspect_mask(size_wh: tuple[float, float], threshold: float = 1.5, side: int = 6) -> np.ndarray:
    """Zeros along the short axis' two ends of a target longer than `threshold`, ones elsewhere.

    The authors draw fixed masks for the three classes w/h > threshold, h/w > threshold and neither, without giving
    their widths: leaving out the outermost sixth on either side is our choice. At the threshold the target itself
    fills the middle 40 % of the template along its short axis.

    Args:
        size_wh: target's width and height, in one unit.
        threshold: aspect ratio beyond which a target counts as elongated.
        side: positions along either axis.

    Returns:
        (1, 1, side, side) float32.
    """
    width, height = size_wh
    mask = np.ones((1, 1, side, side), np.float32)
    border = side // 6
    kept = slice(border, side - border)
    if width > threshold * height:
        mask[:] = 0
        mask[:, :, kept, :] = 1
    elif height > threshold * width:
        mask[:] = 0
        mask[:, :, :, kept] = 1
    return mask
