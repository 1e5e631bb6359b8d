"""Softmax of the rows of a matrix, and its gradients: a row is read from memory once.

WIDE: a block takes a row, else `lanes` neighbours of a warp do. Later looks at a row find it in the
cache. NaN is passed over for the largest number, and comes back with the sum.
"""

from __future__ import annotations

import math

from .blocks import (
    block_max,
    block_sum,
    lanes_max,
    lanes_place,
    lanes_sum,
    load,
    share,
    store,
    tree4,
)
from .language import FLOATS, cuda, device, int64, kernel
from .loads import FEW

ARGUMENTS = "rows: int, columns: int, lanes: int"
WIDE = (False, True)


@device
def _narrow_sum(value, lanes, shared):
    return lanes_sum(value, lanes)


@device
def _narrow_max(value, lanes, shared):
    return lanes_max(value, lanes)


@device
def _wide_sum(value, lanes, shared):
    return block_sum(value, shared)


@device
def _wide_max(value, lanes, shared):
    return block_max(value, shared)


@device
def _wide_place(lanes):
    block = int64(cuda.blockIdx.x)
    return block, block, int64(cuda.threadIdx.x), int64(cuda.gridDim.x), int64(256)


def team(T, WIDE):
    """Device functions of the threads of a row: their place (as lanes_place), sum, and

    exponentials: (largest, sum of exp(x - largest)) of the row's elements at, at + lanes, ...
    """
    place = _wide_place if WIDE else lanes_place
    sum_, max_ = (_wide_sum, _wide_max) if WIDE else (_narrow_sum, _narrow_max)

    @device
    def exponentials(x, at, count, lanes, shared):
        v = cuda.local.array(4, T)
        top, place, left = T(-math.inf), at, count
        while left > 0:
            load(v, x, place, lanes, left)
            for u in range(FEW):
                top = v[u] if v[u] > top else top
            place += FEW * lanes
            left -= FEW
        top = max_(top, lanes, shared)
        total = T(0)
        while count > 0:
            load(v, x, at, lanes, count)
            for u in range(FEW):
                v[u] = math.exp(v[u] - top) if u < count else T(0)
            total += tree4(v)
            at += FEW * lanes
            count -= FEW
        return top, sum_(total, lanes, shared)

    return place, sum_, exponentials


@kernel(f"y: T*, x: T*, {ARGUMENTS}", T=FLOATS, WIDE=WIDE, LOG=(False, True))
def softmax(T, WIDE, LOG):
    """exp(x - top) / total, or its logarithm (x - top) - log(total)."""
    place, _, exponentials = team(T, WIDE)

    def run(y, x, rows, columns, lanes):
        shared = cuda.shared.array(8, T)
        v = cuda.local.array(4, T)
        first, row, thread, step, lanes = place(lanes)
        while first < rows:  # threads that share a barrier stay together
            count = share(columns, thread, lanes) if row < rows else int64(0)
            top, total = exponentials(x, row * columns + thread, count, lanes, shared)
            at, last = row * columns + thread, math.log(total) if LOG else T(1) / total
            while count > 0:
                load(v, x, at, lanes, count)
                for u in range(FEW):
                    v[u] -= top
                    if LOG:
                        v[u] -= last
                    elif u < count:
                        v[u] = math.exp(v[u]) * last
                store(y, v, at, lanes, count)
                at += FEW * lanes
                count -= FEW
            row += step
            first += step

    return run


@kernel(f"dx: T*, grad: T*, y: T*, {ARGUMENTS}", T=FLOATS, WIDE=WIDE, LOG=(False, True))
def softmax_grad(T, WIDE, LOG):
    """y (grad - sum of grad y), or of the logarithm grad - exp(y) sum of grad."""
    place, sum_, _ = team(T, WIDE)

    def run(dx, grad, y, rows, columns, lanes):
        shared = cuda.shared.array(8, T)
        v = cuda.local.array(4, T)
        g = cuda.local.array(4, T)
        first, row, thread, step, lanes = place(lanes)
        while first < rows:
            start = row * columns + thread
            mine = share(columns, thread, lanes) if row < rows else int64(0)
            total, at, count = T(0), start, mine
            while count > 0:
                load(g, grad, at, lanes, count)
                if not LOG:
                    load(v, y, at, lanes, count)
                for u in range(FEW):
                    term = g[u] if LOG else g[u] * v[u]
                    g[u] = term if u < count else T(0)
                total += tree4(g)
                at += FEW * lanes
                count -= FEW
            total, at, count = sum_(total, lanes, shared), start, mine
            while count > 0:
                load(g, grad, at, lanes, count)
                load(v, y, at, lanes, count)
                for u in range(FEW):
                    if not LOG:
                        v[u] = v[u] * (g[u] - total)
                    elif u < count:
                        v[u] = g[u] - math.exp(v[u]) * total
                store(dx, v, at, lanes, count)
                at += FEW * lanes
                count -= FEW
            row += step
            first += step

    return run
