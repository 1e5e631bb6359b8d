"""What group norm needs beside the passes of `norm`: rows of vectors, and joins over examples.

The groups of vectors (N, C) are rows of `size` neighbours, which a block or some lanes of a warp
(as in `softmax`) read from memory once; later looks find them in the cache.
"""

from __future__ import annotations

import math

from .blocks import TILE, block_sum, load, share, store, tile_place, tile_sum, tree, tree4
from .language import FLOATS, cuda, divide, float64, int64, kernel
from .loads import FEW, RUN
from .norm import finite_or_zero
from .softmax import WIDE, team


@kernel(
    "y: T*, mean: T*, var: T*, x: T*, weight: T*, bias: T*, eps: float, rows: int, size: int,"
    " groups: int, lanes: int",
    T=FLOATS, WIDE=WIDE,
)  # fmt: skip
def normalise_rows(T, WIDE):
    place, sum_, _ = team(T, WIDE)

    def run(y, mean, var, x, weight, bias, eps, rows, size, groups, lanes):
        shared = cuda.shared.array(8, T)
        v = cuda.local.array(4, T)
        w = cuda.local.array(4, T)
        first, row, thread, step, lanes = place(lanes)
        while first < rows:  # threads that share a barrier stay together
            mine = share(size, thread, lanes) if row < rows else int64(0)
            pivot = finite_or_zero(x[min(row, rows - 1) * size])
            total, at, count = T(0), row * size + thread, mine
            while count > 0:
                load(v, x, at, lanes, count)
                for u in range(FEW):
                    v[u] = v[u] - pivot if u < count else T(0)
                total += tree4(v)
                at += FEW * lanes
                count -= FEW
            centre = pivot + sum_(total, lanes, shared) / T(size)
            square, at, count = T(0), row * size + thread, mine
            while count > 0:
                load(v, x, at, lanes, count)
                for u in range(FEW):
                    v[u] = v[u] - centre if u < count else T(0)
                for u in range(FEW):
                    v[u] = v[u] * v[u]
                square += tree4(v)
                at += FEW * lanes
                count -= FEW
            spread = sum_(square, lanes, shared) / T(size)
            scale = T(1) / math.sqrt(spread + T(eps))
            if thread == 0 and row < rows:
                mean[row], var[row] = centre, spread
            channel = (row - divide(row, groups) * groups) * size + thread
            at, count = row * size + thread, mine
            while count > 0:
                load(v, x, at, lanes, count)
                load(w, weight, channel, lanes, count)
                for u in range(FEW):
                    v[u] = (v[u] - centre) * (scale * w[u])
                load(w, bias, channel, lanes, count)
                for u in range(FEW):
                    v[u] += w[u]
                store(y, v, at, lanes, count)
                at += FEW * lanes
                channel += FEW * lanes
                count -= FEW
            row += step
            first += step

    return run


@kernel(
    "dx: T*, inverse: T*, grad: T*, x: T*, mean: T*, var: T*, weight: T*, eps: float, rows: int,"
    " size: int, groups: int, lanes: int",
    T=FLOATS, WIDE=WIDE,
)  # fmt: skip
def rows_grad(T, WIDE):
    """dx: weight grad, less its mean, and less its tilt along x, all times `inverse`.

    That is 1 / sqrt(var + eps), and kept for weight_sums.
    """
    place, sum_, _ = team(T, WIDE)

    def run(dx, inverse, grad, x, mean, var, weight, eps, rows, size, groups, lanes):
        shared = cuda.shared.array(8, T)
        v = cuda.local.array(4, T)
        g = cuda.local.array(4, T)
        first, row, thread, step, lanes = place(lanes)
        while first < rows:
            start = row * size + thread
            mine, centre, scale = int64(0), T(0), T(0)
            if row < rows:
                mine, centre = share(size, thread, lanes), mean[row]
                scale = T(1) / math.sqrt(var[row] + T(eps))
                if thread == 0:
                    inverse[row] = scale
            channel = (row - divide(row, groups) * groups) * size - row * size  # beside `at`
            plain, moment, at, count = T(0), T(0), start, mine
            while count > 0:
                load(g, grad, at, lanes, count)
                load(v, weight, at + channel, lanes, count)
                for u in range(FEW):
                    g[u] = g[u] * v[u] if u < count else T(0)
                load(v, x, at, lanes, count)
                for u in range(FEW):
                    v[u] = g[u] * (v[u] - centre) if u < count else T(0)
                plain += tree4(g)
                moment += tree4(v)
                at += FEW * lanes
                count -= FEW
            level = sum_(plain, lanes, shared) / T(size)
            tilt = scale * scale * (sum_(moment, lanes, shared) / T(size))
            at, count = start, mine
            while count > 0:
                load(g, grad, at, lanes, count)
                load(v, weight, at + channel, lanes, count)
                for u in range(FEW):
                    g[u] = g[u] * v[u] - level
                load(v, x, at, lanes, count)
                for u in range(FEW):
                    v[u] = scale * (g[u] - tilt * (v[u] - centre))
                store(dx, v, at, lanes, count)
                at += FEW * lanes
                count -= FEW
            row += step
            first += step

    return run


@kernel(
    f"parts: float64*, plane: int, grad: T*, x: T*, mean: T*, inverse: T*, group: int, {TILE}",
    T=FLOATS, registers=80,
)  # fmt: skip
def weight_sums(T):
    """Of each channel of a chunk of vectors: the sums of grad (x - mean) inverse, and of grad."""

    def run(
        parts, plane, grad, x, mean, inverse, group, rows, channels, width, fold, per, tiles,
        chunks,
    ):  # fmt: skip
        shared = cuda.shared.array(256, float64)
        v = cuda.local.array(8, T)
        g = cuda.local.array(8, T)
        m = cuda.local.array(8, T)
        at, left, _, chunk, column = tile_place(rows, channels, width, fold, per, tiles, chunks)
        thread, step, groups = int64(cuda.threadIdx.x), fold * channels, divide(channels, group)
        mine = left > 0 and thread < width
        place = (chunk * per + divide(thread, width)) * groups + divide(column, group)
        plain, steep = float64(0), float64(0)
        while left > 0:
            load(v, x, at, step, left)
            load(m, mean, place, fold * groups, left)
            for u in range(RUN):
                v[u] -= m[u]
            load(g, grad, at, step, left)
            load(m, inverse, place, fold * groups, left)
            for u in range(RUN):
                g[u] = g[u] if u < left else T(0)
                v[u] = v[u] * m[u] * g[u] if u < left else T(0)
            plain += float64(tree(g))
            steep += float64(tree(v))
            at += RUN * step
            place += RUN * fold * groups
            left -= RUN
        shared[thread] = steep
        tile_sum(shared, width, fold)
        if mine:
            parts[column * chunks + chunk] = shared[thread]
        cuda.syncthreads()
        shared[thread] = plain
        tile_sum(shared, width, fold)
        if mine:
            parts[plane + column * chunks + chunk] = shared[thread]

    return run


@kernel(
    "offset: T*, tilt: T*, parts: float64*, plane: int, var: T*, weight: T*, weighted: int,"
    " eps: float, rows: int, group: int, groups: int, chunks: int",
    T=FLOATS,
)  # fmt: skip
def join_groups(T):
    """What `norm.grad_input` subtracts: a block a group of an example, whose parts are one run."""

    def run(offset, tilt, parts, plane, var, weight, weighted, eps, rows, group, groups, chunks):
        shared = cuda.shared.array(8, float64)
        place, j = int64(cuda.blockIdx.x), int64(cuda.threadIdx.x)
        size = group * chunks
        channel = (place - divide(place, groups) * groups) * group
        plain, moment = float64(0), float64(0)
        while j < size:
            w = float64(1)
            if weighted:
                w = float64(weight[channel + divide(j, chunks)])
            plain += w * parts[place * size + j]
            moment += w * parts[plane + place * size + j]
            j += int64(cuda.blockDim.x)
        plain, moment = block_sum(plain, shared), block_sum(moment, shared)
        if cuda.threadIdx.x == 0:
            variance, count = float64(var[place]) + eps, float64(rows * group)
            scale = 1 / math.sqrt(variance)
            offset[place] = T(scale * plain / count)
            tilt[place] = T(scale * moment / (variance * count))

    return run


@kernel(
    "sums: T*, parts: float64*, plane: int, var: T*, eps: float, outer: int, channels: int,"
    " group: int, chunks: int",
    T=FLOATS,
)  # fmt: skip
def join_channels(T):
    """sums (2, channels): dweight and dbias, a block a channel, over examples and chunks."""

    def run(sums, parts, plane, var, eps, outer, channels, group, chunks):
        shared = cuda.shared.array(8, float64)
        c, j = int64(cuda.blockIdx.x), int64(cuda.threadIdx.x)
        groups = divide(channels, group)
        plain, steep = float64(0), float64(0)
        while j < outer * chunks:
            n = divide(j, chunks)
            at = (n * channels + c) * chunks + j - n * chunks
            plain += parts[at]
            variance = float64(var[n * groups + divide(c, group)]) + eps
            steep += parts[plane + at] / math.sqrt(variance)
            j += int64(cuda.blockDim.x)
        plain, steep = block_sum(plain, shared), block_sum(steep, shared)
        if cuda.threadIdx.x == 0:
            sums[c] = T(steep)
            sums[channels + c] = T(plain)

    return run
