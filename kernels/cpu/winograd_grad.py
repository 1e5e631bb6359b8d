"""Weight gradients by minimal filtering: sum products of transforms over tiles, transform back.

The transformed output gradient is (point, tile, column). Every element is computed by one thread in
a fixed order, so results do not depend on the number of threads. Arrays and tables, and why
addresses are taken inside loops: `winograd_parts`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import helper, inline_kernel, parallel_kernel
from .tile_code import VECTOR_BYTES
from .transpose import transpose_tile
from .winograd_parts import (
    BLOCK,
    CHANNELS,
    COLUMNS,
    DATA_STRIDE,
    HELD,
    KERNEL_TAPS,
    MOST_POINTS,
    NEAR,
    OUTPUTS,
    PHASE_ROW,
    PLACE,
    POINTS,
    ROW,
    SUMS_ROW,
    SUMS_STRIDE,
    TAP_TABLE,
    TAPS,
    WIDE,
    WORKERS,
    aligned,
    pixels_of,
    short_at,
    skip_of,
)
from .winograd_tile import filter_grad_tile, grad_tile, moment_tile


@parallel_kernel
def moments(data, sums, gradients, kept, result, first, last, geo, phases, taps, panels):
    """result = the weight gradient from transformed input and output gradient.

    The tiles may come in several chunks, which `kept` tells: 0 one only, 1 the first, 3 another,
    2 the last.
    """
    for worker in prange(geo[WORKERS]):
        _moments(
            np.int64(worker), data, sums, gradients, kept, result, last - first, geo, phases,
            taps, panels,
        )  # fmt: skip


@helper
def _moments(worker, data, sums, gradients, kept, result, tiles, geo, phases, taps, panels):
    """One thread's share of `moments`."""
    workers, size, lanes = geo[WORKERS], data.itemsize, VECTOR_BYTES // data.itemsize
    square, channels = geo[POINTS] * geo[POINTS], geo[CHANNELS]
    strips = (channels + BLOCK - 1) // BLOCK
    items = len(phases) * strips * len(panels)
    slot = square * (HELD * geo[WIDE] + lanes)
    begins, ends = kept <= 1, kept % 2 == 0
    temp = np.empty(25 * PLACE * lanes + lanes, data.dtype)
    table = np.empty(MOST_POINTS * MOST_POINTS, np.int64)
    v, z = aligned(data), aligned(sums)
    for item in range(worker * items // workers, (worker + 1) * items // workers):
        panel, strip = item % len(panels), item // len(panels) % strips
        phase = item // len(panels) // strips
        column, vectors, rows = panels[panel, 0], panels[panel, 1], panels[panel, 2]
        wide, c0 = vectors * lanes, strip * BLOCK
        c1 = min(c0 + BLOCK, channels)
        du = aligned(gradients) + (worker if kept == 0 else item) * slot * size
        for point in range(square):
            if short_at(point, phase, geo, phases):
                continue
            a = point * geo[DATA_STRIDE] + phase * geo[PHASE_ROW] + c0
            b = point * geo[SUMS_STRIDE] + column
            for t in range(0, tiles, NEAR):
                for c in range(0, c1 - c0, rows):
                    moment_tile(
                        data.dtype.type(0), vectors, v + (a + t * geo[ROW] + c) * size, geo[ROW],
                        min(NEAR, tiles - t), z + (b + t * geo[SUMS_ROW]) * size, geo[SUMS_ROW],
                        du + (point * (HELD * wide + lanes) + c * wide) * size, wide,
                        np.int64(begins and t == 0),
                    )  # fmt: skip
        if not ends:
            continue
        # back to taps, and from (tap, channel, column) to (column, tap, channel)
        base = aligned(temp)
        for o in range(0, wide, lanes):
            for point in range(square):
                table[point] = du + (point * (HELD * wide + lanes) + o) * size
            filter_grad_tile(
                data.dtype.type(0), geo[TAPS], table.ctypes.data, c1 - c0, wide, lanes, 0,
                base, lanes, PLACE * lanes,
            )  # fmt: skip
            _put_taps(temp, result, phase, column + o, c0, c1, geo, phases, taps)


@inline_kernel
def _put_taps(temp, result, phase, o0, c0, c1, geo, phases, taps):
    """result[o0.., tap, c0..c1] = temp[tap, c, o], for the taps that the phase has."""
    lanes, size = VECTOR_BYTES // temp.itemsize, temp.itemsize
    base, skip = aligned(temp), skip_of(temp)
    wide = min(lanes, geo[OUTPUTS] - o0)
    for place in range(geo[TAPS] * geo[TAPS]):
        tap = taps[phases[phase, TAP_TABLE] + place]
        if tap < 0:
            continue
        for c in range(c0, c1, lanes):
            source = (place * PLACE + c - c0) * lanes
            target = (o0 * geo[KERNEL_TAPS] + tap) * geo[CHANNELS] + c
            row = geo[KERNEL_TAPS] * geo[CHANNELS]
            if c + lanes <= c1 and wide == lanes:
                transpose_tile(
                    temp.dtype.type(0), base + source * size, lanes,
                    result.ctypes.data + target * size, row,
                )  # fmt: skip
                continue
            for o in range(wide):
                for i in range(min(lanes, c1 - c)):
                    result[target + o * row + i] = temp[skip + source + i * lanes + o]


@parallel_kernel
def transform_grad(grad, sums, start, stop, which, geo, passes, lines):
    """sums = the transformed output gradient of tiles start..stop of a pass."""
    pieces = min(4 * geo[WORKERS], stop - start)
    lanes, size = VECTOR_BYTES // grad.itemsize, grad.itemsize
    for piece in prange(pieces):
        zeros = np.zeros(geo[COLUMNS], grad.dtype)
        table = np.empty(MOST_POINTS * MOST_POINTS, np.int64)
        for t in range(
            start + piece * (stop - start) // pieces, start + (piece + 1) * (stop - start) // pieces
        ):
            base, nothing = grad.ctypes.data, zeros.ctypes.data
            pixels_of(base, nothing, table, which, t, size, geo, passes, lines)
            grad_tile(
                grad.dtype.type(0), geo[TAPS], table.ctypes.data, geo[COLUMNS] // lanes, lanes,
                geo[OUTPUTS], lanes, aligned(sums) + (t - start) * geo[SUMS_ROW] * size, lanes,
                geo[SUMS_STRIDE],
            )  # fmt: skip
