"""Choosing element by element in one pass, in the order in which memory lies.

Arrays of one shape and dtype are served, of which all but the first may be numbers; what broadcasts
otherwise goes to the reference, and so do small arrays, for which NumPy is as fast.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..reference import choosing as reference
from .jit import inline_kernel, parallel_kernel
from .rows import SERIAL, flat, flat_like

LEAST = SERIAL  # elements


def choose(x, y, condition) -> np.ndarray:
    """x where the condition holds, y elsewhere."""
    like = x if isinstance(x, np.ndarray) else y
    served = _served(like, x, y) and condition.shape == like.shape
    if not served or condition.dtype != np.bool_:
        return reference.choose(x, y, condition)
    out = np.empty_like(like)
    index = np.empty_like(like, np.bool_)
    index[...] = condition
    _choose(flat(index), _elements(x, out), _elements(y, out), flat(out))
    return out


def winner_share(grad, x, y) -> np.ndarray:
    """grad where x > y, half of it where they are equal, 0 elsewhere."""
    if not _served(grad, x, y):
        return reference.winner_share(grad, x, y)
    out = np.empty_like(grad)
    _winner_share(flat(grad), _elements(x, out), _elements(y, out), flat(out))
    return out


def band(grad, x, low: float, high: float, closed: bool) -> np.ndarray:
    """grad where low <= x <= high if closed; otherwise 0 where x <= low or x >= high."""
    if not _served(grad, x):
        return reference.band(grad, x, low, high, closed)
    out = np.empty_like(x)
    _band(flat_like(grad, out), flat_like(x, out), float(low), float(high), closed, flat(out))
    return out


def times_sign(grad, x) -> np.ndarray:
    """grad times -1, 0 or 1, the sign of x."""
    if not _served(grad, x):
        return reference.times_sign(grad, x)
    out = np.empty_like(x)
    _times_sign(flat_like(grad, out), flat_like(x, out), flat(out))
    return out


def _served(like, *others) -> bool:
    """Whether all are numbers or arrays of one shape and dtype, large enough to be worth it."""
    if not isinstance(like, np.ndarray) or like.size < LEAST or like.dtype.char not in "fd":
        return False
    return all(
        isinstance(v, (int, float)) or (v.shape == like.shape and v.dtype == like.dtype)
        for v in others
    )


def _elements(value, out):
    """The elements in out's order; one for a number."""
    return flat_like(value, out) if isinstance(value, np.ndarray) else np.full(1, value, out.dtype)


@parallel_kernel
def _choose(condition, x, y, out):
    if x.size == y.size:
        for i in prange(out.size):
            a, b = x[i], y[i]  # both are read, so that nothing branches
            out[i] = a if condition[i] else b
    elif x.size > 1:
        other = y[0]
        for i in prange(out.size):
            a = x[i]
            out[i] = a if condition[i] else other
    else:
        other = x[0]
        for i in prange(out.size):
            b = y[i]
            out[i] = other if condition[i] else b


@inline_kernel
def _share(grad, x, y):
    half = grad * type(grad)(0.5) if x == y else type(grad)(0)
    return grad if x > y else half


@parallel_kernel
def _winner_share(grad, x, y, out):
    if x.size == y.size:
        for i in prange(out.size):
            out[i] = _share(grad[i], x[i], y[i])
    elif x.size > 1:
        other = y[0]
        for i in prange(out.size):
            out[i] = _share(grad[i], x[i], other)
    else:
        other = x[0]
        for i in prange(out.size):
            out[i] = _share(grad[i], other, y[i])


@parallel_kernel
def _band(grad, x, low, high, closed, out):
    a, b, zero = x.dtype.type(low), x.dtype.type(high), x.dtype.type(0)
    if closed:
        for i in prange(out.size):
            g = grad[i]
            out[i] = g if (x[i] >= a) & (x[i] <= b) else zero
    else:
        for i in prange(out.size):
            g = grad[i]
            out[i] = zero if (x[i] <= a) | (x[i] >= b) else g


@parallel_kernel
def _times_sign(grad, x, out):
    for i in prange(out.size):
        g, v = grad[i], x[i]
        out[i] = g if v > 0 else (-g if v < 0 else g * v)
