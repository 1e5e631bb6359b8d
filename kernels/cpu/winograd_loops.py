"""The compiled loops of minimal filtering: transform, multiply point by point, transform back.

All arrays are flat (1-D) and contiguous, images channels-last; the integer tables are those of
`winograd_plan.Tiling`. Transformed input is (point, tile, phase, channel), transformed weights are
(point, phase, channel, column) for a panel of output channels, their products (point, tile,
column). Every element is computed by one thread in a fixed order, so results do not depend on the
number of threads.

Numba frees an array after its last use as an array; that of an address taken from it does not
count. So addresses are taken inside the loops that use them: the next round keeps the array alive.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import helper, inline_kernel, parallel_kernel
from .tile import MAX_ROWS
from .tile_code import VECTOR_BYTES
from .transpose import transpose_tile
from .winograd_plan import GEOMETRY, PASS, PHASE
from .winograd_tile import (
    data_tile,
    filter_grad_tile,
    filter_tile,
    grad_tile,
    moment_tile,
    output_tile,
    prefetch,
    product_tile,
)

(
    HEIGHT, WIDTH, CHANNELS, OUTPUTS, OUT_HEIGHT, OUT_WIDTH, TAPS, TILE, POINTS, PHASE_ROW, ROW,
    COLUMNS, WIDE, CAPACITY, DATA_STRIDE, SUMS_STRIDE, KERNEL_TAPS, WORKERS, DEPTH, STRIDE_N,
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
def tiles_first(
    x, weights, bias, slope, y, spoiled, geo, passes, phases, lines, panels, segments, chunks
):
    """y by chunks of tiles, shared out to the threads; `weights` is transformed, of all passes."""
    for worker in prange(geo[WORKERS]):
        _tiles(
            np.int64(worker), x, weights, bias, slope, y, spoiled, geo, passes, phases, lines,
            panels, segments, chunks,
        )  # fmt: skip


@helper
def _tiles(
    worker, x, weights, bias, slope, y, spoiled, geo, passes, phases, lines, panels, segments,
    chunks,
):  # fmt: skip
    """One thread's share of `tiles_first`."""
    workers, size, lanes = geo[WORKERS], x.itemsize, VECTOR_BYTES // x.itemsize
    square = geo[POINTS] * geo[POINTS]
    data = np.empty(square * geo[DATA_STRIDE] + lanes, x.dtype)
    sums = np.empty(square * geo[SUMS_STRIDE] + lanes, x.dtype)
    zeros, dump = np.zeros(geo[PHASE_ROW], x.dtype), np.empty(geo[COLUMNS], x.dtype)
    table = np.empty(MOST_POINTS * MOST_POINTS, np.int64)
    begin, end = worker * len(chunks) // workers, (worker + 1) * len(chunks) // workers
    for chunk in range(begin, end):
        which, t0, t1 = chunks[chunk, 0], chunks[chunk, 1], chunks[chunk, 2]
        v, s = _aligned(data), _aligned(sums)
        for t in range(t0, t1):
            _data(x, zeros, table, v + (t - t0) * geo[ROW] * size, which, t,
                  geo, passes, phases, lines)  # fmt: skip
        count = passes[which, COUNT]
        for point in range(square):
            first, active = _active(point, which, geo, passes, phases)
            for panel in range(len(panels)):
                column, vectors, rows = panels[panel, 0], panels[panel, 1], panels[panel, 2]
                wide, depth = vectors * lanes, geo[CHANNELS]
                b = _aligned(weights) + _held(which, panel, geo, passes, panels) * size
                b += (point * (count * depth * wide + lanes) + first * depth * wide) * size
                _products(
                    x, vectors, rows, t1 - t0,
                    v + (point * geo[DATA_STRIDE] + first * geo[PHASE_ROW]) * size, geo[ROW],
                    segments, active, depth, b,
                    s + (point * geo[SUMS_STRIDE] + column) * size, geo[SUMS_ROW], 1,
                )  # fmt: skip
        for t in range(t0, t1):
            _output(
                y, dump, table, s + (t - t0) * geo[SUMS_ROW] * size, geo[SUMS_STRIDE],
                0, geo[COLUMNS] // lanes, bias, slope, spoiled.ctypes.data
                + worker * lanes * size, which, t, geo, passes, lines,
            )  # fmt: skip


@parallel_kernel
def transform_weights(weight, weights, geo, passes, phases, taps, panels):
    """weights = the transformed weights of all passes and panels."""
    lanes, size = VECTOR_BYTES // weight.itemsize, weight.itemsize
    strips = (geo[CHANNELS] + BLOCK - 1) // BLOCK
    items = len(passes) * len(panels) * strips
    for item in prange(items):
        temp = np.empty(25 * PLACE * lanes + lanes, weight.dtype)
        strip, panel = item % strips, item // strips % len(panels)
        which = item // strips // len(panels)
        c0 = strip * BLOCK
        u = _aligned(weights) + _held(which, panel, geo, passes, panels) * size
        u += c0 * panels[panel, 1] * lanes * size
        _filters(
            weight, temp, u, which, panels[panel, 0], panels[panel, 1], c0,
            min(c0 + BLOCK, geo[CHANNELS]), geo[CHANNELS], geo, passes, phases, taps,
        )  # fmt: skip


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
            place = _aligned(data) + (t - start) * geo[ROW] * x.itemsize
            _data(x, zeros, table, place, which, t, geo, passes, phases, lines)


@parallel_kernel
def transform_grad(grad, sums, start, stop, which, geo, passes, lines):
    """sums = the transformed output gradient of tiles start..stop of a pass."""
    pieces = min(4 * geo[WORKERS], stop - start)
    lanes, size, m = VECTOR_BYTES // grad.itemsize, grad.itemsize, geo[TILE]
    for piece in prange(pieces):
        zeros = np.zeros(geo[COLUMNS], grad.dtype)
        table = np.empty(MOST_POINTS * MOST_POINTS, np.int64)
        for t in range(
            start + piece * (stop - start) // pieces, start + (piece + 1) * (stop - start) // pieces
        ):
            _pixels(grad.ctypes.data, zeros.ctypes.data, table, which, t, size, geo, passes, lines)
            grad_tile(
                grad.dtype.type(0), geo[TAPS], table.ctypes.data, geo[COLUMNS] // lanes, lanes,
                geo[OUTPUTS], lanes, _aligned(sums) + (t - start) * geo[SUMS_ROW] * size, lanes,
                geo[SUMS_STRIDE],
            )  # fmt: skip


@parallel_kernel
def channels_first(
    data, weight, bias, slope, y, spoiled, start, stop, which, geo, passes, phases, lines, taps,
    panels, segments,
):  # fmt: skip
    """y of tiles start..stop by panels of output channels, shared out to the threads.

    Each thread transforms the weights of its panels as it comes to them.
    """
    for worker in prange(geo[WORKERS]):
        _channels(
            np.int64(worker), data, weight, bias, slope, y, spoiled, start, stop, which, geo,
            passes, phases, lines, taps, panels, segments,
        )  # fmt: skip


@helper
def _channels(
    worker, data, weight, bias, slope, y, spoiled, start, stop, which, geo, passes, phases, lines,
    taps, panels, segments,
):  # fmt: skip
    """One thread's share of `channels_first`."""
    workers, size, lanes = geo[WORKERS], data.itemsize, VECTOR_BYTES // data.itemsize
    square, channels = geo[POINTS] * geo[POINTS], geo[CHANNELS]
    count = passes[which, COUNT]
    rows_held = stop - start + MAX_ROWS
    temp = np.empty(25 * PLACE * lanes + lanes, data.dtype)
    made = np.empty(square * (count * geo[DEPTH] * geo[WIDE] + lanes) + lanes, data.dtype)
    stride = rows_held * geo[WIDE] + lanes
    sums = np.empty(square * stride + lanes, data.dtype)
    dump = np.empty(geo[COLUMNS], data.dtype)
    table = np.empty(MOST_POINTS * MOST_POINTS, np.int64)
    for panel in range(
        worker * len(panels) // workers, (worker + 1) * len(panels) // workers
    ):
        column, vectors, rows = panels[panel, 0], panels[panel, 1], panels[panel, 2]
        wide = vectors * lanes
        v, u, s = _aligned(data), _aligned(made), _aligned(sums)
        for c0 in range(0, channels, geo[DEPTH]):
            c1 = min(c0 + geo[DEPTH], channels)
            depth = c1 - c0
            for c in range(c0, c1, BLOCK):
                _filters(
                    weight, temp, u + (c - c0) * wide * size, which, column, vectors, c,
                    min(c + BLOCK, c1), depth, geo, passes, phases, taps,
                )  # fmt: skip
            for point in range(square):
                first, active = _active(point, which, geo, passes, phases)
                place = point * geo[DATA_STRIDE] + first * geo[PHASE_ROW] + c0
                _products(
                    data, vectors, rows, stop - start, v + place * size, geo[ROW],
                    segments, active, depth,
                    u + (point * (count * depth * wide + lanes) + first * depth * wide) * size,
                    s + point * stride * size, wide, np.int64(c0 == 0),
                )  # fmt: skip
        for t in range(start, stop):
            _output(
                y, dump, table, s + (t - start) * wide * size, stride, column, vectors, bias,
                slope, spoiled.ctypes.data + worker * lanes * size, which, t, geo, passes,
                lines,
            )  # fmt: skip


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
    v, z = _aligned(data), _aligned(sums)
    for item in range(worker * items // workers, (worker + 1) * items // workers):
        panel, strip = item % len(panels), item // len(panels) % strips
        phase = item // len(panels) // strips
        column, vectors, rows = panels[panel, 0], panels[panel, 1], panels[panel, 2]
        wide, c0 = vectors * lanes, strip * BLOCK
        c1 = min(c0 + BLOCK, channels)
        du = _aligned(gradients) + (worker if kept == 0 else item) * slot * size
        for point in range(square):
            if _short(point, phase, geo, phases):
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
        base = _aligned(temp)
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
    base, skip = _aligned(temp), _skip(temp)
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


@helper
def _filters(weight, temp, u, which, column, vectors, c0, c1, depth, geo, passes, phases, taps):
    """u = transformed weights of channels c0..c1 (of `depth` held) and a panel's columns."""
    lanes, size, taken = VECTOR_BYTES // weight.itemsize, weight.itemsize, geo[TAPS] * geo[TAPS]
    base, skip, wide = _aligned(temp), _skip(temp), vectors * lanes
    table = np.empty(25, np.int64)
    stride_n, stride_tap, stride_c = geo[STRIDE_N], geo[STRIDE_TAP], geo[STRIDE_C]
    for f in range(passes[which, COUNT]):
        phase = passes[which, FIRST] + f
        tap_table = phases[phase, TAP_TABLE]
        partial = phases[phase, PARTIAL] == 1
        for place in range(taken):  # ask for the next block's weights
            source = taps[tap_table + place] * stride_tap + column * stride_n + c1 * stride_c
            source = weight.ctypes.data + source * size
            if stride_n == 1:
                for c in range(min(BLOCK, geo[CHANNELS] - c1)):
                    for v in range(vectors):
                        prefetch(source + (c * stride_c + v * lanes) * size, 0)
            else:
                for o in range(min(wide, geo[OUTPUTS] - column)):
                    for c in range(0, min(BLOCK, geo[CHANNELS] - c1), lanes):
                        prefetch(source + (c + o * stride_n) * size, 0)
        for v in range(vectors):
            o0 = column + v * lanes
            outputs = min(lanes, geo[OUTPUTS] - o0)
            target = u + (f * depth * wide + v * lanes) * size
            apart = passes[which, COUNT] * depth * wide + lanes
            if stride_n == 1 and not partial:  # read the weights where they lie
                for place in range(taken):
                    source = o0 + taps[tap_table + place] * stride_tap + c0 * stride_c
                    table[place] = weight.ctypes.data + source * size
                filter_tile(
                    weight.dtype.type(0), geo[TAPS], table.ctypes.data, c1 - c0, stride_c, outputs,
                    0, target, wide, apart,
                )  # fmt: skip
                continue
            for place in range(taken):
                tap = taps[tap_table + place]
                to = skip + place * PLACE * lanes
                if tap < 0 or outputs < lanes:
                    for i in range(to, to + (c1 - c0) * lanes):
                        temp[i] = 0
                if tap < 0:
                    continue
                source = o0 * stride_n + tap * stride_tap + c0 * stride_c
                if stride_n == 1:
                    for c in range(c1 - c0):
                        line = weight[source + c * stride_c : source + c * stride_c + outputs]
                        row = temp[to + c * lanes : to + c * lanes + outputs]
                        for o in range(outputs):
                            row[o] = line[o]
                    continue
                for c in range(0, c1 - c0, lanes):
                    if c + lanes <= c1 - c0 and outputs == lanes:
                        transpose_tile(
                            weight.dtype.type(0), weight.ctypes.data + (source + c) * size,
                            stride_n, base + (place * PLACE + c) * lanes * size, lanes,
                        )  # fmt: skip
                        continue
                    for o in range(outputs):
                        for i in range(min(lanes, c1 - c0 - c)):
                            temp[to + (c + i) * lanes + o] = weight[source + c + i + o * stride_n]
            for place in range(taken):
                table[place] = base + place * PLACE * lanes * size
            filter_tile(
                weight.dtype.type(0), geo[TAPS], table.ctypes.data, c1 - c0, lanes, lanes, 0,
                target, wide, apart,
            )  # fmt: skip


@inline_kernel
def _products(like, vectors, rows, tiles, v, row, segments, count, depth, b, s, wide, first):
    """s[tile, column] (+)= sum over `count` phases and `depth` channels of v * b, for all tiles."""
    size = like.itemsize
    if count == 0:  # no phase has a product here, and its weights are zero
        count, depth = 1, 1
    for t in range(0, tiles, rows):
        product_tile(
            like.dtype.type(0), vectors, v + t * row * size, row, segments.ctypes.data, count,
            depth, b, s + t * wide * size, wide, first,
        )  # fmt: skip


@inline_kernel
def _data(x, zeros, table, place, which, t, geo, passes, phases, lines):
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
def _output(
    y, dump, table, s, stride, column, vectors, bias, slope, spoiled, which, t, geo, passes, lines
):
    """The outputs of tile t and a panel's columns, from the sums of its products."""
    size = y.itemsize
    _pixels(y.ctypes.data, 0, table, which, t, size, geo, passes, lines)
    for place in range(geo[TILE] * geo[TILE]):
        address = table[place] + column * size
        table[place] = dump.ctypes.data if table[place] == 0 else address
        for line in range(0, vectors * geo[LANES] * size, 64):  # the next tile across
            prefetch(table[place] + geo[OUT_SHIFT] * size + line, 1)
    output_tile(
        y.dtype.type(0), geo[TAPS], s, stride, table.ctypes.data, vectors, geo[OUTPUTS] - column,
        bias.ctypes.data + column * size, slope, spoiled,
    )  # fmt: skip


@inline_kernel
def _pixels(base, nothing, table, which, t, size, geo, passes, lines):
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
def _held(which, panel, geo, passes, panels):
    """Where the transformed weights of a pass and panel begin; points are apart by an odd vector.

    That keeps points on different cache sets, here as everywhere.
    """
    lanes = geo[LANES]
    before = passes[which, FIRST] * geo[CHANNELS] * geo[COLUMNS] + which * len(panels) * lanes
    column = panels[panel, 0] * passes[which, COUNT] * geo[CHANNELS]
    return geo[POINTS] * geo[POINTS] * (before + column + panel * lanes)


@inline_kernel
def _active(point, which, geo, passes, phases):
    """The phases of a pass that have a product at a point, neighbours: (first, how many)."""
    first, count = 0, 0
    for f in range(passes[which, COUNT]):
        if not _short(point, passes[which, FIRST] + f, geo, phases):
            if count == 0:
                first = f
            count += 1
    return first, count


@inline_kernel
def _short(point, phase, geo, phases):
    """Whether a phase has no product at a point: at infinity, where it has one tap less."""
    n = geo[POINTS]
    down = phases[phase, SHORT_DOWN] == 1 and point // n == n - 1
    return down or (phases[phase, SHORT_ACROSS] == 1 and point % n == n - 1)


@inline_kernel
def _skip(array):
    """Elements to skip so that what follows is aligned to whole vectors."""
    return -(array.ctypes.data // array.itemsize) % (VECTOR_BYTES // array.itemsize)


@inline_kernel
def _aligned(array):
    """The address of the array's first element that is aligned to whole vectors."""
    return array.ctypes.data + _skip(array) * array.itemsize
