"""The NumPy reference of the correlation against OpenCV's and PyTorch's own."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from siamtrt.kernels.xcorr import depthwise_xcorr_ref
from siamtrt.models.xcorr import depthwise_xcorr


@pytest.mark.parametrize("sides", [(29, 29, 5, 5), (7, 12, 3, 6), (4, 4, 4, 4), (5, 5, 1, 1)])
def test_one_channel_equals_opencv_template_matching(sides):
    height, width, kernel_height, kernel_width = sides
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 1, height, width)).astype(np.float32)
    kernel = rng.standard_normal((1, 1, kernel_height, kernel_width)).astype(np.float32)
    expected = cv2.matchTemplate(x[0, 0], kernel[0, 0], cv2.TM_CCORR)
    np.testing.assert_allclose(depthwise_xcorr_ref(x, kernel)[0, 0], expected, rtol=1e-4, atol=1e-4)


def test_batches_and_channels_stay_apart():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 3, 9, 8)).astype(np.float32)
    kernel = rng.standard_normal((2, 3, 4, 3)).astype(np.float32)
    found = depthwise_xcorr(torch.from_numpy(x), torch.from_numpy(kernel)).numpy()
    np.testing.assert_allclose(found, depthwise_xcorr_ref(x, kernel), rtol=1e-5, atol=1e-5)


def test_mismatched_channels_are_refused():
    with pytest.raises(ValueError, match="expected"):
        depthwise_xcorr_ref(np.zeros((1, 2, 5, 5)), np.zeros((1, 3, 3, 3)))
