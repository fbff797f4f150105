"""The constant matrices compute what an FFT does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siamtrt.models.fourier import Dft2, Spectrum, conjugate, power, times

SIDES = [5, 6, 17, 22]


def pair(values: np.ndarray) -> Spectrum:
    return torch.from_numpy(values.real.copy()), torch.from_numpy(values.imag.copy())


def as_complex(spectrum: Spectrum) -> np.ndarray:
    return spectrum[0].numpy() + 1j * spectrum[1].numpy()


@pytest.mark.parametrize("side", SIDES)
def test_the_spectrum_is_numpys(side):
    x = np.random.default_rng(side).standard_normal((2, 3, side, side))
    found = Dft2(side).double()(torch.from_numpy(x))
    np.testing.assert_allclose(as_complex(found), np.fft.rfft2(x, norm="ortho"), atol=1e-6)


@pytest.mark.parametrize("side", SIDES)
def test_the_inverse_of_a_product_of_spectra_is_the_circular_convolution(side):
    rng = np.random.default_rng(side)
    x, kernel = rng.standard_normal((2, side, side))
    expected = sum(kernel[i, j] * np.roll(x, (i, j), axis=(0, 1)) for i in range(side) for j in range(side))
    dft = Dft2(side).double()
    found = dft.inverse(times(dft(torch.from_numpy(x)), dft(torch.from_numpy(kernel))))
    np.testing.assert_allclose(found.numpy() * side, expected, atol=1e-5)  # orthonormal: short of a factor sqrt(n)


def test_the_products_are_those_of_complex_numbers():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4)) + 1j * rng.standard_normal((2, 3, 4))
    np.testing.assert_allclose(as_complex(times(pair(a), pair(b))), a * b)
    np.testing.assert_allclose(as_complex(conjugate(pair(a))), a.conj())
    np.testing.assert_allclose(power(pair(a)).numpy(), np.abs(a) ** 2)


def test_the_matrices_are_no_parameters_of_a_checkpoint():
    assert not Dft2(6).state_dict()
