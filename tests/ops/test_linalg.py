"""Products, einsum, solving, factoring and norms against NumPy."""

import numpy as np
import pytest

import minigen.ops as ops
from minigen.autograd import grad
from minigen.tensor import Tensor, tensor
from tests.ops.support import equal, same

rng = np.random.default_rng(0)


def data(*shape, dtype=np.float64):
    return rng.normal(size=shape).astype(dtype)


PRODUCTS = [
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 2)),
    ((2, 3), (4, 2)),
    ((), (3,)),
    ((3,), (2, 3, 4)),
]


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_products(shapes, dtype):
    x, y = ((data(*s) * 3).astype(dtype) for s in shapes)
    for name in ("matmul", "dot", "inner", "outer"):
        same(getattr(ops, name), getattr(np, name), x, y, tolerance=1e-4)
    if min(x.ndim, y.ndim) >= 2:
        same(ops.tensordot, np.tensordot, x, y, tolerance=1e-4)
    else:
        with pytest.raises(ValueError, match="axes is 2"):
            ops.tensordot(x, y)
    same(ops.matmul, np.matmul, x.astype(np.float32), y.astype(np.float64), tolerance=1e-4)
    same(ops.vecdot, np.vecdot, x, x)
    same(ops.vdot, np.vdot, x, x, tolerance=1e-4)


def test_vecdot_keeps_the_dtype_and_broadcasts_only_the_batch():
    x = data(2, 3).astype(np.int32)
    same(ops.vecdot, np.vecdot, x, x[:1])
    same(ops.vecdot, np.vecdot, x, x[:, :1])


def test_equal_singular_values_and_eigenvalues_have_a_gradient():
    x = tensor(np.diag([2.0, 2.0, 0.0]), requires_grad=True)
    np.testing.assert_allclose(grad(ops.norm(x, "nuc"), x)[0].data, np.eye(3))
    np.testing.assert_allclose(grad(ops.eigh(x)[0].sum(), x)[0].data, np.eye(3), atol=1e-12)


def test_matmul_of_strided_and_complex_input():
    x, y = data(6, 4, dtype=np.float32), data(8, 6, dtype=np.float32)
    same(ops.matmul, np.matmul, x.T[::2], y.T[:, 1::3], tolerance=1e-5)
    same(ops.matmul, np.matmul, x + 1j, x.T - 2j, tolerance=1e-4)


@pytest.mark.parametrize("axes", [0, 1, 2, ((1, 2), (0, 1)), ((-1,), (1,)), (2, 1), ((0,), (0,))])
def test_tensordot(axes):
    same(ops.tensordot, np.tensordot, data(2, 3, 4), data(3, 4, 2), axes=axes)


def test_linear_is_a_matrix_product_with_rows_of_weights():
    x, w, b = data(5, 2, 3), data(4, 3), data(4)
    equal(ops.linear(x, w, b), x @ w.T + b)
    equal(ops.linear(Tensor(x), weight=w), x @ w.T)
    equal(ops.linear(x[0, 0], w, bias=b), x[0, 0] @ w.T + b)
    with pytest.raises(ValueError, match="3 features, weight expects 2"):
        ops.linear(x, w[:, :2])
    equal(ops.bmm(data(2, 3, 0), data(2, 0, 4)), np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="bmm"):
        ops.bmm(x, w)


EINSUMS = [
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ij,jk->ki", [(2, 3), (3, 4)]),
    ("ii", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("ij->ji", [(2, 3)]),
    ("...ij->...ji", [(5, 2, 3)]),
    ("...ij,...jk", [(5, 1, 2, 3), (4, 3, 2)]),
    ("b...,b...->b", [(2, 3, 4), (2, 3, 4)]),
    ("i,j,k->kij", [(2,), (3,), (4,)]),
    (" i j , j -> i ", [(2, 3), (3,)]),
    ("ij,ij->", [(2, 3), (2, 3)]),
    ("i...,...j->ij...", [(2, 4), (4, 3)]),
    ("ij,jk", [(2, 3), (4, 5)]),
    ("ij", [(2, 3, 4)]),
    ("ij,jk", [(2, 3)]),
    ("ij->k", [(2, 3)]),
]


@pytest.mark.parametrize("subscripts, shapes", EINSUMS, ids=str)
def test_einsum(subscripts, shapes):
    same(ops.einsum, np.einsum, subscripts, *(data(*s) for s in shapes))


def test_einsum_with_lists_of_labels():
    x, y = data(2, 3), data(3, 4)
    same(ops.einsum, np.einsum, x, [0, 1], y, [1, 2], [0, 2])
    same(ops.einsum, np.einsum, x, [0, 1], y, [1, 2])
    same(ops.einsum, np.einsum, x, [..., 1], y, [1, 2], [..., 2])


def test_einsum_may_repeat_an_operand():
    x = tensor(data(3), requires_grad=True)
    equal(grad(ops.einsum("i,i,i->", x, x, x), x)[0], 3 * x.data**2)


def test_solving():
    a = data(2, 3, 3) + 3 * np.eye(3)
    for name in ("inv", "det", "slogdet"):
        same(getattr(ops, name), getattr(np.linalg, name), a)
    for b in (data(3), data(2, 3, 4), data(3, 2), data(2, 3)):
        same(ops.solve, np.linalg.solve, a, b)
    same(ops.inv, np.linalg.inv, np.zeros((2, 2)))
    same(ops.inv, np.linalg.inv, np.zeros((2, 3)))


def test_factoring_reads_the_lower_triangle():
    a = data(2, 4, 4)
    a = a @ a.mT + np.eye(4)
    same(ops.cholesky, np.linalg.cholesky, a)
    same(ops.cholesky, np.linalg.cholesky, -a)
    values, vectors = ops.eigh(a)
    np.testing.assert_allclose((vectors * values[:, None] @ vectors.mT).data, a, atol=1e-10)
    leaf = tensor(a[0], requires_grad=True)
    for f in (lambda t: ops.cholesky(t).sum(), lambda t: ops.eigh(t)[0][0]):
        assert not np.triu(grad(f(leaf), leaf)[0].data, 1).any()


def test_svd():
    x = data(2, 3, 5)
    for full in (True, False):
        for found, expected in zip(ops.svd(x, full), np.linalg.svd(x, full), strict=True):
            equal(found, expected)
    leaf = tensor(x, requires_grad=True)
    with pytest.raises(ValueError, match="full_matrices=False"):
        grad(ops.svd(leaf)[0].sum(), leaf)


@pytest.mark.parametrize("keepdims", [False, True])
def test_norms(keepdims):
    x = data(3, 4, 5)
    same(ops.norm, np.linalg.norm, x, keepdims=keepdims)
    for ord in (None, 0, 1, 2, 3, 0.5, -1, -2, np.inf, -np.inf, "fro"):
        same(ops.norm, np.linalg.norm, x, ord, axis=1, keepdims=keepdims)
        same(ops.norm, np.linalg.norm, x[0, 0], ord, keepdims=keepdims)
    for ord in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf, 3):
        same(ops.norm, np.linalg.norm, x, ord, axis=(0, -1), keepdims=keepdims)
        same(ops.norm, np.linalg.norm, x[0], ord, keepdims=keepdims)
        same(ops.norm, np.linalg.norm, np.arange(6).reshape(2, 3), ord, keepdims=keepdims)
    same(ops.norm, np.linalg.norm, np.arange(3, dtype=np.uint8), np.inf)
    same(ops.norm, np.linalg.norm, x, 1, keepdims=keepdims)
    same(ops.norm, np.linalg.norm, x, axis=(0, 1, 2), keepdims=keepdims)


def test_norm_has_gradient_zero_at_zero_and_one_on_the_sphere():
    x = tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    np.testing.assert_allclose(grad(ops.norm(x, axis=1).sum(), x)[0].data, [[0, 0], [0.6, 0.8]])
