"""Reductions against NumPy over axes, keepdims, dtypes and empty input."""

import numpy as np
import pytest

import minigen.ops as ops
from minigen.autograd import grad
from minigen.tensor import Tensor, tensor
from tests.ops.support import equal, same

AXES = [None, 0, -1, (0, 2), (0, 1, 2), (), 3, (0, 0)]
FOLDS = [
    "sum",
    "mean",
    "var",
    "std",
    "max",
    "min",
    "amax",
    "amin",
    "prod",
    "any",
    "all",
    "count_nonzero",
]


def data(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("name", FOLDS)
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_folds(name, axis):
    ours, numpys = getattr(ops, name), getattr(np, name)
    for x in (data(2, 3, 4), data(2, 3, 4, dtype=np.float32), np.arange(24).reshape(2, 3, 4) - 5):
        same(ours, numpys, x, axis, tolerance=1e-5)
        same(ours, numpys, x, axis=axis, keepdims=True, tolerance=1e-5)


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize("axis", [(0, 2, 3), (-1, 0, -2), (2, 3)])
def test_image_sums_of_channels_last_memory(name, axis):
    x = data(2, 5, 6, 3, dtype=np.float32).transpose(0, 3, 1, 2)
    for value in (x, np.ascontiguousarray(x), x[:, :, ::2, 1:]):
        same(getattr(ops, name), getattr(np, name), value, axis, tolerance=1e-5)
        same(getattr(ops, name), getattr(np, name), value, axis, keepdims=True, tolerance=1e-5)


def test_empty_input_is_numpys():
    x = np.zeros((0, 3), np.float32)
    for name in ("sum", "prod", "any", "all", "max", "argmax"):
        same(getattr(ops, name), getattr(np, name), x)
        same(getattr(ops, name), getattr(np, name), x, 1)
    x = tensor(x, requires_grad=True)
    assert grad(x.sum(), x)[0].shape == (0, 3)


REDUCTIONS = [
    *FOLDS, "argmax", "argmin", "cumsum", "cumprod"
]  # fmt: skip


@pytest.mark.parametrize("name", REDUCTIONS)
def test_lists_and_plain_numbers(name):
    for value in ([1.0, 2.0], [[1, 2], [3, 0]], (1, 2), 3.0, 2, True, np.float32(3), np.array(2.0)):
        same(getattr(ops, name), getattr(np, name), value)


def test_logsumexp_of_lists_and_plain_numbers():
    equal(ops.logsumexp([0.0, 0.0]), np.log(np.float64(2)))
    equal(ops.logsumexp(3.0), np.float64(3.0))


def test_var_and_std_degrees_of_freedom():
    x = data(3, 4)
    for name in ("var", "std"):
        same(getattr(ops, name), getattr(np, name), x, axis=1, ddof=1)
        same(getattr(ops, name), getattr(np, name), x + 1e6, tolerance=1e-5)  # two passes
    same(ops.sum, np.sum, x, dtype=np.float32)
    same(ops.mean, np.mean, np.arange(4))


@pytest.mark.parametrize("axis", [None, 0, -1, 2])
def test_running_and_positions(axis):
    x = data(3, 4)
    for name in ("cumsum", "cumprod", "argmax", "argmin"):
        same(getattr(ops, name), getattr(np, name), x, axis)
    if axis != 2:
        same(ops.argmax, np.argmax, x, axis=axis, keepdims=True)


def test_nan_spreads():
    x = np.array([[1.0, np.nan], [2.0, 3.0]])
    for name in ("sum", "max", "min", "mean", "argmax"):
        same(getattr(ops, name), getattr(np, name), x, 1)
    leaf = tensor(x, requires_grad=True)
    np.testing.assert_array_equal(grad(leaf.max(1).sum(), leaf)[0].data, [[0, 1], [0, 1]])


def test_equal_extremes_share_the_gradient():
    x = tensor([[2.0, 2.0, 1.0], [3.0, 0.0, 0.0]], requires_grad=True)
    np.testing.assert_allclose(grad(x.max(1).sum(), x)[0].data, [[0.5, 0.5, 0], [1, 0, 0]])
    np.testing.assert_allclose(grad(x.min(), x)[0].data, [[0, 0, 0], [0, 0.5, 0.5]])


def test_gradients_that_exist_only_as_limits():
    x = tensor([2.0, 2.0], requires_grad=True)
    np.testing.assert_array_equal(grad(x.std(), x)[0].data, [0, 0])
    zeros = tensor([0.0, 0.0, 3.0], requires_grad=True)
    np.testing.assert_array_equal(grad(zeros.prod(), zeros)[0].data, [0, 0, 0])
    one = tensor([0.0, 2.0, 3.0], requires_grad=True)
    np.testing.assert_array_equal(grad(one.prod(), one)[0].data, [6, 0, 0])


def test_logsumexp():
    x = data(3, 4)
    equal(ops.logsumexp(x, axis=1), np.log(np.exp(x).sum(1)))
    equal(ops.logsumexp(x, (0, 1), keepdims=True), np.log(np.exp(x).sum(keepdims=True)))
    equal(ops.logsumexp(np.array([1000.0, 1000.0])), np.float64(1000 + np.log(2)))
    lowest = tensor([-np.inf, -np.inf], requires_grad=True)
    assert ops.logsumexp(lowest).item() == -np.inf
    np.testing.assert_array_equal(grad(ops.logsumexp(lowest), lowest)[0].data, [0, 0])
    equal(ops.logsumexp(np.array([np.inf, 0.0])), np.float64(np.inf))
    equal(ops.logsumexp(x[:, :0], 1), np.full(3, -np.inf))
    equal(ops.logsumexp(x[:0], 1, keepdims=True), np.zeros((0, 1)))


def test_methods():
    x = data(2, 3, dtype=np.float32)
    t = Tensor(x)
    for name in (
        "sum",
        "mean",
        "max",
        "min",
        "std",
        "var",
        "prod",
        "argmax",
        "cumsum",
        "all",
        "any",
    ):
        equal(getattr(t, name)(axis=1), getattr(x, name)(axis=1), 1e-5)
