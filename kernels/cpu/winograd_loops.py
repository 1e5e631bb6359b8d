"""Convolutions by minimal filtering: transform, multiply point by point, transform back.

Transformed input is (point, tile, phase, channel), transformed weights are (point, phase, channel,
column) for a panel of output channels, their products (point, tile, column). Every element is
computed by one thread in a fixed order, so results do not depend on the number of threads. Arrays
and tables, and why addresses are taken inside loops: `winograd_parts`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import helper, inline_kernel, parallel_kernel
from .tile import MAX_ROWS
from .tile_code import VECTOR_BYTES
from .transpose import transpose_tile
from .winograd_parts import (
    BLOCK,
    CHANNELS,
    COLUMNS,
    COUNT,
    DATA_STRIDE,
    DEPTH,
    FIRST,
    LANES,
    MOST_POINTS,
    OUT_SHIFT,
    OUTPUTS,
    PARTIAL,
    PHASE_ROW,
    PLACE,
    POINTS,
    ROW,
    STRIDE_C,
    STRIDE_N,
    STRIDE_TAP,
    SUMS_ROW,
    SUMS_STRIDE,
    TAP_TABLE,
    TAPS,
    TILE,
    WIDE,
    WORKERS,
    active_at,
    aligned,
    pixels_of,
    put_data,
    skip_of,
)
from .winograd_tile import filter_tile, output_tile, prefetch, product_tile


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
        v, s = aligned(data), aligned(sums)
        for t in range(t0, t1):
            put_data(x, zeros, table, v + (t - t0) * geo[ROW] * size, which, t,
                  geo, passes, phases, lines)  # fmt: skip
        count = passes[which, COUNT]
        for point in range(square):
            first, active = active_at(point, which, geo, passes, phases)
            for panel in range(len(panels)):
                column, vectors, rows = panels[panel, 0], panels[panel, 1], panels[panel, 2]
                wide, depth = vectors * lanes, geo[CHANNELS]
                b = aligned(weights) + _held(which, panel, geo, passes, panels) * size
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
        v, u, s = aligned(data), aligned(made), aligned(sums)
        for c0 in range(0, channels, geo[DEPTH]):
            c1 = min(c0 + geo[DEPTH], channels)
            depth = c1 - c0
            for c in range(c0, c1, BLOCK):
                _filters(
                    weight, temp, u + (c - c0) * wide * size, which, column, vectors, c,
                    min(c + BLOCK, c1), depth, geo, passes, phases, taps,
                )  # fmt: skip
            for point in range(square):
                first, active = active_at(point, which, geo, passes, phases)
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
        u = aligned(weights) + _held(which, panel, geo, passes, panels) * size
        u += c0 * panels[panel, 1] * lanes * size
        _filters(
            weight, temp, u, which, panels[panel, 0], panels[panel, 1], c0,
            min(c0 + BLOCK, geo[CHANNELS]), geo[CHANNELS], geo, passes, phases, taps,
        )  # fmt: skip


@helper
def _filters(weight, temp, u, which, column, vectors, c0, c1, depth, geo, passes, phases, taps):
    """u = transformed weights of channels c0..c1 (of `depth` held) and a panel's columns."""
    lanes, size, taken = VECTOR_BYTES // weight.itemsize, weight.itemsize, geo[TAPS] * geo[TAPS]
    base, skip, wide = aligned(temp), skip_of(temp), vectors * lanes
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
def _output(
    y, dump, table, s, stride, column, vectors, bias, slope, spoiled, which, t, geo, passes, lines
):
    """The outputs of tile t and a panel's columns, from the sums of its products."""
    size = y.itemsize
    pixels_of(y.ctypes.data, 0, table, which, t, size, geo, passes, lines)
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
def _held(which, panel, geo, passes, panels):
    """Where the transformed weights of a pass and panel begin; points are apart by an odd vector.

    That keeps points on different cache sets, here as everywhere.
    """
    lanes = geo[LANES]
    before = passes[which, FIRST] * geo[CHANNELS] * geo[COLUMNS] + which * len(panels) * lanes
    column = panels[panel, 0] * passes[which, COUNT] * geo[CHANNELS]
    return geo[POINTS] * geo[POINTS] * (before + column + panel * lanes)
