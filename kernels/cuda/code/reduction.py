"""Sums of arrays, or of what is made of two arrays, in a fixed order.

RUN terms are added in the array's precision, such sums in float64: the error does not grow with
the length, and that is one float64 addition in RUN elements, which no GPU feels. A sum of
values is rounded, then divided by `over`, which makes a mean of it.
"""

from __future__ import annotations

import math

from .blocks import (
    TILE,
    block_sum,
    lanes_place,
    lanes_sum,
    load,
    share,
    store,
    tile_place,
    tile_sum,
    tree,
)  # fmt: skip
from .elementwise import leaky_element
from .language import FLOATS, cuda, device, divide, float64, int64, kernel
from .loads import RUN


@device
def _value(x, y):
    return x


@device
def _squared_error(x, y):
    return (x - y) * (x - y)


@device
def _absolute_error(x, y):
    return abs(x - y)


@device
def _logit_cost(x, target):
    """softplus(x) - x target."""
    zero = type(x)(0)
    return ((x if x > zero else zero) - x * target) + math.log1p(math.exp(-abs(x)))


TERMS = {
    "value": _value, "squared_error": _squared_error, "absolute_error": _absolute_error,
    "logit_cost": _logit_cost,
}  # fmt: skip


def summing(T, TERM):
    """A device function: the float64 sum of term(x, y) of elements at, at + step, ... (count)."""
    term, paired = TERMS[TERM], TERM != "value"

    @device
    def total(x, y, at, step, count):
        a = cuda.local.array(8, T)
        b = cuda.local.array(8, T)
        found = float64(0)
        while count > 0:
            load(a, x, at, step, count)
            if paired:
                load(b, y, at, step, count)
            for u in range(RUN):
                a[u] = term(a[u], b[u]) if u < count else T(0)
            found += float64(tree(a))
            at += RUN * step
            count -= RUN
        return found

    return total


@kernel(
    f"out: T*, parts: float64*, x: T*, y: T*, over: float, {TILE}",
    T=FLOATS, TERM=tuple(TERMS), registers=80,
)  # fmt: skip
def column_sums(T, TERM):
    """Sums over the rows of (outer, rows, channels): out (outer, channels) where chunks is 1,

    else parts (outer, channels, chunks).
    """
    total, averaged = summing(T, TERM), TERM == "value"

    def run(out, parts, x, y, over, rows, channels, width, fold, per, tiles, chunks):
        shared = cuda.shared.array(256, float64)
        at, count, outer, chunk, column = tile_place(
            rows, channels, width, fold, per, tiles, chunks
        )
        thread = int64(cuda.threadIdx.x)
        shared[thread] = total(x, y, at, fold * channels, count)
        tile_sum(shared, width, fold)
        if thread < width and count > 0:
            if chunks == 1:
                found = T(shared[thread])
                out[outer * channels + column] = found / T(over) if averaged else found
            else:
                parts[(outer * channels + column) * chunks + chunk] = shared[thread]

    return run


@kernel(f"dx: T*, out: T*, parts: float64*, grad: T*, x: T*, slope: float, {TILE}", T=FLOATS)
def leaky_relu_grad_sums(T):
    """dx, and its sums over the rows as in column_sums."""

    def run(dx, out, parts, grad, x, slope, rows, channels, width, fold, per, tiles, chunks):
        shared = cuda.shared.array(256, float64)
        g = cuda.local.array(8, T)
        v = cuda.local.array(8, T)
        at, count, _, chunk, column = tile_place(rows, channels, width, fold, per, tiles, chunks)
        thread, step, leak = int64(cuda.threadIdx.x), fold * channels, T(slope)
        found, left = float64(0), count
        while left > 0:
            load(g, grad, at, step, left)
            load(v, x, at, step, left)
            for u in range(RUN):
                g[u] = leaky_element(v[u], g[u], leak) if u < left else T(0)
            store(dx, g, at, step, left)
            found += float64(tree(g))
            at += RUN * step
            left -= RUN
        shared[thread] = found
        tile_sum(shared, width, fold)
        if thread < width and count > 0:
            if chunks == 1:
                out[column] = T(shared[thread])
            else:
                parts[column * chunks + chunk] = shared[thread]

    return run


@kernel(
    "out: T*, x: T*, y: T*, over: float, rows: int, length: int, lanes: int",
    T=FLOATS, TERM=tuple(TERMS), registers=80, doubles=True,
)  # fmt: skip
def row_sums(T, TERM):
    """The sum of each short row (rows, length); `lanes` neighbours of a warp take a row."""
    total, averaged = summing(T, TERM), TERM == "value"

    def run(out, x, y, over, rows, length, lanes):
        first, row, thread, step, _ = lanes_place(lanes)
        while first < rows:  # the lanes of a warp stay together
            count = share(length, thread, lanes) if row < rows else int64(0)
            found = lanes_sum(total(x, y, row * length + thread, lanes, count), lanes)
            if row < rows and thread == 0:
                out[row] = T(found) / T(over) if averaged else T(found)
            row += step
            first += step

    return run


@kernel("out: T*, x: T*, over: float, outer: int, length: int, inner: int", T=FLOATS, doubles=True)
def short_sums(T):
    """(outer, length, inner) summed along the middle, each sum by one thread."""
    total = summing(T, "value")

    def run(out, x, over, outer, length, inner):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < outer * inner:
            at = divide(i, inner)
            found = total(x, x, at * length * inner + i - at * inner, inner, length)
            out[i] = T(found) / T(over)
            i += step

    return run


@kernel("out: T*, parts: float64*, pieces: int, over: float", T=FLOATS)
def join(T):
    """out[i] = the sum of parts[i], (outs, pieces); a block makes one."""
    total = summing(float64, "value")

    def run(out, parts, pieces, over):
        shared = cuda.shared.array(8, float64)
        thread, step = int64(cuda.threadIdx.x), int64(cuda.blockDim.x)
        i, count = int64(cuda.blockIdx.x), share(pieces, thread, step)
        found = block_sum(total(parts, parts, i * pieces + thread, step, count), shared)
        if thread == 0:
            out[i] = T(found) / T(over)

    return run
