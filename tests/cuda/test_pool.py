"""Pooling by flat indices and by means, on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check
from tests.cuda.test_max_pool import WINDOWS, images

DILATED = [(*window, (1, 1)) for window in WINDOWS[:4]] + [
    ((6, 5), (2, 3), (1, 1), (1, 1), (6, 3), (2, 2)),
    ((3, 2), (2, 2), (2, 3), (0, 1), (1, 2), (2, 3)),
    ((2, 3), (1, 2), (2, 2), (0, 1), (2, 3), (1, 1)),  # windows wholly in the padding
]


@pytest.mark.parametrize("window", DILATED)
@pytest.mark.parametrize("last", [True, False])
def test_indices_gather_and_scatter(gpu, window, last):
    size, kernel, stride, padding, out, dilation = window
    dtype = np.float32 if last else np.float64
    x = images((2, 3, *size), dtype, ties=True, last=last)
    x[0, 0, 0, 0] = x[0, 0, 1, 1] = np.nan
    x[1, 1] = -np.inf
    indices = check("max_pool2d_indices", x, kernel, stride, padding, dilation, out)
    assert indices.transpose(0, 2, 3, 1).flags.c_contiguous
    check("pool_gather", x, indices.get())
    grad = images((2, 3, *out), dtype, last=last, seed=4)
    check("pool_scatter", grad, indices.get(), size)


@pytest.mark.parametrize("threads", [1, 30, 1 << 17])
def test_scatter_of_indices_that_repeat(gpu, monkeypatch, threads):
    from minigen.kernels.cuda import pool

    monkeypatch.setattr(pool, "SCATTERING", threads)
    indices = np.random.default_rng(5).integers(0, 12, (2, 3, 4, 5))
    indices[0, 1] = 7
    check("pool_scatter", images((2, 3, 4, 5)), indices, (3, 4))
    check("pool_gather", images((2, 3, 3, 4)), indices)


def test_wrong_indices_read_and_write_nothing(gpu):
    indices = gpu.asarray(np.array([[[[0, 4, -1, 3]]]]))
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    found = kernels.pool_gather(gpu.asarray(x), indices).get()
    np.testing.assert_array_equal(found[0, 0, 0], [0, np.nan, np.nan, 3])
    grad = gpu.asarray(np.array([[[[1.0, 2, 4, 8]]]]))
    found = kernels.pool_scatter(grad, indices, (2, 2)).get()
    np.testing.assert_array_equal(found[0, 0], [[1, 0], [0, 8]])


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("rest", [(True, None), (False, None), (True, 3)])
def test_means_and_their_gradient(gpu, window, rest):
    size, kernel, stride, padding, out = window
    dtype = np.float64 if rest[1] else np.float32
    x, grad = images((2, 3, *size), dtype, last=rest[0]), images((2, 3, *out), dtype, seed=6)
    y = check("avg_pool2d", x, kernel, stride, padding, out, *rest)
    dx = check("avg_pool2d_grad", grad, size, kernel, stride, padding, out, *rest)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dx.transpose(0, 2, 3, 1).flags.c_contiguous


def test_more_images_than_a_grid_holds(gpu, monkeypatch):
    from minigen.kernels.cuda import arrays

    monkeypatch.setattr(arrays, "BLOCKS", 1)
    x, grad = images((6, 2, 5, 4)), images((6, 2, 3, 2), seed=6)
    for kernel in [(2, 2), (3, 1)]:
        call = (kernel, (2, 2), (1, 0), (3, 2), False, None)
        check("avg_pool2d", x, *call)
        check("avg_pool2d_grad", grad, (5, 4), *call)
    indices = check("max_pool2d_indices", x, (2, 2), (2, 2), (1, 0), (1, 1), (3, 2)).get()
    check("pool_gather", x, indices)
    check("pool_scatter", grad, indices, (5, 4))


def test_windows_beyond_the_image(gpu):
    call = ((2, 1), (2, 2), (1, 0), (3, 3))
    x, grad = images((1, 2, 3, 3)), images((1, 2, 3, 3), seed=7)
    x[0, 0, 0, 2] = np.inf  # the pixel that windows to its right must not see
    check("avg_pool2d", x, *call, True, None)
    check("avg_pool2d_grad", grad, (3, 3), *call, False, None)


def test_integers_and_no_images(gpu):
    x = images((2, 3, 4, 4), np.int32, ties=True)
    y = kernels.avg_pool2d(gpu.asarray(x), (2, 2), (2, 2), (0, 0), (2, 2), True, None)
    expected = kernels.avg_pool2d(x, (2, 2), (2, 2), (0, 0), (2, 2), True, None)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y.get(), expected)
    none = np.zeros((0, 3, 4, 4), np.float32)
    call = ((2, 2), (2, 2), (0, 0))
    indices = check("max_pool2d_indices", none, *call, (1, 1), (2, 2))
    assert check("pool_gather", none, indices.get()).shape == (0, 3, 2, 2)
    assert check("pool_scatter", none[:, :, :2, :2], indices.get(), (4, 4)).shape == none.shape
    check("avg_pool2d", none, *call, (2, 2), True, None)
    check("avg_pool2d_grad", none, (8, 8), *call, (4, 4), True, None)
