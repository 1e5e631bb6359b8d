"""Sums along axes in the order of memory, in one pass, alone or with what makes their terms.

An array whose axes to sum over lie together in memory is seen as (outer, length, inner) and summed
along the middle. A fixed number of chunks, which depends on the shape alone, makes partial sums
that are added in order: results do not depend on the number of threads. The sums of a block that
fits into the L2 cache are kept in the input's precision, sums of blocks in float64.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import prange

from .elementwise import leaky_element
from .jit import helper, parallel_kernel
from .rows import SERIAL, as_rows, lanes, like_rows

BLOCK = 16384  # elements
FIRST = np.int64(0)  # row 0; Numba would compile a version of its own for a literal 0


def axis_sum(x: np.ndarray, axes: tuple[int, ...], over: int = 1) -> np.ndarray:
    """Sum over `axes`, given as positive ints, which go away; divided by `over`."""
    total = _axis_sum(x, axes)
    return total if over == 1 else total / over


def _axis_sum(x, axes):
    found = _middle(x.shape, x.strides, axes, x.itemsize)
    if found is None:
        return x.sum(axis=axes)
    order, outer, length, inner, kept, back = found
    total = np.empty(outer * inner, x.dtype)
    flat = x.transpose(order).reshape(-1)
    if inner == 1:
        _sum_rows(flat.reshape(outer, length), total, _pieces(outer, length))
    else:
        rows, width = lanes(length, inner)
        pieces = _pieces(outer, length * inner)
        _sum_columns(flat.reshape(outer, rows, width), total.reshape(outer, inner), pieces)
    return total.reshape(kept).transpose(back)


def channel_sum(x: np.ndarray) -> np.ndarray:
    """Sum over every axis but 1: (N, C, ...) -> (C,)."""
    rows, channels = as_rows(x), x.shape[1]
    total = np.empty((1, channels), x.dtype)
    _sum_columns(rows.reshape(1, *lanes(*rows.shape)), total, chunks(x.size))
    return total[0]


def leaky_relu_grad_sum(grad, x, slope: float):
    """leaky_relu_grad(grad, x, slope) and its channel_sum: a convolution's bias gradient too."""
    rows, grad_rows = as_rows(x), as_rows(np.asarray(grad, x.dtype))
    dx, total = np.empty_like(rows), np.empty(x.shape[1], x.dtype)
    shape = lanes(*rows.shape)
    _leaky_grad_sum(
        grad_rows.reshape(shape), rows.reshape(shape), float(slope), dx.reshape(shape), total,
        chunks(x.size),
    )  # fmt: skip
    return like_rows(dx, x.shape), total


def chunks(size: int) -> int:
    """How many parts the rows are cut into: one, run serially, for small arrays."""
    return 1 if size < SERIAL else min(64, size // 8192)


def _pieces(outer: int, size: int) -> int:
    """Chunks of each of the outer sums, so that all together are enough."""
    return max(chunks(outer * size) // max(outer, 1), 1)


@functools.lru_cache(maxsize=1024)
def _middle(shape, strides, axes, itemsize):
    """How x becomes (outer, length, inner) with `axes` in the middle; None where it cannot.

    (axes by memory, outer, length, inner, shape of what is kept by memory, and the order of that).
    """
    order = sorted(range(len(shape)), key=lambda a: (-strides[a], -shape[a]))
    expected = itemsize
    for axis in reversed(order):
        if shape[axis] != 1 and strides[axis] != expected:
            return None
        expected *= shape[axis]
    long = [axis in axes for axis in order if shape[axis] != 1]
    if True not in long or 0 in shape:
        return None
    first, last = long.index(True), len(long) - long[::-1].index(True)
    if not all(long[first:last]):
        return None
    sizes = [shape[axis] for axis in order if shape[axis] != 1]
    left = [axis for axis in order if axis not in axes]
    back = tuple(left.index(axis) for axis in sorted(left))
    outer, inner = math.prod(sizes[:first]), math.prod(sizes[last:])
    length = math.prod(sizes[first:last])
    return tuple(order), outer, length, inner, tuple(shape[axis] for axis in left), back


@helper
def sum_chunk(x, first, last, total):
    """Add the columns of x[first:last] to total (float64)."""
    width = x.shape[1]
    step = max(8, BLOCK // max(width, 1))
    block = np.empty(width, x.dtype)
    for top in range(first, last, step):
        block[:] = 0
        bottom = min(top + step, last)
        paired = bottom - (bottom - top) % 2
        for i in range(top, paired, 2):
            for j in range(width):
                block[j] += x[i, j] + x[i + 1, j]
        for i in range(paired, bottom):
            for j in range(width):
                block[j] += x[i, j]
        for j in range(width):
            total[j] += block[j]


@parallel_kernel
def _sum_columns(x, out, pieces):
    outer, rows, width = x.shape
    parts = zeros(outer * pieces, width)
    if outer * pieces == 1 or x.size < SERIAL:
        for item in range(outer * pieces):
            sum_chunk(x[item // pieces], FIRST, rows, parts[item])
    else:
        for item in prange(outer * pieces):
            piece = item % pieces
            first, last = rows * piece // pieces, rows * (piece + 1) // pieces
            sum_chunk(x[item // pieces], first, last, parts[item])
    for item in range(outer):
        join_sums(parts[item * pieces : (item + 1) * pieces], out[item])


@helper
def _sum_row(row):
    total = 0.0
    for top in range(0, row.size, BLOCK):
        block = row[top : top + BLOCK]
        part = row.dtype.type(0)
        for i in range(block.size):
            part += block[i]
        total += part
    return total


@parallel_kernel
def _sum_rows(x, out, pieces):
    outer, length = x.shape
    if x.size < SERIAL:
        for item in range(outer):
            out[item] = _sum_row(x[item])
    elif pieces == 1:
        for item in prange(outer):
            out[item] = _sum_row(x[item])
    else:
        parts = zeros(outer, pieces)
        for item in prange(outer * pieces):
            row, piece = item // pieces, item % pieces
            first, last = length * piece // pieces, length * (piece + 1) // pieces
            parts[row, piece] = _sum_row(x[row, first:last])
        for row in range(outer):
            total = 0.0
            for piece in range(pieces):
                total += parts[row, piece]
            out[row] = total


@helper
def _leaky_grad_sum_chunk(grad, x, slope, first, last, dx, total):
    """Rows first..last of dx, whose columns are added to total (float64)."""
    width = x.shape[1]
    step = max(8, BLOCK // max(width, 1))
    block = np.empty(width, x.dtype)
    for top in range(first, last, step):
        block[:] = 0
        for i in range(top, min(top + step, last)):
            for j in range(width):
                g = leaky_element(x[i, j], grad[i, j], slope)
                dx[i, j] = g
                block[j] += g
        for j in range(width):
            total[j] += block[j]


@parallel_kernel
def _leaky_grad_sum(grad, x, slope, dx, out, pieces):
    rows, width = x.shape
    leak = x.dtype.type(slope)
    parts = zeros(pieces, width)
    if pieces == 1:
        _leaky_grad_sum_chunk(grad, x, leak, FIRST, rows, dx, parts[0])
    else:
        for piece in prange(pieces):
            first, last = rows * piece // pieces, rows * (piece + 1) // pieces
            _leaky_grad_sum_chunk(grad, x, leak, first, last, dx, parts[piece])
    join_sums(parts, out)


@helper
def join_sums(parts, out):
    """out (C,) = the sums of parts (chunks, lanes) over chunks, and over lanes of one channel."""
    pieces, width = parts.shape
    for piece in range(1, pieces):
        for j in range(width):
            parts[0, j] += parts[piece, j]
    for c in range(out.size):
        total = 0.0
        for j in range(c, width, out.size):
            total += parts[0, j]
        out[c] = total


@helper
def zeros(rows, width):
    """A function of its own, because Numba runs array expressions of parallel kernels in threads.

    Its memory is the caller's, in float64.
    """
    return np.zeros((rows, width))
