"""Sums along axes in the order of memory, alone or with what makes their terms.

Results are the same bits in every run: partial sums are joined in a fixed order. What was given is
read once; the partial sums of a large array are some thousands of numbers a column tile.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .arrays import as_rows, blocks_for, contiguous, empty, empty_like, like_rows, zeros
from .code.loads import RUN
from .launch import THREADS, launch

SUM_BLOCKS = 528  # that share a sum: 4 blocks on each of the 132 multiprocessors of an H200
SHORT = 1024  # elements of a row that a few lanes of a warp sum


def axis_sum(x: Any, axes: tuple[int, ...], over: int = 1) -> Any:
    """Sum over `axes`, given as positive ints, which go away; divided by `over`."""
    kept = tuple([n for axis, n in enumerate(x.shape) if axis not in axes])
    if x.dtype.char not in "fd":
        total = x.sum(axis=axes, dtype=np.float64 if x.dtype.kind == "f" else None).astype(x.dtype)
        return total if over == 1 else total / over
    if x.size == 0:
        return zeros(kept, x.dtype)
    by_memory = sorted(range(x.ndim), key=lambda axis: (-abs(x.strides[axis]), -x.shape[axis]))
    order = [axis for axis in by_memory if x.shape[axis] != 1]
    shape = [x.shape[axis] for axis in order]
    total = contiguous(x.transpose(*by_memory))
    if not any(axis in axes for axis in order):
        total = total / over
    while any(axis in axes for axis in order):  # a run of neighbours a time, the last one first
        last = max(i for i, axis in enumerate(order) if axis in axes) + 1
        first = last
        while first > 0 and order[first - 1] in axes:
            first -= 1
        sizes = [math.prod(part) for part in (shape[:first], shape[first:last], shape[last:])]
        del order[first:last], shape[first:last]
        done = not any(axis in axes for axis in order)
        total = middle_sum(total, *sizes, over if done else 1)
    back = sorted(range(len(order)), key=order.__getitem__)
    return total.reshape(shape).transpose(*back).reshape(kept)


def channel_sum(x: Any) -> Any:
    """Sum over every axis but 1: (N, C, ...) -> (C,)."""
    if x.dtype.char not in "fd" or x.size == 0:
        return axis_sum(x, tuple([axis for axis in range(x.ndim) if axis != 1]))
    rows = as_rows(x)
    return middle_sum(rows, 1, *rows.shape)


def leaky_relu_grad_sum(grad: Any, x: Any, slope: float) -> tuple[Any, Any]:
    """leaky_relu_grad(grad, x, slope) and its channel_sum: a convolution's bias gradient too."""
    rows, grad_rows = as_rows(x), as_rows(grad.astype(x.dtype, copy=False))
    dx = empty_like(rows)
    if x.size == 0:
        return like_rows(dx, x.shape), zeros((x.shape[1],), x.dtype)
    total, tile = empty((x.shape[1],), x.dtype), column_tile(1, *rows.shape, SUM_BLOCKS)
    parts = tile.parts()
    launch(
        "reduction.leaky_relu_grad_sums", tile.blocks, THREADS, dx, total, parts, grad_rows, rows,
        float(slope), *tile.numbers, T=x.dtype,
    )  # fmt: skip
    if tile.chunks > 1:
        join(total, parts, tile.chunks)
    return like_rows(dx, x.shape), total


class Tile(NamedTuple):
    """How blocks share the columns of (outer, rows, channels); `numbers` are what kernels take.

    They are those of code/blocks.py: rows, channels, width, fold, per, tiles, chunks.
    """

    outer: int
    numbers: tuple[int, ...]

    @property
    def chunks(self) -> int:
        """The parts of the rows."""
        return self.numbers[-1]

    @property
    def blocks(self) -> tuple[int]:
        """The grid: a block for each matrix, chunk and tile."""
        return (self.outer * self.chunks * self.numbers[-2],)

    def parts(self) -> Any:
        """Memory for a sum of each column and chunk; None where there is one chunk only."""
        size = self.outer * self.numbers[1] * self.chunks
        return empty((size,), np.float64) if self.chunks > 1 else None


@functools.lru_cache(maxsize=1024)
def column_tile(outer: int, rows: int, channels: int, most_blocks: int) -> Tile:
    """A tile that leaves few threads idle, and enough chunks to fill `most_blocks` blocks.

    A chunk has at least RUN rows for each thread. No size may be 0.
    """
    fewest, most = -(-channels // THREADS), -(-channels // 64)

    def busy(tiles: int) -> float:
        width = -(-channels // tiles)
        return (THREADS // width) * channels / tiles

    tiles = max(range(fewest, most + 1), key=busy)
    width = -(-channels // tiles)
    fold = min(THREADS // width, rows)
    chunks = min(max(most_blocks // (outer * tiles), 1), -(-rows // (fold * RUN)))
    per = -(-rows // chunks)
    return Tile(outer, (rows, channels, width, fold, per, tiles, -(-rows // per)))


def middle_sum(x: Any, outer: int, length: int, inner: int, over: int = 1) -> Any:
    """The sums along the middle of (outer, length, inner), which lie so in memory: flat."""
    if inner == 1:
        return term_sums("value", x, x, outer, length, over)
    out = empty((outer * inner,), x.dtype)
    if length <= 4 * RUN or (outer > SUM_BLOCKS and length * inner <= SHORT):
        launch(
            "reduction.short_sums", blocks_for(out.size), THREADS, out, x, float(over), outer,
            length, inner, T=x.dtype,
        )  # fmt: skip
    else:
        _column_sums("value", out, x, x, over, outer, length, inner)
    return out


def term_sums(term: str, x: Any, y: Any, rows: int, length: int, over: int = 1) -> Any:
    """The sum over each row (rows, length) of a term of x and y, which lie so in memory: flat.

    That of "value" may be divided by `over`.
    """
    out = empty((rows,), x.dtype)
    if length <= THREADS or (length <= SHORT and rows >= SUM_BLOCKS):
        lanes = min(32, power_of_two(-(-length // RUN)))
        launch(
            "reduction.row_sums", blocks_for(rows * lanes), THREADS, out, x, y, float(over), rows,
            length, lanes, T=x.dtype, TERM=term,
        )  # fmt: skip
    else:
        _column_sums(term, out, x, y, over, rows, length, 1)
    return out


def join(out: Any, parts: Any, pieces: int, over: int = 1) -> None:
    """out[i] = the sum of parts (out.size, pieces) float64 along a row, divided by `over`."""
    launch(
        "reduction.join", (out.size,), whole_warps(pieces), out, parts, pieces, float(over),
        T=out.dtype,
    )  # fmt: skip


def power_of_two(n: int) -> int:
    """The smallest that is at least n."""
    return 1 << (n - 1).bit_length()


def spans(n: int) -> tuple[int]:
    """The grid of a kernel whose threads take RUN of n elements each, and no more."""
    return (-(-n // (THREADS * RUN)),)


def whole_warps(n: int) -> int:
    """Threads of a block that goes through n numbers."""
    return min(-(-n // 32) * 32, THREADS)


def _column_sums(term, out, x, y, over, outer, rows, channels):
    tile = column_tile(outer, rows, channels, SUM_BLOCKS)
    parts = tile.parts()
    launch(
        "reduction.column_sums", tile.blocks, THREADS, out, parts, x, y, float(over), *tile.numbers,
        T=x.dtype, TERM=term,
    )  # fmt: skip
    if tile.chunks > 1:
        join(out, parts, tile.chunks, over)
