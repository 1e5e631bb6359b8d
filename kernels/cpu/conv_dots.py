"""Convolutions to few channels: each output a dot product, vectors along the input channels.

The runs of taps and channels that are contiguous in memory are what the vectors run along, so that
no lane is idle however few outputs there are; nothing but the weights of each phase is packed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import prange

from .. import get_num_threads
from .conv_plan import MAX_PIXELS, Problem, plan
from .conv_tiles import (
    BLOCKS,
    GROUP_OUTPUTS,
    IMAGE_OUT,
    ROW_OUT,
    SCRATCH,
    WORKERS,
    block_extent,
    block_input,
)
from .jit import kernel, parallel_kernel
from .memory import empty
from .tile_code import lanes
from .tile_dots import DOT_OUTPUTS, DOT_ROWS, dot_tile

MOST_ROWS = max(DOT_ROWS.values())


def suits_dots(problem: Problem) -> bool:
    """Whether outputs are few, and what each sums over is long: vectors well filled."""
    p, wide = problem, lanes(np.float32)
    if p.groups != 1 or p.out_channels > min(DOT_OUTPUTS, wide // 2):
        return False
    run = p.channels
    if p.dilation[1] == 1:  # the taps of a row join to one run, in each phase
        run *= max(1, p.kernel_size[1] // (p.stride[1] if p.transposed else 1))
    return run / (-(-run // wide) * wide) >= 0.5 and run * p.kernel_size[0] >= 2 * wide


def dots_gather(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    problem: Problem,
    slope: float,
    flat: Callable[..., np.ndarray],
) -> np.ndarray:
    """conv2d or conv_transpose2d by dot products; `flat` is that of conv.py."""
    dtype, p, o = np.result_type(x, weight), problem, problem.out_channels
    wide = lanes(dtype)
    made = plan(p, wide, dtype.itemsize, get_num_threads(), MAX_PIXELS)
    y = empty((p.batch, *p.output_size, o), dtype)
    packed = np.empty(len(made.taps) * p.channels * o, dtype)
    size = p.kernel_size[0] * p.kernel_size[1]
    # Elements from one output, tap and input channel to the next.
    strides = (1, o, size * o) if p.transposed else (size * p.channels, p.channels, 1)
    _pack(flat(weight, dtype), packed, made.phases, made.taps, o, p.channels, strides)
    start = np.zeros(wide, dtype)
    if bias is not None:
        start[: wide // o * o] = np.tile(bias, wide // o)
    _gather(
        flat(x, dtype), packed, start, float(slope), y.reshape(-1), made.geometry, made.phases,
        made.segments, made.pixels, made.outputs, DOT_ROWS[o],
    )  # fmt: skip
    return y.transpose(0, 3, 1, 2)


@kernel
def _pack(weight, packed, phases, taps, outputs, channels, strides):
    """packed (phase, output, tap of the phase, channel) = weight."""
    stride_n, stride_tap, stride_c = strides
    first, phase = 0, 0
    for which in range(len(taps)):
        while taps[which, 1] != phase:
            first += phases[phase, 1] * phases[phase, 2] * outputs
            phase += 1
        depth = phases[phase, 1] * phases[phase, 2]
        for n in range(outputs):
            source = n * stride_n + taps[which, 0] * stride_tap
            target = first + n * depth + taps[which, 2] * channels
            for c in range(channels):
                packed[target + c] = weight[source + c * stride_c]


@parallel_kernel
def _gather(x, packed, bias, slope, y, geo, phases, segments, pixels, outputs, high):
    """y = leaky(the gather of x with packed weights, plus bias, repeated to fill a vector)."""
    blocks, workers, size = geo[BLOCKS], geo[WORKERS], x.itemsize
    leak, count = x.dtype.type(slope), geo[GROUP_OUTPUTS]
    for worker in prange(workers):
        scratch = np.empty(geo[SCRATCH], x.dtype)
        last_in, last_out = np.empty(MOST_ROWS, np.int64), np.empty(MOST_ROWS, np.int64)
        for block in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            n0, n1, t0, t1 = block_extent(block, geo)
            base = block_input(x, scratch, n0, n1, t0, t1, geo)
            target = y.ctypes.data + (n0 * geo[IMAGE_OUT] + t0 * geo[ROW_OUT]) * size
            b = packed.ctypes.data
            for f in range(len(phases)):
                seg, seg_count, length = phases[f, 0], phases[f, 1], phases[f, 2]
                pixel = phases[f, 3]
                total = (n1 - n0) * (min(t1, phases[f, 4]) - t0) * phases[f, 5]
                to = target + phases[f, 6] * size
                for p in range(0, total, high):
                    at_in = pixels.ctypes.data + (pixel + p) * 8
                    at_out = outputs.ctypes.data + (pixel + p) * 8
                    if p + high > total:  # a short tile: repeat its last pixel
                        for r in range(high):
                            last_in[r] = pixels[pixel + min(p + r, total - 1)]
                            last_out[r] = outputs[pixel + min(p + r, total - 1)]
                        at_in, at_out = last_in.ctypes.data, last_out.ctypes.data
                    dot_tile(
                        x.dtype.type(0), count, base, at_in, segments.ctypes.data + seg * 8,
                        seg_count, length, b, bias.ctypes.data, to, at_out, leak,
                    )  # fmt: skip
                b += seg_count * length * count * size
