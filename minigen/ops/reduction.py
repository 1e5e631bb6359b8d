"""Sums, means, extremes and running sums along axes, as in NumPy, each with its VJP under it.

What may never live here: products of matrices (linalg). `axis` is None, an int or a tuple, negative
counted from the end. Where several elements share the extreme, `max` and `min` give each an even
share of the gradient (torch.amax).
"""

import math

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import op
from minigen.ops.cases import case, complex_normal, distinct, normal
from minigen.ops.choosing import isnan, where
from minigen.ops.creation import conj, eye, ones
from minigen.ops.elementwise import exp
from minigen.ops.shape import expand_dims, flip, moveaxis, reshape, triu

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "std",
    "sum",
    "var",
]

AXES = [
    case(normal(2, 3)),
    case(normal(2, 3, 4), axis=-1),
    case(normal(2, 3, 4), axis=(0, -1), keepdims=True),
    case(normal(2, 3, 2, 2), axis=(0, 2, 3)),
]


@op(linear=("x",), cases=[*AXES, case(complex_normal(2, 3), axis=0)])
def sum(x, axis=None, dtype=None, keepdims=False):
    if dtype is None and hasattr(x, "ndim"):
        return _total(x, axis, keepdims)
    if isinstance(x, np.ndarray):
        return x.sum(axis, dtype, keepdims=keepdims)  # np.sum comes to the same, by a longer way
    return np.sum(x, axis, dtype, keepdims=keepdims)


sum.vjp(x=lambda g, x_shape, axis, keepdims: _spread(g, x_shape, axis, keepdims))


@op(linear=("x",), cases=AXES)
def mean(x, axis=None, dtype=None, keepdims=False):
    if dtype is None and getattr(x, "size", 0) and x.dtype.char in "fd":
        return _total(x, axis, keepdims, average=True)
    return np.mean(x, axis, dtype, keepdims=keepdims)


mean.vjp(
    x=lambda g, x_shape, axis, keepdims: spread(g, x_shape, axis, keepdims, _count(x_shape, axis))
)


@op(
    view=True,
    linear=("x",),
    cases=[case(normal(), (2, 3), None, False, 6), case(normal(2, 4), (2, 3, 4), 1, False, 1)],
)
def spread(x, shape, axis, keepdims, count):
    """A reduction's gradient over count, the same for all elements that were reduced."""
    x = x if count == 1 else x / count
    if not keepdims and np.ndim(x):
        x = np.expand_dims(x, _axes(len(shape), axis))
    return np.broadcast_to(x, shape)


spread.vjp(x=lambda g, axis, keepdims, count: sum(g, axis, keepdims=keepdims) / count)


@op(cases=[*AXES, case(normal(2, 3), axis=1, ddof=1)])
def var(x, axis=None, dtype=None, ddof=0, keepdims=False):
    return np.var(x, axis, dtype, ddof=ddof, keepdims=keepdims)


def _var_x(g, x, axis, ddof, keepdims):
    free = _count(x.shape, axis) - ddof
    scale = 2 / free if free > 0 else math.nan
    return _spread(g * scale, x.shape, axis, keepdims) * (x - mean(x, axis, keepdims=True))


var.vjp(x=_var_x)


@op(cases=[*AXES, case(normal(2, 3), axis=1, ddof=1)])
def std(x, axis=None, dtype=None, ddof=0, keepdims=False):
    return np.std(x, axis, dtype, ddof=ddof, keepdims=keepdims)


# Of equal elements the deviation is 0 and so is the gradient chosen here (as in PyTorch).
std.vjp(
    x=lambda g, x, out, axis, ddof, keepdims: _var_x(
        g * 0.5 / where(out == 0, 1, out), x, axis, ddof, keepdims
    )
)


def _total(x, axis, keepdims, average=False):
    """The sum or mean along axes, by a kernel where the array is large or on a GPU."""
    if (x.size < LARGE and type(x) is np.ndarray) or x.dtype.char not in "fd" or not x.ndim:
        total = x.sum(axis, keepdims=keepdims)
        return total / (x.size // total.size) if average else total
    ndim = x.ndim
    axes = axis if isinstance(axis, tuple) else (range(ndim) if axis is None else (axis,))
    wrapped = tuple([a % ndim for a in axes if -ndim <= a < ndim])
    if len(set(wrapped)) != len(axes) or not wrapped:  # NumPy says what is wrong
        return x.sum(axis, keepdims=keepdims)
    over = math.prod([x.shape[a] for a in wrapped]) if average else 1
    total = kernels.axis_sum(x, wrapped, over)
    if not keepdims:
        return total
    return total.reshape([1 if a in wrapped else n for a, n in enumerate(x.shape)])


LARGE = 16384  # elements: below, NumPy's sums are as fast


def _spread(g, shape, axis, keepdims):
    """The gradient of a reduction's output, broadcast over what was reduced."""
    return spread(g, shape, axis, keepdims, 1)


def _kept(g, ndim, axis, keepdims):
    """g with the reduced axes put back, of length 1."""
    if keepdims or (axis is None and g.ndim == 0):
        return g
    return expand_dims(g, _axes(ndim, axis))


def _axes(ndim, axis):
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def _count(shape, axis):
    return math.prod(shape[a] for a in _axes(len(shape), axis))


# ------------------------------------------------------------------------------------- extremes

SPREAD = [
    case(distinct(2, 3)),
    case(distinct(2, 3, 4), axis=-1),
    case(distinct(2, 3, 4), axis=(0, -1), keepdims=True),
]


@op(cases=SPREAD)
def max(x, axis=None, keepdims=False):
    return np.max(x, axis, keepdims=keepdims)


@op(cases=SPREAD)
def min(x, axis=None, keepdims=False):
    return np.min(x, axis, keepdims=keepdims)


def _extreme_x(g, x, out, axis, keepdims):
    best = _kept(out.detach(), x.ndim, axis, keepdims)
    hits = where(isnan(best), isnan(x), x == best)
    shares = hits.astype(g.dtype) / sum(hits, axis, g.dtype, keepdims=True)
    return _kept(g, x.ndim, axis, keepdims) * shares


max.vjp(x=_extreme_x)
min.vjp(x=_extreme_x)
amax, amin = max, min


@op(
    cases=[
        *AXES[:3],
        case(np.array([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]]), axis=1),
        case(complex_normal(2, 3), axis=1),
    ]
)
def prod(x, axis=None, dtype=None, keepdims=False):
    return np.prod(x, axis, dtype, keepdims=keepdims)


def _prod_x(g, x, out, axis, keepdims):
    g = _kept(g, x.ndim, axis, keepdims)
    if all(x != 0):
        return g * conj(_kept(out, x.ndim, axis, keepdims) / x)
    axes = _axes(x.ndim, axis)  # a zero among them: multiply the others, for each element in turn
    ends = tuple(range(x.ndim - len(axes), x.ndim))
    last = moveaxis(x, axes, ends)
    n = math.prod(last.shape[x.ndim - len(axes) :])
    others = expand_dims(reshape(last, (*last.shape[: x.ndim - len(axes)], n)), -2)
    others = prod(where(eye(n, dtype=bool, device=x.device), 1, others), -1)
    return g * conj(moveaxis(reshape(others, last.shape), ends, axes))


prod.vjp(x=_prod_x)


@op(
    cases=[
        case(normal(2, 3)),
        case(normal(2, 3, 4), axis=-1),
        case(normal(2, 3, 4), axis=(0, -1), keepdims=True),
    ]
)
def logsumexp(x, axis=None, keepdims=False):
    """log(sum(exp(x))) along axes without overflow (torch.logsumexp); -inf of nothing."""
    if np.size(x) == 0:
        return np.full_like(np.sum(x, axis, keepdims=keepdims), -math.inf)
    top = np.max(x, axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore", over="ignore"):
        out = np.log(np.sum(np.exp(x - top), axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, _axes(np.ndim(x), axis))


def _logsumexp_x(g, x, out, axis, keepdims):
    out = _kept(out, x.ndim, axis, keepdims)
    return _kept(g, x.ndim, axis, keepdims) * exp(x - where(out == -math.inf, 0, out))


logsumexp.vjp(x=_logsumexp_x)


# ---------------------------------------------------------------------------------- running


@op(linear=("x",), cases=[case(normal(2, 3)), case(normal(2, 3, 2), axis=1)])
def cumsum(x, axis=None, dtype=None):
    return np.cumsum(x, axis, dtype)


def _cumsum_x(g, x_shape, axis):
    along = 0 if axis is None else axis
    return reshape(flip(cumsum(flip(g, along), along), along), x_shape)


cumsum.vjp(x=_cumsum_x)


@op(
    cases=[
        case(normal(2, 3)),
        case(normal(2, 3, 2), axis=1),
        case(np.array([[2.0, 0.0, 3.0, 1.0], [0.0, 2.0, 0.0, 3.0]]), axis=-1),
        case(complex_normal(2, 3), axis=1),
    ]
)
def cumprod(x, axis=None, dtype=None):
    return np.cumprod(x, axis, dtype)


def _cumprod_x(g, x, out, axis):
    flat, axis = (reshape(x, -1), 0) if axis is None else (x, axis)
    if all(x != 0):
        return reshape(_cumsum_x(g * conj(out), flat.shape, axis) / conj(flat), x.shape)
    # d out_i / d x_k = product of x_j over j <= i, j != k, where k <= i
    row = moveaxis(flat, axis, -1)
    n = row.shape[-1]
    others = where(eye(n, dtype=bool, device=x.device), 1, expand_dims(row, -2))
    slopes = triu(ones((n, n), bool, device=x.device)) * cumprod(others, -1)
    found = sum(expand_dims(moveaxis(g, axis, -1), -2) * conj(slopes), -1)
    return reshape(moveaxis(found, -1, axis), x.shape)


cumprod.vjp(x=_cumprod_x)


# --------------------------------------------------------------------------- without a gradient


@op(differentiable=False)
def any(x, axis=None, keepdims=False):
    return np.any(x, axis, keepdims=keepdims)


@op(differentiable=False)
def all(x, axis=None, keepdims=False):
    return np.all(x, axis, keepdims=keepdims)


@op(differentiable=False)
def argmax(x, axis=None, keepdims=False):
    return np.argmax(x, axis, keepdims=keepdims)


@op(differentiable=False)
def argmin(x, axis=None, keepdims=False):
    return np.argmin(x, axis, keepdims=keepdims)


@op(differentiable=False)
def count_nonzero(x, axis=None, keepdims=False):
    return np.sum(np.not_equal(x, 0), axis, keepdims=keepdims)  # CuPy's has no keepdims
