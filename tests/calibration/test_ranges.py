"""The four estimators against SciPy, NumPy, brute force on the samples and the literature."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrt.calibration.histogram import Histogram
from siamtrt.calibration.ranges import (
    LEVELS,
    ZERO_TENSOR_THRESHOLD,
    entropy_divergences,
    squared_errors,
    thresholds,
)
from siamtrt.errors import CalibrationError
from siamtrt.precision import ESTIMATORS

SAMPLES = {
    "gaussian": lambda rng, n: rng.normal(0, 3, n),
    "laplace": lambda rng, n: rng.laplace(0, 0.01, n),
    "relu": lambda rng, n: np.maximum(rng.normal(-0.5, 1, n), 0),
    "uniform": lambda rng, n: rng.uniform(-7, 7, n),
    "pixels": lambda rng, n: rng.integers(0, 256, n),
    "few": lambda rng, n: rng.normal(0, 1, 300),
}


def samples(kind: str, n: int = 100_000) -> np.ndarray:
    return SAMPLES[kind](np.random.default_rng(17), n).astype(np.float32)


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram("t")
    histogram.add(values)
    return histogram


def fake_quantised(x: np.ndarray, threshold: float) -> np.ndarray:
    scale = threshold / 127
    return np.clip(np.rint(x / scale), -127, 127) * scale


def migacz_divergence(counts: np.ndarray, bins: int) -> float:
    """As on the slides, one candidate at a time, in SciPy's words."""
    stats = pytest.importorskip("scipy.stats", reason="SciPy comes with the demo extra")
    p = counts[:bins].astype(float)
    q = np.zeros(bins)
    level = np.arange(bins) * 128 // bins
    for index in range(128):
        members = (level == index) & (p > 0)
        if members.any():
            q[members] = p[members].sum() / members.sum()
    p[-1] += counts[bins:].sum()
    return stats.entropy(p, q) if q.any() else np.inf


@pytest.mark.parametrize("kind", SAMPLES)
def test_entropy_divergences_equal_scipys(kind: str) -> None:
    histogram = histogram_of(samples(kind))
    candidates, divergences = entropy_divergences(histogram)
    counts = histogram.counts.copy()
    counts[0] -= histogram.zeros
    bins = np.rint(candidates / histogram.bin_width).astype(int)
    np.testing.assert_array_equal(bins, np.arange(128, np.flatnonzero(counts)[-1] + 2))
    chosen = [0, 1, 127, 128, 129, *range(200, bins.size, 197), bins.size - 2, bins.size - 1, int(divergences.argmin())]
    expected = [migacz_divergence(counts, bins[index]) for index in chosen]
    np.testing.assert_allclose(divergences[chosen], expected, rtol=1e-9, atol=1e-12)
    assert thresholds(histogram)["entropy"] == min(candidates[divergences.argmin()], histogram.largest)


@pytest.mark.parametrize("kind", ["few", "relu"])
def test_squared_errors_are_integrals_over_the_bins(kind: str) -> None:
    values = samples(kind, 1000)
    histogram = histogram_of(values)
    counts = histogram.counts.copy()
    counts[0] -= histogram.zeros
    used, fine = np.flatnonzero(counts), 500
    points = (used[:, None] + (np.arange(fine) + 0.5) / fine) * histogram.bin_width
    weights = counts[used, None] / fine
    candidates, errors = squared_errors(histogram)
    for index in (0, 60, 500, 1300, candidates.size - 1):
        expected = (weights * (points - fake_quantised(points, candidates[index])) ** 2).sum() / values.size
        assert errors[index] == pytest.approx(expected, rel=2e-3), index


@pytest.mark.parametrize("kind", SAMPLES)
def test_squared_errors_equal_those_of_the_samples(kind: str) -> None:
    """From T = 1/8 of the largest value; where steps are hardly wider than bins, bins are too coarse for few values."""
    values = samples(kind)
    histogram = histogram_of(values)
    candidates, errors = squared_errors(histogram)
    assert candidates[-1] == histogram.largest
    chosen = np.linspace(candidates.size // 8, candidates.size - 1, 40).astype(int)
    exact = np.array([((values - fake_quantised(values, candidates[index])) ** 2).mean() for index in chosen])
    spread = histogram.bin_width * (candidates[chosen] / LEVELS)  # what moving a value within its bin may change
    np.testing.assert_array_less(np.abs(errors[chosen] - exact), 0.02 * exact + 0.15 * spread)


@pytest.mark.parametrize("kind", [kind for kind in SAMPLES if kind != "few"])
def test_mse_threshold_is_as_good_as_the_best_found_by_brute_force(kind: str) -> None:
    values = samples(kind, 30_000)
    found = thresholds(histogram_of(values))["mse"]
    largest = np.abs(values).max()
    errors = [((values - fake_quantised(values, t)) ** 2).mean() for t in np.linspace(0.3, 1, 141) * largest]
    assert ((values - fake_quantised(values, found)) ** 2).mean() <= 1.01 * min(errors)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("percentile", [50, 90, 99.0, 99.99, 100])
def test_percentile_is_numpys_within_a_bin(kind: str, percentile: float) -> None:
    values = samples(kind)
    histogram = histogram_of(values)
    expected = np.percentile(np.abs(values), percentile)
    if expected == 0:  # half of "relu"
        expected = histogram.largest
    neighbours = np.percentile(np.abs(values), percentile, method="lower"), expected
    found = thresholds(histogram, percentile)["percentile"]
    assert min(neighbours) - histogram.bin_width <= found <= max(neighbours) + histogram.bin_width


def test_uniform_values_are_not_clipped() -> None:
    """By percentile as far as its definition asks."""
    found = thresholds(histogram_of(samples("uniform", 400_000)))
    assert all(6.9 < value <= 7 for value in found.values()), found


@pytest.mark.parametrize(("distribution", "ratio"), [("norm", 3.92), ("laplace", 9.89)])
def test_mse_threshold_is_aciqs_published_one(distribution: str, ratio: float) -> None:
    """Optimal clipping at 8 bits in units of sigma and b: Banner et al., "Post training 4-bit quantization" (ACIQ)."""
    family = getattr(pytest.importorskip("scipy.stats", reason="SciPy comes with the demo extra"), distribution)
    values = family.ppf((np.arange(1 << 20) + 0.5) / (1 << 20))
    found = thresholds(histogram_of(0.3 * values))
    assert found["mse"] == pytest.approx(0.3 * ratio, rel=0.03)
    assert found["mse"] < found["min-max"]


@pytest.mark.parametrize("times", [10, 100])
def test_one_outlier(times: int) -> None:
    values = samples("gaussian", 200_000)
    others = np.abs(values).max()
    values[7] = -times * others
    found = thresholds(histogram_of(values))
    assert found["min-max"] == -values[7]
    assert found["percentile"] < others
    # 100 times as far, all others lie in the first 128 bins, below which there is no candidate.
    assert found["entropy"] < 1.1 * others if times == 10 else found["entropy"] == found["min-max"]
    # The best by brute force, which for one value of 450 sigma among 200,000 is not to clip much.
    tried = np.append(np.linspace(0.01, 1, 200) * found["min-max"], list(found.values()))
    errors = [((values - fake_quantised(values, t)) ** 2).mean() for t in tried]
    assert errors[-1] <= 1.01 * min(errors)


@pytest.mark.parametrize("value", [1.0, -0.3, 255.0, 2.0**-40])
def test_constant_tensor(value: float) -> None:
    found = thresholds(histogram_of(np.full(1000, value, np.float32)))
    assert list(found) == list(ESTIMATORS)
    for method, threshold in found.items():
        assert threshold == pytest.approx(abs(value), rel=1 / 2048), method
        assert threshold <= np.abs(np.float32(value))


def test_zero_tensor_has_the_stated_fallback() -> None:
    assert thresholds(histogram_of(np.zeros(10))) == dict.fromkeys(ESTIMATORS, ZERO_TENSOR_THRESHOLD)


@pytest.mark.parametrize("largest", [1e-42, 1e-36, 3e38])
def test_extreme_magnitudes(largest: float) -> None:
    found = thresholds(histogram_of(np.linspace(0, largest, 100, dtype=np.float32)))
    assert all(0 < value <= np.float32(largest) for value in found.values()), found


def test_tensor_that_is_nearly_always_zero() -> None:
    values = np.zeros(100_000)
    values[:3] = 2
    assert thresholds(histogram_of(values)) == dict.fromkeys(ESTIMATORS, pytest.approx(2, rel=1 / 2048))


def test_refusals() -> None:
    with pytest.raises(CalibrationError, match=r"'conv7' has no range.*no values"):
        thresholds(Histogram("conv7"))
    for percentile in (0, 100.1, np.nan):
        with pytest.raises(CalibrationError, match="no such percentile"):
            thresholds(histogram_of(np.ones(3)), percentile)
