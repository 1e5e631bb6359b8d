"""Softmax of rows on the device against the reference."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check, reference


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(5, 1), (9, 3), (13, 7), (3, 65), (2, 300), (2, 1100), (1, 2500), (0, 4)]
)
def test_softmax_and_gradients(gpu, shape, dtype):
    rng = np.random.default_rng(0)
    x, grad = (3 * rng.standard_normal((2, *shape))).astype(dtype)
    x[:, -1:] += 3
    y = check("softmax", x) if len(x) else np.ones_like(x)
    check("softmax_grad", grad, y.get() if len(x) else y)
    low = check("log_softmax", x) if len(x) else y
    check("log_softmax_grad", grad, low.get() if len(x) else low)


def test_other_strides(gpu):
    grad, x = np.random.default_rng(1).standard_normal((2, 5, 12)).astype(np.float32)
    check("softmax", x.T)
    check("log_softmax", x[:, ::3])
    check("softmax_grad", grad.T, np.abs(x).T)


@pytest.mark.parametrize("columns", [3, 70, 1100])
def test_what_is_not_finite(gpu, columns):
    x = np.zeros((5, columns), np.float32)
    x[0, 1], x[1, 2], x[2, 0], x[3] = np.nan, np.inf, -np.inf, -np.inf
    for name in ("softmax", "log_softmax"):
        with np.errstate(all="ignore"):
            expected = reference(name)(x)
        np.testing.assert_allclose(getattr(kernels, name)(gpu.asarray(x)).get(), expected, 1e-6)


def test_large_and_close_scores_do_not_cancel(gpu):
    check("log_softmax", np.float32([[1e4, 1e4 - 1, 0], [-3e7, -3e7, -3e7]]))


def test_the_empty_matrix(gpu):
    for name in ("softmax", "log_softmax"):
        assert getattr(kernels, name)(gpu.zeros((0, 4), np.float32)).shape == (0, 4)
