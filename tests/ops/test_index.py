"""Indexing, sorting, diagonals and embedding against NumPy; writing by index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigen.ops as ops
from minigen.autograd import grad, no_grad
from minigen.tensor import Tensor, tensor
from tests.ops.support import equal, same

X = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
INDICES = [
    0,
    -1,
    np.int64(1),
    slice(None),
    slice(None, None, -2),
    None,
    ...,
    (),
    (0, 1, 2),
    (slice(1), ..., -1),
    (..., None, 0),
    [2, 0, 2],
    np.array([[0, 1], [-1, 2]]),
    (slice(None), [0, 3]),
    ([0, 1], slice(None), [2, 3]),
    ([[0], [1]], [1, 2, 3]),
    np.array([True, False, True]),
    X > 0,
    X[..., 0] > 0,
    (0, X[0, :, 0] > 0),
    np.zeros(0, int),
    np.array(1),
    3,
    (0, 0, 0, 0),
    [5],
    np.array([True, False]),
    1.0,
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_getitem_and_its_gradient(index):
    same(lambda x: x[index], lambda x: x[index], X)
    try:
        taken = X[index]
    except IndexError:
        return
    x, g = tensor(X, requires_grad=True), np.random.default_rng(1).normal(size=taken.shape)
    expected = np.zeros_like(X)
    np.add.at(expected, index, g.astype(np.float32))
    equal(grad(x[index], x, [Tensor(g.astype(np.float32))])[0], expected)


def test_tensors_as_indices():
    t, i = Tensor(X), Tensor(np.array([2, 0]))
    equal(t[i], X[[2, 0]])
    equal(t[:, i, 1], X[:, [2, 0], 1])
    equal(t[t > 0], X[X > 0])
    equal(t[Tensor(np.array(1))], X[1])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_basic_indices_of_any_shape(draw):
    shape = draw.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    index = draw.draw(hnp.basic_indices(shape, allow_newaxis=True))
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float64).reshape(shape)
    same(lambda v: v[index], lambda v: v[index], x)
    leaf = tensor(x, requires_grad=True)
    out = leaf[index]
    expected = np.zeros(shape)
    expected[index] = 1
    equal(grad(out, leaf, [np.ones(out.shape)])[0], expected)


def test_index_put_leaves_its_input_and_the_last_write_counts():
    x, v = tensor([1.0, 2.0, 3.0], requires_grad=True), tensor([5.0, 6.0], requires_grad=True)
    out = ops.index_put(x, np.array([1, 1]), v)
    equal(out, np.float32([1, 6, 3]))
    equal(x, np.float32([1, 2, 3]))
    gx, gv = grad(out.sum(), [x, v])
    equal(gx, np.float32([1, 0, 1]))
    equal(gv, np.float32([0, 1]))


def test_setitem_through_the_graph_and_outside():
    x = tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    y[1:] = tensor([7.0, 8.0]) * x[0]
    equal(y, np.float32([2, 7, 8]))
    equal(grad(y.sum(), x)[0], np.float32([17, 0, 0]))
    with no_grad():
        x[0] = 9.0
    equal(x, np.float32([9, 2, 3]))
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 1.0


@pytest.mark.parametrize("axis", [None, 0, 1, -1, 3])
def test_take_repeat_sort(axis):
    for indices in (1, [0, 2], np.array([[0, -1], [1, 1]]), [], [99]):
        same(ops.take, np.take, X, indices, axis)
    same(ops.take, np.take, X, [7, -9], axis, mode="wrap")
    same(ops.take, np.take, X, [7, -9], axis, mode="clip")
    same(ops.repeat, np.repeat, X, 2, axis)
    same(ops.sort, np.sort, X, axis)
    same(ops.argsort, np.argsort, X, axis)
    same(ops.median, np.median, X, axis, tolerance=1e-6)
    same(ops.median, np.median, X[:2, :2], axis, keepdims=True)
    same(ops.sort, np.sort, np.array([[np.nan, 1, 0]]), -1)
    same(ops.median, np.median, X, (0, -1), keepdims=True)
    same(ops.take, np.take, X, [True, False], axis)
    same(ops.median, np.median, np.array([[np.nan, 1, 0], [1, 2, 3]]), 1)
    same(ops.repeat, np.repeat, X, np.array([1, 0, 2, 1]), 1)


def test_take_along_axis():
    order = np.argsort(X, 1)
    same(ops.take_along_axis, np.take_along_axis, X, order, axis=1)
    same(ops.take_along_axis, np.take_along_axis, X, order[:1, :2], axis=1)
    same(ops.take_along_axis, np.take_along_axis, X, order.ravel() * 3, axis=None)
    same(ops.take_along_axis, np.take_along_axis, X, order[0], axis=1)
    same(ops.take_along_axis, np.take_along_axis, X, order.astype(float), axis=1)


def test_topk_is_best_first():
    x = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    values, places = ops.topk(x, 2)
    equal(values, np.array([[3.0, 2.0], [5.0, 4.0]]))
    equal(places, np.array([[0, 2], [1, 2]]))
    equal(ops.topk(x, 1, 0, largest=False)[0], np.array([[0.0, 1.0, 2.0]]))
    with pytest.raises(ValueError, match="k is 4"):
        ops.topk(x, 4)


def test_diagonals():
    for args in ((), (1,), (-2,), (0, 1, 2), (1, -1, 0), (9,)):
        same(ops.diagonal, np.diagonal, X, *args)
        same(ops.trace, np.trace, X, *args, tolerance=1e-5)
    for x in (X[0], X[0, 0], X):
        same(ops.diag, np.diag, x)
        same(ops.diag, np.diag, x, -1)
    same(ops.diagonal, np.diagonal, X[0, 0])


def test_nonzero():
    same(ops.nonzero, np.nonzero, X > 0)


def test_embedding_and_padding_index():
    weight = tensor(np.arange(8.0).reshape(4, 2), requires_grad=True)
    rows = np.array([[0, 1], [1, 3]])
    out = ops.embedding(rows, weight, padding_idx=3)
    equal(out, weight.data[rows])
    expected = np.zeros((4, 2))
    np.add.at(expected, rows, 1.0)
    equal(grad(ops.embedding(rows, weight).sum(), weight)[0], expected)
    expected[3] = 0
    equal(grad(out.sum(), weight)[0], expected)
    equal(grad(ops.embedding(Tensor(rows), weight, -1).sum(), weight)[0], expected)
    with pytest.raises(IndexError):
        ops.embedding(np.array([4]), weight)
    with pytest.raises(TypeError, match="float64"):
        ops.embedding(np.array([1.0]), weight)
