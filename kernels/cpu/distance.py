"""Distances between two arrays, summed as they are made, and their gradients: one pass each.

Chunks that depend on the size alone make partial sums that are added in order, so that results do
not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import helper, parallel_kernel
from .reduction import BLOCK, chunks, zeros
from .rows import SERIAL, flat, flat_like


def squared_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of (x - y)^2, 0-d."""
    return _error(x, y, False)


def absolute_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of |x - y|, 0-d."""
    return _error(x, y, True)


def scaled_difference(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """scale (x - y), of a 0-d scale."""
    return _scaled(x, y, scale, False)


def scaled_sign(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """scale times the sign of x - y, of a 0-d scale."""
    return _scaled(x, y, scale, True)


def _error(x, y, absolute):
    order = np.empty_like(x)  # its memory is not touched, only its layout matters
    pieces = chunks(x.size)
    total = _sum(flat_like(x, order), flat_like(y, order), absolute, pieces)
    return np.asarray(total, x.dtype)


def _scaled(x, y, scale, sign):
    out = np.empty_like(x)
    _scale(flat_like(x, out), flat_like(y, out), float(scale), sign, flat(out))
    return out


@helper
def _sum_part(x, y, absolute):
    total = 0.0
    for top in range(0, x.size, BLOCK):
        a, b = x[top : top + BLOCK], y[top : top + BLOCK]
        part = x.dtype.type(0)
        if absolute:
            for i in range(a.size):
                part += abs(a[i] - b[i])
        else:
            for i in range(a.size):
                d = a[i] - b[i]
                part += d * d
        total += part
    return total


@parallel_kernel
def _sum(x, y, absolute, pieces):
    parts = zeros(1, pieces)
    if pieces == 1:
        parts[0, 0] = _sum_part(x, y, absolute)
    else:
        for piece in prange(pieces):
            first, last = x.size * piece // pieces, x.size * (piece + 1) // pieces
            parts[0, piece] = _sum_part(x[first:last], y[first:last], absolute)
    total = 0.0
    for piece in range(pieces):
        total += parts[0, piece]
    return total


@helper
def _scale_part(x, y, scale, sign, out):
    if sign:
        for i in range(out.size):
            d = x[i] - y[i]
            out[i] = scale if d > 0 else (-scale if d < 0 else scale * d)
    else:
        for i in range(out.size):
            out[i] = (x[i] - y[i]) * scale


@parallel_kernel
def _scale(x, y, scale, sign, out):
    s = x.dtype.type(scale)
    if out.size < SERIAL:
        _scale_part(x, y, s, sign, out)
    else:
        pieces = 64
        for piece in prange(pieces):
            first, last = out.size * piece // pieces, out.size * (piece + 1) // pieces
            _scale_part(x[first:last], y[first:last], s, sign, out[first:last])
