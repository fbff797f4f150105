"""From a histogram to the largest magnitude that INT8 represents, by four estimators."""

from __future__ import annotations

import numpy as np

from siamtrt.calibration.histogram import Histogram
from siamtrt.errors import CalibrationError
from siamtrt.precision import ESTIMATORS

LEVELS = 127  # codes -127..127; the scale is threshold / LEVELS
PERCENTILE = 99.99
# Of a tensor that was zero on every pair: any scale represents zero, and this one suits normalised activations.
ZERO_TENSOR_THRESHOLD = 1.0

_ENTROPY_LEVELS = 128  # Migacz's positive half of 8 bits


def thresholds(histogram: Histogram, percentile: float = PERCENTILE) -> dict[str, float]:
    """The clipping threshold T by each of `ESTIMATORS`, 0 < T <= the largest magnitude seen.

    A tensor x becomes scale * round(x / scale) clipped to +-T, with scale = T / 127 and zero point 0.

    * min-max: the largest magnitude; nothing is clipped.
    * percentile: the magnitude that `percentile` per cent of all values, zeros among them, do not exceed, within a
      bin. min-max where that is zero, i.e. where nearly all values are.
    * entropy: minimum of the Kullback-Leibler divergence (`entropy_divergences`). T is at least 128 bins, 1/32 to
      1/16 of the largest magnitude; where all but a few outliers lie below that, it is min-max.
    * mse: minimum of the expected squared error (`squared_errors`).

    Args:
        histogram: at least one value.
        percentile: 0 < percentile <= 100.

    A tensor without a value other than zero has `ZERO_TENSOR_THRESHOLD` by every method.

    Raises:
        CalibrationError: an empty histogram, or a percentile outside its range.
    """
    if histogram.count == 0:
        raise CalibrationError(
            f"tensor {histogram.name!r} has no range", received="no values", expected="at least one",
            fix="calibrate on more pairs",
        )  # fmt: skip
    if not 0 < percentile <= 100:
        raise CalibrationError(
            "no such percentile", received=percentile, expected="0 < percentile <= 100", fix="try 99.99"
        )
    if histogram.largest == 0:
        return dict.fromkeys(ESTIMATORS, ZERO_TENSOR_THRESHOLD)
    found = (
        histogram.largest,
        _percentile(histogram, percentile),
        _at_minimum(*entropy_divergences(histogram), histogram.largest),
        _at_minimum(*squared_errors(histogram), histogram.largest),
    )
    return {method: min(value, histogram.largest) for method, value in zip(ESTIMATORS, found, strict=True)}


def entropy_divergences(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Candidates for T and the divergence D(P || Q), in nats, that each causes.

    As NVIDIA's calibrator has it (S. Migacz, "8-bit Inference with TensorRT", GTC 2017): P is the histogram's first i
    bins, i = 128, 129, ..., with everything beyond added to the last of them; Q is those bins without the addition,
    merged to 128 levels, each spread evenly over its bins that are not empty. Both are normalised. Infinite where P
    has outliers in a bin that is empty in Q. Two choices of ours: T is the upper edge of the last bin (Migacz: its
    middle), and zeros are left out, as every scale represents them; after a ReLU they would outweigh the rest.

    Returns:
        Two (n,) float64 arrays, candidates ascending; empty where all values lie in the first 127 bins.
    """
    counts = _without_zeros(histogram)
    bins = np.arange(_ENTROPY_LEVELS, _used(counts) + 1)
    if bins.size == 0:
        return np.empty(0), np.empty(0)
    edges = -(np.arange(_ENTROPY_LEVELS + 1) * -bins[:, None] // _ENTROPY_LEVELS)  # (n, 129), rounded up
    up_to, filled_up_to = _running(counts), _running(counts > 0)
    inside, last = up_to[bins], counts[bins - 1]
    outliers = up_to[-1] - inside
    level, filled = np.diff(up_to[edges]), np.diff(filled_up_to[edges])  # (n, 128) each
    q = np.divide(level, filled * inside[:, None], out=np.ones_like(level), where=level > 0)
    p = level.copy()
    p[:, -1] += outliers
    # The sum of P log P bin by bin, from counts; the last bin with the outliers instead of without.
    p_log_p = _running(_x_log_x(counts))[bins] - _x_log_x(last) + _x_log_x(last + outliers)
    divergence = (p_log_p - (p * np.log(q)).sum(axis=1)) / up_to[-1] - np.log(up_to[-1])
    divergence[(outliers > 0) & (last == 0)] = np.inf
    return bins * histogram.bin_width, divergence


def squared_errors(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Candidates for T and the mean squared error, rounding and clipping, that each causes.

    The error is that of values spread evenly within each bin, zeros excepted, which have none; it is a mean over all
    values, zeros among them.

    Returns:
        Two (n,) float64 arrays, candidates ascending: every bin's edge and the largest magnitude.
    """
    counts, width = _without_zeros(histogram), histogram.bin_width
    top = histogram.largest / width
    candidates = np.append(np.arange(1.0, np.ceil(top)), top)  # in bins, like everything up to the last line
    step = candidates / LEVELS
    code = np.arange(LEVELS)
    boundary = (code + 0.5) * step[:, None]  # (n, 127): a value beyond boundary l has a code of at least l + 1
    index = boundary.astype(np.intp)
    part = boundary - index
    left = np.arange(counts.size)
    up_to, first_up_to = _running(counts), _running(counts * (left + 0.5))
    below = up_to[index] + counts[index] * part  # values below each boundary
    first_below = first_up_to[index] + counts[index] * part * (index + part / 2)  # and their sum
    # Sum over codes of (x - code * step)^2, where sums over a code's values are differences at its two boundaries.
    second = (counts * (left**2 + left + 1 / 3)).sum()
    mixed = LEVELS * first_up_to[-1] - first_below.sum(axis=1)
    codes_squared = LEVELS**2 * up_to[-1] - (below * (2 * code + 1)).sum(axis=1)
    errors = second - 2 * step * mixed + step**2 * codes_squared
    return candidates * width, errors * width**2 / histogram.count


def _percentile(histogram: Histogram, percentile: float) -> float:
    rank = percentile / 100 * (histogram.count - 1)  # as numpy.percentile counts
    if rank < histogram.zeros:
        return histogram.largest
    up_to = np.cumsum(histogram.counts)
    index = int(np.searchsorted(up_to, rank, side="right"))
    before = up_to[index] - histogram.counts[index]
    return float((index + (rank + 1 - before) / histogram.counts[index]) * histogram.bin_width)


def _at_minimum(candidates: np.ndarray, costs: np.ndarray, otherwise: float) -> float:
    return float(candidates[np.argmin(costs)]) if candidates.size else otherwise


def _without_zeros(histogram: Histogram) -> np.ndarray:
    """(BINS,) float64."""
    counts = histogram.counts.astype(np.float64)
    counts[0] -= histogram.zeros
    return counts


def _used(counts: np.ndarray) -> int:
    used = np.flatnonzero(counts)
    return int(used[-1]) + 1 if used.size else 0


def _running(amounts: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ..., n amounts, (n + 1,) float64."""
    return np.concatenate(([0.0], np.cumsum(amounts, dtype=np.float64)))


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return x * np.log(np.where(x > 0, x, 1.0))
