"""Matrix products by BLAS, one call a tile of the result, tiles over the threads.

Transposed operands are handed to BLAS as such; only strides that BLAS cannot express are copied.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import prange

from .. import get_num_threads
from .blas import gemm
from .elementwise import leaky_element, leaky_relu
from .jit import helper, inline_kernel, kernel, parallel_kernel

# Below so many multiplications a product runs on the calling thread: waking others costs more.
SERIAL = 1 << 18


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix product with NumPy's broadcasting of leading axes: (..., m, k) @ (..., k, n)."""
    if a.ndim < 2 or b.ndim < 2:
        return np.matmul(a, b)
    k, n = a.shape[-1], b.shape[-1]
    if k != b.shape[-2]:
        raise ValueError(f"matmul: a {a.shape} has {k} columns, b {b.shape} has {b.shape[-2]} rows")
    dtype = a.dtype if a.dtype is b.dtype else np.result_type(a, b)
    if dtype not in _NO_BIAS:
        return np.matmul(a, b)
    if b.ndim == 2 and (a.ndim == 2 or a.flags.c_contiguous):
        rows = a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), k)
        return _product(rows, b, _NO_BIAS[dtype], dtype).reshape(*a.shape[:-1], n)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    m = a.shape[-2]
    out = np.empty((*lead, m, n), dtype)
    if out.size == 0 or k == 0:
        out.fill(0)
        return out
    a, b = _readable(a, dtype), _readable(b, dtype)
    starts = _starts(a, lead), _starts(b, lead)
    _run(_stored(a), _stored(b), out, _NO_BIAS[dtype], m, n, k, *starts)
    return out


def linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, slope: float = 1.0
) -> np.ndarray:
    """x (..., I) @ weight (O, I).T + bias (O,) -> (..., O), results below 0 times `slope`."""
    dtype = x.dtype if x.dtype is weight.dtype else np.result_type(x, weight)
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    if weight.shape[-1] != rows.shape[-1]:
        raise ValueError(
            f"linear: x {x.shape} has {x.shape[-1]} features, weight {weight.shape} takes "
            f"{weight.shape[-1]}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear: bias has shape {bias.shape}, weight {weight.shape} expects {weight.shape[:1]}"
        )
    if bias is not None:
        start = bias if bias.dtype is dtype else np.ascontiguousarray(bias, dtype)
    elif slope != 1:
        start = np.zeros(weight.shape[0], dtype)  # what the epilogue adds before it activates
    else:
        start = _NO_BIAS[dtype]
    y = _product(rows, weight.T, start, dtype, float(slope))
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[0])


def linear_grads(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, y: np.ndarray | None, slope: float,
    needed: tuple[bool, bool, bool],
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Those of dx, dweight, dbias that are needed, of y = linear(x, weight, bias, slope)."""
    (o, i), dtype = weight.shape, weight.dtype
    m = grad.size // max(o, 1)
    if grad.size == 0 or x.size == 0:
        found = np.zeros(x.shape, dtype), np.zeros((o, i), dtype), np.zeros(o, dtype)
        return tuple([d for d, wanted in zip(found, needed, strict=True) if wanted])
    dx = np.empty(x.shape if needed[0] else (0, 0), dtype)
    dweight = np.empty((o, i) if needed[1] else (0, 0), dtype)
    dbias = np.empty(o if needed[2] else 0, dtype)
    g, plain = _dense(grad, (m, o), dtype), slope == 1
    g = g if g.flags.writeable else g.copy()  # as the compiled kernel takes it
    x, weight = _dense(x, (m, i), dtype), _dense(weight, (o, i), dtype)
    y = g if plain else _dense(y, (m, o), dtype)
    before = g if plain else np.empty((m, o), dtype)
    rows, slope, threads = dx.reshape(-1, i), float(slope), get_num_threads()
    if threads == 1 or m * o * i < SERIAL:
        _grads_serial(g, x, weight, y, slope, before, rows, dweight, dbias)
    else:
        if not plain or needed[2]:
            _before_parallel(g, y, slope, before, dbias, threads)
        none = _NO_BIAS[dtype]
        if needed[0]:
            grid = _grid(m, i, threads)
            _parallel_one(before, False, weight, False, rows, none, 1.0, *grid)
        if needed[1]:
            grid = _grid(o, i, threads)
            _parallel_one(before, True, x, False, dweight, none, 1.0, *grid)
    return tuple([d for d, wanted in zip((dx, dweight, dbias), needed, strict=True) if wanted])


def _dense(a: np.ndarray, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """a as a C-contiguous matrix, copied only if it is not one."""
    if a.dtype is not dtype or not a.flags.c_contiguous:
        a = np.ascontiguousarray(a, dtype)
    return a if a.shape == shape else a.reshape(shape)


def _product(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray, dtype: np.dtype, slope: float = 1.0
) -> np.ndarray:
    """a (m, k) @ b (k, n) + bias, and what is below 0 times slope."""
    (m, k), n = a.shape, b.shape[1]
    out = np.empty((m, n), dtype)
    if m == 0 or n == 0 or k == 0:
        out[...] = leaky_relu(bias, slope) if bias.size else 0
        return out
    left, right = _whole(a, dtype), _whole(b, dtype)
    if left is None or right is None:
        left, right = _stored(_readable(a, dtype)), _stored(_readable(b, dtype))
        _run(left, right, out, bias, m, n, k, _FIRST, _FIRST, slope)
        return out
    threads = get_num_threads()
    if threads == 1 or m * n * k < SERIAL:
        _serial_one(*left, *right, out, bias, slope)
    else:
        _parallel_one(*left, *right, out, bias, slope, *_grid(m, n, threads))
    return out


def _whole(a: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, bool] | None:
    """(C-contiguous matrix, is it the transpose) of a matrix that fills its memory, else None."""
    flags = a.flags
    if a.dtype is dtype and flags.c_contiguous:
        return a, False
    return (a.T, True) if a.dtype is dtype and flags.f_contiguous else None


def _run(left, right, out, bias, m, n, k, starts_a, starts_b, slope=1.0) -> None:
    """Serve a product of stored operands, on one thread or as a grid of tiles."""
    batch, threads = len(starts_a), get_num_threads()
    args = (*left, *right, out.reshape(-1), bias, slope, m, n, k, starts_a, starts_b)
    if threads == 1 or batch * m * n * k < SERIAL:
        _serial(*args)
    else:
        _parallel(*args, *_grid(m, n, -(-threads // batch)))


def _readable(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """a itself where BLAS can read its matrices (..., p, q) in place, else a contiguous copy."""
    if a.dtype is not dtype:
        return a.astype(dtype, order="C")
    flags = a.flags
    if flags.c_contiguous or (a.ndim == 2 and flags.f_contiguous):
        return a
    (p, q), size = a.shape[-2:], a.itemsize
    *_, down, right = a.strides
    whole = flags.aligned and all(s >= 0 and s % size == 0 for s in a.strides)
    if whole and (right == size or q == 1) and (down >= q * size or p == 1):
        return a
    if whole and (down == size or p == 1) and (right >= p * size or q == 1):
        return a
    return np.ascontiguousarray(a)


def _stored(a: np.ndarray) -> tuple[np.ndarray, bool, int]:
    """(flat memory, does it hold the transpose, elements between stored rows) of matrices."""
    (p, q), size = a.shape[-2:], a.itemsize
    if a.flags.c_contiguous:
        return a.reshape(-1), False, q
    if a.ndim == 2 and a.flags.f_contiguous:
        return a.T.reshape(-1), True, p
    *_, down, right = a.strides
    length = 1 + sum((n - 1) * s for n, s in zip(a.shape, a.strides, strict=True)) // size
    flat = np.lib.stride_tricks.as_strided(a, (length,), (size,))
    if (right == size or q == 1) and (down >= q * size or p == 1):
        return flat, False, max(down // size, q)
    return flat, True, max(right // size, p)


def _starts(a: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
    """Where each matrix of a broadcast stack begins, in elements."""
    starts = np.zeros(lead, np.int64)
    missing = len(lead) - (a.ndim - 2)
    for axis, (n, stride) in enumerate(zip(a.shape[:-2], a.strides[:-2], strict=True)):
        if n > 1:
            shape = [1] * len(lead)
            shape[axis + missing] = n
            starts += (np.arange(n) * (stride // a.itemsize)).reshape(shape)
    return starts.reshape(-1)


@functools.lru_cache(maxsize=1024)
def _grid(m: int, n: int, pieces: int) -> tuple[int, int]:
    """Cut (m, n) into about `pieces` tiles (rows, columns of tiles) with the shortest edges."""
    best = (m + n, 1, 1)
    for down in range(1, pieces + 1):
        across = pieces // down
        if down * across == pieces and down <= max(1, m // 4) and across <= max(1, n // 16):
            best = min(best, (-(-m // down) + -(-n // across), down, across))
    return best[1:]


@kernel
def _serial(a, ta, lda, b, tb, ldb, out, bias, slope, m, n, k, starts_a, starts_b):
    for batch in range(len(starts_a)):
        _tile(
            a, ta, lda, b, tb, ldb, out, bias, slope, m, n, k, starts_a[batch], starts_b[batch],
            batch * m * n, 0, m, 0, n,
        )  # fmt: skip


@parallel_kernel
def _parallel(a, ta, lda, b, tb, ldb, out, bias, slope, m, n, k, starts_a, starts_b, down, across):
    for item in prange(len(starts_a) * down * across):
        batch, tile = item // (down * across), item % (down * across)
        row, column = tile // across, tile % across
        _tile(
            a, ta, lda, b, tb, ldb, out, bias, slope, m, n, k, starts_a[batch], starts_b[batch],
            batch * m * n, row * m // down, (row + 1) * m // down,
            column * n // across, (column + 1) * n // across,
        )  # fmt: skip


@kernel
def _serial_one(a, ta, b, tb, out, bias, slope):
    (m, n), k = out.shape, a.shape[0] if ta else a.shape[1]
    _tile(
        a, ta, a.shape[1], b, tb, b.shape[1], out.reshape(out.size), bias, slope, m, n, k,
        0, 0, 0, 0, m, 0, n,
    )  # fmt: skip


@parallel_kernel
def _parallel_one(a, ta, b, tb, out, bias, slope, down, across):
    (m, n), k = out.shape, a.shape[0] if ta else a.shape[1]
    flat = out.reshape(out.size)
    for tile in prange(down * across):
        row, column = tile // across, tile % across
        _tile(
            a, ta, a.shape[1], b, tb, b.shape[1], flat, bias, slope, m, n, k, 0, 0, 0,
            row * m // down, (row + 1) * m // down,
            column * n // across, (column + 1) * n // across,
        )  # fmt: skip


@helper
def _before(grad, y, slope, before, total, j0, j1):
    """Columns j0..j1 of the gradient before the activation that made y, and their sums."""
    leak, width, rows = grad.dtype.type(slope), j1 - j0, len(grad)
    sums, block = np.zeros(width), np.empty(width, grad.dtype)
    for top in range(0, rows, 64):  # few numbers are added in their own precision
        block[:] = 0
        for i in range(top, min(top + 64, rows)):
            g = before[i, j0:j1]
            if slope != 1:
                above, sign = grad[i, j0:j1], y[i, j0:j1]
                for j in range(width):
                    g[j] = leaky_element(sign[j], above[j], leak)
            if len(total) > 0:
                for j in range(width):
                    block[j] += g[j]
        for j in range(width):
            sums[j] += block[j]
    if len(total) > 0:
        for j in range(width):
            total[j0 + j] = sums[j]


@kernel
def _grads_serial(grad, x, weight, y, slope, before, dx, dweight, dbias):
    if slope != 1 or len(dbias) > 0:
        _before(grad, y, slope, before, dbias, 0, grad.shape[1])
    if len(dx) > 0:
        _serial_one(before, False, weight, False, dx, dbias[:0], 1.0)
    if len(dweight) > 0:
        _serial_one(before, True, x, False, dweight, dbias[:0], 1.0)


@parallel_kernel
def _before_parallel(grad, y, slope, before, dbias, strips):
    columns = grad.shape[1]
    for strip in prange(strips):
        j0, j1 = strip * columns // strips, (strip + 1) * columns // strips
        _before(grad, y, slope, before, dbias, j0, j1)


@inline_kernel
def _tile(
    a, ta, lda, b, tb, ldb, out, bias, slope, m, n, k, start_a, start_b, start, i0, i1, j0, j1
):  # fmt: skip
    """Rows i0..i1 and columns j0..j1 of one product."""
    size = a.itemsize
    at_a = start_a + (i0 if ta else i0 * lda)
    at_b = start_b + (j0 * ldb if tb else j0)
    gemm(
        a.dtype.type(0), ta, tb, i1 - i0, j1 - j0, k, a.ctypes.data + at_a * size, lda,
        b.ctypes.data + at_b * size, ldb, out.ctypes.data + (start + i0 * n + j0) * size, n,
    )  # fmt: skip
    if len(bias) > 0:
        edge, leak = bias[j0:j1], a.dtype.type(slope)
        for i in range(i0, i1):
            row = out[start + i * n + j0 : start + i * n + j1]  # slices: plain, countable loops
            if slope == 1:
                for j in range(j1 - j0):
                    row[j] += edge[j]
            else:
                for j in range(j1 - j0):
                    before = row[j] + edge[j]
                    row[j] = leaky_element(before, before, leak)


_FIRST = np.zeros(1, np.int64)
_NO_BIAS = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
