"""Per-channel sums and batch normalisation fused with its activation, over channels-last memory.

The (N, C, ...) input is a matrix of (rows, C), folded to rows of about LANES elements whose lane j
belongs to channel j % C, so that few channels vectorise as well as many. A fixed number of chunks
of rows, which depends on the shape alone, makes partial sums that are added in order: results do
not depend on the number of threads. Within a chunk the sums of a block that fits into the L2 cache
are kept in the input's precision, sums of blocks in float64.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .elementwise import leaky_element
from .jit import inline_kernel, kernel, parallel_kernel
from .rows import SERIAL, as_rows, lanes, like_rows

BLOCK = 16384  # elements
_FIRST = np.int64(0)  # row 0; Numba would compile a version of its own for a literal 0


def channel_sum(x: np.ndarray) -> np.ndarray:
    """Sum over every axis but 1: (N, C, ...) -> (C,)."""
    rows, channels = as_rows(x), x.shape[1]
    total = np.empty(channels, x.dtype)
    _channel_sum(rows.reshape(lanes(*rows.shape)), total, _chunks(x.size))
    return total


def batch_norm_train(x, weight, bias, eps: float, slope: float):
    """y, mean, var with the batch's own statistics; var is the biased one, both (C,)."""
    rows, channels = as_rows(x), x.shape[1]
    weight, bias = _vectors(x, weight, bias)
    mean, var = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    y = np.empty_like(rows)
    shape = lanes(*rows.shape)
    _train(
        rows.reshape(shape), weight, bias, eps, slope, y.reshape(shape), mean, var, _chunks(x.size)
    )
    return like_rows(y, x.shape), mean, var


def batch_norm_train_grad(grad, x, mean, var, weight, bias, eps: float, slope: float):
    """dx, dweight, dbias of batch_norm_train's y; mean and var depend on x."""
    dx, sums = _backward(grad, x, mean, var, weight, bias, eps, slope, True)
    return dx, sums[0], sums[1]


def batch_norm_eval(x, mean, var, weight, bias, eps: float, slope: float):
    """leaky((x - mean) / sqrt(var + eps) * weight + bias) with given statistics, all (C,)."""
    rows = as_rows(x)
    weight, bias = _vectors(x, weight, bias)
    mean, var = _vectors(x, mean, var)
    y = np.empty_like(rows)
    shape = lanes(*rows.shape)
    _eval(
        rows.reshape(shape), mean, var, weight, bias, eps, slope, y.reshape(shape), _chunks(x.size)
    )
    return like_rows(y, x.shape)


def batch_norm_eval_grad(grad, x, mean, var, weight, bias, eps: float, slope: float):
    """dx, dmean, dvar, dweight, dbias of batch_norm_eval; mean and var are independent of x."""
    dx, sums = _backward(grad, x, mean, var, weight, bias, eps, slope, False)
    return dx, sums[2], sums[3], sums[0], sums[1]


def _backward(grad, x, mean, var, weight, bias, eps, slope, train):
    rows, grad_rows = as_rows(x), as_rows(np.asarray(grad, x.dtype))
    weight, bias = _vectors(x, weight, bias)
    mean, var = _vectors(x, mean, var)
    dx = np.empty_like(rows)
    sums = np.empty((4, x.shape[1]), x.dtype)
    shape = lanes(*rows.shape)
    _grad(
        grad_rows.reshape(shape), rows.reshape(shape), mean, var, weight, bias, eps, slope,
        train, dx.reshape(shape), sums, _chunks(x.size),
    )  # fmt: skip
    return like_rows(dx, x.shape), sums


def _vectors(x, scale, shift):
    """Two (C,) vectors in x's dtype; None is one for the first and zero for the second."""
    channels = x.shape[1]
    scale = np.ones(channels, x.dtype) if scale is None else np.ascontiguousarray(scale, x.dtype)
    shift = np.zeros(channels, x.dtype) if shift is None else np.ascontiguousarray(shift, x.dtype)
    return scale, shift


def _chunks(size: int) -> int:
    """How many parts the rows are cut into: one, run serially, for small arrays."""
    return 1 if size < SERIAL else min(64, size // 8192)


@kernel
def _sum_chunk(x, first, last, total):
    """Add the columns of x[first:last] to total (float64)."""
    width = x.shape[1]
    step = max(8, BLOCK // max(width, 1))
    block = np.empty(width, x.dtype)
    for top in range(first, last, step):
        block[:] = 0
        for i in range(top, min(top + step, last)):
            for j in range(width):
                block[j] += x[i, j]
        for j in range(width):
            total[j] += block[j]


@parallel_kernel
def _channel_sum(x, out, chunks):
    rows, width = x.shape
    parts = _zeros(chunks, width)
    if chunks == 1:
        _sum_chunk(x, _FIRST, rows, parts[0])
    else:
        for chunk in prange(chunks):
            _sum_chunk(x, rows * chunk // chunks, rows * (chunk + 1) // chunks, parts[chunk])
    _join_sums(parts, out)


@kernel
def _join_sums(parts, out):
    chunks, width = parts.shape
    for chunk in range(1, chunks):
        for j in range(width):
            parts[0, j] += parts[chunk, j]
    for c in range(out.size):
        total = 0.0
        for j in range(c, width, out.size):
            total += parts[0, j]
        out[c] = total


@kernel
def _zeros(chunks, width):
    # A function of its own, because Numba runs array expressions of parallel kernels in threads.
    return np.zeros((chunks, width))


@kernel
def _moments_chunk(x, first, last, mean, square):
    """Mean and sum of squared deviations of the columns of x[first:last], block by block.

    Every block, while it is in the cache, is passed over twice (its mean, then the deviations from
    it with the mean's rounding error taken out); blocks are joined by Chan et al. 1983, eq. 2.1.
    """
    width = x.shape[1]
    step = max(8, BLOCK // max(width, 1))
    total = np.empty(width, x.dtype)
    centre = np.empty(width, x.dtype)
    spread = np.empty(width, x.dtype)
    seen = 0
    for top in range(first, last, step):
        bottom = min(top + step, last)
        n = bottom - top
        total[:] = 0
        for i in range(top, bottom):
            for j in range(width):
                total[j] += x[i, j]
        inverse = x.dtype.type(1 / n)
        for j in range(width):
            centre[j] = total[j] * inverse
            total[j] = 0
            spread[j] = 0
        paired = bottom - n % 2
        for i in range(top, paired, 2):
            for j in range(width):
                d, e = x[i, j] - centre[j], x[i + 1, j] - centre[j]
                total[j] += d + e
                spread[j] += d * d + e * e
        for i in range(paired, bottom):
            for j in range(width):
                d = x[i, j] - centre[j]
                total[j] += d
                spread[j] += d * d
        share = n / (seen + n)
        for j in range(width):
            error = total[j] / np.float64(n)
            delta = centre[j] + error - mean[j]
            mean[j] += delta * share
            square[j] += spread[j] - total[j] * error + delta * delta * (seen * share)
        seen += n


@kernel
def _join_moments(means, squares, rows, mean, var):
    """Join the chunks' and lanes' moments, in order, into mean and biased variance a channel."""
    chunks, width = means.shape
    channels = mean.size
    m, s = np.zeros(channels), np.zeros(channels)
    seen = 0
    for chunk in range(chunks):
        n = rows * (chunk + 1) // chunks - rows * chunk // chunks
        for lane in range(0, width, max(channels, 1)):
            share = n / max(seen + n, 1)
            for c in range(channels):
                delta = means[chunk, lane + c] - m[c]
                m[c] += delta * share
                s[c] += squares[chunk, lane + c] + delta * delta * (seen * share)
            seen += n
    for c in range(channels):
        mean[c] = m[c]
        # Rounding may leave a tiny negative sum where all numbers are equal.
        var[c] = 0.0 if s[c] < 0 else s[c] / max(seen, 1)


@kernel
def _spread(vector, width):
    """(C,) repeated to the lanes of a folded row."""
    lane = np.empty(width, vector.dtype)
    for first in range(0, width, max(vector.size, 1)):
        for c in range(vector.size):
            lane[first + c] = vector[c]
    return lane


@kernel
def _scales(var, weight, eps):
    scale = np.empty_like(weight)
    for c in range(scale.size):
        inverse = weight.dtype.type(1 / np.sqrt(np.float64(var[c]) + eps))
        scale[c] = inverse * weight[c]
    return scale


@kernel
def _normalise_chunk(x, first, last, mean, scale, bias, slope, y):
    """Rows first..last of y."""
    width = x.shape[1]
    if slope == 1:
        for i in range(first, last):
            for j in range(width):
                y[i, j] = (x[i, j] - mean[j]) * scale[j] + bias[j]
    else:
        for i in range(first, last):
            for j in range(width):
                before = (x[i, j] - mean[j]) * scale[j] + bias[j]
                y[i, j] = leaky_element(before, before, slope)


@parallel_kernel
def _train(x, weight, bias, eps, slope, y, mean, var, chunks):
    rows, width = x.shape
    means, squares = _zeros(chunks, width), _zeros(chunks, width)
    if chunks == 1:
        _moments_chunk(x, _FIRST, rows, means[0], squares[0])
    else:
        for chunk in prange(chunks):
            first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
            _moments_chunk(x, first, last, means[chunk], squares[chunk])
    _join_moments(means, squares, rows, mean, var)
    leak = x.dtype.type(slope)
    mean_lane, bias_lane = _spread(mean, width), _spread(bias, width)
    scale_lane = _spread(_scales(var, weight, eps), width)
    if chunks == 1:
        _normalise_chunk(x, _FIRST, rows, mean_lane, scale_lane, bias_lane, leak, y)
    else:
        for chunk in prange(chunks):
            first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
            _normalise_chunk(x, first, last, mean_lane, scale_lane, bias_lane, leak, y)


@parallel_kernel
def _eval(x, mean, var, weight, bias, eps, slope, y, chunks):
    rows, width = x.shape
    leak = x.dtype.type(slope)
    mean_lane, bias_lane = _spread(mean, width), _spread(bias, width)
    scale_lane = _spread(_scales(var, weight, eps), width)
    if chunks == 1:
        _normalise_chunk(x, _FIRST, rows, mean_lane, scale_lane, bias_lane, leak, y)
    else:
        for chunk in prange(chunks):
            first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
            _normalise_chunk(x, first, last, mean_lane, scale_lane, bias_lane, leak, y)


@inline_kernel
def _inner(grad, deviation, scale, bias, slope):
    """The gradient before the activation."""
    return leaky_element(deviation * scale + bias, grad, slope)


@kernel
def _grad_chunk(grad, x, mean, scale, bias, slope, first, last, total, moment):
    """Sums over x[first:last] of the gradient before the activation, and of it times x - mean."""
    width = x.shape[1]
    step = max(8, BLOCK // max(width, 1))
    plain, weighted = np.empty(width, x.dtype), np.empty(width, x.dtype)
    for top in range(first, last, step):
        plain[:] = 0
        weighted[:] = 0
        for i in range(top, min(top + step, last)):
            for j in range(width):
                d = x[i, j] - mean[j]
                g = _inner(grad[i, j], d, scale[j], bias[j], slope)
                plain[j] += g
                weighted[j] += g * d
        for j in range(width):
            total[j] += plain[j]
            moment[j] += weighted[j]


@kernel
def _dx_chunk(grad, x, mean, scale, bias, slope, first, last, offset, tilt, dx):
    """Rows first..last of dx."""
    width = x.shape[1]
    for i in range(first, last):
        for j in range(width):
            d = x[i, j] - mean[j]
            g = _inner(grad[i, j], d, scale[j], bias[j], slope)
            dx[i, j] = scale[j] * g - (offset[j] + tilt[j] * d)


@kernel
def _join_grad(totals, moments, rows, var, eps, scale, train, sums):
    """Fill sums; return what to take from scale * grad a channel, and times x - mean."""
    chunks, width = totals.shape
    offset, tilt = np.zeros_like(scale), np.zeros_like(scale)
    count = max(rows * width // max(scale.size, 1), 1)
    for chunk in range(1, chunks):
        for j in range(width):
            totals[0, j] += totals[chunk, j]
            moments[0, j] += moments[chunk, j]
    for c in range(scale.size):
        total, moment = 0.0, 0.0
        for j in range(c, width, scale.size):
            total += totals[0, j]
            moment += moments[0, j]
        variance = np.float64(var[c]) + eps
        sums[0, c] = moment / np.sqrt(variance)
        sums[1, c] = total
        sums[2, c] = -scale[c] * total
        sums[3, c] = -0.5 * moment * scale[c] / variance
        if train:
            offset[c] = scale[c] * total / count
            tilt[c] = scale[c] * moment / (variance * count)
    return offset, tilt


@parallel_kernel
def _grad(grad, x, mean, var, weight, bias, eps, slope, train, dx, sums, chunks):
    """dx, and sums = (dweight, dbias, dmean, dvar); the last two are those of given statistics."""
    rows, width = x.shape
    leak = x.dtype.type(slope)
    scale = _scales(var, weight, eps)
    mean_lane, scale_lane, bias_lane = (
        _spread(mean, width),
        _spread(scale, width),
        _spread(bias, width),
    )
    totals, moments = _zeros(chunks, width), _zeros(chunks, width)
    if chunks == 1:
        _grad_chunk(
            grad, x, mean_lane, scale_lane, bias_lane, leak, _FIRST, rows, totals[0], moments[0]
        )
    else:
        for chunk in prange(chunks):
            first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
            _grad_chunk(
                grad, x, mean_lane, scale_lane, bias_lane, leak, first, last, totals[chunk],
                moments[chunk],
            )  # fmt: skip
    offset, tilt = _join_grad(totals, moments, rows, var, eps, scale, train, sums)
    offset_lane, tilt_lane = _spread(offset, width), _spread(tilt, width)
    if chunks == 1:
        _dx_chunk(
            grad, x, mean_lane, scale_lane, bias_lane, leak, _FIRST, rows, offset_lane, tilt_lane,
            dx,
        )  # fmt: skip
    else:
        for chunk in prange(chunks):
            first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
            _dx_chunk(
                grad, x, mean_lane, scale_lane, bias_lane, leak, first, last, offset_lane,
                tilt_lane, dx,
            )  # fmt: skip
