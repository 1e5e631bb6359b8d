"""Batch normalisation fused with its activation, over channels-last memory.

The (N, C, ...) input is a matrix of (rows, C), folded to rows of about LANES elements whose lane j
belongs to channel j % C, so that few channels vectorise as well as many. A fixed number of chunks
of rows, which depends on the shape alone, makes partial sums that are added in order: results do
not depend on the number of threads. Within a chunk the sums of a block that fits into the L2 cache
are kept in the input's precision, sums of blocks in float64.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..reference.norm import move_statistics  # noqa: F401  a few numbers only
from .elementwise import leaky_element
from .jit import helper, inline_kernel, parallel_kernel
from .reduction import BLOCK, FIRST, chunks, zeros
from .rows import as_rows, lanes, like_rows


def batch_norm_train(x, weight, bias, eps: float, slope: float):
    """y, mean, var with the batch's own statistics; var is the biased one, both (C,)."""
    rows, channels = as_rows(x), x.shape[1]
    weight, bias = _vectors(x, weight, bias)
    mean, var = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    y = np.empty_like(rows)
    shape = lanes(*rows.shape)
    _train(
        rows.reshape(shape), weight, bias, eps, slope, y.reshape(shape), mean, var, chunks(x.size)
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
        rows.reshape(shape), mean, var, weight, bias, eps, slope, y.reshape(shape), chunks(x.size)
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
        train, dx.reshape(shape), sums, chunks(x.size),
    )  # fmt: skip
    return like_rows(dx, x.shape), sums


def _vectors(x, scale, shift):
    """Two (C,) vectors in x's dtype; None is one for the first and zero for the second."""
    channels = x.shape[1]
    scale = np.ones(channels, x.dtype) if scale is None else np.ascontiguousarray(scale, x.dtype)
    shift = np.zeros(channels, x.dtype) if shift is None else np.ascontiguousarray(shift, x.dtype)
    return scale, shift


@helper
def moments_chunk(x, first, last, mean, square):
    """Mean and sum of squared deviations of the columns of x[first:last], block by block.

    Deviations are taken from the mean so far (at first, from the first row), whose distance from
    the block's own mean is taken out again; blocks are joined by Chan et al. 1983, eq. 2.1.
    """
    width = x.shape[1]
    step = max(8, BLOCK // max(width, 1))
    total = np.empty(width, x.dtype)
    centre = np.empty(width, x.dtype)
    spread = np.empty(width, x.dtype)
    for j in range(width if first < last else 0):
        centre[j] = x[first, j]
    seen = 0
    for top in range(first, last, step):
        bottom = min(top + step, last)
        n = bottom - top
        total[:] = 0
        spread[:] = 0
        whole = bottom - n % 4
        for i in range(top, whole, 4):  # four rows a time: sums pass through memory
            for j in range(width):
                m = centre[j]
                a, b, c, d = x[i, j] - m, x[i + 1, j] - m, x[i + 2, j] - m, x[i + 3, j] - m
                total[j] += (a + b) + (c + d)
                spread[j] += (a * a + b * b) + (c * c + d * d)
        for i in range(whole, bottom):
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
            centre[j] = mean[j]
        seen += n


@helper
def _join_moments(means, squares, rows, mean, var):
    """Join the chunks' and lanes' moments, in order, into mean and biased variance a channel."""
    pieces, width = means.shape
    channels = mean.size
    m, s = np.zeros(channels), np.zeros(channels)
    seen = 0
    for chunk in range(pieces):
        n = rows * (chunk + 1) // pieces - rows * chunk // pieces
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


@helper
def _spread(vector, width):
    """(C,) repeated to the lanes of a folded row."""
    lane = np.empty(width, vector.dtype)
    for first in range(0, width, max(vector.size, 1)):
        for c in range(vector.size):
            lane[first + c] = vector[c]
    return lane


@helper
def _scales(var, weight, eps):
    scale = np.empty_like(weight)
    for c in range(scale.size):
        inverse = weight.dtype.type(1 / np.sqrt(np.float64(var[c]) + eps))
        scale[c] = inverse * weight[c]
    return scale


@helper
def normalise_chunk(x, first, last, mean, scale, bias, slope, y):
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
def _train(x, weight, bias, eps, slope, y, mean, var, pieces):
    rows, width = x.shape
    means, squares = zeros(pieces, width), zeros(pieces, width)
    if pieces == 1:
        moments_chunk(x, FIRST, rows, means[0], squares[0])
    else:
        for chunk in prange(pieces):
            first, last = rows * chunk // pieces, rows * (chunk + 1) // pieces
            moments_chunk(x, first, last, means[chunk], squares[chunk])
    _join_moments(means, squares, rows, mean, var)
    leak = x.dtype.type(slope)
    mean_lane, bias_lane = _spread(mean, width), _spread(bias, width)
    scale_lane = _spread(_scales(var, weight, eps), width)
    if pieces == 1:
        normalise_chunk(x, FIRST, rows, mean_lane, scale_lane, bias_lane, leak, y)
    else:
        for chunk in prange(pieces):
            first, last = rows * chunk // pieces, rows * (chunk + 1) // pieces
            normalise_chunk(x, first, last, mean_lane, scale_lane, bias_lane, leak, y)


@parallel_kernel
def _eval(x, mean, var, weight, bias, eps, slope, y, pieces):
    rows, width = x.shape
    leak = x.dtype.type(slope)
    mean_lane, bias_lane = _spread(mean, width), _spread(bias, width)
    scale_lane = _spread(_scales(var, weight, eps), width)
    if pieces == 1:
        normalise_chunk(x, FIRST, rows, mean_lane, scale_lane, bias_lane, leak, y)
    else:
        for chunk in prange(pieces):
            first, last = rows * chunk // pieces, rows * (chunk + 1) // pieces
            normalise_chunk(x, first, last, mean_lane, scale_lane, bias_lane, leak, y)


@inline_kernel
def _inner(grad, deviation, scale, bias, slope):
    """The gradient before the activation."""
    return leaky_element(deviation * scale + bias, grad, slope)


@helper
def grad_chunk(grad, x, mean, scale, bias, slope, first, last, total, moment):
    """Sums over x[first:last] of the gradient before the activation, and of it times x - mean."""
    width = x.shape[1]
    step = max(8, BLOCK // max(width, 1))
    plain, weighted = np.empty(width, x.dtype), np.empty(width, x.dtype)
    for top in range(first, last, step):
        plain[:] = 0
        weighted[:] = 0
        bottom = min(top + step, last)
        paired = bottom - (bottom - top) % 2
        for i in range(top, paired, 2):
            for j in range(width):
                m, s, b = mean[j], scale[j], bias[j]
                d, e = x[i, j] - m, x[i + 1, j] - m
                g, h = _inner(grad[i, j], d, s, b, slope), _inner(grad[i + 1, j], e, s, b, slope)
                plain[j] += g + h
                weighted[j] += g * d + h * e
        for i in range(paired, bottom):
            for j in range(width):
                d = x[i, j] - mean[j]
                g = _inner(grad[i, j], d, scale[j], bias[j], slope)
                plain[j] += g
                weighted[j] += g * d
        for j in range(width):
            total[j] += plain[j]
            moment[j] += weighted[j]


@helper
def dx_chunk(grad, x, mean, scale, bias, slope, first, last, offset, tilt, dx):
    """Rows first..last of dx."""
    width = x.shape[1]
    for i in range(first, last):
        for j in range(width):
            d = x[i, j] - mean[j]
            g = _inner(grad[i, j], d, scale[j], bias[j], slope)
            dx[i, j] = scale[j] * g - (offset[j] + tilt[j] * d)


@helper
def _join_grad(totals, moments, rows, var, eps, scale, train, sums):
    """Fill sums; return what to take from scale * grad a channel, and times x - mean."""
    pieces, width = totals.shape
    offset, tilt = np.zeros_like(scale), np.zeros_like(scale)
    count = max(rows * width // max(scale.size, 1), 1)
    for chunk in range(1, pieces):
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
def _grad(grad, x, mean, var, weight, bias, eps, slope, train, dx, sums, pieces):
    """dx, and sums = (dweight, dbias, dmean, dvar); the last two are those of given statistics."""
    rows, width = x.shape
    leak = x.dtype.type(slope)
    scale = _scales(var, weight, eps)
    mean_lane, scale_lane, bias_lane = (
        _spread(mean, width),
        _spread(scale, width),
        _spread(bias, width),
    )
    totals, moments = zeros(pieces, width), zeros(pieces, width)
    if pieces == 1:
        grad_chunk(
            grad, x, mean_lane, scale_lane, bias_lane, leak, FIRST, rows, totals[0], moments[0]
        )
    else:
        for chunk in prange(pieces):
            first, last = rows * chunk // pieces, rows * (chunk + 1) // pieces
            grad_chunk(
                grad, x, mean_lane, scale_lane, bias_lane, leak, first, last, totals[chunk],
                moments[chunk],
            )  # fmt: skip
    offset, tilt = _join_grad(totals, moments, rows, var, eps, scale, train, sums)
    offset_lane, tilt_lane = _spread(offset, width), _spread(tilt, width)
    if pieces == 1:
        dx_chunk(
            grad, x, mean_lane, scale_lane, bias_lane, leak, FIRST, rows, offset_lane, tilt_lane,
            dx,
        )  # fmt: skip
    else:
        for chunk in prange(pieces):
            first, last = rows * chunk // pieces, rows * (chunk + 1) // pieces
            dx_chunk(
                grad, x, mean_lane, scale_lane, bias_lane, leak, first, last, offset_lane,
                tilt_lane, dx,
            )  # fmt: skip
