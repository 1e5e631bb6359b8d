"""Elementwise kernels: cpu against the reference, layouts, special values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigen import kernels

MAPS = ("exp", "sigmoid", "softplus")
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 200, -200, 1e-40, -1.5, 2.5])


def both(name, *args):
    """The cpu's and the reference's answer."""
    with kernels.use("cpu"):
        fast = getattr(kernels, name)(*args)
    with kernels.use("reference"):
        return fast, getattr(kernels, name)(*args)


def layouts(x):
    """The same values in several memory layouts."""
    yield x
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield x[::-1]
    yield np.broadcast_to(x[:1], x.shape)
    yield np.broadcast_to(x[..., :1], x.shape)
    if x.ndim == 4:
        yield np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@settings(max_examples=30, deadline=None)
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    slope=st.sampled_from([0.0, 0.2, 1.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_leaky_relu_equals_reference(shape, slope, dtype):
    rng = np.random.default_rng(1)
    x, grad = rng.standard_normal((2, *shape)).astype(dtype)
    for x_, grad_ in zip(layouts(x), layouts(grad), strict=True):
        before = x_.copy(), grad_.copy()
        for fast, slow in (
            both("leaky_relu", x_, slope),
            both("leaky_relu_grad", grad_, x_, slope),
            both("leaky_relu_grad", grad, x_, slope),
        ):
            assert fast.dtype == dtype
            np.testing.assert_array_equal(fast, slow)
        np.testing.assert_array_equal(x_, before[0])
        np.testing.assert_array_equal(grad_, before[1])


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_special_values(target):
    with kernels.use(target):
        np.testing.assert_array_equal(
            kernels.leaky_relu(SPECIAL, 0.0), [0, 0, np.inf, 0, np.nan, 200, 0, 1e-40, 0, 2.5]
        )
        assert np.isnan(kernels.leaky_relu(SPECIAL, 0.2)[4])
        grads = kernels.leaky_relu_grad(np.full(10, np.inf), SPECIAL, 0.0)
        np.testing.assert_array_equal(grads, np.where(SPECIAL <= 0, 0.0, np.inf))


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("size", [0, 10, 9973])
def test_maps_are_accurate(name, size):
    x = np.random.default_rng(2).standard_normal(size).astype(np.float32) * 20
    x[: min(size, 10)] = SPECIAL[:size]
    exact = {
        "exp": np.exp,
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "softplus": lambda v: np.logaddexp(0, v),
    }[name]
    with np.errstate(all="ignore"):
        right = exact(x.astype(np.float64)).astype(np.float32)
    for got in both(name, x):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, right, rtol=4e-7, atol=1e-37)


@pytest.mark.parametrize("name", MAPS)
def test_maps_take_any_layout(name):
    x = np.random.default_rng(3).standard_normal((2, 3, 4, 6)).astype(np.float32)
    for x_ in layouts(x):
        np.testing.assert_allclose(*both(name, x_), rtol=4e-7)
    fast, slow = both(name, x.astype(np.float64))
    np.testing.assert_array_equal(fast, slow)


def test_channels_last_memory_is_kept():
    x = np.zeros((2, 4, 4, 3), np.float32).transpose(0, 3, 1, 2)
    with kernels.use("cpu"):
        assert kernels.leaky_relu(x, 0.2).strides == x.strides
