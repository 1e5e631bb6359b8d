"""What solves, factors and measures matrices, as in numpy.linalg: mg.linalg.inv.

What may never live here: products (products), which this namespace only offers as numpy.linalg
does. Matrices are the last two axes, whatever stands before is a batch.
"""

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minigen.autograd import composed, op
from minigen.ops.cases import Spec, case, complex_normal, distinct, normal, positive
from minigen.ops.choosing import where
from minigen.ops.creation import conj, eye
from minigen.ops.products import (
    adjoint,
    matmul,
    matrix_transpose,
    outer,
    tensordot,
    vecdot,
)
from minigen.ops.shape import expand_dims, moveaxis, squeeze, tril
from minigen.tensor import Tensor

__all__ = [
    "cholesky",
    "det",
    "eigh",
    "inv",
    "matmul",
    "matrix_transpose",
    "norm",
    "outer",
    "slogdet",
    "solve",
    "svd",
    "tensordot",
    "vecdot",
]


WELL = Spec(lambda rng, s: rng.uniform(-0.5, 0.5, s) + 2 * np.eye(s[-1]), (2, 3, 3))
DEFINITE = Spec(lambda rng, s: (lambda a: a @ a.mT + np.eye(s[-1]))(rng.normal(size=s)), (2, 3, 3))


@op(cases=[case(WELL), case(complex_normal(3, 3))])
def inv(x):
    return np.linalg.inv(x)


inv.vjp(x=lambda g, out: -matmul(adjoint(out), matmul(g, adjoint(out))))


@op(
    linear=("b",),
    cases=[case(WELL, normal(3)), case(WELL, normal(2, 3, 2)), case(WELL, normal(3, 2))],
)
def solve(a, b):
    if getattr(b, "ndim", 0) > 1 and a.shape[:-2] != b.shape[:-2]:  # CuPy's does not broadcast
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (np.broadcast_to(m, (*batch, *m.shape[-2:])) for m in (a, b))
    return np.linalg.solve(a, b)


def _solve_a(g, a, b_shape, out):
    if len(b_shape) == 1:  # one vector has no column axis
        g, out = g[..., None], out[..., None]
    return -matmul(solve(adjoint(a), g), adjoint(out))


def _solve_b(g, a, b_shape):
    if len(b_shape) > 1:
        return solve(adjoint(a), g)
    return solve(adjoint(a), g[..., None])[..., 0]


solve.vjp(a=_solve_a, b=_solve_b)


@op(cases=[case(WELL), case(complex_normal(3, 3))])
def det(x):
    return np.linalg.det(x)


det.vjp(x=lambda g, x, out: (g * conj(out))[..., None, None] * adjoint(inv(x)))


@op(cases=[case(WELL)])
def slogdet(x):
    """(sign, log|det|); the gradient of the sign is zero."""
    return tuple(np.linalg.slogdet(x))


slogdet.vjp(x=lambda g, x: g[1][..., None, None] * adjoint(inv(x)))


@op(cases=[case(DEFINITE)])
def cholesky(x):
    """L with L L^T = x (real); as in NumPy only the lower triangle of x is read."""
    return np.linalg.cholesky(x)


def _cholesky_x(g, out):
    half = _halved(matmul(adjoint(out), g))  # Murray 2016
    back = inv(out)
    return _on_lower(matmul(adjoint(back), matmul(half, back)))


cholesky.vjp(x=_cholesky_x)


@op(cases=[case(DEFINITE)])
def eigh(x):
    """(eigenvalues ascending, eigenvectors in columns) of real symmetric matrices' lower triangles.

    The eigenvectors of equal eigenvalues have no gradient; what they would add is left out.
    """
    return tuple(np.linalg.eigh(x))


def _eigh_x(g, out):
    values, vectors = out
    one = eye(values.shape[-1], dtype=values.dtype, device=values.device)
    gaps = values[..., None, :] - values[..., :, None]
    inner = matmul(adjoint(vectors), g[1]) * _inverse(gaps) + g[0][..., None] * one
    return _on_lower(matmul(vectors, matmul(inner, adjoint(vectors))))


eigh.vjp(x=_eigh_x)


@op(cases=[case(normal(2, 3, 3)), case(normal(4, 2), False), case(normal(2, 3), False)])
def svd(x, full_matrices=True):
    """(U, S, Vh) of real matrices, singular values descending.

    With full_matrices, NumPy's default, there is a gradient for square matrices only. The vectors
    of equal or zero singular values have none; what they would add is left out.
    """
    return tuple(np.linalg.svd(x, full_matrices))


def _svd_x(g, x_shape, out, full_matrices):
    u, s, vh = out
    gu, gs, gvh = g
    if full_matrices and x_shape[-1] != x_shape[-2]:
        raise ValueError(
            f"svd: no gradient with full_matrices=True for shape {x_shape}; use full_matrices=False"
        )
    one = eye(s.shape[-1], dtype=s.dtype, device=s.device)
    row, column = s[..., None, :], s[..., :, None]
    gaps = _inverse(row * row - column * column)
    turn_u = gaps * _odd(matmul(adjoint(u), gu)) * row
    turn_v = gaps * _odd(matmul(vh, adjoint(gvh))) * column
    found = matmul(u, matmul(turn_u + turn_v + gs[..., None] * one, vh))
    beside_u = gu - matmul(u, matmul(adjoint(u), gu))  # what leaves the span of U, and of V
    beside_v = gvh - matmul(matmul(gvh, adjoint(vh)), vh)
    return found + matmul(beside_u * _inverse(row), vh) + matmul(u, beside_v * _inverse(column))


svd.vjp(x=_svd_x)


def _inverse(x):
    """1 / x, and 0 where x is 0."""
    return (x != 0) / where(x == 0, 1, x)


def _halved(x):
    """The lower triangle with half the diagonal."""
    return tril(x) - 0.5 * x * eye(x.shape[-1], dtype=x.dtype, device=x.device)


def _odd(x):
    return x - matrix_transpose(x)


def _on_lower(x):
    """The gradient by a symmetric matrix of which only the lower triangle is read."""
    return 2 * _halved(0.5 * (x + matrix_transpose(x)))


@op(
    cases=[
        case(normal(2, 3)),
        case(normal(2, 3, 2), axis=(0, -1)),
        case(complex_normal(2, 3), axis=1),
    ],
)
def _norm2(x, axis=None, keepdims=False):
    return np.sqrt(np.sum(np.square(np.abs(x)), axis, keepdims=keepdims))


def _norm2_x(g, x, out, axis, keepdims):
    out = where(out == 0, 1, out)  # the gradient chosen at 0 is 0
    if not keepdims and axis is not None:
        g, out = expand_dims(g, axis), expand_dims(out, axis)
    return x * (g / out)


_norm2.vjp(x=_norm2_x)


@composed(
    cases=[
        case(normal(2, 3)),
        case(normal(2, 3), axis=1),
        case(normal(2, 3), "fro", keepdims=True),
        case(positive(4), 3),
        case(distinct(2, 3), 1, axis=0, keepdims=True),
        case(positive(2, 3), math.inf, axis=-1),
        case(positive(2, 3), 1),
        case(normal(2, 3), 2),
        case(normal(3, 2, 2), "nuc", axis=(0, -1)),
        case(positive(2, 3), -math.inf, axis=(1, 0)),
    ]
)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors (`axis` an int) or matrices (two axes): numpy.linalg.norm.

    Without `ord` and `axis` it is the 2-norm of all elements. The 2-norm has gradient 0 at 0.
    """
    x = _tensor(x)
    if x.dtype.kind not in "fc":
        x = x.astype(np.float64)
    if ord is None and (axis is None or isinstance(axis, int) or len(axis) <= 2):
        return _norm2(x, axis, keepdims)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim, "norm")
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: {len(axes)} axes given; a norm with an ord takes 1 or 2")
    if ord in ("fro", "f"):
        return _norm2(x, axes, keepdims)
    if ord in (2, -2, "nuc"):
        return _spectral_norm(x, ord, axes, keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(
            f"norm: ord {ord!r} of a matrix; there are None, 'fro', 'nuc', 1, -1, 2, -2, inf, -inf"
        )
    row, column = axes
    add_up, choose = (row, column) if abs(ord) == 1 else (column, row)
    sums = abs(x).sum(add_up, keepdims=True)
    found = sums.max(choose, keepdims=True) if ord > 0 else sums.min(choose, keepdims=True)
    return found if keepdims else squeeze(found, axes)


def _spectral_norm(x, ord, axes, keepdims):
    """The largest or smallest singular value, or their sum."""
    values = svd(moveaxis(x, axes, (-2, -1)), False)[1]
    found = values.sum(-1) if ord == "nuc" else values[..., 0 if ord == 2 else -1]
    return expand_dims(found, axes) if keepdims else found


def _vector_norm(x, ord, axis, keepdims):
    if ord == 2:
        return _norm2(x, axis, keepdims)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord {ord!r} is not a norm of vectors; give a number")
    if ord == 0:
        return (x != 0).astype(x.dtype).sum(axis, keepdims=keepdims)
    size = abs(x)
    if ord == math.inf:
        return size.max(axis, keepdims=keepdims)
    if ord == -math.inf:
        return size.min(axis, keepdims=keepdims)
    if ord == 1:
        return size.sum(axis, keepdims=keepdims)
    return (size**ord).sum(axis, keepdims=keepdims) ** (1 / ord)


def _tensor(x):
    return x if isinstance(x, Tensor) else Tensor(x)
