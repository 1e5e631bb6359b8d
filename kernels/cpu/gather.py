"""Rows by index and image patches as columns, each with its adjoint.

An adjoint is split into tasks that own what they add to, so sums have the order of the reference.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..reference.gather import check_rows, patch_grid
from .jit import helper, inline_kernel, parallel_kernel
from .rows import SERIAL, empty_images


def gather_rows(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """table[indices]: (rows, ...) and integers of any shape -> indices.shape + (...)."""
    check_rows("gather_rows", indices, len(table))
    return np.take(table, indices, axis=0)


def scatter_add_rows(grad: np.ndarray, indices: np.ndarray, rows: int) -> np.ndarray:
    """Adjoint of gather_rows: sums grad's rows that share an index, -> (rows, ...)."""
    check_rows("scatter_add_rows", indices, rows)
    tail = grad.shape[indices.ndim :]
    total = np.zeros((rows, *tail), grad.dtype)
    if grad.size:
        flat = np.ascontiguousarray(grad).reshape(indices.size, -1)
        index = np.ascontiguousarray(indices, np.int64).reshape(-1)
        _scatter_add(flat, index, total.reshape(rows, -1))
    return total


def unfold(x: np.ndarray, kernel_size, dilation, padding, stride) -> np.ndarray:
    """Patches as columns: (N, C, H, W) -> (N, C*kh*kw, L), zeros outside the image."""
    (n, c, height, width), (kh, kw) = x.shape, kernel_size
    rows, columns = patch_grid((height, width), kernel_size, dilation, padding, stride)
    patches = np.empty((n * c, kh, kw, rows, columns), x.dtype)
    planes = np.ascontiguousarray(x).reshape(n * c, height, width)
    _unfold(planes, *dilation, *padding, *stride, patches)
    return patches.reshape(n, c * kh * kw, rows * columns)


def fold(columns: np.ndarray, output_size, kernel_size, dilation, padding, stride) -> np.ndarray:
    """Adjoint of unfold: adds the patches up, (N, C*kh*kw, L) -> (N, C, H, W)."""
    (kh, kw), (height, width) = kernel_size, output_size
    n, c = columns.shape[0], columns.shape[1] // (kh * kw)
    grid = patch_grid(output_size, kernel_size, dilation, padding, stride)
    patches = np.ascontiguousarray(columns).reshape(n * c, kh, kw, *grid)
    planes = np.zeros((n * c, height, width), columns.dtype)
    _fold(patches, *dilation, *padding, *stride, planes)
    images = empty_images(n, c, height, width, columns.dtype).transpose(0, 3, 1, 2)
    images[...] = planes.reshape(n, c, height, width)
    return images


@helper
def _scatter_columns(grad, index, total, first, last):
    for i in range(index.size):
        sums, line = total[index[i], first:last], grad[i, first:last]
        for j in range(sums.size):
            sums[j] += line[j]


@parallel_kernel
def _scatter_add(grad, index, total):
    width = total.shape[1]
    if grad.size < SERIAL or width < 32:
        _scatter_columns(grad, index, total, 0, width)
    else:
        tasks = min(width // 16, 64)
        for task in prange(tasks):
            _scatter_columns(
                grad, index, total, width * task // tasks, width * (task + 1) // tasks
            )


@inline_kernel
def _span(offset, stride, extent, count):
    """The patch positions first..last-1 with 0 <= offset + stride * position < extent."""
    first = 0 if offset >= 0 else (stride - 1 - offset) // stride
    last = 0 if extent <= offset else (extent - 1 - offset) // stride + 1
    last = min(last, count)
    return min(first, last), last


@inline_kernel
def _copy(source, step, out):
    if step == 1:
        for i in range(out.size):
            out[i] = source[i]
    else:
        for i in range(out.size):
            out[i] = source[i * step]


@inline_kernel
def _add(source, step, out):
    if step == 1:
        for i in range(source.size):
            out[i] += source[i]
    else:
        for i in range(source.size):
            out[i * step] += source[i]


@parallel_kernel
def _unfold(planes, dh, dw, ph, pw, sh, sw, patches):
    count, kh, kw, rows, columns = patches.shape
    _, height, width = planes.shape
    for plane in prange(count):
        for i in range(kh):
            top, bottom = _span(i * dh - ph, sh, height, rows)
            for j in range(kw):
                offset = j * dw - pw
                left, right = _span(offset, sw, width, columns)
                for row in range(rows):
                    out = patches[plane, i, j, row]
                    if row < top or row >= bottom:
                        out[:] = 0
                    else:
                        line = planes[plane, i * dh - ph + row * sh]
                        out[:left] = 0
                        _copy(line[offset + left * sw :], sw, out[left:right])
                        out[right:] = 0


@parallel_kernel
def _fold(patches, dh, dw, ph, pw, sh, sw, planes):
    count, kh, kw, rows, columns = patches.shape
    _, height, width = planes.shape
    for plane in prange(count):
        for i in range(kh):
            top, bottom = _span(i * dh - ph, sh, height, rows)
            for j in range(kw):
                offset = j * dw - pw
                left, right = _span(offset, sw, width, columns)
                for row in range(top, bottom):
                    line = planes[plane, i * dh - ph + row * sh]
                    _add(patches[plane, i, j, row, left:right], sw, line[offset + left * sw :])
