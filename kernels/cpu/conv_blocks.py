"""Convolutions to few channels: a block of output pixels side by side fills the vector lanes.

A tile computes whole vectors of output channels, so one or three channels would leave most lanes
idle. Here a block of (bh, bw) neighbouring output pixels counts as one pixel of bh * bw * O
channels: a convolution with a larger stride, whose kernel is the union of the block's windows. It
mostly holds zeros, and still is up to four times less work. For a transposed convolution a block
spans whole strides, and all its phases share one window. Because of the zeros, infinity or NaN in
an input pixel makes NaN of the whole block, not only of the outputs that depend on it: the caller
looks for that, and then does without blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba import prange

from .conv_plan import Pair, Problem
from .jit import kernel, parallel_kernel
from .tile import MAX_VECTORS
from .tile_code import lanes

LEAST_WORK = 1 << 20  # multiply-adds below which the extra passes cost more than they save


@functools.lru_cache(maxsize=1024)
def block(problem: Problem) -> Pair | None:
    """The block of output pixels that needs the least work, None where single pixels do well."""
    p, wide = problem, lanes(np.float32)
    work = p.batch * p.output_size[0] * p.output_size[1] * p.channels
    if p.groups != 1 or p.dilation != (1, 1) or 2 * p.out_channels > wide or work < LEAST_WORK:
        return None
    unit, taps = (1, 1), p.kernel_size[0] * p.kernel_size[1]
    if p.transposed:
        unit, taps = p.stride, -(-taps // (p.stride[0] * p.stride[1]))
    best, least = None, 0.8 * taps * wide  # lanes of multiply-adds a pixel and input channel
    for down in (1, 2, 4, 8):
        for across in (1, 2, 4, 8):
            size = (down * unit[0], across * unit[1])
            pixels = size[0] * size[1]
            vectors = -(-pixels * p.out_channels // wide)
            if vectors > MAX_VECTORS or size[0] > p.output_size[0] or size[1] > p.output_size[1]:
                continue
            window = _blocked(p, size).kernel_size
            cost = window[0] * window[1] * vectors * wide / pixels
            if cost < least:
                best, least = size, cost
    return best


def blocked_gather(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    problem: Problem,
    slope: float,
    flat: Callable[..., np.ndarray],
    tiles: Callable[..., np.ndarray],
) -> np.ndarray:
    """conv2d or conv_transpose2d by blocks; `flat` and `tiles` are those of conv.py."""
    size = block(problem)
    assert size is not None
    inner, o, c = _blocked(problem, size), problem.out_channels, problem.channels
    dtype = np.result_type(x, weight)
    wide = np.zeros((inner.out_channels, *inner.kernel_size, c), dtype)
    dims = (o, c, *problem.kernel_size, *size, *inner.kernel_size, *problem.stride)
    if problem.transposed:
        shift = (problem.padding[0] + problem.stride[0] * inner.padding[0],)
        shift += (problem.padding[1] + problem.stride[1] * inner.padding[1],)
        _widen_transposed(flat(weight, dtype), wide.reshape(-1), dims, shift)
    else:
        _widen(flat(weight, dtype), wide.reshape(-1), dims)
    tiled = None if bias is None else np.tile(bias, size[0] * size[1])
    y = tiles(x, wide.transpose(0, 3, 1, 2), tiled, inner, slope)
    result = np.empty((problem.batch, *problem.output_size, o), dtype)
    _unblock(flat(y, dtype), result.reshape(-1), (*result.shape, *size, *inner.output_size))
    return result.transpose(0, 3, 1, 2)


def _blocked(p: Problem, size: Pair) -> Problem:
    """The convolution that computes a block of this size as one pixel."""
    kernel, stride, padding = [], [], []
    for axis in (0, 1):
        k, s, pad, length = p.kernel_size[axis], p.stride[axis], p.padding[axis], size[axis]
        if p.transposed:  # output b of a block meets input (b + pad - i) / s where that is whole
            low, high = -((k - 1 - pad) // s), (length - 1 + pad) // s
            kernel.append(high - low + 1)
            stride.append(length // s)
            padding.append(-low)
        else:
            kernel.append(k + s * (length - 1))
            stride.append(s * length)
            padding.append(pad)
    return p._replace(
        out_channels=p.out_channels * size[0] * size[1],
        output_size=tuple(-(-n // b) for n, b in zip(p.output_size, size, strict=True)),
        kernel_size=tuple(kernel),
        stride=tuple(stride),
        padding=tuple(padding),
        transposed=False,
    )


@kernel
def _widen(weight, wide, dims):
    """wide[(b, d, n), i + s b, j + s d, :] = weight[n, i, j, :]."""
    o, c, kh, kw, bh, bw, wh, ww, sh, sw = dims
    for b in range(bh):
        for d in range(bw):
            for n in range(o):
                for i in range(kh):
                    source = (n * kh + i) * kw * c
                    target = ((((b * bw + d) * o + n) * wh + i + sh * b) * ww + sw * d) * c
                    wide[target : target + kw * c] = weight[source : source + kw * c]


@kernel
def _widen_transposed(weight, wide, dims, shift):
    """wide[(b, d, n), (b - i + shift) / s, (d - j + shift) / s, :] = weight[:, i, j, n]."""
    o, c, kh, kw, bh, bw, wh, ww, sh, sw = dims
    for b in range(bh):
        for i in range(kh):
            y = b - i + shift[0]
            if y % sh != 0:
                continue
            for d in range(bw):
                for j in range(kw):
                    x = d - j + shift[1]
                    if x % sw != 0:
                        continue
                    for n in range(o):
                        target = ((((b * bw + d) * o + n) * wh + y // sh) * ww + x // sw) * c
                        for k in range(c):
                            wide[target + k] = weight[((k * kh + i) * kw + j) * o + n]


@parallel_kernel
def _unblock(blocks, y, dims):
    """y[image, t * bh + b, u * bw + d, :] = blocks[image, t, u, b, d, :]."""
    images, height, width, o, bh, bw, down, across = dims
    for item in prange(images * height):
        image, row = item // height, item % height
        source = (image * down + row // bh) * across * bh * bw * o + row % bh * bw * o
        line = y[item * width * o : (item + 1) * width * o]
        for u in range(across):
            first = source + u * bh * bw * o
            for i in range(min(bw, width - u * bw) * o):
                line[u * bw * o + i] = blocks[first + i]
