"""Resampling on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check
from tests.cuda.test_max_pool import images


def table(extent, count, taps, seed=8):
    """Random indices and weights."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, extent, (count, taps)), rng.normal(size=(count, taps))


@pytest.mark.parametrize("taps", [(1, 1), (2, 2), (1, 2), (3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resample(gpu, taps, dtype):
    rows, columns = table(4, 3, taps[0]), table(5, 7, taps[1])
    y = check("resample2d", images((2, 3, 4, 5), dtype), *rows, *columns)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    check("resample2d", images((2, 1, 4, 5), dtype, last=False), *rows, *columns)


@pytest.mark.parametrize("taps", [(2, 2), (2, 3)])
def test_more_images_than_a_grid_holds(gpu, monkeypatch, taps):
    from minigen.kernels.cuda import arrays

    monkeypatch.setattr(arrays, "BLOCKS", 1)
    check("resample2d", images((27, 1, 4, 5)), *table(4, 3, taps[0]), *table(5, 2, taps[1]))


def test_no_images_and_infinite_pixels(gpu):
    rows, columns = table(4, 3, 2), table(5, 7, 2)
    assert check("resample2d", np.zeros((0, 3, 4, 5)), *rows, *columns).shape == (0, 3, 3, 7)
    x = images((1, 2, 4, 5))
    x[0, 0, 1, 2], rows[1][0, 0] = np.inf, 0  # 0 times inf is NaN
    check("resample2d", x, *rows, *columns)


def test_bytes_are_mixed_and_cut_off(gpu):
    x = images((1, 2, 4, 4), np.uint8, ties=True)
    half = np.array([[0, 1], [2, 3]]), np.full((2, 2), 0.5)
    tables = [gpu.asarray(t) for t in (*half, *half)]
    found = kernels.resample2d(gpu.asarray(x), *tables)
    expected = x.astype(np.float64).reshape(1, 2, 2, 2, 2, 2).mean(axis=(3, 5)).astype(np.uint8)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found.get(), expected)
