"""Elementwise kernels on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check

SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 30.0, -30.0, 1000.0, -1000.0, np.inf, -np.inf, np.nan]


def numbers(dtype, *shape, seed=0):
    return np.asarray(3 * np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_leaky_relu_in_any_memory_order(gpu, dtype):
    x = numbers(dtype, 3, 5, 4, 7)
    check("leaky_relu", x, 0.2)
    y = check("leaky_relu", x.transpose(0, 3, 1, 2), 0.0)
    assert y.strides == x.transpose(0, 3, 1, 2).strides


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_leaky_relu_of_another_memory_order(gpu, dtype):
    x, grad = numbers(dtype, 2, 3, 4, 5), numbers(dtype, 2, 3, 4, 5, seed=1)
    images = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for slope in (0.0, 0.2):
        check("leaky_relu_grad", grad, x, slope)
        dx = check("leaky_relu_grad", grad, images, slope)
        assert dx.strides == images.strides


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["exp", "sigmoid", "softplus"])
def test_smooth_maps(gpu, name, dtype):
    check(name, numbers(dtype, 5, 217), rtol=1e-6, atol=1e-7)
    check(name, numbers(dtype, 4, 6)[::2, ::-1], rtol=1e-6, atol=1e-7)
    for shape in ((), (0, 3)):
        check(name, numbers(dtype, *shape), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["exp", "sigmoid", "softplus"])
def test_infinities_and_nan(gpu, name):
    x = np.array(SPECIAL)
    found = getattr(kernels, name)(gpu.asarray(x)).get()
    np.testing.assert_allclose(found, getattr(kernels, name)(x), rtol=1e-12, atol=1e-300)


def test_leaky_relu_of_infinities_and_nan(gpu):
    x = np.array(SPECIAL, np.float32)
    for slope in (0.0, 0.5):
        found = kernels.leaky_relu(gpu.asarray(x), slope).get()
        np.testing.assert_array_equal(found, kernels.leaky_relu(x, slope))
        found = kernels.leaky_relu_grad(gpu.asarray(x[::-1]), gpu.asarray(x), slope).get()
        np.testing.assert_array_equal(found, kernels.leaky_relu_grad(x[::-1].copy(), x, slope))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_contiguous_of_any_strides(gpu, dtype):
    for shape in ((2, 33, 5, 9), (1, 40, 65), (3, 2, 4, 4), (2, 8, 3, 3, 3), (0, 8, 9, 9)):
        x = gpu.asarray(np.arange(np.prod(shape), dtype=dtype).reshape(shape))
        assert kernels.contiguous(x) is x
        order = (0, len(shape) - 1, *range(1, len(shape) - 1))  # what lies so in channels-last
        for view in (x.transpose(order), x.T, x[..., ::2]):
            found = kernels.contiguous(view)
            assert found.flags.c_contiguous and found.dtype == dtype
            np.testing.assert_array_equal(found.get(), view.get())


def test_images_are_brought_into_channels_last(gpu):
    from minigen.kernels.cuda.arrays import channels_last

    x = numbers("float32", 2, 35, 6, 7)
    found = channels_last(gpu.asarray(x))
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found.get(), x.transpose(0, 2, 3, 1))


def test_a_small_grid_strides_over_the_rest(gpu, monkeypatch):
    monkeypatch.setattr("minigen.kernels.cuda.arrays.BLOCKS", 1)
    x = numbers("float32", 2345)
    check("leaky_relu", x, 0.2)
    check("leaky_relu_grad", x[::-1].copy(), x, 0.2)
