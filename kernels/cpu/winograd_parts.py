"""What the compiled loops of minimal filtering share: the tables' columns, and a tile's pixels.

All arrays are flat (1-D) and contiguous, images channels-last; the integer tables are those of
`winograd_plan.Tiling`. Transformed input is (point, tile, phase, channel).

Numba frees an array after its last use as an array; that of an address taken from it does not
count. So addresses are taken inside the loops that use them: the next round keeps the array alive.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import inline_kernel, parallel_kernel
from .tile import MAX_ROWS
from .tile_code import VECTOR_BYTES
from .winograd_plan import GEOMETRY, PASS, PHASE
from .winograd_tile import data_tile, prefetch

(
    HEIGHT, WIDTH, CHANNELS, OUTPUTS, OUT_HEIGHT, OUT_WIDTH, TAPS, TILE, POINTS, PHASE_ROW, ROW,
    COLUMNS, WIDE, DATA_STRIDE, SUMS_STRIDE, KERNEL_TAPS, WORKERS, DEPTH, STRIDE_N,
    STRIDE_TAP, STRIDE_C, LANES, SHIFT, OUT_SHIFT, SUMS_ROW,
) = range(len(GEOMETRY))  # fmt: skip
COUNT, FIRST, DOWN, ACROSS, OUT_ROWS, OUT_COLUMNS, FIRST_TILE = range(len(PASS))
IN_ROWS, IN_COLUMNS, TAP_TABLE, SHORT_DOWN, SHORT_ACROSS, PARTIAL = range(len(PHASE))

MOST_POINTS = 6
BLOCK = 48  # channels whose weights, or their gradients, are transformed at once
NEAR = 96  # tiles whose gradients, a panel of a point, stay in the nearest cache
HELD = BLOCK + MAX_ROWS  # of which a block of gradients has room for this many
PLACE = BLOCK + 1  # and a block of taps for this many: taps fall on different cache sets


@parallel_kernel
def transform_data(x, data, start, stop, which, geo, passes, phases, lines):
    """data = the transformed input of tiles start..stop of a pass."""
    pieces = min(4 * geo[WORKERS], stop - start)
    for piece in prange(pieces):
        zeros = np.zeros(geo[PHASE_ROW], x.dtype)
        table = np.empty(MOST_POINTS * MOST_POINTS, np.int64)
        for t in range(
            start + piece * (stop - start) // pieces, start + (piece + 1) * (stop - start) // pieces
        ):
            place = aligned(data) + (t - start) * geo[ROW] * x.itemsize
            put_data(x, zeros, table, place, which, t, geo, passes, phases, lines)


@inline_kernel
def put_data(x, zeros, table, place, which, t, geo, passes, phases, lines):
    """place = the transformed input of tile t, all phases of the pass."""
    size, lanes, n = x.itemsize, VECTOR_BYTES // x.itemsize, geo[POINTS]
    down, across = passes[which, DOWN], passes[which, ACROSS]
    image, i0, j0 = t // (down * across), t // across % down, t % across
    base, nothing = x.ctypes.data, zeros.ctypes.data
    for f in range(passes[which, COUNT]):
        phase = passes[which, FIRST] + f
        rows = phases[phase, IN_ROWS] + i0 * n
        columns = phases[phase, IN_COLUMNS] + j0 * n
        for i in range(n):
            r = lines[rows + i]
            start = (image * geo[HEIGHT] + r) * geo[WIDTH]
            for j in range(n):
                c = lines[columns + j]
                address = base + (start + c) * geo[CHANNELS] * size
                table[i * n + j] = nothing if r < 0 or c < 0 else address
                if j >= geo[TAPS] - 1:  # new to the next tile across
                    for line in range(0, geo[CHANNELS] * size, 64):
                        prefetch(table[i * n + j] + geo[SHIFT] * size + line, 0)
        data_tile(
            x.dtype.type(0), geo[TAPS], table.ctypes.data, geo[PHASE_ROW] // lanes, lanes,
            geo[CHANNELS], lanes, place + f * geo[PHASE_ROW] * size, lanes, geo[DATA_STRIDE],
        )  # fmt: skip


@inline_kernel
def pixels_of(base, nothing, table, which, t, size, geo, passes, lines):
    """table = the addresses of tile t's output pixels, `nothing` for those outside the image."""
    m, down, across = geo[TILE], passes[which, DOWN], passes[which, ACROSS]
    image, i0, j0 = t // (down * across), t // across % down, t % across
    rows, columns = passes[which, OUT_ROWS] + i0 * m, passes[which, OUT_COLUMNS] + j0 * m
    for i in range(m):
        r = lines[rows + i]
        start = (image * geo[OUT_HEIGHT] + r) * geo[OUT_WIDTH]
        for j in range(m):
            c = lines[columns + j]
            address = base + (start + c) * geo[OUTPUTS] * size
            table[i * m + j] = nothing if r < 0 or c < 0 else address


@inline_kernel
def active_at(point, which, geo, passes, phases):
    """The phases of a pass that have a product at a point, neighbours: (first, how many)."""
    first, count = 0, 0
    for f in range(passes[which, COUNT]):
        if not short_at(point, passes[which, FIRST] + f, geo, phases):
            if count == 0:
                first = f
            count += 1
    return first, count


@inline_kernel
def short_at(point, phase, geo, phases):
    """Whether a phase has no product at a point: at infinity, where it has one tap less."""
    n = geo[POINTS]
    down = phases[phase, SHORT_DOWN] == 1 and point // n == n - 1
    return down or (phases[phase, SHORT_ACROSS] == 1 and point % n == n - 1)


@inline_kernel
def skip_of(array):
    """Elements to skip so that what follows is aligned to whole vectors."""
    return -(array.ctypes.data // array.itemsize) % (VECTOR_BYTES // array.itemsize)


@inline_kernel
def aligned(array):
    """The address of the array's first element that is aligned to whole vectors."""
    return array.ctypes.data + skip_of(array) * array.itemsize
