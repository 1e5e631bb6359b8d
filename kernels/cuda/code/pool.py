"""Pooling of channels-last images, by flat indices and by means. The grid is as in max_pool."""

from __future__ import annotations

import math

from .language import FLOATS, cuda, device, divide, int64, kernel
from .max_pool import GEOMETRY, clamp, first_window, last_window


@device
def taps_before(start, dilation):
    """How many taps of a window that begins at `start` lie before the image."""
    return divide(dilation - 1 - start, dilation) if start < 0 else int64(0)


@device
def taps_until(start, dilation, size, extent):
    """How many of its `size` taps lie before the image's end."""
    return min(divide(extent - 1 - start, dilation) + 1, size) if start < extent else int64(0)


@kernel(
    "indices: int64*, x: T*, images: int, out_height: int, out_width: int, height: int,"
    " width: int, channels: int, " + GEOMETRY + ", dh: int, dw: int",
    T=FLOATS,
)  # fmt: skip
def max_pool2d_indices(T):
    """A window that holds no pixel along an axis looks at the nearest one instead."""

    def run(
        indices, x, images, out_height, out_width, height, width, channels, kh, kw, sh, sw, ph, pw,
        dh, dw,
    ):  # fmt: skip
        at = cuda.grid(1)
        ow = divide(at, channels)
        c, start = at - ow * channels, ow * sw - pw
        before = taps_before(start, dw)
        columns = taps_until(start, dw, kw, width) - before
        left = start + before * dw if columns > 0 else clamp(start, width)
        oh = int64(cuda.blockIdx.y)
        while oh < out_height and ow < out_width:
            n, start = int64(cuda.blockIdx.z), oh * sh - ph
            before = taps_before(start, dh)
            rows = taps_until(start, dh, kh, height) - before
            top = start + before * dh if rows > 0 else clamp(start, height)
            while n < images:
                winner = top * width + left
                best = x[(n * height * width + winner) * channels + c]
                for i in range(max(rows, 1)):
                    for j in range(max(columns, 1)):
                        pixel = (top + i * dh) * width + left + j * dw
                        value = x[(n * height * width + pixel) * channels + c]
                        wins = (value > best) | (value != value)
                        best = value if wins else best
                        winner = pixel if wins else winner
                indices[(n * out_height + oh) * out_width * channels + at] = winner
                n += cuda.gridDim.z
            oh += cuda.gridDim.y

    return run


@kernel(
    "y: T*, x: T*, indices: int64*, images: int, places: int, pixels: int, channels: int", T=FLOATS
)
def pool_gather(T):
    """x of the grid counts the places of an image; a wrong index gives NaN."""
    nan = T(math.nan)

    def run(y, x, indices, images, places, pixels, channels):
        at, n = cuda.grid(1), int64(cuda.blockIdx.z)
        c = at - divide(at, channels) * channels
        while n < images and at < places * channels:
            index = indices[n * places * channels + at]
            inside = (index >= 0) & (index < pixels)
            value = x[(n * pixels + index) * channels + c] if inside else nan
            y[n * places * channels + at] = value
            n += cuda.gridDim.z

    return run


@kernel(
    "dx: T*, grad: T*, indices: int64*, images: int, parts: int, places: int, pixels: int,"
    " channels: int",
    T=FLOATS,
)
def pool_scatter(T):
    """Each thread owns a part of one channel of an image, and looks for what belongs there.

    x of the grid counts the parts of an image. Every part reads all the indices of its channel,
    but adds in their order, without atomics. A wrong index belongs nowhere.
    """

    def run(dx, grad, indices, images, parts, places, pixels, channels):
        found = cuda.local.array(4, int64)
        at, n = cuda.grid(1), int64(cuda.blockIdx.z)
        part = divide(at, channels)
        low, high = divide(part * pixels, parts), divide((part + 1) * pixels, parts)
        while n < images and part < parts:
            image = n * pixels * channels + at - part * channels
            pixel = low
            while pixel < high:
                dx[image + pixel * channels] = T(0)
                pixel += 1
            line, place = n * places * channels + at - part * channels, int64(0)
            while place < places:
                for k in range(4):  # four loads in flight
                    found[k] = indices[line + min(place + k, places - 1) * channels]
                for k in range(4):
                    index = found[k]
                    if low <= index and index < high and place + k < places:
                        dx[image + index * channels] += grad[line + (place + k) * channels]
                place += 4
            n += cuda.gridDim.z

    return run


@device
def length(window, size, stride, padding, extent, padded):
    """How many pixels a window has along an axis; with `padded` those of the padding too."""
    start = window * stride - padding
    whole = min(start + size, extent + padding) - start
    return whole if padded else min(start + size, extent) - max(start, 0)


@kernel(
    "y: T*, x: T*, images: int, out_height: int, out_width: int, height: int, width: int,"
    " channels: int, " + GEOMETRY + ", padded: int, divisor: int",
    T=FLOATS, WINDOW=(0, 2),
)  # fmt: skip
def avg_pool2d(T, WINDOW):
    """WINDOW 2 is the window of 2 x 2, whose loops unroll."""

    def run(
        y, x, images, out_height, out_width, height, width, channels, kh, kw, sh, sw, ph, pw,
        padded, divisor,
    ):  # fmt: skip
        if WINDOW:
            kh = WINDOW
            kw = WINDOW
        at = cuda.grid(1)
        ow = divide(at, channels)
        c, left = at - ow * channels, ow * sw - pw
        wide = length(ow, kw, sw, pw, width, padded)
        oh = int64(cuda.blockIdx.y)
        while oh < out_height and ow < out_width:
            n, top = int64(cuda.blockIdx.z), oh * sh - ph
            count = length(oh, kh, sh, ph, height, padded) * wide
            shared = T(divisor if divisor != 0 else max(count, 1))  # among the window's pixels
            while n < images:
                total = T(0)
                for i in range(kh):
                    ih = top + i
                    for j in range(kw):
                        iw = left + j
                        inside = (ih >= 0) & (ih < height) & (iw >= 0) & (iw < width)
                        pixel = clamp(ih, height) * width + clamp(iw, width)
                        value = x[(n * height * width + pixel) * channels + c]
                        total += value if inside else T(0)
                y[(n * out_height + oh) * out_width * channels + at] = total / shared
                n += cuda.gridDim.z
            oh += cuda.gridDim.y

    return run


@kernel(
    "dx: T*, grad: T*, images: int, height: int, width: int, out_height: int, out_width: int,"
    " channels: int, " + GEOMETRY + ", padded: int, divisor: int",
    registers=80, T=FLOATS,
)  # fmt: skip
def avg_pool2d_grad(T):
    """A pixel's gradient is its share of every window on it."""

    def run(
        dx, grad, images, height, width, out_height, out_width, channels, kh, kw, sh, sw, ph, pw,
        padded, divisor,
    ):  # fmt: skip
        at = cuda.grid(1)
        iw = divide(at, channels)
        c, left = at - iw * channels, iw + pw
        first_ow, last_ow = first_window(left, kw, sw), last_window(left, sw, out_width)
        ih = int64(cuda.blockIdx.y)
        while ih < height and iw < width:
            n, top = int64(cuda.blockIdx.z), ih + ph
            first_oh, last_oh = first_window(top, kh, sh), last_window(top, sh, out_height)
            while n < images:
                total, oh = T(0), first_oh
                while oh <= last_oh:
                    line, ow = (n * out_height + oh) * out_width, first_ow
                    tall = length(oh, kh, sh, ph, height, padded)
                    while ow <= last_ow:
                        count = tall * length(ow, kw, sw, pw, width, padded)
                        g = grad[(line + ow) * channels + c]
                        total += g / T(divisor if divisor != 0 else count)
                        ow += 1
                    oh += 1
                dx[(n * height + ih) * width * channels + at] = total
                n += cuda.gridDim.z
            ih += cuda.gridDim.y

    return run


@kernel(
    "dx: T*, grad: T*, images: int, height: int, width: int, out_height: int, out_width: int,"
    " channels: int, " + GEOMETRY + ", padded: int, divisor: int",
    T=FLOATS,
)  # fmt: skip
def avg_pool2d_grad_apart(T):
    """The same where windows do not overlap: at most one is on a pixel."""

    def run(
        dx, grad, images, height, width, out_height, out_width, channels, kh, kw, sh, sw, ph, pw,
        padded, divisor,
    ):  # fmt: skip
        gs = cuda.local.array(4, T)
        at, step = cuda.grid(1), int64(cuda.gridDim.z)
        iw = divide(at, channels)
        c, left = at - iw * channels, iw + pw
        ow = last_window(left, sw, out_width)
        wide = length(ow, kw, sw, pw, width, padded)
        ih = int64(cuda.blockIdx.y)
        while ih < height and iw < width:
            n, top = int64(cuda.blockIdx.z), ih + ph
            oh = last_window(top, sh, out_height)
            window = (oh * out_width + ow) * channels + c
            count = length(oh, kh, sh, ph, height, padded) * wide
            shared = T(divisor if divisor != 0 else max(count, 1))  # among the window's pixels
            covered = top - oh * sh < kh and left - ow * sw < kw
            while n < images:
                for k in range(4):
                    image = min(n + k * step, images - 1)
                    gs[k] = grad[image * out_height * out_width * channels + window]
                for k in range(4):
                    image = n + k * step
                    if image < images:
                        value = gs[k] / shared if covered else T(0)
                        dx[(image * height + ih) * width * channels + at] = value
                n += 4 * step
            ih += cuda.gridDim.y

    return run
