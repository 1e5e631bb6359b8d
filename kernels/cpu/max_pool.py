"""Max pooling over channels-last memory, which remembers the winning tap of each window in a byte.

Forward and gradient are one pass each; the innermost loop runs over channels. Every task owns what
it writes, so results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import helper, inline_kernel, parallel_kernel
from .rows import SERIAL, channels_last, contiguous_last, empty_images


def max_pool2d(x, kernel_size, stride, padding, output_size):
    """(N, C, H, W) -> the largest value of every window, (N, C, OH, OW), and its tap.

    The first of equal values wins, and the last NaN wins over everything.
    """
    images = contiguous_last(x)
    y = empty_images(*x.shape[:2], *output_size, x.dtype)
    taps = np.empty(y.shape, np.uint8)
    _pool(images, *kernel_size, *stride, *padding, y, taps)
    return y.transpose(0, 3, 1, 2), taps.transpose(0, 3, 1, 2)


def max_pool2d_grad(grad, taps, kernel_size, stride, padding, input_size):
    """Adjoint of max_pool2d_pick: adds grad up where the taps say it came from."""
    dx = empty_images(*grad.shape[:2], *input_size, grad.dtype)
    rows = contiguous_last(grad)
    _spread(rows, np.ascontiguousarray(channels_last(taps)), *kernel_size, *stride, *padding, dx)
    return dx.transpose(0, 3, 1, 2)


def max_pool2d_pick(x, taps, kernel_size, stride, padding):
    """The value of x, (N, C, H, W), at the given tap of each window, (N, C, OH, OW)."""
    y = empty_images(*taps.shape, x.dtype)
    index = np.ascontiguousarray(channels_last(taps))
    _pick(contiguous_last(x), index, *kernel_size, *stride, *padding, y)
    return y.transpose(0, 3, 1, 2)


@inline_kernel
def _beats(value, best):
    return (value > best) | (value != value)


@helper
def _pair_row(top, bottom, y, taps):
    """A row of 2x2 windows of stride 2, from two rows of the image."""
    for ow in range(y.shape[0]):
        a, b, c, d = top[2 * ow], top[2 * ow + 1], bottom[2 * ow], bottom[2 * ow + 1]
        out, tap = y[ow], taps[ow]
        for i in range(out.size):
            best, at = a[i], np.int32(0)
            wins = _beats(b[i], best)
            best, at = (b[i] if wins else best), (np.int32(1) if wins else at)
            wins = _beats(c[i], best)
            best, at = (c[i] if wins else best), (np.int32(2) if wins else at)
            wins = _beats(d[i], best)
            out[i], tap[i] = (d[i] if wins else best), (np.int32(3) if wins else at)


@helper
def _pool_row(image, top, left, kh, kw, sw, y, taps):
    """A row of windows, of any size, whose first has its corner at (top, left)."""
    height, width, channels = image.shape
    best, at = np.empty(channels, image.dtype), np.empty(channels, np.int32)
    for ow in range(y.shape[0]):
        corner, first = left + ow * sw, True
        for i in range(max(0, -top), min(kh, height - top)):
            for j in range(max(0, -corner), min(kw, width - corner)):
                pixel, tap = image[top + i, corner + j], np.int32(i * kw + j)
                if first:
                    best[:] = pixel
                    at[:] = tap
                    first = False
                    continue
                for c in range(channels):
                    wins = _beats(pixel[c], best[c])
                    best[c] = pixel[c] if wins else best[c]
                    at[c] = tap if wins else at[c]
        out, tap_out = y[ow], taps[ow]
        for c in range(channels):
            out[c], tap_out[c] = best[c], at[c]


@helper
def _pool_task(images, task, kh, kw, sh, sw, ph, pw, y, taps):
    rows = y.shape[1]
    n, oh = task // rows, task % rows
    inside = 2 * rows <= images.shape[1] and 2 * y.shape[2] <= images.shape[2]  # not by ceil_mode
    if kh == kw == sh == sw == 2 and ph == pw == 0 and inside:
        _pair_row(images[n, 2 * oh], images[n, 2 * oh + 1], y[n, oh], taps[n, oh])
    else:
        _pool_row(images[n], oh * sh - ph, -pw, kh, kw, sw, y[n, oh], taps[n, oh])


@parallel_kernel
def _pool(images, kh, kw, sh, sw, ph, pw, y, taps):
    tasks = y.shape[0] * y.shape[1]
    if images.size < SERIAL:
        for task in range(tasks):
            _pool_task(images, task, kh, kw, sh, sw, ph, pw, y, taps)
    else:
        for task in prange(tasks):
            _pool_task(images, task, kh, kw, sh, sw, ph, pw, y, taps)


@helper
def _spread_row(grad, taps, ih, kh, kw, sh, sw, ph, pw, out):
    """The gradient of input row ih, from every row of windows that covers it."""
    out[:] = 0
    first, last = max(0, (ih + ph - kh) // sh + 1), min(grad.shape[0], (ih + ph) // sh + 1)
    for oh in range(first, last):
        row = (ih + ph - oh * sh) * kw
        for ow in range(grad.shape[1]):
            left = ow * sw - pw
            g, at = grad[oh, ow], taps[oh, ow]
            for j in range(max(0, -left), min(kw, out.shape[0] - left)):
                pixel, tap = out[left + j], np.uint8(row + j)
                for c in range(pixel.size):
                    pixel[c] += g[c] if at[c] == tap else g.dtype.type(0)


@parallel_kernel
def _spread(grad, taps, kh, kw, sh, sw, ph, pw, dx):
    height = dx.shape[1]
    if dx.size < SERIAL:
        for task in range(dx.shape[0] * height):
            n, ih = task // height, task % height
            _spread_row(grad[n], taps[n], ih, kh, kw, sh, sw, ph, pw, dx[n, ih])
    else:
        for task in prange(dx.shape[0] * height):
            n, ih = task // height, task % height
            _spread_row(grad[n], taps[n], ih, kh, kw, sh, sw, ph, pw, dx[n, ih])


@helper
def _pick_row(image, taps, top, left, kh, kw, sw, out):
    height, width, _ = image.shape
    out[:] = 0
    for ow in range(out.shape[0]):
        corner = left + ow * sw
        y, at = out[ow], taps[ow]
        for i in range(max(0, -top), min(kh, height - top)):
            for j in range(max(0, -corner), min(kw, width - corner)):
                pixel, tap = image[top + i, corner + j], np.uint8(i * kw + j)
                for c in range(y.size):
                    y[c] = pixel[c] if at[c] == tap else y[c]


@parallel_kernel
def _pick(images, taps, kh, kw, sh, sw, ph, pw, y):
    rows = y.shape[1]
    if images.size < SERIAL:
        for task in range(y.shape[0] * rows):
            n, oh = task // rows, task % rows
            _pick_row(images[n], taps[n, oh], oh * sh - ph, -pw, kh, kw, sw, y[n, oh])
    else:
        for task in prange(y.shape[0] * rows):
            n, oh = task // rows, task % rows
            _pick_row(images[n], taps[n, oh], oh * sh - ph, -pw, kh, kw, sw, y[n, oh])
