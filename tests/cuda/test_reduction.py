"""Sums along axes on the device against the reference: layouts, axes, chunks, special values."""

import itertools

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

FLOATS = ["float32", "float64"]


@pytest.fixture(params=[528, 3])
def blocks(request, gpu, monkeypatch):
    """With few blocks rows cross the borders of chunks, and a thread makes several rounds."""
    from minigen.kernels.cuda import reduction

    monkeypatch.setattr(reduction, "SUM_BLOCKS", request.param)


def normal(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(900, 3), (70, 65), (9, 300), (5, 1, 7), (3, 7, 5, 4), (1, 1)])
def test_channel_sum(blocks, shape, dtype):
    x = normal(*shape, dtype=dtype)
    check("channel_sum", x)
    if x.ndim == 4:
        check("channel_sum", np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))


def test_any_axes_in_any_memory_order(gpu):
    x = normal(3, 4, 1, 5)
    for count in range(5):
        for axes in itertools.combinations(range(4), count):
            check("axis_sum", x, axes)
            check("axis_sum", x, axes, 7)
            check("axis_sum", x.transpose(2, 3, 0, 1), axes)
    check("axis_sum", normal(6, 8, 5)[::2, 1:6:2], (0, 2))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape,axes", [
    ((5000,), (0,)), ((2, 3000), (1,)), ((40, 300), (1,)), ((600, 2), (1,)), ((300, 3, 2), (1,)),
    ((4, 90, 3), (1,)), ((2, 30, 300), (1,)), ((2, 70, 3, 5), (1, 3)),
])  # fmt: skip
def test_sums_of_many_and_of_few(blocks, shape, axes, dtype):
    check("axis_sum", normal(*shape, dtype=dtype), axes)


def test_sums_are_accurate(gpu):
    x = (normal(20000) + 1000).astype(np.float32)
    exact = x.astype(np.float64).sum()
    given = gpu.asarray(x)
    assert abs(float(kernels.axis_sum(given, (0,))) - exact) <= 1e-7 * exact
    both = kernels.axis_sum(given.reshape(2, 10000), (0,)).get()
    np.testing.assert_allclose(both, x.reshape(2, -1).sum(0), rtol=1e-7)


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float16"])
def test_other_dtypes(gpu, dtype):
    x = np.arange(12).reshape(3, 4).astype(dtype)
    expected = kernels.axis_sum(x, (1,))
    found = kernels.axis_sum(gpu.asarray(x), (1,)).get()
    assert found.dtype == expected.dtype and np.array_equal(found, expected)


def test_infinities_and_nothing(gpu):
    x = normal(50, 4)
    x[3, 1], x[5, 2], x[7, 3], x[8, 3] = np.inf, np.nan, np.inf, -np.inf
    found = kernels.channel_sum(gpu.asarray(x)).get()
    np.testing.assert_array_equal(found[1:], [np.inf, np.nan, np.nan])
    assert np.isfinite(found[0]) and np.isnan(float(kernels.axis_sum(gpu.asarray(x), (0, 1))))
    check("axis_sum", np.zeros((0, 3), np.float32), (0,))
    check("axis_sum", np.zeros((0, 3), np.float32), (1,))
    check("channel_sum", np.zeros((2, 0, 3), np.float32))
    check("channel_sum", np.zeros((0, 3, 4, 4), np.float32))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(900, 3), (6, 7, 5, 4), (3, 65), (0, 3, 2, 2)])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_leaky_relu_grad_sum(blocks, shape, dtype, slope):
    grad, x = normal(2, *shape, dtype=dtype)
    x[..., :1] = 0
    check("leaky_relu_grad_sum", grad, x, slope)
    if x.ndim == 4:
        other = x.swapaxes(2, 3).copy().swapaxes(2, 3)
        dx, _ = check("leaky_relu_grad_sum", grad, other, slope)
        assert dx.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("shape", [(5,), (3, 300), (9000,), (2, 2000, 3), (40, 3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mean_has_the_bits_of_the_sum_divided(gpu, shape, dtype):
    x = gpu.asarray(normal(*shape, dtype=dtype))
    for axes in {(0,), (x.ndim - 1,), tuple(range(x.ndim))}:
        expected = (kernels.axis_sum(x, axes) / 7).get()
        np.testing.assert_array_equal(kernels.axis_sum(x, axes, 7).get(), expected)
