"""Smooth activations and their gradients on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

MAPS = {"erf": (), "gelu": (), "silu": (), "elu": (0.7,)}
GRADS = {"gelu_grad": (), "silu_grad": (), "elu_grad": (0.7,), "sigmoid_grad": (), "tanh_grad": ()}


def numbers(dtype, *shape, seed=0):
    return np.asarray(2 * np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MAPS)
def test_maps(gpu, name, dtype):
    x = numbers(dtype, 3, 5, 4, 7)
    check(name, x, *MAPS[name], rtol=1e-6, atol=1e-6)
    y = check(name, x.transpose(0, 3, 1, 2), *MAPS[name], rtol=1e-6, atol=1e-6)
    assert y.strides == x.transpose(0, 3, 1, 2).strides
    check(name, numbers(dtype), *MAPS[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GRADS)
def test_gradients(gpu, name, dtype):
    grad, x = numbers(dtype, 3, 5, 41), numbers(dtype, 3, 5, 41, seed=1)
    check(name, grad, x, *GRADS[name], rtol=2e-6, atol=1e-6)
    dx = check(name, grad.T, np.ascontiguousarray(x.T), *GRADS[name], rtol=2e-6, atol=1e-6)
    assert dx.flags.c_contiguous


@pytest.mark.parametrize("name", ["erf", "gelu", "silu", "elu"])
def test_far_from_zero_and_nan(gpu, name):
    x = np.array([0.0, 1e-30, -1e-30, 40.0, -40.0, np.inf, np.nan])
    found = getattr(kernels, name)(gpu.asarray(x), *MAPS[name]).get()
    expected = getattr(kernels, name)(x, *MAPS[name])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
