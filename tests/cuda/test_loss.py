"""Losses on logits on the device against the reference: layouts, rows, special values."""

import numpy as np
import pytest

from minigen import kernels
from tests.cuda.comparing import check


def drawn(shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    x, target = 3 * rng.standard_normal(shape), rng.random(shape)
    return np.asarray(x, dtype), np.asarray(target, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape,keep", [
    ((7,), 0), ((7,), 1), ((5000,), 0), ((9, 13), 1), ((3, 1300), 1), ((600, 2), 1), ((40, 300), 0),
    ((2, 3, 5, 4), 0), ((2, 3, 5, 4), 1), ((2, 3, 5, 4), 2), ((2, 3, 5, 4), 4), ((0, 3), 1),
    ((), 0),
])  # fmt: skip
def test_logit_cost_and_gradient(gpu, shape, keep, dtype):
    x, target = drawn(shape, dtype)
    check("logit_cost", x, target, keep)
    grad = drawn(shape[:keep], dtype, 1)[0]
    check("logit_cost_grad", grad, x, target)
    if len(shape) == 4:
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        check("logit_cost", last, target, keep)
        dx = check("logit_cost_grad", grad, last, target)
        assert keep > 1 or dx.transpose(0, 2, 3, 1).flags.c_contiguous


def test_logits_of_any_size_cost_what_they_should(gpu):
    x = gpu.asarray(np.array([200.0, -200.0, 1e4, -1e4, 0.0], np.float32))
    cost = kernels.logit_cost(x, gpu.zeros(5, np.float32), 1).get()
    np.testing.assert_allclose(cost, [200, 0, 1e4, 0, np.log(2)], atol=1e-6)
    cost = kernels.logit_cost(x, gpu.ones(5, np.float32), 1).get()
    np.testing.assert_allclose(cost, [0, 200, 0, 1e4, np.log(2)], atol=1e-6)
    nan = gpu.full(3, np.nan, np.float32)
    assert np.isnan(kernels.logit_cost(nan, gpu.ones(3, np.float32), 0).get())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 3), (5, 1), (2, 3, 4), (2, 5, 3, 2), (9, 65), (3, 1100)])
def test_label_cost_and_gradient(gpu, shape, dtype):
    x = 4 * drawn(shape, dtype)[0]
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, shape[1], (shape[0], *shape[2:]))
    grad = rng.standard_normal(labels.shape).astype(dtype)
    check("label_cost", x, labels)
    check("label_cost_grad", grad, x, labels)
    if x.ndim == 4:
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        check("label_cost", last, labels)
        dx = check("label_cost_grad", grad, last, labels)
        assert dx.transpose(0, 2, 3, 1).flags.c_contiguous


def test_label_cost_keeps_nan_and_takes_large_scores(gpu):
    x = np.array([[1e4, 0, -1e4], [np.nan, 0, 1], [np.inf, 0, 0], [0, 0, 0]], np.float32)
    given, labels = gpu.asarray(x), gpu.asarray(np.array([2, 1, 1, 3]))
    cost = kernels.label_cost(given, labels).get()
    assert cost[0] == 2e4 and np.isnan(cost[1:]).all()  # the last label is too large
    dx = kernels.label_cost_grad(gpu.ones(4, np.float32), given, labels).get()
    np.testing.assert_array_equal(dx[0], [1, 0, -1])
    assert np.isnan(dx[1:]).all()
