"""Masks of elongated targets."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrt.runtime.spatial_mask import aspect_mask

COLUMNS = np.tile(np.float32([0, 1, 1, 1, 1, 0]), (6, 1))


@pytest.mark.parametrize(
    ("size_wh", "expected"),
    [
        ((40.0, 61.0), COLUMNS),
        ((61.0, 40.0), COLUMNS.T),
        ((50.0, 50.0), np.ones((6, 6))),
        ((40.0, 60.0), np.ones((6, 6))),  # at the threshold, not beyond it
        ((60.0, 40.0), np.ones((6, 6))),
    ],
)
def test_mask_of_each_class(size_wh, expected):
    mask = aspect_mask(size_wh)
    assert mask.dtype == np.float32
    assert mask.shape == (1, 1, 6, 6)
    np.testing.assert_array_equal(mask[0, 0], expected)


def test_threshold_is_the_callers():
    assert aspect_mask((10.0, 19.0), threshold=2.0).all()
    assert not aspect_mask((10.0, 21.0), threshold=2.0).all()
