"""Philox4x32-10 and the numbers made from it; the layout is described in reference/random.py.

A thread makes four neighbouring numbers at a time. Nothing here is compiled with a fused a*b+c, so
that the numbers equal those of the other targets to the last bit.
"""

from __future__ import annotations

from ... import random_formulas as formulas
from .intrinsics import store4
from .language import FLOATS, cuda, device, float32, kernel, uint32, uint64

philox_block = device(formulas.philox_block)
uniform_single = device(formulas.uniform_single)
uniform_double = device(formulas.uniform_double)
normal_pair = device(formulas.normal_pair)

# `low` and `high` are halves of the first block's number; where `live` is set, low counts from
# what memory at `base` holds when the kernel runs.
COUNTER = "key: int, low: int, high: int, base: int64*, live: int, n: int"


@device
def first_block(low, base, live):
    """The lower half of the counter to start from."""
    return uint64(low) + uint64(base[0]) if live else uint64(low)


@device
def _four_singles(key, low, high, i):
    a, b, c, d = philox_block(key, low, high, i)
    return uniform_single(a), uniform_single(b), uniform_single(c), uniform_single(d)


@device
def _four_doubles(key, low, high, i):
    a, b, c, d = philox_block(key, low, high, i + i)
    e, f, g, h = philox_block(key, low, high, i + i + uint64(1))
    return uniform_double(a, b), uniform_double(c, d), uniform_double(e, f), uniform_double(g, h)


@device
def four_normals(key, low, high, i):
    """Numbers 4 i to 4 i + 3 of a draw, in float64."""
    a, b, c, d = philox_block(key, low, high, i)
    first, second = normal_pair(a, b)
    third, fourth = normal_pair(c, d)
    return first, second, third, fourth


@device
def write4(out, at, n, a, b, c, d):
    """out[at : at + 4] = a, b, c, d as far as that is below n.

    `at` is a multiple of 4, and `out` new memory, which begins at a multiple of 16 bytes.
    """
    if at + 4 <= n:
        store4(out, at, a, b, c, d)
    else:
        out[at] = a
        if at + 1 < n:
            out[at + 1] = b
        if at + 2 < n:
            out[at + 2] = c


@kernel(f"out: uint32*, {COUNTER}", fused=False)
def bits():
    return _filling(philox_block, uint32)


@kernel(f"out: T*, {COUNTER}", fused=False, T=FLOATS)
def uniform(T):
    return _filling(_four_singles if float32 == T else _four_doubles, T)


@kernel(f"out: T*, {COUNTER}", fused=False, doubles=True, T=FLOATS)
def normal(T):
    return _filling(four_normals, T)


def _filling(four, T):
    """A kernel that fills memory with what `four` makes."""

    def run(out, key, low, high, base, live, n):
        start = first_block(low, base, live)
        i, step = cuda.grid(1), cuda.gridsize(1)
        while 4 * i < n:
            a, b, c, d = four(uint64(key), start, uint64(high), uint64(i))
            write4(out, 4 * i, n, T(a), T(b), T(c), T(d))
            i += step

    return run
