"""Several arrays in one launch: copied, or added pair by pair.

A launch takes up to 16 pairs, `to` and `a` (and `b`) of n elements each. A block has RUN * 256
elements of one of them: those of pair i come before block `end[i]`.
"""

from __future__ import annotations

from .blocks import load, store
from .language import FLOATS, cuda, device, int64, kernel
from .loads import RUN

JOBS = 16  # pairs of a launch


def chooser(count):
    """The device function that takes values[job]: arguments have no addresses to index."""
    last, before = count - 1, chooser(count - 1) if count > 1 else None

    @device
    def first(job, values):
        return values[0]

    @device
    def choose(job, values):
        return values[last] if job == last else before(job, values)

    return first if before is None else choose


def finder(count):
    """The device function that finds a block's pair, and that pair's first block."""
    last, before = count - 1, finder(count - 1) if count > 1 else None

    @device
    def first(block, end):
        return int64(0), int64(0)

    @device
    def find(block, end):
        if block >= end[last - 1]:
            return int64(last), end[last - 1]
        return before(block, end)

    return first if before is None else find


choose, find_pair = chooser(JOBS), finder(JOBS)


@device
def place(n, end):
    """This block's pair, this thread's first element of it, and how many it takes, 256 apart."""
    block = int64(cuda.blockIdx.x)
    job, start = find_pair(block, end)
    i = (block - start) * (RUN * 256) + cuda.threadIdx.x
    left = choose(job, n) - i
    return job, i, (min(left, RUN * 256) + 255) >> 8 if left > 0 else int64(0)


@kernel("to: 16 T*, a: 16 T*, n: 16 int, end: 16 int", T=(*FLOATS, "int64"))
def copy(T):
    def run(to, a, n, end):
        v = cuda.local.array(8, T)
        job, i, count = place(n, end)
        if count > 0:
            load(v, choose(job, a), i, 256, count)
            store(choose(job, to), v, i, 256, count)

    return run


@kernel("to: 16 T*, a: 16 T*, b: 16 T*, n: 16 int, end: 16 int", T=FLOATS)
def add(T):
    def run(to, a, b, n, end):
        v = cuda.local.array(8, T)
        w = cuda.local.array(8, T)
        job, i, count = place(n, end)
        if count > 0:
            load(v, choose(job, a), i, 256, count)
            load(w, choose(job, b), i, 256, count)
            for u in range(RUN):
                v[u] += w[u]
            store(choose(job, to), v, i, 256, count)

    return run
