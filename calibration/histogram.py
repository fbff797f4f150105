"""How large a tensor's values get: a histogram of |x| that is filled piece by piece and needs the data once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from siamtrt.errors import CalibrationError

BINS = 4096
FP16_SMALLEST_NORMAL = 2.0**-14

_OCTAVES = 256  # values of FP32's exponent field
_BIAS = 127
_LOWEST_RANGE = -100  # as a power of two; below it BINS / range would leave FP32
_PIECE = 1 << 16  # values counted at once: their temporaries, 0.8 MB, stay in the cache


class Histogram:
    """Counts of |x| in `BINS` equal bins, of which at least half are in use, and in octaves.

    The range is the smallest power of two above the largest value. When it grows, neighbouring bins are merged; since
    all edges are powers of two times integers, and scaling by a power of two is exact, the result is the same as if
    the whole data had been counted at once: it depends neither on the order of the data nor on how it is cut.
    Memory: 34 KiB a tensor.

    Attributes:
        name: the tensor, for messages.
        counts: (BINS,) int64; bin i holds values with i * bin_width <= |x| < (i + 1) * bin_width.
        octaves: (256,) int64; octave k holds values with 2**(k - 127) <= |x| < 2**(k - 126), octave 0 zeros and
            FP32's subnormals (below 1.2e-38).
        largest: the exact maximum of |x|; 0.0 before the first `add`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = np.zeros(BINS, np.int64)
        self.octaves = np.zeros(_OCTAVES, np.int64)
        self.largest = 0.0
        self._range = _LOWEST_RANGE

    def add(self, array: ArrayLike) -> None:
        """Count the values of an array of any shape, rounded to FP32.

        Raises:
            CalibrationError: a value is NaN or infinite; then none of the array's values is counted.
        """
        values = np.ascontiguousarray(array, np.float32).reshape(-1)
        if values.size == 0:
            return
        largest = max(float(values.max()), -float(values.min()))
        if not math.isfinite(largest):
            raise CalibrationError(
                f"cannot calibrate tensor {self.name!r}", received=_census(values), expected="finite values",
                fix="find the input that causes them with the FP32 graph, and check the checkpoint's weights",
            )  # fmt: skip
        self.largest = max(self.largest, largest)
        self._widen(math.frexp(largest)[1])
        for start in range(0, values.size, _PIECE):
            self._count(np.abs(values[start : start + _PIECE]))

    @property
    def bin_width(self) -> float:
        """Width of a bin, a power of two."""
        return math.ldexp(1.0, self._range) / BINS

    @property
    def count(self) -> int:
        """Number of values seen."""
        return int(self.octaves.sum())

    @property
    def zeros(self) -> int:
        """Number of zeros seen, FP32's subnormals among them."""
        return int(self.octaves[0])

    @property
    def smallest(self) -> float:
        """The smallest non-zero magnitude, rounded down to a power of two; 0.0 where there is none."""
        used = np.flatnonzero(self.octaves[1:])
        return math.ldexp(1.0, int(used[0]) + 1 - _BIAS) if used.size else 0.0

    def share_below(self, magnitude: float = FP16_SMALLEST_NORMAL) -> tuple[float, float]:
        """What a format whose smallest number is `magnitude` loses: shares, 0..1, of values and of energy.

        Args:
            magnitude: a power of two, from 2**-126 to 2**127.

        Returns:
            The share of the non-zero values with |x| < magnitude, exact, and the share of the sum of squares that
            they have, for values spread evenly over each octave: a factor of at most 4 off. Both 0 without values.
        """
        mantissa, exponent = math.frexp(magnitude)
        if mantissa != 0.5 or not 1 <= exponent - 1 + _BIAS < _OCTAVES:
            raise CalibrationError(
                "cannot split a histogram", received=f"at {magnitude}", expected="a power of two within FP32",
                fix="give a power of two, e.g. 2.0**-14 for FP16",
            )  # fmt: skip
        first = exponent - 1 + _BIAS
        numbers = self.octaves.astype(np.float64)
        numbers[0] = 0
        energies = numbers * np.exp2(2.0 * (np.arange(_OCTAVES) - _BIAS))  # the mean square is 7/3 times that
        return _share(numbers, first), _share(energies, first)

    def _widen(self, new_range: int) -> None:
        """Merge bins until the range is 2**new_range, unless it is already as large."""
        doublings = new_range - self._range
        if doublings <= 0:
            return
        merged = self.counts.reshape(-1, 1 << min(doublings, BINS.bit_length() - 1)).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[: merged.size] = merged
        self._range = new_range

    def _count(self, magnitudes: np.ndarray) -> None:
        """`magnitudes`: (n,) float32 within the range; overwritten."""
        self.octaves += np.bincount(magnitudes.view(np.int32) >> 23, minlength=_OCTAVES)
        magnitudes *= np.float32(1 / self.bin_width)
        self.counts += np.bincount(magnitudes.astype(np.int32), minlength=BINS)


def _share(amounts: np.ndarray, first: int) -> float:
    total = float(amounts.sum())
    return float(amounts[:first].sum()) / total if total else 0.0


def _census(values: np.ndarray) -> str:
    nans, infinities = np.count_nonzero(np.isnan(values)), np.count_nonzero(np.isinf(values))
    return f"{nans} NaN and {infinities} infinite of {values.size} values"
