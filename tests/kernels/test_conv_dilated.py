"""Dilated convolutions by minimal filtering of smaller images, against the direct sum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigen.kernels.cpu import conv as cpu
from minigen.kernels.cpu import conv_dilated, conv_plan

from minigen import kernels


@given(st.data(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_direct_sum(data, dtype):
    n, c, o = (data.draw(st.integers(1, most)) for most in (3, 40, 40))
    dilation = data.draw(st.sampled_from([(2, 2), (1, 2), (3, 1), (2, 3), (4, 4)]))
    kernel = data.draw(st.sampled_from([(3, 3), (2, 2), (3, 2)]))
    padding = tuple(data.draw(st.integers(0, 5)) for _ in range(2))
    reach = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = tuple(max(1, least) + data.draw(st.integers(0, 15)) for least in reach)
    slope = data.draw(st.sampled_from([1.0, 0.2]))
    rng = np.random.default_rng(n + c + o)
    x = rng.standard_normal((n, c, *size)).astype(dtype)
    weight = rng.standard_normal((o, c, *kernel)).astype(dtype)
    args = (1, 1), padding, dilation, 1
    with kernels.use("cpu", convolution="direct"):
        exact = kernels.conv2d(x.astype("f8"), weight.astype("f8"), None, *args, slope)
        grad = rng.standard_normal(exact.shape).astype(dtype)
        back = (grad.astype("f8"), weight.astype("f8"), None, size, *args, slope)
        exact_back = kernels.conv_transpose2d(*back)
        exact_grad = kernels.conv2d_weight_grad(x.astype("f8"), grad.astype("f8"), kernel, *args)
    with kernels.use("cpu", convolution="winograd"):
        found = (
            (kernels.conv2d(x, weight, None, *args, slope), exact),
            (kernels.conv_transpose2d(grad, weight, None, size, *args, slope), exact_back),
            (kernels.conv2d_weight_grad(x, grad, kernel, *args), exact_grad),
        )
    for y, expected in found:
        assert y.dtype == dtype
        assert y.shape == expected.shape
        bound = (1e-4 if dtype == "float32" else 1e-11) * max(np.abs(expected).max(), 1e-3)
        assert np.abs(y - expected).max() <= bound


@pytest.mark.parametrize("transposed", [False, True])
def test_chosen_where_minimal_filtering_pays(transposed):
    p = conv_plan.Problem(
        16, 64, (28, 28), 64, (28, 28), (3, 3), (1, 1), (2, 2), (2, 2), 1, transposed
    )
    assert cpu._chosen_for(p) == "winograd"
    assert cpu._chosen_for(p._replace(channels=4, out_channels=4)) != "winograd"
    assert conv_dilated.undilated(p._replace(stride=(2, 2))).dilation == (2, 2)


def test_infinity_stays_where_it_belongs():
    x = np.zeros((1, 32, 24, 24), np.float32)
    x[0, 0, 12, 12] = np.inf
    y = kernels.conv2d(x, np.ones((32, 32, 3, 3), np.float32), None, (1, 1), (2, 2), (2, 2), 1)
    assert np.isinf(y).sum() == 9 * 32
    assert not np.isnan(y).any()
