"""Resampling of images along both axes in one pass over channels-last memory.

Rows are mixed in the cache, then columns.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import helper, parallel_kernel
from .rows import SERIAL, contiguous_last


def resample2d(x, row_indices, row_weights, column_indices, column_weights):
    """(N, C, H, W) -> (N, C, OH, OW); indices are int64 (OH, K) and (OW, L), weights float64."""
    n, c = x.shape[:2]
    tables = (
        row_indices, row_weights.astype(x.dtype), column_indices, column_weights.astype(x.dtype)
    )  # fmt: skip
    size = len(row_indices), len(column_indices)
    y = np.empty((n, *size, c), x.dtype)
    _resample(contiguous_last(x), *tables, y)
    return y.transpose(0, 3, 1, 2)


@helper
def _mix_rows(image, at, weights, out):
    """out (W*C,) = the weighted sum of rows `at` of the image (H, W*C)."""
    count = at.size
    if count == 1:
        w, row = weights[0], image[at[0]]
        for i in range(out.size):
            out[i] = w * row[i]
    else:
        u, v, first, second = weights[0], weights[1], image[at[0]], image[at[1]]
        for i in range(out.size):
            out[i] = u * first[i] + v * second[i]
        for k in range(2, count):
            w, row = weights[k], image[at[k]]
            for i in range(out.size):
                out[i] += w * row[i]


@helper
def _mix_columns(row, at, weights, out):
    """out (OW, C) = weighted sums of the pixels of a row (W, C)."""
    channels, count = row.shape[1], at.shape[1]
    for j in range(out.shape[0]):
        target = out[j]
        if count == 1:
            w, pixel = weights[j, 0], row[at[j, 0]]
            for c in range(channels):
                target[c] = w * pixel[c]
            continue
        u, v, first, second = weights[j, 0], weights[j, 1], row[at[j, 0]], row[at[j, 1]]
        for c in range(channels):
            target[c] = u * first[c] + v * second[c]
        for k in range(2, count):
            w, pixel = weights[j, k], row[at[j, k]]
            for c in range(channels):
                target[c] += w * pixel[c]


@helper
def _mix_pixels(row, at, weights, out):
    """_mix_columns for one channel, (W,) -> (OW,)."""
    for j in range(out.size):
        total = weights[j, 0] * row[at[j, 0]]
        for k in range(1, at.shape[1]):
            total += weights[j, k] * row[at[j, k]]
        out[j] = total


@helper
def _task(images, task, row_at, row_weights, column_at, column_weights, mixed, y):
    height, width, channels = images.shape[1:]
    n, i = task // y.shape[1], task % y.shape[1]
    at, weights = row_at[i], row_weights[i]
    row = mixed
    if at.size == 1 and weights[0] == 1:
        row = images[n, at[0]].reshape(-1)
    else:
        _mix_rows(images[n].reshape(height, width * channels), at, weights, mixed)
    if channels == 1:
        _mix_pixels(row, column_at, column_weights, y[n, i].reshape(-1))
    else:
        _mix_columns(row.reshape(width, channels), column_at, column_weights, y[n, i])


@parallel_kernel
def _resample(images, row_at, row_weights, column_at, column_weights, y):
    tasks, size = y.shape[0] * y.shape[1], images.shape[2] * images.shape[3]
    if y.size < SERIAL:
        mixed = np.empty(size, images.dtype)
        for task in range(tasks):
            _task(images, task, row_at, row_weights, column_at, column_weights, mixed, y)
    else:
        pieces = min(tasks, 64)
        for piece in prange(pieces):
            mixed = np.empty(size, images.dtype)
            for task in range(tasks * piece // pieces, tasks * (piece + 1) // pieces):
                _task(images, task, row_at, row_weights, column_at, column_weights, mixed, y)
