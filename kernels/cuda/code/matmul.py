"""Products of plain matrices, whatever their strides, and of stacks of them."""

from __future__ import annotations

from typing import NamedTuple

from .gemm import Operand, Result, product
from .language import FLOATS, cuda, device, divide, int64, kernel
from .tiles import NAMES, tile_of


class Matrices(NamedTuple):
    """One product of a stack: where its matrices begin, and how far elements lie apart."""

    m: int
    n: int
    a_start: int
    a_m: int
    a_k: int
    b_start: int
    b_k: int
    b_n: int


@device
def a_row(g, i):
    return (g.a_start + i * g.a_m if i < g.m else int64(-1)), int64(0), int64(0)


@device
def a_step(g, k):
    return k * g.a_k, int64(0), int64(0)


@device
def b_row(g, j):
    return (g.b_start + j * g.b_n if j < g.n else int64(-1)), int64(0), int64(0)


@device
def b_step(g, k):
    return k * g.b_k, int64(0), int64(0)


@device
def y_row(g, i):
    return i * g.n if i < g.m else int64(-1)


@kernel(
    "y: T*, a: T*, b: T*, bias: T*, biased: int, slope: float, parts: int, share: int,"
    "m: int, n: int, k: int, a_m: int, a_k: int, b_k: int, b_n: int,"
    "stack: int, inner: int, innermost: int,"
    "a_0: int, a_1: int, a_2: int, b_0: int, b_1: int, b_2: int,"
    "a_rows: int, a_vector: int, b_rows: int, b_vector: int",
    registers=128,
    T=FLOATS,
    TILE=NAMES,
)
def matmul(T, TILE):
    """y (stack, inner, innermost, m, n) = a @ b + bias, activated, or `parts` of its sums.

    a_0, a_1 and a_2 are the strides of a's stack: 0 where it is broadcast.
    """
    tile = tile_of(T, TILE)
    ROWS, COLUMNS = tile.rows, tile.columns
    make = product(T, TILE, a_row, a_step, b_row, b_step, y_row)

    def run(
        y, a, b, bias, biased, slope, parts, share, m, n, k, a_m, a_k, b_k, b_n,
        stack, inner, innermost, a_0, a_1, a_2, b_0, b_1, b_2, a_rows, a_vector, b_rows, b_vector,
    ):  # fmt: skip
        down, across = divide(m + ROWS - 1, ROWS), divide(n + COLUMNS - 1, COLUMNS)
        item = divide(int64(cuda.blockIdx.x), down * across)
        place = int64(cuda.blockIdx.x) - item * down * across
        column = divide(place, down)
        row = place - column * down
        line = divide(item, innermost)
        z = item - line * innermost
        x = divide(line, inner)
        w = line - x * inner
        part = int64(cuda.blockIdx.y)
        g = Matrices(
            m, n, x * a_0 + w * a_1 + z * a_2, a_m, a_k,
            x * b_0 + w * b_1 + z * b_2, b_k, b_n,
        )  # fmt: skip
        start = (part * stack * inner * innermost + item) * m * n
        make(
            y, a, b, bias, g,
            Operand(a_rows, a_vector, int64(0), int64(0)),
            Operand(b_rows, b_vector, int64(0), int64(0)),
            Result(n, start, n % 4 == 0, parts == 1, biased, int64(0), slope),
            row * ROWS, column * COLUMNS, part * share, min(k, part * share + share),
        )  # fmt: skip

    return run
