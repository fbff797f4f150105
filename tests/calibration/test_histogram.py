import numpy as np
import pytest

from siamtrt.calibration.histogram import BINS, Histogram
from siamtrt.errors import CalibrationError

RNG_SEED = 5


def histogram_of(*pieces: np.ndarray) -> Histogram:
    histogram = Histogram("t")
    for piece in pieces:
        histogram.add(piece)
    return histogram


def state(histogram: Histogram) -> tuple:
    return histogram.counts.tolist(), histogram.octaves.tolist(), histogram.largest, histogram.bin_width


def spread_values(n: int) -> np.ndarray:
    """Both signs, zeros, and magnitudes over twenty octaves."""
    rng = np.random.default_rng(RNG_SEED)
    values = rng.normal(0, 1, n) * np.exp2(rng.uniform(-18, 2, n))
    values[rng.random(n) < 0.3] = 0
    return values.astype(np.float32)


@pytest.mark.parametrize("top", [0.37, 1.0, 255.0, 3.1e-9, 2.5e20])
def test_counts_equal_numpys(top: float) -> None:
    values = spread_values(200_001)
    values *= np.float32(top) / np.abs(values).max()
    histogram = histogram_of(values)
    magnitudes = np.abs(values).astype(np.float64)
    expected, _ = np.histogram(magnitudes, BINS, (0, BINS * histogram.bin_width))
    np.testing.assert_array_equal(histogram.counts, expected)
    assert histogram.largest == magnitudes.max()
    assert BINS / 2 <= histogram.largest / histogram.bin_width < BINS
    assert histogram.count == values.size
    assert histogram.zeros == np.count_nonzero(values == 0)


def test_octaves_are_those_of_frexp() -> None:
    values = spread_values(50_000)
    histogram = histogram_of(values)
    nonzero = np.abs(values[values != 0])
    exponents = np.frexp(nonzero)[1] - 1  # 2**e <= x < 2**(e + 1)
    np.testing.assert_array_equal(histogram.octaves[1:], np.bincount(exponents + 126, minlength=255))
    assert histogram.smallest <= nonzero.min() < 2 * histogram.smallest


@pytest.mark.parametrize("order", ["as it is", "growing", "shrinking"])
def test_result_does_not_depend_on_how_the_data_is_cut(order: str) -> None:
    values = spread_values(150_000)
    whole = state(histogram_of(values))
    if order != "as it is":
        values = values[np.argsort(np.abs(values))][:: 1 if order == "growing" else -1]
    cuts = np.sort(np.random.default_rng(RNG_SEED).integers(0, values.size, 37))
    assert state(histogram_of(*np.split(values, cuts))) == whole


def test_a_much_larger_value_moves_all_others_to_the_first_bin() -> None:
    histogram = histogram_of(np.linspace(0.5, 1, 1000), np.array([1e9]))
    assert (histogram.counts[0], histogram.counts.sum()) == (1000, 1001)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_any_dtype_and_layout(dtype: type) -> None:
    values = np.random.default_rng(RNG_SEED).integers(-60, 60, (6, 7, 8)).astype(dtype)
    assert state(histogram_of(values[::2, :, ::-1])) == state(histogram_of(values[::2].astype(np.float32)))


def test_the_array_is_not_changed() -> None:
    values = spread_values(1000)
    before = values.copy()
    histogram_of(values)
    np.testing.assert_array_equal(values, before)


def test_nothing_and_zeros() -> None:
    empty = histogram_of(np.zeros((0, 3)))
    assert (empty.count, empty.largest, empty.smallest, empty.share_below()) == (0, 0.0, 0.0, (0.0, 0.0))
    zeros = histogram_of(np.zeros((2, 3)))
    assert (zeros.count, zeros.zeros, zeros.largest, zeros.smallest, zeros.share_below()) == (6, 6, 0.0, 0.0, (0, 0))
    tiny = histogram_of(np.array([1e-40, 3e-35], np.float32))  # the first is an FP32 subnormal
    assert (tiny.count, tiny.zeros, tiny.largest) == (2, 1, float(np.float32(3e-35)))
    assert histogram_of(np.array([1e-42, -1e-40], np.float32)).counts[0] == 2


@pytest.mark.parametrize(
    ("bad", "message"), [([np.nan], "1 NaN and 0 inf"), ([np.inf], "0 NaN and 1 inf"), ([-np.inf, np.nan], "1 NaN and")]
)
def test_values_that_are_not_finite_are_refused_whole(bad: list[float], message: str) -> None:
    histogram = Histogram("conv7")
    histogram.add(np.ones(3))
    before = state(histogram)
    values = np.ones(200_000, np.float32)
    values[-len(bad) :] = bad
    with pytest.raises(CalibrationError, match=f"'conv7': received {message}"):
        histogram.add(values)
    assert state(histogram) == before


@pytest.mark.parametrize("magnitude", [2.0**-14, 2.0**-24, 1.0])
def test_share_below(magnitude: float) -> None:
    values = spread_values(100_000).astype(np.float64)
    nonzero = values[values != 0]
    small = np.abs(nonzero) < magnitude
    share, energy = histogram_of(values).share_below(magnitude)
    assert share == pytest.approx(small.mean(), abs=0)
    assert energy == pytest.approx((nonzero[small] ** 2).sum() / (nonzero**2).sum(), rel=0.3)


def test_share_below_takes_powers_of_two() -> None:
    with pytest.raises(CalibrationError, match="power of two"):
        histogram_of(np.ones(3)).share_below(3e-5)
