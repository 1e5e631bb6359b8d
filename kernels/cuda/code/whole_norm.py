"""Batch norm of matrices with few rows in one kernel each way, where launches would cost the most.

A block of 1024 threads takes 8 channels (a sector of memory) and all rows, of which a thread takes
every 128th. Up to 1024 rows stay in registers; of more, later looks find most in the L1 cache.
Sums are short enough for float32: 32 numbers a thread, then 2 shuffles, then 32 warps.
"""

from __future__ import annotations

import math

from .blocks import ALL, load, share, store, tree
from .elementwise import leaky_element
from .language import cuda, device, int64, kernel
from .loads import RUN
from .norm import finite_or_zero

COLUMNS, LANES = 8, 128


@device
def column_sum(value, shared):
    """The sum over the threads of a column, in each of them; `shared` has 256 places."""
    thread = int64(cuda.threadIdx.x)
    value += cuda.shfl_xor_sync(ALL, value, 8)
    value += cuda.shfl_xor_sync(ALL, value, 16)
    if thread & 31 < COLUMNS:
        shared[(thread >> 5) * COLUMNS + (thread & 31)] = value
    cuda.syncthreads()
    total = shared[thread & 7]
    for warp in range(1, 32):
        total += shared[warp * COLUMNS + (thread & 7)]
    cuda.syncthreads()
    return total


@device
def place(rows, channels):
    """This thread's column (0 without one), first element and how many rows it takes."""
    thread = int64(cuda.threadIdx.x)
    column, lane = int64(cuda.blockIdx.x) * COLUMNS + (thread & 7), thread >> 3
    if column < channels:
        return column, lane * channels + column, share(rows, lane, LANES)
    return int64(0), int64(0), int64(0)


@kernel(
    "y: T*, mean: T*, var: T*, x: T*, weight: T*, bias: T*, weighted: int, biased: int, eps: float,"
    " slope: float, rows: int, channels: int",
    T=("float32",), threads=1024,
)  # fmt: skip
def train(T):
    def run(y, mean, var, x, weight, bias, weighted, biased, eps, slope, rows, channels):
        shared = cuda.shared.array(256, T)
        v = cuda.local.array(8, T)
        column, start, mine = place(rows, channels)
        step, many = LANES * channels, rows > RUN * LANES
        pivot = finite_or_zero(x[column])  # sums of differences keep large means apart
        total, at, count = T(0), start, mine
        for u in range(RUN):
            v[u] = T(0)
        while count > 0:
            load(v, x, at, step, count)
            part = T(0)
            for u in range(RUN):
                part += v[u] - pivot if u < count else T(0)
            total += part
            at += RUN * step
            count -= RUN
        centre, square = pivot + column_sum(total, shared) / T(rows), T(0)
        at, count = start, mine
        while count > 0:
            if many:
                load(v, x, at, step, count)
            part = T(0)
            for u in range(RUN):
                d = v[u] - centre
                part += d * d if u < count else T(0)
            square += part
            at += RUN * step
            count -= RUN
        spread = column_sum(square, shared) / T(rows)
        scale, shift = T(1) / math.sqrt(spread + T(eps)), T(0)
        if weighted:
            scale *= weight[column]
        if biased:
            shift = bias[column]
        if mine > 0 and cuda.threadIdx.x < COLUMNS:
            mean[column], var[column] = centre, spread
        leak = T(slope)
        while mine > 0:
            if many:
                load(v, x, start, step, mine)
            for u in range(RUN):
                before = (v[u] - centre) * scale + shift
                v[u] = leaky_element(before, before, leak)
            store(y, v, start, step, mine)
            start += RUN * step
            mine -= RUN

    return run


@kernel(
    "dx: T*, sums: T*, grad: T*, x: T*, mean: T*, var: T*, weight: T*, bias: T*, weighted: int,"
    " biased: int, eps: float, slope: float, rows: int, channels: int",
    T=("float32",), threads=1024,
)  # fmt: skip
def train_grad(T):
    """dx, and sums (2, channels): dweight and dbias."""

    def run(
        dx, sums, grad, x, mean, var, weight, bias, weighted, biased, eps, slope, rows, channels
    ):
        shared = cuda.shared.array(256, T)
        g = cuda.local.array(8, T)
        d = cuda.local.array(8, T)
        column, start, mine = place(rows, channels)
        step, many, leak = LANES * channels, rows > RUN * LANES, T(slope)
        centre, inverse = mean[column], T(1) / math.sqrt(var[column] + T(eps))
        scale, shift = inverse, T(0)
        if weighted:
            scale *= weight[column]
        if biased:
            shift = bias[column]
        plain, moment, at, count = T(0), T(0), start, mine
        for u in range(RUN):
            g[u], d[u] = T(0), T(0)
        while count > 0:
            load(d, x, at, step, count)
            load(g, grad, at, step, count)
            for u in range(RUN):
                d[u] -= centre
                g[u] = leaky_element(d[u] * scale + shift, g[u], leak) if u < count else T(0)
            plain += tree(g)
            part = T(0)
            for u in range(RUN):
                part += g[u] * d[u] if u < count else T(0)
            moment += part
            at += RUN * step
            count -= RUN
        plain, moment = column_sum(plain, shared), column_sum(moment, shared)
        if mine > 0 and cuda.threadIdx.x < COLUMNS:
            sums[column] = moment * inverse
            sums[channels + column] = plain
        level, tilt = plain / T(rows), moment / T(rows) * inverse * inverse
        while mine > 0:
            if many:
                load(d, x, start, step, mine)
                load(g, grad, start, step, mine)
                for u in range(RUN):
                    d[u] -= centre
                    g[u] = leaky_element(d[u] * scale + shift, g[u], leak)
            for u in range(RUN):
                g[u] = scale * ((g[u] - level) - tilt * d[u])
            store(dx, g, start, step, mine)
            start += RUN * step
            mine -= RUN

    return run
