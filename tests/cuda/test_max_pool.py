"""Max pooling by winning taps, on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

WINDOWS = [  # input size, kernel, stride, padding, output size
    ((5, 6), (2, 2), (2, 2), (0, 0), (2, 3)),
    ((5, 4), (2, 2), (2, 2), (1, 1), (3, 3)),
    ((4, 5), (3, 3), (2, 2), (1, 1), (2, 3)),
    ((4, 6), (2, 3), (1, 2), (0, 1), (3, 3)),
    ((7, 5), (1, 2), (3, 3), (0, 0), (3, 2)),  # strides that leave pixels out
    ((5, 5), (2, 2), (2, 2), (0, 0), (3, 3)),  # the last windows hang over, as by ceil_mode
    ((4, 4), (3, 3), (2, 2), (1, 1), (3, 3)),
]


def images(shape, dtype=np.float32, *, ties=False, last=True, seed=1):
    """Random images, channels-last in memory or not."""
    rng = np.random.default_rng(seed)
    n, c, h, w = shape
    x = rng.integers(-2, 3, (n, h, w, c)) if ties else rng.normal(size=(n, h, w, c))
    x = x.astype(dtype).transpose(0, 3, 1, 2)
    return x if last else np.ascontiguousarray(x)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("last", [True, False])
def test_max_pool_and_its_gradients(gpu, window, last):
    size, kernel, stride, padding, out = window
    dtype = np.float32 if last else np.float64
    x = images((2, 3, *size), dtype, ties=True, last=last)
    y, taps = check("max_pool2d", x, kernel, stride, padding, out)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert taps.transpose(0, 2, 3, 1).flags.c_contiguous
    grad = images((2, 3, *out), dtype, last=last, seed=2)
    dx = check("max_pool2d_grad", grad, taps.get(), kernel, stride, padding, size)
    assert dx.transpose(0, 2, 3, 1).flags.c_contiguous
    check("max_pool2d_pick", x, taps.get(), kernel, stride, padding)
    strange = np.random.default_rng(3).integers(0, 12, taps.shape).astype(np.uint8)
    check("max_pool2d_pick", x, strange, kernel, stride, padding)


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (1, 4)])
def test_the_last_nan_wins_and_the_first_of_equals(gpu, kernel):
    x = images((1, 5, 4, 6), ties=True)
    x[0, 0, 0, 1] = x[0, 0, 1, 0] = x[0, 4] = np.nan
    x[0, 1], x[0, 2] = -np.inf, 0
    out = (4 - kernel[0] + 1, 6 - kernel[1] + 1)
    check("max_pool2d", x, kernel, (1, 1), (0, 0), out)
    check("max_pool2d", x, kernel, kernel, (0, 1), (4 // kernel[0], 8 // kernel[1]))


@pytest.mark.parametrize("dtype", [bool, np.int32, np.uint8, np.float16])
def test_other_dtypes(gpu, dtype):
    x = images((2, 3, 4, 4), dtype, ties=True)
    y, taps = kernels.max_pool2d(gpu.asarray(x), (2, 2), (2, 2), (0, 0), (2, 2))
    expected = kernels.max_pool2d(x, (2, 2), (2, 2), (0, 0), (2, 2))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.get(), expected[0])
    np.testing.assert_array_equal(taps.get(), expected[1])


def test_more_images_than_a_grid_holds(gpu, monkeypatch):
    from minigen.kernels.cuda import arrays

    monkeypatch.setattr(arrays, "BLOCKS", 1)
    x = images((11, 2, 4, 5))
    _, taps = check("max_pool2d", x, (2, 2), (2, 2), (0, 0), (2, 2))
    grad = images((11, 2, 2, 2), seed=3)
    check("max_pool2d_grad", grad, taps.get(), (2, 2), (2, 2), (0, 0), (4, 5))
    check("max_pool2d_pick", x, taps.get(), (2, 2), (2, 2), (0, 0))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)])
def test_no_images(gpu, shape):
    y, taps = check("max_pool2d", np.zeros(shape), (2, 2), (2, 2), (0, 0), (2, 2))
    assert y.shape == taps.shape == (*shape[:2], 2, 2)
    dx = check("max_pool2d_grad", y.get(), taps.get(), (2, 2), (2, 2), (0, 0), (4, 4))
    assert dx.shape == shape
    none = np.zeros((2, 3, 0, 0), np.float32)
    check("max_pool2d_grad", none, none.astype(np.uint8), (2, 2), (2, 2), (0, 0), (1, 1))


def test_complex_numbers_have_no_largest(gpu):
    x = gpu.asarray(np.zeros((1, 1, 2, 2), np.complex64))
    with pytest.raises(TypeError, match="max_pool2d: got complex64, expected real numbers"):
        kernels.max_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1))
