"""Elementwise kernels: one pass over memory, in the order in which it lies.

exp, sigmoid and softplus are float32 polynomials that LLVM turns into vector code, within 3 ulp;
float64 goes to the reference. (NumPy's own tanh is as fast as one of these.)
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from .. import formulas
from ..reference import elementwise as reference
from .jit import inline_kernel, parallel_kernel
from .rows import SERIAL, contiguous_first, flat, flat_like

leaky_element = inline_kernel(formulas.leaky_element)


def leaky_relu(x: np.ndarray, slope: float) -> np.ndarray:
    """x where x > 0, slope * x elsewhere; slope 0 is relu (-inf becomes 0) and NaN stays NaN."""
    y = np.empty_like(x)
    _leaky_relu(flat_like(x, y), float(slope), flat(y))
    return y


def leaky_relu_grad(grad: np.ndarray, x: np.ndarray, slope: float) -> np.ndarray:
    """grad where x > 0 (or NaN), slope * grad elsewhere: the derivative at 0 is slope."""
    dx = np.empty_like(x)
    _leaky_relu_grad(flat_like(grad, dx), flat_like(x, dx), float(slope), flat(dx))
    return dx


def contiguous(x: np.ndarray) -> np.ndarray:
    """x itself where it is C-contiguous, else a copy that is."""
    return contiguous_first(x)


def exp(x: np.ndarray) -> np.ndarray:
    """e^x; overflow gives inf without a warning."""
    return _map(_exp, reference.exp, x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow on either side."""
    return _map(_sigmoid, reference.sigmoid, x)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + e^x), without overflow."""
    return _map(_softplus, reference.softplus, x)


def _map(fast, plain, x):
    if x.dtype != np.float32:
        return plain(x)
    y = np.empty_like(x)
    fast(flat_like(x, y), flat(y))
    return y


@parallel_kernel
def _leaky_relu(x, slope, y):
    s = x.dtype.type(slope)
    if x.size < SERIAL:
        for i in range(x.size):
            y[i] = leaky_element(x[i], x[i], s)
    else:
        for i in prange(x.size):
            y[i] = leaky_element(x[i], x[i], s)


@parallel_kernel
def _leaky_relu_grad(grad, x, slope, dx):
    s = x.dtype.type(slope)
    if x.size < SERIAL:
        for i in range(x.size):
            dx[i] = leaky_element(x[i], grad[i], s)
    else:
        for i in prange(x.size):
            dx[i] = leaky_element(x[i], grad[i], s)


# The polynomials' argument reductions must not be reordered, so only a*b+c may be fused here.
_exact = functools.partial(inline_kernel, fastmath={"contract"})

_LOG2_E = np.float32(1.44269504)
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that its multiples are exact
_LN2_LOW = np.float32(-2.12194440e-4)
_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1), np.float32(2)
_LARGEST = np.float32(89.0)  # e^x overflows before
_SMALLEST = np.float32(-104.0)  # and underflows to zero before


@_exact
def _reduce(x):
    """r, k with x = r + k ln 2 and |r| <= ln(2) / 2; NaN is taken as the smallest number."""
    x = x if x > _SMALLEST else _SMALLEST
    x = x if x < _LARGEST else _LARGEST
    k = np.floor(x * _LOG2_E + _HALF)
    return (x - k * _LN2_HIGH) - k * _LN2_LOW, np.int32(k)


@_exact
def _expm1_small(r):
    """e^r - 1 for |r| <= ln(2) / 2: a Taylor series, economised in its last terms."""
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return p * r * r + r


@_exact
def _power_of_two(k):
    """2^k in float32 for -126 <= k <= 127."""
    return np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)


@_exact
def exp_element(x):
    """e^x in float32."""
    r, k = _reduce(x)
    half = np.int32(k >> np.int32(1))
    # In two steps, because 2^128 and 2^-149 are out of the range of normal numbers.
    e = (_expm1_small(r) + _ONE) * _power_of_two(half) * _power_of_two(np.int32(k - half))
    return e if x == x else x


@_exact
def expm1_element(x):
    """e^x - 1 in float32, accurate near 0."""
    r, k = _reduce(x)
    half = np.int32(k >> np.int32(1))
    s, t = _power_of_two(half), _power_of_two(np.int32(k - half))
    e = (_expm1_small(r) * s + (s - _ONE / t)) * t
    return e if x == x else x


@_exact
def log1p_element(e):
    """log(1 + e) for 0 <= e <= 1: the series of 2 atanh(e / (2 + e))."""
    s = e / (_TWO + e)
    z = s * s
    p = np.float32(1 / 15)
    p = p * z + np.float32(1 / 13)
    p = p * z + np.float32(1 / 11)
    p = p * z + np.float32(1 / 9)
    p = p * z + np.float32(1 / 7)
    p = p * z + np.float32(1 / 5)
    p = p * z + np.float32(1 / 3)
    s += s
    return s + s * (z * p)


@_exact
def sigmoid_element(x):
    """1 / (1 + e^-x) in float32."""
    decay = exp_element(-abs(x))
    return (decay if x < 0 else _ONE) / (_ONE + decay)


@_exact
def _softplus_element(x):
    return (x if x > 0 else np.float32(0)) + log1p_element(exp_element(-abs(x)))


# One loop three times over: Numba keeps no function on disk that closes over another.


@parallel_kernel
def _exp(x, y):
    if x.size < SERIAL // 4:
        for i in range(x.size):
            y[i] = exp_element(x[i])
    else:
        for i in prange(x.size):
            y[i] = exp_element(x[i])


@parallel_kernel
def _sigmoid(x, y):
    if x.size < SERIAL // 4:
        for i in range(x.size):
            y[i] = sigmoid_element(x[i])
    else:
        for i in prange(x.size):
            y[i] = sigmoid_element(x[i])


@parallel_kernel
def _softplus(x, y):
    if x.size < SERIAL // 4:
        for i in range(x.size):
            y[i] = _softplus_element(x[i])
    else:
        for i in prange(x.size):
            y[i] = _softplus_element(x[i])
