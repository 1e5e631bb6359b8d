"""PSNR against the values of scikit-image 0.26 (`peak_signal_noise_ratio`)."""

import numpy as np
import pytest

from minigen.metrics import psnr, psnr_each

PLACE = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
A = (PLACE * 37 % 256).astype(np.uint8)
B = ((PLACE * 91 + 13) % 256).astype(np.uint8)
EXPECTED = [7.6656178506278305, 7.361075585479062]  # dB


def test_values_of_scikit_image():
    np.testing.assert_allclose(psnr_each(A, B, data_range=255), EXPECTED, rtol=1e-9)
    np.testing.assert_allclose(psnr_each(A / 255, B / 255, data_range=1), EXPECTED, rtol=1e-9)
    assert psnr(A, B, data_range=255) == pytest.approx(np.mean(EXPECTED), rel=1e-9)
    floats = [(x / 255).astype(np.float32) for x in (A, B)]
    assert psnr(*floats, data_range=1.0) == pytest.approx(np.mean(EXPECTED), rel=1e-6)


def test_the_range_counts_and_noise_is_measured():
    black = np.zeros((1, 1, 8, 8))
    assert psnr(black, black + 0.1, data_range=1) == pytest.approx(20)
    assert psnr(black, black + 0.1, data_range=2) == pytest.approx(20 + 20 * np.log10(2))
    found = psnr_each(np.repeat(black, 2, 0), np.concatenate([black, black + 1]), data_range=1)
    assert found.tolist() == [np.inf, 0]
    near = np.concatenate([black, black + 1e-4, black + 0.1])
    found = psnr_each(np.repeat(black, 3, 0), near, data_range=1, most=60.0)
    assert found.tolist() == [60, 60, pytest.approx(20)]


def test_faults():
    with pytest.raises(ValueError, match=r"psnr: images are \(2, 3, 4, 5\) and \(1, 3, 4, 5\)"):
        psnr(A, B[:1], data_range=255)
    with pytest.raises(ValueError, match="psnr: data_range is 0, expected a positive number"):
        psnr_each(A, B, data_range=0)
    with pytest.raises(ValueError, match="psnr: images have shape"):
        psnr_each(A[0], B[0], data_range=1)
