"""Dilated convolutions as plain ones: pixels a dilation apart make images of their own.

With stride 1 and dilation d, the output pixels (d q + a, d r + b) of one (a, b) see only pixels of
the input as far apart: a plain convolution of a smaller image, which minimal filtering serves.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .conv_plan import Pair, Problem
from .jit import parallel_kernel
from .memory import empty
from .winograd import winograd_gather, winograd_weight_grad


def undilated(p: Problem) -> Problem:
    """The plain convolution of the smaller images; p itself where there is none."""
    if p.dilation == (1, 1) or p.stride != (1, 1) or p.groups != 1:
        return p
    (kh, kw), (down, across) = p.kernel_size, p.dilation
    height, width = -(-p.output_size[0] // down), -(-p.output_size[1] // across)
    return p._replace(
        batch=p.batch * down * across, size=(height + kh - 1, width + kw - 1),
        output_size=(height, width), dilation=(1, 1),
        padding=(kh - 1, kw - 1) if p.transposed else (0, 0),
    )  # fmt: skip


def dilated_gather(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray | None:
    """winograd_gather of a dilated convolution."""
    p, plain = problem, undilated(problem)
    made = winograd_gather(_split_input(x, p, plain), weight, bias, plain, slope)
    if made is None:
        return None
    y = empty((p.batch, *p.output_size, p.out_channels), x.dtype)
    _join(made.reshape(-1), y, *p.dilation, *plain.output_size)
    return y


def dilated_weight_grad(x: np.ndarray, grad: np.ndarray, problem: Problem) -> np.ndarray | None:
    """winograd_weight_grad of a dilated convolution."""
    p, plain = problem, undilated(problem)
    shape = p.batch, *p.output_size, p.out_channels
    parts = _split(grad.reshape(shape), p.dilation, plain.output_size, (0, 0))
    return winograd_weight_grad(_split_input(x, p, plain), parts, plain)


def _split_input(x: np.ndarray, p: Problem, plain: Problem) -> np.ndarray:
    """The smaller images, with the zeros around them."""
    top, left = -p.padding[0], -p.padding[1]
    if p.transposed:
        top = p.padding[0] - p.dilation[0] * (p.kernel_size[0] - 1)
        left = p.padding[1] - p.dilation[1] * (p.kernel_size[1] - 1)
    return _split(x.reshape(p.batch, *p.size, p.channels), p.dilation, plain.size, (top, left))


def _split(x: np.ndarray, dilation: Pair, size: Pair, first: Pair) -> np.ndarray:
    n, _, _, c = x.shape
    parts = empty((n * dilation[0] * dilation[1] * size[0] * size[1] * c,), x.dtype)
    _spread(x, parts, *dilation, *size, *first)
    return parts


@parallel_kernel
def _spread(x, parts, down, across, rows, columns, top, left):
    """parts[n, a, b, q, r] = x[n, down * q + a + top, across * r + b + left], 0 outside."""
    images, height, width, channels = x.shape
    flat = x.reshape(-1)
    for item in prange(images * down * across * rows):
        q, b, a = item % rows, item // rows % across, item // rows // across % down
        row = down * q + a + top
        source = (item // rows // across // down * height + row) * width
        for r in range(columns):
            target = (item * columns + r) * channels
            part, column = parts[target : target + channels], across * r + b + left
            if 0 <= row < height and 0 <= column < width:
                pixel = flat[(source + column) * channels : (source + column + 1) * channels]
                for i in range(channels):
                    part[i] = pixel[i]
            else:
                part[:] = 0


@parallel_kernel
def _join(parts, y, down, across, rows, columns):
    """y[n, down * q + a, across * r + b] = parts[n, a, b, q, r]."""
    images, height, width, channels = y.shape
    flat = y.reshape(-1)
    for item in prange(images * height):
        n, row = item // height, item % height
        first = ((n * down + row % down) * across * rows + row // down) * columns
        for u in range(width):
            source = (first + u % across * rows * columns + u // across) * channels
            target = (item * width + u) * channels
            pixel, part = flat[target : target + channels], parts[source : source + channels]
            for i in range(channels):
                pixel[i] = part[i]
