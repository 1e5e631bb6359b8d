"""Normalisation by groups of channels, over channels-last memory, with batch norm's loops.

Each example is a matrix of (pixels, C), cut into pieces as the shape alone says, so that results do
not depend on the number of threads. Vectors that form one group (layer normalisation) have loops of
their own, along the row.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from .jit import helper, inline_kernel, parallel_kernel
from .norm import dx_chunk, grad_chunk, moments_chunk, normalise_chunk
from .reduction import FIRST, chunks, zeros
from .rows import SERIAL, contiguous_last, lanes, like_rows


def group_norm(x, weight, bias, groups: int, eps: float):
    """(x - mean) / sqrt(var + eps) * weight + bias, mean, var; var is the biased one."""
    n, c = x.shape[:2]
    weight, bias = _vector(weight, 1, x), _vector(bias, 0, x)
    mean, var = np.empty((n, groups), x.dtype), np.empty((n, groups), x.dtype)
    if x.size == 0:
        return np.empty_like(x), mean * np.nan, var * np.nan
    pixels = x.size // (n * c)
    last = contiguous_last(x)
    y = np.empty_like(last)
    if pixels == groups == 1:
        rows = last.reshape(n, c)
        _rows(rows, weight, bias, eps, y.reshape(n, c), mean[:, 0], var[:, 0], chunks(x.size))
    else:
        shape = (n, *lanes(pixels, c))
        pieces = max(chunks(x.size) // n, 1)
        _groups(
            last.reshape(shape), weight, bias, eps, _places(shape[2], c, groups), y.reshape(shape),
            mean, var, pieces, n * pieces,
        )  # fmt: skip
    return like_rows(y.reshape(-1, c), x.shape), mean, var


def group_norm_grad(grad, x, mean, var, weight, groups: int, eps: float):
    """dx, dweight, dbias of group_norm's y; mean and var depend on x."""
    n, c = x.shape[:2]
    weight = _vector(weight, 1, x)
    sums = np.zeros((2, c))  # in float64, as they are added up
    if x.size == 0:
        return np.empty_like(x), *sums.astype(x.dtype)
    pixels = x.size // (n * c)
    last, grad = contiguous_last(x), contiguous_last(np.asarray(grad, x.dtype))
    dx = np.empty_like(last)
    if pixels == groups == 1:
        shape = (n, c)
        _rows_grad(
            grad.reshape(shape), last.reshape(shape), mean[:, 0], var[:, 0], weight, eps,
            dx.reshape(shape), sums, max(1, min(chunks(x.size), n // 8, (1 << 18) // c)),
        )  # fmt: skip
    else:
        shape = (n, *lanes(pixels, c))
        pieces = max(chunks(x.size) // n, 1)
        _groups_grad(
            grad.reshape(shape), last.reshape(shape), mean, var, weight, eps,
            _places(shape[2], c, groups), dx.reshape(shape), sums, pieces, n * pieces,
        )  # fmt: skip
    return like_rows(dx.reshape(-1, c), x.shape), *sums.astype(x.dtype)


def _vector(values, default, x):
    """(C,) in x's dtype; None is all `default`."""
    if values is None:
        return np.full(x.shape[1], default, x.dtype)
    return np.ascontiguousarray(values, x.dtype)


# ----------------------------------------------------------------------------- images in groups


@functools.lru_cache(maxsize=256)
def _places(width: int, channels: int, groups: int) -> np.ndarray:
    """(2, lanes): the channel and the group that each lane belongs to."""
    channel = np.arange(width) % channels
    return np.stack([channel, channel * groups // channels])


@helper
def _join_moments(means, squares, rows, places, mean, var):
    """mean and var (groups,) of one example, from the moments (pieces, lanes) of its parts."""
    pieces, width = means.shape
    seen, m, s = np.zeros(mean.size), np.zeros(mean.size), np.zeros(mean.size)
    for piece in range(pieces):
        n = rows * (piece + 1) // pieces - rows * piece // pieces
        for lane in range(width):
            g = places[1, lane]
            delta = means[piece, lane] - m[g]
            share = n / max(seen[g] + n, 1)
            m[g] += delta * share
            s[g] += squares[piece, lane] + delta * delta * (seen[g] * share)
            seen[g] += n
    for g in range(mean.size):
        mean[g] = m[g]
        var[g] = 0.0 if s[g] < 0 else s[g] / max(seen[g], 1)


@helper
def _fill_lanes(mean, var, weight, bias, eps, places, lane):
    """lane (3, lanes) = the mean, weight / sqrt(var + eps) and bias of each lane of an example."""
    for j in range(lane.shape[1]):
        c, g = places[0, j], places[1, j]
        lane[0, j] = mean[g]
        lane[1, j] = weight[c] / np.sqrt(np.float64(var[g]) + eps)
        lane[2, j] = bias[c]


@inline_kernel
def _piece(item, pieces, rows):
    """The example of an item of work, and its first and last row."""
    piece = item % pieces
    return item // pieces, rows * piece // pieces, rows * (piece + 1) // pieces


@parallel_kernel
def _groups(x, weight, bias, eps, places, y, mean, var, pieces, items):
    n, rows, width = x.shape
    means, squares = zeros(items, width), zeros(items, width)
    if x.size < SERIAL:
        for item in range(items):
            e, first, last = _piece(item, pieces, rows)
            moments_chunk(x[e], first, last, means[item], squares[item])
    else:
        for item in prange(items):
            e, first, last = _piece(item, pieces, rows)
            moments_chunk(x[e], first, last, means[item], squares[item])
    lane = np.empty((n, 3, width), x.dtype)
    for e in range(n):
        start, stop = e * pieces, (e + 1) * pieces
        _join_moments(
            means[start:stop], squares[start:stop], rows, places, mean[e], var[e]
        )
        _fill_lanes(mean[e], var[e], weight, bias, eps, places, lane[e])
    one = x.dtype.type(1)
    if x.size < SERIAL:
        for item in range(items):
            e, first, last = _piece(item, pieces, rows)
            normalise_chunk(x[e], first, last, lane[e, 0], lane[e, 1], lane[e, 2], one, y[e])
    else:
        for item in prange(items):
            e, first, last = _piece(item, pieces, rows)
            normalise_chunk(x[e], first, last, lane[e, 0], lane[e, 1], lane[e, 2], one, y[e])


@helper
def _join_grad(totals, moments, mean, var, weight, eps, places, rows, sums, lane):
    """Add one example to sums (dweight, dbias); fill what dx is made of: lane (4, lanes).

    dx = scale * grad - (offset + tilt * (x - mean)): the rows are mean, scale, offset and tilt.
    """
    pieces, width = totals.shape
    level, slant = np.zeros(mean.size), np.zeros(mean.size)
    for j in range(width):
        c, g = places[0, j], places[1, j]
        total, moment = 0.0, 0.0
        for piece in range(pieces):
            total += totals[piece, j]
            moment += moments[piece, j]
        sums[0, c] += moment / np.sqrt(np.float64(var[g]) + eps)
        sums[1, c] += total
        level[g] += total * weight[c]
        slant[g] += moment * weight[c]
    count = rows * width / mean.size
    for j in range(width):
        c, g = places[0, j], places[1, j]
        inverse = 1 / np.sqrt(np.float64(var[g]) + eps)
        lane[0, j] = mean[g]
        lane[1, j] = weight[c] * inverse
        lane[2, j] = level[g] * inverse / count
        lane[3, j] = slant[g] * inverse * inverse * inverse / count


@helper
def _sum_piece(grad, x, lane, one, first, last, total, moment):
    grad_chunk(grad, x, lane[0], lane[1], lane[1], one, first, last, total, moment)


@helper
def _dx_piece(grad, x, lane, one, first, last, dx):
    dx_chunk(grad, x, lane[0], lane[1], lane[1], one, first, last, lane[2], lane[3], dx)


@parallel_kernel
def _groups_grad(grad, x, mean, var, weight, eps, places, dx, sums, pieces, items):
    n, rows, width = x.shape
    totals, moments = zeros(items, width), zeros(items, width)
    one = x.dtype.type(1)
    lane = np.zeros((n, 4, width), x.dtype)
    for e in range(n):
        _fill_lanes(mean[e], var[e], weight, weight, eps, places, lane[e])
    if x.size < SERIAL:
        for item in range(items):
            e, first, last = _piece(item, pieces, rows)
            _sum_piece(grad[e], x[e], lane[e], one, first, last, totals[item], moments[item])
    else:
        for item in prange(items):
            e, first, last = _piece(item, pieces, rows)
            _sum_piece(grad[e], x[e], lane[e], one, first, last, totals[item], moments[item])
    for e in range(n):
        start, stop = e * pieces, (e + 1) * pieces
        _join_grad(
            totals[start:stop], moments[start:stop], mean[e], var[e], weight, eps, places, rows,
            sums, lane[e],
        )  # fmt: skip
    if x.size < SERIAL:
        for item in range(items):
            e, first, last = _piece(item, pieces, rows)
            _dx_piece(grad[e], x[e], lane[e], one, first, last, dx[e])
    else:
        for item in prange(items):
            e, first, last = _piece(item, pieces, rows)
            _dx_piece(grad[e], x[e], lane[e], one, first, last, dx[e])


# ------------------------------------------------------------------- vectors that are one group


@helper
def _row_moments(row):
    """Mean and biased variance of a vector, blocks of it in its own precision."""
    total, square = 0.0, 0.0
    for top in range(0, row.size, 4096):
        block, part = row[top : top + 4096], row.dtype.type(0)
        for i in range(block.size):
            part += block[i]
        total += part
    mean = row.dtype.type(total / row.size)
    for top in range(0, row.size, 4096):
        block, part = row[top : top + 4096], row.dtype.type(0)
        for i in range(block.size):
            d = block[i] - mean
            part += d * d
        square += part
    return mean, square / row.size


@helper
def _rows_piece(x, weight, bias, eps, y, mean, var, first, last):
    for i in range(first, last):
        row, out = x[i], y[i]
        m, v = _row_moments(row)
        scale = x.dtype.type(1 / np.sqrt(v + eps))
        mean[i], var[i] = m, v
        for j in range(row.size):
            out[j] = (row[j] - m) * scale * weight[j] + bias[j]


@parallel_kernel
def _rows(x, weight, bias, eps, y, mean, var, pieces):
    n = x.shape[0]
    if pieces == 1:
        _rows_piece(x, weight, bias, eps, y, mean, var, FIRST, n)
    else:
        for piece in prange(pieces):
            first, last = n * piece // pieces, n * (piece + 1) // pieces
            _rows_piece(x, weight, bias, eps, y, mean, var, first, last)


@helper
def _rows_grad_piece(grad, x, mean, var, weight, eps, dx, first, last, sums):
    """dx, and what these rows add to sums (2, C), kept in x's precision for 32 rows at a time."""
    width = x.shape[1]
    steep, plain = np.empty(width, x.dtype), np.empty(width, x.dtype)
    for top in range(first, last, 32):
        steep[:] = 0
        plain[:] = 0
        for i in range(top, min(top + 32, last)):
            g, row, out, m = grad[i], x[i], dx[i], mean[i]
            inverse = 1 / np.sqrt(np.float64(var[i]) + eps)
            scale = x.dtype.type(inverse)
            level, slant = 0.0, 0.0
            for start in range(0, width, 4096):
                end = start + 4096
                gs, ws, xs = g[start:end], weight[start:end], row[start:end]
                a, b = x.dtype.type(0), x.dtype.type(0)
                for j in range(gs.size):
                    inner = gs[j] * ws[j]
                    a += inner
                    b += inner * (xs[j] - m)
                level += a
                slant += b
            offset = x.dtype.type(level / width)
            tilt = x.dtype.type(slant * inverse * inverse / width)
            for j in range(width):
                d = row[j] - m
                steep[j] += g[j] * (d * scale)
                plain[j] += g[j]
                out[j] = scale * (g[j] * weight[j] - (offset + tilt * d))
        for j in range(width):
            sums[0, j] += steep[j]
            sums[1, j] += plain[j]


@parallel_kernel
def _rows_grad(grad, x, mean, var, weight, eps, dx, sums, pieces):
    n = x.shape[0]
    parts = zeros(2 * pieces, x.shape[1])
    if pieces == 1:
        _rows_grad_piece(grad, x, mean, var, weight, eps, dx, FIRST, n, parts[:2])
    else:
        for piece in prange(pieces):
            first, last = n * piece // pieces, n * (piece + 1) // pieces
            part = parts[2 * piece : 2 * piece + 2]
            _rows_grad_piece(grad, x, mean, var, weight, eps, dx, first, last, part)
    for piece in range(pieces):
        for j in range(x.shape[1]):
            sums[0, j] += parts[2 * piece, j]
            sums[1, j] += parts[2 * piece + 1, j]
