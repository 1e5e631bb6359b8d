"""Pooling: cpu against the reference, torch's rules for ties and NaN, adjoint identities."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minigen import kernels

pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


def both(name, *args):
    with kernels.use("cpu"):
        fast = getattr(kernels, name)(*args)
    with kernels.use("reference"):
        return fast, getattr(kernels, name)(*args)


def last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def grid(size, kernel, stride, padding, dilation):
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


@st.composite
def problems(draw):
    shape = draw(
        st.one_of(
            st.tuples(*[st.integers(1, 4)] * 2, *[st.integers(1, 8)] * 2),
            st.just((2, 40, 16, 16)),
        )
    )
    kernel, stride, dilation = draw(pair), draw(pair), draw(st.sampled_from([(1, 1), (2, 1)]))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = grid(shape[2:], kernel, stride, padding, dilation)
    assume(min(size) > 0)
    return shape, kernel, stride, padding, dilation, size


@settings(max_examples=40, deadline=None)
@given(problems(), st.sampled_from([np.float32, np.float64]), st.booleans(), st.booleans())
def test_max_pool_equals_reference(problem, dtype, channels_last, ties):
    shape, kernel, stride, padding, dilation, size = problem
    rng = np.random.default_rng(11)
    x = rng.integers(-3, 4, shape) if ties else rng.standard_normal(shape)
    x = x.astype(dtype)
    x.reshape(-1)[::7] = np.nan
    x.reshape(-1)[::5] = -np.inf
    x = last(x) if channels_last else x
    kept = x.copy()
    fast, slow = both("max_pool2d_indices", x, kernel, stride, padding, dilation, size)
    assert fast.dtype == np.int64
    np.testing.assert_array_equal(fast, slow)
    values, plain = both("pool_gather", x, slow)
    np.testing.assert_array_equal(values, plain)
    np.testing.assert_array_equal(x, kept)


@settings(max_examples=30, deadline=None)
@given(problems(), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_scatter_is_the_adjoint_of_gather(problem, dtype, channels_last):
    shape, kernel, stride, padding, dilation, size = problem
    rng = np.random.default_rng(12)
    x = rng.standard_normal(shape).astype(dtype)
    grad = rng.standard_normal((*shape[:2], *size)).astype(dtype)
    x, grad = (last(x), last(grad)) if channels_last else (x, grad)
    index = kernels.max_pool2d_indices(x, kernel, stride, padding, dilation, size)
    back, plain = both("pool_scatter", grad, index, shape[2:])
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(back, plain, rtol=tolerance, atol=tolerance)
    there = np.sum(kernels.pool_gather(x, index).astype(np.float64) * grad)
    np.testing.assert_allclose(np.sum(x.astype(np.float64) * back), there, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    problems(),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
    st.sampled_from([None, 1, 3]),
    st.booleans(),
)
def test_avg_pool_and_its_adjoint(problem, dtype, include_pad, divisor, ceil):
    shape, kernel, stride, padding, _, _ = problem
    size = grid(shape[2:], kernel, stride, padding, (1, 1))
    if ceil:  # windows may hang over the far edge
        size = tuple(
            n + (n * s < e + p)
            for n, s, e, p in zip(size, stride, shape[2:], padding, strict=True)
        )
    rng = np.random.default_rng(13)
    x = rng.standard_normal(shape).astype(dtype)
    grad = rng.standard_normal((*shape[:2], *size)).astype(dtype)
    rest = (kernel, stride, padding, size, include_pad, divisor)
    kept = x.copy(), grad.copy()
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    y, plain = both("avg_pool2d", x, *rest)
    np.testing.assert_allclose(y, plain, rtol=tolerance, atol=tolerance)
    assert y.dtype == dtype and y.shape == grad.shape
    np.testing.assert_array_equal(y, kernels.avg_pool2d(last(x), *rest))
    dx, plain = both("avg_pool2d_grad", grad, shape[2:], *rest)
    np.testing.assert_allclose(dx, plain, rtol=tolerance, atol=tolerance)
    scale = tolerance * 100
    np.testing.assert_allclose(np.sum(x * dx), np.sum(y * grad), rtol=scale, atol=scale)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(grad, kept[1])


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_first_of_equal_values_and_last_nan_win(target):
    with kernels.use(target):
        call = ((2, 2), (2, 2), (0, 0), (1, 1), (1, 1))
        x = np.array([[[[1.0, 1.0], [1.0, 0.0]]]])
        assert kernels.max_pool2d_indices(x, *call).item() == 0
        x = np.array([[[[1.0, np.nan], [np.nan, 9.0]]]])
        assert kernels.max_pool2d_indices(x, *call).item() == 2
        x = np.full((1, 1, 2, 2), -np.inf)
        assert kernels.max_pool2d_indices(x, *call).item() == 0


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_published_divisors(target):
    x = np.ones((1, 1, 3, 3))
    with kernels.use(target):
        call = (x, (3, 3), (2, 2), (1, 1), (2, 2))
        for rest, value in [((True, None), 4 / 9), ((False, None), 1), ((True, 2), 2)]:
            y = kernels.avg_pool2d(*call, *rest)
            np.testing.assert_allclose(y, np.full((1, 1, 2, 2), value))


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_no_batch_and_bad_indices(target):
    with kernels.use(target):
        x = np.zeros((0, 3, 4, 4), np.float32)
        call = ((2, 2), (2, 2), (0, 0), (1, 1), (2, 2))
        index = kernels.max_pool2d_indices(x, *call)
        assert kernels.pool_gather(x, index).shape == (0, 3, 2, 2)
        assert kernels.pool_scatter(x[:, :, :2, :2], index, (4, 4)).shape == x.shape
        with pytest.raises(IndexError, match=r"span 0\.\.16, expected them in 0\.\.15"):
            kernels.pool_gather(np.zeros((1, 1, 4, 4)), np.array([[[[0, 16]]]]))
