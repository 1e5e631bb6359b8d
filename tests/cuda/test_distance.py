"""Distances between arrays on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (7,), (9000,), (3, 5, 7), (2, 3, 5, 4), (0, 3)])
def test_distances_and_gradients(gpu, shape, dtype):
    x, y = (np.asarray(a) for a in np.random.default_rng(0).standard_normal((2, *shape), dtype))
    scale = np.asarray(-0.7, dtype)
    for a, b in ((x, y), (x.T, y.T), (x, y.T.copy().T)):
        for name in ("squared_error", "absolute_error"):
            assert check(name, a, b).shape == ()
        for name in ("scaled_difference", "scaled_sign"):
            assert check(name, a, b, scale).strides == np.empty_like(a).strides
    if x.ndim == 3:
        check("squared_error", x[:, ::2], y[:, 1::2][:, [0, 1, 0]])
        check("scaled_sign", x[::2], y[::2], scale)


def test_signs_of_what_is_equal_or_not_finite(gpu):
    x, y = gpu.asarray(np.float32([1, np.nan, np.inf, 2])), gpu.ones(4, np.float32)
    found = kernels.scaled_sign(x, y, gpu.full((), 3, np.float32)).get()
    np.testing.assert_array_equal(found, [0, np.nan, 3, 3])
    assert np.isnan(kernels.squared_error(x, y).get())
    assert kernels.absolute_error(x[2:], y[2:]).get() == np.inf
