"""Pooling of (N, C, H, W) images over channels-last memory: the innermost loop runs over channels.

Every task owns what it writes, so results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..reference.pool import check_indices
from .jit import helper, inline_kernel, parallel_kernel
from .rows import SERIAL, channels_last, contiguous_last, empty_images


def max_pool2d_indices(x, kernel_size, stride, padding, dilation, output_size) -> np.ndarray:
    """Where the largest value of every window lies: int64 (N, C, OH, OW), flat in H*W as in torch.

    The first of equal values wins, and the last NaN wins over everything.
    """
    images = contiguous_last(x)
    out = empty_images(*x.shape[:2], *output_size, np.int64)
    _max_pool(images, *kernel_size, *stride, *padding, *dilation, out)
    return out.transpose(0, 3, 1, 2)


def pool_gather(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """x's values at flat indices: (N, C, H, W), (N, C, OH, OW) -> (N, C, OH, OW)."""
    n, c, height, width = x.shape
    check_indices("pool_gather", indices, height, width)
    images = contiguous_last(x).reshape(n, height * width, c)
    index = np.ascontiguousarray(channels_last(indices), np.int64)
    out = np.empty(index.shape, x.dtype)
    flat = (n, indices.shape[2] * indices.shape[3], c)
    _gather(images, index.reshape(flat), out.reshape(flat))
    return out.transpose(0, 3, 1, 2)


def pool_scatter(grad: np.ndarray, indices: np.ndarray, input_size) -> np.ndarray:
    """Adjoint of pool_gather: adds grad up at its indices, -> (N, C, *input_size)."""
    n, c = grad.shape[:2]
    height, width = input_size
    check_indices("pool_scatter", indices, height, width)
    out = empty_images(n, c, height, width, grad.dtype)
    out[...] = 0
    flat = (n, indices.shape[2] * indices.shape[3], c)
    rows = contiguous_last(grad).reshape(flat)
    index = np.ascontiguousarray(channels_last(indices), np.int64).reshape(flat)
    _scatter(rows, index, out.reshape(n, height * width, c))
    return out.transpose(0, 3, 1, 2)


def avg_pool2d(
    x, kernel_size, stride, padding, output_size, count_include_pad: bool, divisor
) -> np.ndarray:  # fmt: skip
    """Mean of every window; divisor replaces the count where it is not None."""
    images = contiguous_last(x)
    out = empty_images(*x.shape[:2], *output_size, x.dtype)
    _avg_pool(
        images, *kernel_size, *stride, *padding, bool(count_include_pad), divisor or 0, out
    )
    return out.transpose(0, 3, 1, 2)


def avg_pool2d_grad(
    grad, input_size, kernel_size, stride, padding, output_size, count_include_pad: bool, divisor
) -> np.ndarray:  # fmt: skip
    """Adjoint of avg_pool2d: (N, C, OH, OW) -> (N, C, *input_size)."""
    rows = contiguous_last(grad)
    out = empty_images(*grad.shape[:2], *input_size, grad.dtype)
    _avg_pool_grad(
        rows, *kernel_size, *stride, *padding, bool(count_include_pad), divisor or 0, out
    )
    return out.transpose(0, 3, 1, 2)


@inline_kernel
def _first_inside(start, step, extent):
    """The first of start, start + step, ... that is not negative, kept inside the image."""
    first = start if start >= 0 else start + (step - 1 - start) // step * step
    return min(first, extent - 1)


@helper
def _max_pool_row(image, oh, kh, kw, sh, sw, ph, pw, dh, dw, out):
    height, width, channels = image.shape
    best = np.empty(channels, image.dtype)
    where = np.empty(channels, np.int32)
    top = oh * sh - ph
    for ow in range(out.shape[0]):
        left = ow * sw - pw
        where[:] = _first_inside(top, dh, height) * width + _first_inside(left, dw, width)
        best[:] = -np.inf
        for ih in range(top, min(top + kh * dh, height), dh):
            if ih < 0:
                continue
            for iw in range(left, min(left + kw * dw, width), dw):
                if iw < 0:
                    continue
                flat = np.int32(ih * width + iw)
                for c in range(channels):
                    value, old = image[ih, iw, c], best[c]
                    wins = (value > old) | (value != value)
                    best[c] = value if wins else old
                    where[c] = flat if wins else where[c]
        for c in range(channels):
            out[ow, c] = where[c]


@parallel_kernel
def _max_pool(images, kh, kw, sh, sw, ph, pw, dh, dw, out):
    count, rows = out.shape[:2]
    if images.size < SERIAL:
        for n in range(count):
            for oh in range(rows):
                _max_pool_row(images[n], oh, kh, kw, sh, sw, ph, pw, dh, dw, out[n, oh])
    else:
        for task in prange(count * rows):
            n, oh = task // rows, task % rows
            _max_pool_row(images[n], oh, kh, kw, sh, sw, ph, pw, dh, dw, out[n, oh])


@parallel_kernel
def _gather(images, index, out):
    count, positions, channels = index.shape
    if out.size < SERIAL:
        for n in range(count):
            for p in range(positions):
                for c in range(channels):
                    out[n, p, c] = images[n, index[n, p, c], c]
    else:
        for task in prange(count * positions):
            n, p = task // positions, task % positions
            for c in range(channels):
                out[n, p, c] = images[n, index[n, p, c], c]


@helper
def _scatter_channels(grad, index, first, last, out):
    for p in range(grad.shape[0]):
        for c in range(first, last):
            out[index[p, c], c] += grad[p, c]


@parallel_kernel
def _scatter(grad, index, out):
    count, _, channels = grad.shape
    if grad.size < SERIAL:
        for n in range(count):
            _scatter_channels(grad[n], index[n], 0, channels, out[n])
    else:
        parts = max(channels // 16, 1) if count < 16 else 1
        for task in prange(count * parts):
            n, part = task // parts, task % parts
            first, last = channels * part // parts, channels * (part + 1) // parts
            _scatter_channels(grad[n], index[n], first, last, out[n])


@inline_kernel
def _window(position, extent, kernel_size, stride, padding):
    """First and last + 1 of a window inside the image, and its length with the padding."""
    first = position * stride - padding
    last = min(first + kernel_size, extent + padding)
    return max(first, 0), min(last, extent), last - first


@inline_kernel
def _divisor(rows, columns, whole, include_pad, divisor):
    if divisor != 0:
        return divisor
    return whole if include_pad else rows * columns


@helper
def _avg_pool_row(image, oh, kh, kw, sh, sw, ph, pw, include_pad, divisor, out):
    height, width, channels = image.shape
    top, bottom, full_rows = _window(oh, height, kh, sh, ph)
    for ow in range(out.shape[0]):
        left, right, full_columns = _window(ow, width, kw, sw, pw)
        out[ow] = 0
        for ih in range(top, bottom):
            for iw in range(left, right):
                for c in range(channels):
                    out[ow, c] += image[ih, iw, c]
        if bottom > top and right > left:
            count = image.dtype.type(
                _divisor(bottom - top, right - left, full_rows * full_columns, include_pad, divisor)
            )
            for c in range(channels):
                out[ow, c] /= count


@parallel_kernel
def _avg_pool(images, kh, kw, sh, sw, ph, pw, include_pad, divisor, out):
    count, rows = out.shape[:2]
    if images.size < SERIAL:
        for n in range(count):
            for oh in range(rows):
                _avg_pool_row(
                    images[n], oh, kh, kw, sh, sw, ph, pw, include_pad, divisor, out[n, oh]
                )
    else:
        for task in prange(count * rows):
            n, oh = task // rows, task % rows
            _avg_pool_row(images[n], oh, kh, kw, sh, sw, ph, pw, include_pad, divisor, out[n, oh])


@helper
def _avg_pool_grad_row(grad, ih, height, kh, kw, sh, sw, ph, pw, include_pad, divisor, out):
    """The gradient of input row ih: every window that covers a pixel adds its share."""
    rows, columns, channels = grad.shape
    width = out.shape[0]
    out[:] = 0
    for oh in range(max(0, (ih + ph - kh) // sh + 1), min(rows, (ih + ph) // sh + 1)):
        top, bottom, full_rows = _window(oh, height, kh, sh, ph)
        for ow in range(columns):
            left, right, full_columns = _window(ow, width, kw, sw, pw)
            share = grad.dtype.type(1) / grad.dtype.type(
                _divisor(bottom - top, right - left, full_rows * full_columns, include_pad, divisor)
            )
            for iw in range(left, right):
                for c in range(channels):
                    out[iw, c] += grad[oh, ow, c] * share


@parallel_kernel
def _avg_pool_grad(grad, kh, kw, sh, sw, ph, pw, include_pad, divisor, out):
    count, height = out.shape[:2]
    if out.size < SERIAL:
        for n in range(count):
            for ih in range(height):
                _avg_pool_grad_row(
                    grad[n], ih, height, kh, kw, sh, sw, ph, pw, include_pad, divisor, out[n, ih]
                )
    else:
        for task in prange(count * height):
            n, ih = task // height, task % height
            _avg_pool_grad_row(
                grad[n], ih, height, kh, kw, sh, sw, ph, pw, include_pad, divisor, out[n, ih]
            )
