"""How a matrix product is cut into blocks: the tile, and into how many parts each sum.

A sum is cut into parts where the tiles alone would leave most of the
multiprocessors idle; the parts are added up afterwards, in their order.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .arrays import blocks_for, contiguous, readable
from .code.tiles import TILES
from .launch import THREADS, launch

FLOATS = {np.dtype(np.float32): "float32", np.dtype(np.float64): "float64"}  # dtype.name is slow
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # into so many a sum is cut

# An H200, in seconds and bytes. Only the order of the estimates matters.
MULTIPROCESSORS = 132
RATES = {"float32": 2.1e11, "float64": 1.0e11}  # multiply-adds a second of a multiprocessor
SHARES = {"large": 0.75, "medium": 0.5, "small": 0.5, "thin": 0.1, "flat": 0.1}  # of that rate
TOGETHER = {"large": 2, "medium": 4, "small": 4, "thin": 4, "flat": 4}  # blocks of one
STEP = 4.5e-7  # no step is faster than a load from memory
LAUNCH, BANDWIDTH = 2e-6, 3e12


class Plan(NamedTuple):
    """A tile's name, the grid's blocks, the parts of a sum, and how many products a part has."""

    tile: str
    blocks: int
    parts: int
    share: int


@functools.lru_cache(maxsize=4096)
def plan(rows: int, columns: int, depth: int, stack: int, dtype: str, other: str) -> Plan:
    """The fastest for `stack` products (rows, depth) @ (depth, columns), by an estimate.

    `other` names the tile that may be taken beside the square ones: "thin" or "flat".
    """
    plans = [
        cut(tile, rows, columns, depth, stack, dtype, parts)
        for tile in ("large", "medium", "small", other)
        for parts in PARTS
    ]
    return min(plans, key=lambda p: seconds(p, rows * columns * stack, dtype))


def cut(tile: str, rows: int, columns: int, depth: int, stack: int, dtype: str, parts: int) -> Plan:
    """The plan for one tile and about so many parts, each of whole steps."""
    t = TILES[dtype][tile]
    blocks = -(-rows // t.rows) * -(-columns // t.columns) * stack
    share = max(1, -(-depth // (t.depth * parts))) * t.depth
    return Plan(tile, blocks, max(1, -(-depth // share)), share)


def seconds(p: Plan, results: int, dtype: str) -> float:
    """What a plan takes, roughly."""
    t = TILES[dtype][p.tile]
    blocks, room = p.blocks * p.parts, MULTIPROCESSORS * TOGETHER[p.tile]
    full, last = divmod(blocks, room)
    products = t.rows * t.columns * t.depth / (RATES[dtype] * SHARES[p.tile])
    steps, ends = p.share // t.depth, 2 * STEP  # the first tiles come, the sums go
    time = full * (ends + max(STEP, TOGETHER[p.tile] * products) * steps)
    if last:
        time += ends + max(STEP, -(-last // MULTIPROCESSORS) * products) * steps
    if p.parts > 1:
        itemsize = 4 if dtype == "float32" else 8
        time += LAUNCH + (2 * p.parts + 1) * results * itemsize / BANDWIDTH
    return time


def reading(
    aligned: bool, row: int, k: int, rows: int, depth: int, *others: int, uneven: str = ""
) -> tuple[int, int]:
    """How four neighbours of an operand are read: (along rows, with 16-byte loads).

    `row` and `k` are the elements from one row, and from one k, to the next, of `rows` and `depth`
    that lie so; `others` are all of the other strides. Neighbours along "rows" or "k" that are
    `uneven` lie so only by chance. `aligned`: the first element is at a multiple of 16 bytes.
    """
    along_rows = row == 1 and (k != 1 or rows > depth)
    step, count, across = (row, rows, k) if along_rows else (k, depth, row)
    vector = aligned and step == 1 and count % 4 == across % 4 == 0
    vector = vector and uneven != ("rows" if along_rows else "k")
    return int(along_rows), int(vector and all(s % 4 == 0 for s in others))


def operands(name: str, a: Any, b: Any) -> tuple[Any, Any, np.dtype]:
    """a and b as kernels can read them, of their common dtype; TypeError where that is no float."""
    dtype = a.dtype if a.dtype == b.dtype else np.promote_types(a.dtype, b.dtype)
    if dtype not in FLOATS:
        raise TypeError(f"{name}: got {dtype}, expected float32 or float64 on a GPU")
    return readable(a, dtype), readable(b, dtype), dtype


def vector(x: Any, dtype: np.dtype) -> Any:
    """A bias (or None) as kernels take it."""
    if x is None or (x.dtype == dtype and x.flags.c_contiguous):
        return x
    return contiguous(x, dtype)


def is_aligned(x: Any) -> bool:
    """Whether x begins at a multiple of 16 bytes."""
    return x.data.ptr % 16 == 0


def add_parts(y: Any, parts: Any, bias: Any, slope: float, dtype: str) -> None:
    """y = the sum of parts (count, ...), with a bias of y's last axis in memory, activated."""
    launch(
        "gemm.add_parts", blocks_for(y.size), THREADS, y, parts, bias, int(bias is not None),
        1 if bias is None else bias.size, float(slope), len(parts), y.size, T=dtype,
    )  # fmt: skip
