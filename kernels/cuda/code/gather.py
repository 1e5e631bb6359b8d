"""Rows by index, and the adjoint of that.

The adjoint sums the rows of `grad` that share an index. Many of them are sorted first, by a stable
counting sort of (index, position): so every sum has one order, and needs no atomics.
"""

from __future__ import annotations

import math

from .language import FLOATS, cuda, device, divide, int32, int64, kernel

MOST = 1024  # keys that a block sorts, one a thread


@kernel("out: T*, table: T*, indices: int64*, n: int, width: int, rows: int", T=FLOATS)
def gather_rows(T):
    """A row of NaN for a wrong index. n is the number of elements."""
    nan = T(math.nan)

    def run(out, table, indices, n, width, rows):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            at = divide(i, width)
            row = indices[at]
            inside = (row >= 0) & (row < rows)
            out[i] = table[row * width + i - at * width] if inside else nan
            i += step

    return run


@kernel("total: T*, grad: T*, indices: int64*, n: int, width: int, count: int", T=FLOATS)
def scatter_few(T):
    """For few indices: every element of the result (there are n) looks through all of them."""

    def run(total, grad, indices, n, width, count):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            row = divide(i, width)
            place, value = i - row * width, T(0)
            for at in range(count):
                if indices[at] == row:
                    value += grad[place]
                place += width
            total[i] = value
            i += step

    return run


# -------------------------------------------------------------------------------- stable sort


@device
def digit_of(key, shift, base):
    """One digit of a sort key; the base is a power of 2."""
    return (key >> shift) & (base - 1)


@device
def rank_in_tile(digits, me, digit):
    """How many threads before this one have its digit."""
    rank = int64(0)
    for other in range(me):
        if digits[other] == digit:
            rank += 1
    return rank


@kernel("keys: int64*, indices: int64*, n: int, rows: int")
def sort_keys():
    """What is sorted: the indices, with `rows`, which comes last, for wrong ones."""

    def run(keys, indices, n, rows):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            index = indices[i]
            keys[i] = index if index >= 0 and index < rows else rows
            i += step

    return run


@kernel("counts: int64*, keys: int64*, shift: int, base: int, n: int, tiles: int", threads=MOST)
def count_digits():
    """counts[digit, tile]: how many keys of each tile of blockDim keys have each digit."""

    def run(counts, keys, shift, base, n, tiles):
        digits = cuda.shared.array(MOST, int32)
        me, tile = int64(cuda.threadIdx.x), int64(cuda.blockIdx.x)
        i = tile * cuda.blockDim.x + me
        digit = digit_of(keys[i], shift, base) if i < n else int64(-1)
        digits[me] = digit
        each = me
        while each < base:
            counts[each * tiles + tile] = 0
            each += cuda.blockDim.x
        cuda.syncthreads()
        if digit >= 0:
            later = me + 1  # the last thread with a digit counts it
            while later < cuda.blockDim.x and digits[later] != digit:
                later += 1
            if later == cuda.blockDim.x:
                counts[digit * tiles + tile] = rank_in_tile(digits, me, digit) + 1

    return run


@kernel("counts: int64*, n: int", threads=MOST)
def sums_before():
    """Every count becomes the sum of those before it; one block, of which a thread has a run."""

    def run(counts, n):
        totals = cuda.shared.array(MOST, int64)
        me, threads = int64(cuda.threadIdx.x), int64(cuda.blockDim.x)
        each = divide(n + threads - 1, threads)
        first, last = min(me * each, n), min((me + 1) * each, n)
        total, i = int64(0), first
        while i < last:
            total += counts[i]
            i += 1
        totals[me] = total
        cuda.syncthreads()
        by = int64(1)
        while by < threads:  # totals of this run and all before it
            earlier = totals[me - by] if me >= by else int64(0)
            cuda.syncthreads()
            totals[me] += earlier
            cuda.syncthreads()
            by *= 2
        before, i = totals[me] - total, first
        while i < last:
            count = counts[i]
            counts[i] = before
            before += count
            i += 1

    return run


@kernel(
    "sorted_keys: int64*, sorted_places: int64*, keys: int64*, places: int64*, given: int,"
    " firsts: int64*, shift: int, base: int, n: int, tiles: int",
    threads=MOST,
)
def place_keys():
    """Each key, with its place, goes behind those of its digit in earlier tiles and threads.

    `places` are those of the keys before this round, or their own numbers unless `given`.
    """

    def run(sorted_keys, sorted_places, keys, places, given, firsts, shift, base, n, tiles):
        digits = cuda.shared.array(MOST, int32)
        me, tile = int64(cuda.threadIdx.x), int64(cuda.blockIdx.x)
        i = tile * cuda.blockDim.x + me
        key = keys[i] if i < n else int64(0)
        digit = digit_of(key, shift, base)
        digits[me] = digit
        cuda.syncthreads()
        if i < n:
            to = firsts[digit * tiles + tile] + rank_in_tile(digits, me, digit)
            sorted_keys[to] = key
            sorted_places[to] = places[i] if given else i

    return run


# ------------------------------------------------------------------------------- sums of runs


@device
def sum_of_four(grad, places, at, width, column):
    """The rows of four sorted positions, of which all loads are in flight together."""
    a, b, c, d = places[at], places[at + 1], places[at + 2], places[at + 3]
    low = grad[a * width + column] + grad[b * width + column]
    return low + (grad[c * width + column] + grad[d * width + column])


@kernel(
    "sums: T*, grad: T*, keys: int64*, places: int64*, n: int, width: int, chunk: int", T=FLOATS
)
def sum_chunks(T):
    """The sums of the chunks of sorted positions that have one key; n elements of all chunks."""

    def run(sums, grad, keys, places, n, width, chunk):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            at = divide(i, width)
            column, at = i - at * width, at * chunk
            end = at + chunk
            if keys[at] == keys[end - 1]:
                value = T(0)
                while at < end:
                    value += sum_of_four(grad, places, at, width, column)
                    at += 4
                sums[i] = value
            i += step

    return run


@device
def first_at_least(keys, low, high, key):
    """The first of the sorted keys low ... high - 1 that is not smaller, or high."""
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@kernel(
    "total: T*, grad: T*, sums: T*, keys: int64*, places: int64*, n: int, width: int, count: int,"
    " chunk: int",
    T=FLOATS,
)
def sum_runs(T):
    """Each element of the result (there are n) sums the run of its row: whole chunks at once."""

    def run(total, grad, sums, keys, places, n, width, count, chunk):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            row = divide(i, width)
            column, value = i - row * width, T(0)
            at = first_at_least(keys, 0, count, row)
            end = at  # rows without an index are many, and need no second search
            if at < count and keys[at] == row:
                end = first_at_least(keys, at, count, row + 1)
            while at < end:
                whole = divide(at, chunk)
                if whole * chunk == at and at + chunk <= end:
                    value += sums[whole * width + column]
                    at += chunk
                elif at & 3 == 0 and at + 4 <= end:
                    value += sum_of_four(grad, places, at, width, column)
                    at += 4
                else:
                    value += grad[places[at] * width + column]
                    at += 1
            total[i] = value
            i += step

    return run
