"""Normalisation of (outer, rows, channels) matrices, channels fastest: batch, group, instance norm.

Batch norm has one matrix and groups of one channel each; group norm a matrix an example. Bytes a
number: statistics read x once, normalising reads x and writes y; of the gradient, the sums read
grad and x once, and dx reads both and writes itself. The activation's slope is found anew from x.
"""

from __future__ import annotations

import math

from .blocks import TILE, block_sum, load, store, tile_place, tile_sum, tree
from .elementwise import leaky_element
from .language import FLOATS, cuda, device, divide, float64, int64, kernel
from .loads import RUN

# A group is `group` neighbouring channels. Without weight, `weighted` is 0 and they are 1; without
# bias, `biased` is 0 and so are they.
STATE = (
    "mean: T*, var: T*, weight: T*, bias: T*, weighted: int, biased: int, group: int, eps: float,"
    " slope: float"
)


@device
def finite_or_zero(x):
    return x if x - x == 0 else type(x)(0)


@device
def affine(mean, var, weight, bias, weighted, biased, group, eps, outer, channels, column):
    """A channel's mean, its weight / sqrt(var + eps), its bias, and the place of its group."""
    place = outer * divide(channels, group) + divide(column, group)
    centre, spread = mean[place], var[place]
    one, zero = type(centre)(1), type(centre)(0)
    scale = one / math.sqrt(spread + type(centre)(eps))
    if weighted:
        scale *= weight[column]
    return centre, scale, bias[column] if biased else zero, place


@kernel(f"parts: float64*, plane: int, x: T*, {TILE}", T=FLOATS)
def moments(T):
    """Of each column of a chunk: its first number, the sum of what the others are more, and the

    sum of the squares of that. Variances then survive means that are large beside them.
    """

    def run(parts, plane, x, rows, channels, width, fold, per, tiles, chunks):
        shared = cuda.shared.array(256, float64)
        v = cuda.local.array(8, T)
        at, count, outer, chunk, column = tile_place(
            rows, channels, width, fold, per, tiles, chunks
        )
        thread, step = int64(cuda.threadIdx.x), fold * channels
        pivot = finite_or_zero(x[(outer * rows + chunk * per) * channels + column])
        total, square, left = float64(0), float64(0), count
        while left > 0:
            load(v, x, at, step, left)
            for u in range(RUN):
                v[u] = v[u] - pivot if u < left else T(0)
            total += float64(tree(v))
            for u in range(RUN):
                v[u] = v[u] * v[u]
            square += float64(tree(v))
            at += RUN * step
            left -= RUN
        to = (outer * channels + column) * chunks + chunk
        shared[thread] = total
        tile_sum(shared, width, fold)
        if thread < width and count > 0:
            parts[to] = float64(pivot)
            parts[plane + to] = shared[thread]
        cuda.syncthreads()
        shared[thread] = square
        tile_sum(shared, width, fold)
        if thread < width and count > 0:
            parts[2 * plane + to] = shared[thread]

    return run


@kernel(
    "mean: T*, var: T*, parts: float64*, plane: int, rows: int, per: int, chunks: int, group: int",
    T=FLOATS,
)
def join_moments(T):
    """Mean and biased variance of a group of channels, by a block, from what `moments` left.

    A chunk of n numbers p + d has the sum of squares about m: of d d - e (2 d - e), e = m - p.
    """

    def run(mean, var, parts, plane, rows, per, chunks, group):
        shared = cuda.shared.array(8, float64)
        thread, threads = int64(cuda.threadIdx.x), int64(cuda.blockDim.x)
        size = group * chunks
        start, total, square = int64(cuda.blockIdx.x) * size, float64(0), float64(0)
        base, all_rows = parts[start], float64(rows * group)
        j = thread
        while j < size:
            chunk = j - divide(j, chunks) * chunks
            n = float64(min(per, rows - chunk * per))
            total += parts[plane + start + j] + n * (parts[start + j] - base)
            j += threads
        centre = block_sum(total, shared) / all_rows  # less `base`
        j = thread
        while j < size:
            chunk = j - divide(j, chunks) * chunks
            n = float64(min(per, rows - chunk * per))
            e = centre - (parts[start + j] - base)
            square += parts[2 * plane + start + j] - e * (2 * parts[plane + start + j] - n * e)
            j += threads
        square = block_sum(square, shared)
        if thread == 0:
            mean[cuda.blockIdx.x] = T(base + centre)
            # Rounding may leave a tiny negative sum where all numbers are equal.
            var[cuda.blockIdx.x] = T(0) if square < 0 else T(square / all_rows)

    return run


@kernel(
    "mean: T*, var: T*, count: int64*, found_mean: T*, found_var: T*, n: int, counted: int,"
    " keep: float, mean_share: float, var_share: float",
    T=FLOATS, fused=False,
)  # fmt: skip
def move_statistics(T):
    """Not fused: the bits are those of the host, where each operation is rounded."""

    def run(mean, var, count, found_mean, found_var, n, counted, keep, mean_share, var_share):
        i, step = cuda.grid(1), cuda.gridsize(1)
        if counted and i == 0:
            count[0] += 1
        while i < n:
            mean[i] = mean[i] * T(keep) + T(mean_share) * found_mean[i]
            var[i] = var[i] * T(keep) + T(var_share) * found_var[i]
            i += step

    return run


@kernel(f"y: T*, x: T*, {STATE}, {TILE}", T=FLOATS)
def normalise(T):
    def run(
        y, x, mean, var, weight, bias, weighted, biased, group, eps, slope, rows, channels, width,
        fold, per, tiles, chunks,
    ):  # fmt: skip
        v = cuda.local.array(8, T)
        at, count, outer, _, column = tile_place(rows, channels, width, fold, per, tiles, chunks)
        centre, scale, shift, _ = affine(
            mean, var, weight, bias, weighted, biased, group, eps, outer, channels, column
        )
        step, leak = fold * channels, T(slope)
        while count > 0:
            load(v, x, at, step, count)
            for u in range(RUN):
                before = (v[u] - centre) * scale + shift
                v[u] = leaky_element(before, before, leak)
            store(y, v, at, step, count)
            at += RUN * step
            count -= RUN

    return run


@kernel(
    f"dx: T*, parts: float64*, plane: int, grad: T*, x: T*, {STATE}, {TILE}",
    T=FLOATS, WRITE=(False, True), registers=104,
)  # fmt: skip
def grad_sums(T, WRITE):
    """Of each column of a chunk: the sums of g, the gradient before the activation, and of g times

    x - mean. WRITE: dx = scale g in the same pass, which is all where the statistics are given.
    """

    def run(
        dx, parts, plane, grad, x, mean, var, weight, bias, weighted, biased, group, eps, slope,
        rows, channels, width, fold, per, tiles, chunks,
    ):  # fmt: skip
        shared = cuda.shared.array(256, float64)
        v = cuda.local.array(8, T)
        g = cuda.local.array(8, T)
        at, count, outer, chunk, column = tile_place(
            rows, channels, width, fold, per, tiles, chunks
        )
        centre, scale, shift, _ = affine(
            mean, var, weight, bias, weighted, biased, group, eps, outer, channels, column
        )
        thread, step, leak = int64(cuda.threadIdx.x), fold * channels, T(slope)
        plain, moment, left = float64(0), float64(0), count
        while left > 0:
            load(v, x, at, step, left)
            load(g, grad, at, step, left)
            for u in range(RUN):
                d = v[u] - centre
                g[u] = leaky_element(d * scale + shift, g[u], leak) if u < left else T(0)
                v[u] = g[u] * d if u < left else T(0)
            plain += float64(tree(g))
            moment += float64(tree(v))
            if WRITE:
                for u in range(RUN):
                    g[u] *= scale
                store(dx, g, at, step, left)
            at += RUN * step
            left -= RUN
        to = (outer * channels + column) * chunks + chunk
        shared[thread] = plain
        tile_sum(shared, width, fold)
        if thread < width and count > 0:
            parts[to] = shared[thread]
        cuda.syncthreads()
        shared[thread] = moment
        tile_sum(shared, width, fold)
        if thread < width and count > 0:
            parts[plane + to] = shared[thread]

    return run


@kernel(
    "sums: T*, parts: float64*, plane: int, var: T*, weight: T*, weighted: int, eps: float,"
    " rows: int, channels: int, chunks: int",
    T=FLOATS, TRAIN=(False, True),
)  # fmt: skip
def join_batch_grad(T, TRAIN):
    """sums (4, channels): dweight, dbias, and what `grad_input` subtracts, or dmean and dvar."""

    def run(sums, parts, plane, var, weight, weighted, eps, rows, channels, chunks):
        shared = cuda.shared.array(8, float64)
        c, j = int64(cuda.blockIdx.x), int64(cuda.threadIdx.x)
        plain, moment = float64(0), float64(0)
        while j < chunks:
            plain += parts[c * chunks + j]
            moment += parts[plane + c * chunks + j]
            j += int64(cuda.blockDim.x)
        plain, moment = block_sum(plain, shared), block_sum(moment, shared)
        if cuda.threadIdx.x == 0:
            variance = float64(var[c]) + eps
            scale = 1 / math.sqrt(variance)
            sums[c] = T(moment * scale)
            sums[channels + c] = T(plain)
            if weighted:
                scale *= float64(weight[c])
            if TRAIN:
                sums[2 * channels + c] = T(scale * plain / rows)
                sums[3 * channels + c] = T(scale * moment / (variance * rows))
            else:
                sums[2 * channels + c] = T(-scale * plain)
                sums[3 * channels + c] = T(-0.5 * scale * moment / variance)

    return run


@kernel(f"dx: T*, grad: T*, x: T*, offset: T*, tilt: T*, {STATE}, {TILE}", T=FLOATS)
def grad_input(T):
    """dx = scale g - (offset + tilt (x - mean)), an offset and a tilt a group."""

    def run(
        dx, grad, x, offset, tilt, mean, var, weight, bias, weighted, biased, group, eps, slope,
        rows, channels, width, fold, per, tiles, chunks,
    ):  # fmt: skip
        v = cuda.local.array(8, T)
        g = cuda.local.array(8, T)
        at, count, outer, _, column = tile_place(rows, channels, width, fold, per, tiles, chunks)
        centre, scale, shift, place = affine(
            mean, var, weight, bias, weighted, biased, group, eps, outer, channels, column
        )
        step, leak = fold * channels, T(slope)
        level, slant = offset[place], tilt[place]
        while count > 0:
            load(v, x, at, step, count)
            load(g, grad, at, step, count)
            for u in range(RUN):
                d = v[u] - centre
                inner = leaky_element(d * scale + shift, g[u], leak)
                v[u] = scale * inner - (level + slant * d)
            store(dx, v, at, step, count)
            at += RUN * step
            count -= RUN

    return run
