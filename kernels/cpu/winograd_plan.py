"""How a convolution is cut up for minimal filtering: tables of integers, once for each shape.

A convolution of stride s is a sum of s * s convolutions of stride 1, one for each *phase* of its
input (every s-th row and column), each with its share of the taps; a transposed one interleaves
s * s outputs, each a convolution of stride 1 of the whole input. Both are made of *passes*: a pass
computes one grid of outputs, in tiles of m x m, from one or more phases of the input. Products of
all phases of a pass are summed point by point before they are transformed back.

Phases are *short* along an axis where they have one tap less; they have no product at infinity.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from .conv_plan import Problem
from .cook_toom import TILE
from .tile import MAX_ROWS, MAX_VECTORS, TILE_ROWS

DATA_BYTES = 1 << 20  # of transformed input a thread works on at once, where tiles are many
SHARED_BYTES = 8 << 20  # of transformed input all threads work on at once, where they are few
WEIGHT_BYTES = 6 << 20  # of transformed weights that every thread can read again and again
MANY = 64  # tiles from which threads share tiles rather than output channels
DEPTH = 256  # rows of transformed weights made at once, where tiles are few

# Columns of the integer tables, as the compiled loops index them.
GEOMETRY = (
    "height", "width", "channels", "outputs", "out_height", "out_width", "taps", "tile", "points",
    "phase_row", "row", "columns", "wide", "data_stride", "sums_stride", "kernel_taps",
    "workers", "depth", "stride_n", "stride_tap", "stride_c", "lanes", "shift", "out_shift",
    "sums_row",
)  # fmt: skip
PASS = ("phases", "first_phase", "down", "across", "rows", "columns", "first_tile")
PHASE = ("rows", "columns", "taps", "short_down", "short_across", "partial")


class Tiling(NamedTuple):
    """What the compiled loops need; every array is int64."""

    geometry: np.ndarray
    passes: np.ndarray
    phases: np.ndarray
    lines: np.ndarray  # rows or columns of each tile's pixels, -1 outside the image
    taps: np.ndarray  # which tap of the kernel stands at each place of a phase's r x r, -1 none
    panels: np.ndarray
    segments: np.ndarray  # where each phase of a pass begins in a tile's transformed input
    chunks: np.ndarray  # (pass, first tile, end) of the pieces worked on at once
    many: bool  # whether threads share tiles (True) or output channels (False)


class _Line(NamedTuple):
    """One phase along one axis: output first + step * t, t < count, meets inputs start + t + i."""

    first: int
    count: int
    start: int
    stride: int
    taps: list[int]


def taps_of(p: Problem) -> int:
    """The most taps that a phase has along an axis: r of F(m x m, r x r)."""
    return max(-(-k // s) for k, s in zip(p.kernel_size, p.stride, strict=True))


@functools.lru_cache(maxsize=256)
def tiling(p: Problem, lanes: int, itemsize: int, threads: int, gradient: bool) -> Tiling:
    """Cut up a convolution, or (`gradient`) its weight gradient."""
    r = taps_of(p)
    m, n = TILE[r], TILE[r] + r - 1
    axes = [_axis(p, axis, r) for axis in (0, 1)]
    lines: list[int] = []
    taps: list[int] = []
    phases: list[tuple[int, ...]] = []
    passes: list[tuple[int, ...]] = []
    tiles = 0
    pairs = _pairs(axes, r)
    groups = [[pair] for pair in pairs] if p.transposed else [pairs]
    for group in groups:
        down, across = (-(-line.count // m) for line in group[0])
        first = len(phases)
        for pair in group:
            places = [
                _lines(line, n, m, size, lines)
                for line, size in zip(pair, p.size, strict=True)
            ]
            short = [int(len(line.taps) < r) for line in pair]
            phases.append((*places, len(taps), *short, max(short)))
            for i in _padded(pair[0].taps, r):
                for j in _padded(pair[1].taps, r):
                    taps.append(-1 if i < 0 or j < 0 else i * p.kernel_size[1] + j)
        step = p.stride if p.transposed else (1, 1)
        places = [_outputs(group[0][axis], step[axis], m, lines) for axis in (0, 1)]
        passes.append((len(group), first, down, across, *places, tiles))
        tiles += down * across * p.batch
    most = max(len(group) for group in groups)
    phase_row = -(-p.channels // lanes) * lanes
    row = most * phase_row + lanes
    columns = -(-p.out_channels // lanes) * lanes
    per_tile = n * n * row * itemsize
    weights = n * n * len(phases) * p.channels * columns * itemsize
    many = not gradient and weights <= WEIGHT_BYTES and tiles >= MANY
    panels = _panels(p.out_channels, lanes, MAX_VECTORS if many or gradient else 0, threads)
    wide, quantum = int(panels[0, 1]) * lanes, int(panels[0, 2])  # of a tile of products
    if many:
        capacity = max(12, min(DATA_BYTES // per_tile, -(-tiles // threads)))
    elif gradient:
        room = SHARED_BYTES if weights <= WEIGHT_BYTES else 3 * SHARED_BYTES
        capacity = max(24, room // (per_tile + n * n * columns * itemsize))
    else:
        capacity = max(24, SHARED_BYTES // per_tile)
    totals = [down * across * p.batch for _, _, down, across, *_ in passes]
    capacity = min(capacity, max(totals))
    chunks = []
    for index, total in enumerate(totals):
        whole = -(-total // -(-total // capacity))
        whole = -(-whole // quantum) * quantum
        chunks += [(index, t, min(t + whole, total)) for t in range(0, total, whole)]
    # Passes side by side, since they share their input.
    chunks.sort(key=lambda chunk: chunk[1] / totals[chunk[0]])
    sums_row = _spread(columns, lanes)
    rows = capacity + quantum + MAX_ROWS
    o, c, kk = p.out_channels, p.channels, p.kernel_size[0] * p.kernel_size[1]
    strides = (1, o, kk * o) if p.transposed else (kk * c, c, 1)
    geometry = (
        *p.size, c, o, *p.output_size, r, m, n, phase_row, row, columns, wide,
        _spread(rows * row, lanes), _spread(rows * sums_row, lanes), kk, threads,
        max(16, DEPTH // most), *strides, lanes,
        m * c * (1 if p.transposed else p.stride[1]), m * o * (p.stride[1] if p.transposed else 1),
        sums_row,
    )  # fmt: skip
    return Tiling(
        _table(geometry), _table(passes), _table(phases), _table(lines), _table(taps), panels,
        np.arange(most) * phase_row, _table(chunks), many,
    )  # fmt: skip


def _axis(p: Problem, axis: int, r: int) -> list[_Line]:
    """The phases of an axis; empty ones (no tap, no output) are left out."""
    kernel, stride, padding = p.kernel_size[axis], p.stride[axis], p.padding[axis]
    output, found = p.output_size[axis], []
    for a in range(stride):
        taps = list(range(a, kernel, stride))
        if not p.transposed:
            if taps:
                found.append(_Line(0, output, a - padding, stride, taps))
            continue
        # output position s * t + a - padding gathers taps a + s * u from input t - u
        start = max(0, -(-(padding - a) // stride))
        first = stride * start + a - padding
        count = -(-(output - first) // stride)
        if count > 0:
            found.append(_Line(first, count, start - len(taps) + 1, 1, taps[::-1]))
    return found


def _pairs(axes: list[list[_Line]], r: int) -> list[tuple[_Line, _Line]]:
    """Phases down x across, in an order in which those active at any point are neighbours."""
    pairs = [(down, across) for down in axes[0] for across in axes[1]]
    order = {(False, True): 0, (False, False): 1, (True, False): 2, (True, True): 3}
    return sorted(pairs, key=lambda pair: order[len(pair[0].taps) < r, len(pair[1].taps) < r])


def _padded(taps: list[int], r: int) -> list[int]:
    return taps + [-1] * (r - len(taps))


def _lines(line: _Line, n: int, m: int, size: int, lines: list[int]) -> int:
    """Append the input positions of each tile; return where they begin."""
    begin = len(lines)
    for tile in range(-(-line.count // m)):
        for i in range(n):
            at = line.stride * (tile * m + i) + line.start
            lines.append(at if 0 <= at < size else -1)
    return begin


def _outputs(line: _Line, step: int, m: int, lines: list[int]) -> int:
    """Append the output positions of each tile; return where they begin."""
    begin = len(lines)
    for t in range(-(-line.count // m) * m):
        lines.append(line.first + step * t if t < line.count else -1)
    return begin


def _spread(elements: int, lanes: int) -> int:
    """At least as many elements, an odd number of vectors: points fall on different cache sets."""
    vectors = -(-elements // lanes)
    return (vectors + 1 - vectors % 2) * lanes


def _panels(outputs: int, lanes: int, vectors: int, threads: int) -> np.ndarray:
    """Cut output channels into panels of at most `vectors`: (first column, vectors, rows).

    With 0 the width is such that all threads have as much to do.
    """
    total = -(-outputs // lanes)
    if vectors == 0:
        speed = {1: 1.5, 2: 1.1}  # narrow tiles load more for each multiplication
        rounds = {v: math.ceil(math.ceil(total / v) / threads) for v in TILE_ROWS}
        cost = {v: rounds[v] * v * speed.get(v, 1.0) for v in TILE_ROWS}
        vectors = min(cost, key=lambda v: (cost[v], -v))
    panels = []
    for first in range(0, total, vectors):
        width = min(vectors, total - first)
        panels.append((first * lanes, width, TILE_ROWS[width]))
    return _table(panels)


def _table(values: list | tuple) -> np.ndarray:
    return np.array(values, np.int64)
