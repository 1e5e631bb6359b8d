"""Weight gradients of odd shapes: lanes run along the taps and channels of a row of the kernel.

The tiles of tile.py keep outputs in the lanes and a tap of a channel a row: with 17 outputs, or 3,
or groups of 16, many lanes or loads are lost. Here it is the other way about, and the shape of a
tile is chosen so that least is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import prange

from .. import get_num_threads
from .conv_plan import Plan, Problem, plan
from .conv_tiles import (
    BLOCKS,
    CHANNELS,
    DIRECT,
    GROUP_CHANNELS,
    GROUP_OUTPUTS,
    GROUPS,
    HEIGHT,
    IMAGE_OUT,
    PADDED_WIDTH,
    ROW_OUT,
    ROWS,
    SCRATCH,
    SPAN,
    STEP,
    WORKERS,
    block_extent,
    block_input,
)
from .jit import helper, kernel, parallel_kernel
from .tile import TILE_ROWS
from .tile_code import VECTOR_BYTES, lanes
from .tile_runs import RUN_TILES, run_tile

PIXELS = 512  # of a block
GAIN = 0.95  # of the cycles of tile.py, below which these tiles are taken

NARROW = {1: 1.25, 2: 1.1}  # what tiles of tile.py with few vectors take beyond their cycles


class Runs(NamedTuple):
    """How a gradient is cut into tiles; the arrays are int64."""

    plan: Plan
    case: int  # of a tile
    vectors: np.ndarray  # offset in scratch, first weight, weights, of each vector; whole tiles
    starts: np.ndarray  # first output of each row of tiles; the last overlaps the one before


def suits_runs(p: Problem) -> bool:
    """Whether a weight gradient takes fewer cycles so than by the tiles of tile.py."""
    wide = lanes(np.float32)
    found, depth = _best(p, wide), p.channels // p.groups * p.kernel_size[0] * p.kernel_size[1]
    if found is None:
        return False
    outputs = -(-p.out_channels // p.groups // wide)
    usual = min(
        -(-depth // rows) * -(-outputs // high) * _cycles(rows, high) * NARROW.get(high, 1.0)
        for high, rows in TILE_ROWS.items()
    )
    return found[1] < GAIN * usual


def runs_cost(p: Problem) -> float:
    """Vector instructions of a weight gradient that suits, as conv_cost counts them."""
    best = _best(p, lanes(np.float32))
    assert best is not None
    return 2 * best[1] * p.groups * p.batch * p.output_size[0] * p.output_size[1]


def runs_weight_grad(
    x: np.ndarray, grad: np.ndarray, problem: Problem, flat: Callable[..., np.ndarray]
) -> np.ndarray:
    """conv2d_weight_grad by runs; `flat` is that of conv.py."""
    dtype, p = np.result_type(x, grad), problem
    made = _runs(p, lanes(dtype), dtype.itemsize, get_num_threads())
    geo, (rows, high) = made.plan.geometry, RUN_TILES[made.case]
    shape = (p.groups, len(made.vectors) // high, len(made.starts), rows, high, lanes(dtype))
    # Every worker sums over its own blocks of pixels; the sums are added up in order.
    sums = np.zeros((int(geo[WORKERS]), *shape), dtype)
    _sum(
        flat(x, dtype), flat(grad, dtype), sums.reshape(len(sums), -1), geo, p.stride[1],
        p.output_size[1], made.case, rows, high, made.vectors, made.starts,
    )  # fmt: skip
    result = np.empty((p.out_channels, *p.kernel_size, p.channels // p.groups), dtype)
    _unpack(sums, result.reshape(p.groups, p.out_channels // p.groups, -1), *made[2:])
    return result.transpose(0, 3, 1, 2)


@functools.lru_cache(maxsize=256)
def _runs(p: Problem, wide: int, itemsize: int, threads: int) -> Runs:
    made = plan(p, wide, itemsize, threads, PIXELS)
    best = _best(p, wide)
    assert best is not None
    (rows, high), width = RUN_TILES[best[0]], int(made.geometry[PADDED_WIDTH])
    (kh, kw), channels, outputs = p.kernel_size, p.channels // p.groups, p.out_channels // p.groups
    length, vectors = _joined(p)[0], []
    for i in range(kh):
        for j in range(0, kw, max(1, length // channels)):
            place = (i * p.dilation[0] * width + j * p.dilation[1]) * p.channels
            for n in range(0, length, wide):
                first = (i * kw + j) * channels + n
                vectors.append((place + n, first, min(wide, length - n)))
    vectors += [(vectors[-1][0], 0, 0)] * (-len(vectors) % high)
    starts = [min(o, outputs - rows) for o in range(0, outputs, rows)]
    return Runs(made, best[0], *(np.array(table, np.int64) for table in (vectors, starts)))


@functools.lru_cache(maxsize=1024)
def _best(p: Problem, wide: int) -> tuple[int, float] | None:
    """The best tile and its cycles a pixel; None where vectors would read beyond the input."""
    length, runs = _joined(p)
    if length % wide and max(p.padding) == 0:
        return None
    vectors, outputs = runs * -(-length // wide), p.out_channels // p.groups
    found = [
        (-(-outputs // rows) * -(-vectors // high) * _cycles(rows, high), case)
        for case, (rows, high) in RUN_TILES.items()
        if rows <= outputs
    ]
    return min(found)[::-1] if found else None


def _cycles(rows: int, vectors: int) -> float:
    """Of a tile, for one pixel: two multiply-adds or loads each, four to wait for a sum."""
    return max(rows * vectors / 2, (rows + vectors) / 2, 4.0)


def _joined(p: Problem) -> tuple[int, int]:
    """(elements of a run, runs): a row of the kernel where its taps touch, else a tap."""
    (kh, kw), channels = p.kernel_size, p.channels // p.groups
    if p.groups == 1 and (p.dilation[1] == 1 or kw == 1):
        return kw * channels, kh
    return channels, kh * kw


@parallel_kernel
def _sum(x, grad, sums, geo, stride, columns, case, rows, high, vectors, starts):
    """sums[share] += that share of (group, panel, tile, row, vector, lane)."""
    for share in prange(len(sums)):
        _share(
            np.int64(share), x, grad, sums, geo, stride, columns, case, rows, high, vectors, starts
        )


@helper
def _share(share, x, grad, sums, geo, stride, columns, case, rows, high, vectors, starts):
    """One share of `_sum`."""
    size, blocks, channels = x.itemsize, geo[BLOCKS], geo[CHANNELS]
    wide, outputs, line = VECTOR_BYTES // size, geo[GROUP_OUTPUTS], geo[PADDED_WIDTH] * channels
    panels, shares, tile = len(vectors) // high, len(sums), rows * high * wide
    image_rows = geo[HEIGHT] if geo[DIRECT] else (geo[ROWS] - 1) * geo[STEP] + geo[SPAN]
    offsets = np.ascontiguousarray(vectors[:, 0])
    scratch = np.empty(geo[SCRATCH] + 2 * wide, x.dtype)  # vectors may read beyond a run
    scratch = scratch[-(scratch.ctypes.data // size) % wide :]
    for block in range(share * blocks // shares, (share + 1) * blocks // shares):
        n0, n1, t0, t1 = block_extent(block, geo)
        base = block_input(x, scratch, n0, n1, t0, t1, geo)
        source = grad.ctypes.data + (n0 * geo[IMAGE_OUT] + t0 * geo[ROW_OUT]) * size
        for item in range(geo[GROUPS] * panels):
            group, panel = item // panels, item % panels
            for n in range(n1 - n0):
                b = base + (n * image_rows * line + group * geo[GROUP_CHANNELS]) * size
                for o in range(len(starts)):
                    place = n * geo[IMAGE_OUT] + group * outputs + starts[o]
                    run_tile(
                        x.dtype.type(0), case, source + place * size, geo[GROUPS] * outputs,
                        geo[ROW_OUT], b, offsets.ctypes.data + panel * high * 8,
                        stride * channels, geo[STEP] * line, columns, t1 - t0,
                        sums[share].ctypes.data + (item * len(starts) + o) * tile * size,
                    )  # fmt: skip


@kernel
def _unpack(sums, result, vectors, starts):
    """result (group, output, weight) = the sum over shares, in order, of the lanes that count."""
    shares, groups, panels, tiles, rows, high, _ = sums.shape
    for group in range(groups):
        for tile in range(tiles):
            for r in range(rows):
                line = result[group, starts[tile] + r]
                for v in range(panels * high):
                    for n in range(vectors[v, 2]):
                        total = sums[0, group, v // high, tile, r, v % high, n]
                        for share in range(1, shares):
                            total += sums[share, group, v // high, tile, r, v % high, n]
                        line[vectors[v, 1] + n] = total
