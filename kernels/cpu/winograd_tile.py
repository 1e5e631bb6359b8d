"""Register tiles of minimal filtering: its transforms and its products, as LLVM vector code.

A transform takes q x q vectors, multiplies them by a small matrix from both sides, and leaves p x p
of them; a vector holds neighbouring channels, and the same transform runs for `count` of them.
Which matrix is told by the number of taps (`cook_toom.matrices`). Zeros and ones of a matrix cost
nothing, and rows that differ in signs only, as those of the points 1 and -1 do, share their sums.

Addresses are plain integers (`array.ctypes.data`), strides count elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .cook_toom import TILE, Matrix, matrices
from .tile import TILE_ROWS
from .tile_code import INT64, Tile, int_constant
from .tile_library import tile

_TAPS = dict.fromkeys(TILE, (1, 1))
_PANELS = {vectors: (rows, vectors) for vectors, rows in TILE_ROWS.items()}


@tile(cases=_TAPS)
def data_tile(
    typing_context, zero, taps, pointers, count, step, left, left_step, out, out_step, stride
):
    """B^T d B: out[p, v] = transform of the vectors v of the pixels at pointers[q].

    `zero` gives the dtype; `pointers` is the address of a table of q * q addresses, one a pixel;
    v < count runs over vectors `step` elements apart in the pixels and `out_step` in out, of which
    lanes beyond left - v * left_step read as zero; the p * p results are `stride` elements apart.
    """


@data_tile.code
def _data(t: Tile) -> None:
    _transform(t, matrices(t.case)["BT"])


@tile(cases=_TAPS)
def grad_tile(
    typing_context, zero, taps, pointers, count, step, left, left_step, out, out_step, stride
):
    """A dy A^T of a tile of output gradients; arguments as for `data_tile`."""


@grad_tile.code
def _grad(t: Tile) -> None:
    _transform(t, matrices(t.case)["A"])


@tile(cases=_TAPS)
def filter_tile(
    typing_context, zero, taps, pointers, count, step, left, left_step, out, out_step, stride
):
    """G g G^T of a filter; arguments as for `data_tile`."""


@filter_tile.code
def _filter(t: Tile) -> None:
    _transform(t, matrices(t.case)["G"])


@tile(cases=_TAPS)
def filter_grad_tile(
    typing_context, zero, taps, pointers, count, step, left, left_step, out, out_step, stride
):
    """G^T u G, the filter's gradient; arguments as for `data_tile`."""


@filter_grad_tile.code
def _filter_grad(t: Tile) -> None:
    _transform(t, matrices(t.case)["GT"])


@tile(cases=_TAPS)
def output_tile(
    typing_context, zero, taps, source, stride, pointers, count, left, bias, slope, spoiled
):
    """A^T s A, and the epilogue: pixel pointers[p][v] = leaky_relu(transform + bias[v]).

    `source` holds q * q vectors `stride` elements apart, and `count` such sets one after the other;
    `spoiled` is the address of a vector that turns to NaN where a
    result is NaN or infinite before the activation.
    """


@output_tile.code
def _output(t: Tile) -> None:
    source, stride, pointers, count, left, bias, slope, spoiled = t.args
    builder, matrix = t.builder, matrices(t.case)["AT"]
    size = len(matrix[0])
    table, source, bias = t.pointer(pointers, INT64), t.pointer(source), t.pointer(bias)
    spoiled, zeros = t.pointer(spoiled), ir.Constant(t.vector, None)
    spoilt = t.run(spoiled)[0]
    loop, done = t.block("loop"), t.block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    v, at, valid, spoilt = phis = t.phis([int_constant(0), int_constant(0), left, spoilt], t.entry)
    mask, shift = t.mask(valid), t.run(t.at(bias, at))[0]
    sums, pixel = [spoilt], [0]

    def load(i: int, j: int) -> ir.Value:
        offset = builder.add(at, builder.mul(stride, int_constant(i * size + j)))
        return t.run(t.at(source, offset))[0]

    def store(value: ir.Value) -> None:
        value = builder.fadd(value, shift)
        sums[0] = builder.call(t.fma, [value, zeros, sums[0]])
        target = t.pointer(builder.load(t.at(table, pixel[0])))
        t.put(t.leaky([value], slope), t.at(target, at), mask)
        pixel[0] += 1

    _sandwich(t, matrix, load, store)
    nexts = [
        builder.add(v, int_constant(1)), builder.add(at, int_constant(t.lanes)),
        builder.sub(valid, int_constant(t.lanes)), sums[0],
    ]  # fmt: skip
    for phi, value in zip(phis, nexts, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", nexts[0], count), loop, done)
    builder.position_at_end(done)
    t.put([sums[0]], spoiled)
    builder.ret_void()


@tile(cases=_PANELS)
def product_tile(
    typing_context, zero, vectors, a, row, segments, segment_count, length, b, out, out_row, first
):
    """out[r, n] (+)= sum_{s,k} a[r * row + segments[s] + k] * b[s, k, n]; `first` = 1 stores.

    r runs over TILE_ROWS[vectors] rows, n over vectors * lanes columns.
    """


@product_tile.code
def _product(t: Tile) -> None:
    a, row, segments, segment_count, length, b, out, out_row, first = t.args
    table = t.pointer(segments, INT64)
    base, pointers = t.pointer(a), []
    for _ in range(t.rows):
        pointers.append(base)
        base = t.at(base, row)
    sums = [ir.Constant(t.vector, None)] * (t.rows * t.vectors)
    sums = t.sum_segments(pointers, table, segment_count, length, t.pointer(b), sums)
    _put_sums(t, sums, out, out_row, first)


@tile(cases=_PANELS)
def moment_tile(
    typing_context, zero, vectors, a, a_row, count, b, b_row, out, out_row, first
):
    """out[r, n] (+)= sum_{k < count} a[k * a_row + r] * b[k * b_row + n]; `first` = 1 stores."""


@moment_tile.code
def _moment(t: Tile) -> None:
    a, a_row, count, b, b_row, out, out_row, first = t.args
    builder = t.builder
    sums = [ir.Constant(t.vector, None)] * (t.rows * t.vectors)
    loop, done = t.block("loop"), t.block("done")
    start = [int_constant(0), t.pointer(a), t.pointer(b), *sums]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, column, run, *sums = phis = t.phis(start, t.entry)
    pointers = [t.at(column, r) for r in range(t.rows)]
    sums = t.step(pointers, int_constant(0), t.run(run), sums)
    values = [builder.add(k, int_constant(1)), t.at(column, a_row), t.at(run, b_row), *sums]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", values[0], count), loop, done)

    builder.position_at_end(done)
    _put_sums(t, sums, out, out_row, first)


@intrinsic
def prefetch(typing_context, address, write):
    """Ask for the cache line at an address, which need not be valid; write = 1 to write to it."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        keep, data = ir.Constant(flag, 3), ir.Constant(flag, 1)
        mode = ir.Constant(flag, signature.args[1].literal_value)
        builder.call(function, [builder.inttoptr(args[0], byte), mode, keep, data])
        return context.get_dummy_value()

    if not isinstance(write, types.IntegerLiteral):
        return None
    return types.void(types.intp, write), codegen


# -------------------------------------------------------------------------------- the transforms


def _transform(t: Tile, matrix: Matrix) -> None:
    pointers, count, step, left, left_step, out, out_step, stride = t.args
    builder, size = t.builder, len(matrix[0])
    table, target = t.pointer(pointers, INT64), t.pointer(out)
    loop, done = t.block("loop"), t.block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    v, at, valid, target = phis = t.phis([int_constant(0), int_constant(0), left, target], t.entry)
    mask = t.mask(valid)

    def load(i: int, j: int) -> ir.Value:
        pixel = t.pointer(builder.load(t.at(table, i * size + j)))
        return t.run(t.at(pixel, at), mask)[0]

    place = [target]

    def store(value: ir.Value) -> None:
        t.put([value], place[0])
        place[0] = t.at(place[0], stride)

    _sandwich(t, matrix, load, store)
    nexts = [
        builder.add(v, int_constant(1)), builder.add(at, step), builder.sub(valid, left_step),
        t.at(target, out_step),
    ]  # fmt: skip
    for phi, value in zip(phis, nexts, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", nexts[0], count), loop, done)
    builder.position_at_end(done)
    builder.ret_void()


def _sandwich(
    t: Tile,
    matrix: Matrix,
    load: Callable[[int, int], ir.Value],
    store: Callable[[ir.Value], None],
) -> None:
    """matrix @ tile @ matrix.T, the results stored row by row."""
    size = len(matrix[0])
    columns = [_multiply(t, matrix, [load(i, j) for i in range(size)]) for j in range(size)]
    for row in zip(*columns, strict=True):
        for value in _multiply(t, matrix, list(row)):
            store(value)


def _multiply(t: Tile, matrix: Matrix, inputs: list[ir.Value]) -> list[ir.Value]:
    """matrix @ inputs, each pair of rows s + d and s - d from the sums s and d."""
    out: list[ir.Value | None] = [None] * len(matrix)
    for i, row in enumerate(matrix):
        for j in range(i + 1, len(matrix)):
            both = [(a + b) / 2 for a, b in zip(row, matrix[j], strict=True)]
            apart = [(a - b) / 2 for a, b in zip(row, matrix[j], strict=True)]
            overlap = any(a and b for a, b in zip(both, apart, strict=True))
            if out[i] is out[j] is None and any(both) and any(apart) and not overlap:
                s, d = _dot(t, both, inputs), _dot(t, apart, inputs)
                out[i], out[j] = t.builder.fadd(s, d), t.builder.fsub(s, d)
        if out[i] is None:
            out[i] = _dot(t, row, inputs)
    return out


def _dot(t: Tile, row: Any, inputs: list[ir.Value]) -> ir.Value:
    """The sum of row[i] * inputs[i]; signs and ones are free where that is possible."""
    terms = [(c, x) for c, x in zip(row, inputs, strict=True) if c]
    terms.sort(key=lambda term: term[0] != 1)  # begin with a plain value if there is one
    total = None
    for c, x in terms:
        if total is None:
            total = x if c == 1 else t.builder.fmul(x, _constant(t, c))
        elif c == 1:
            total = t.builder.fadd(total, x)
        elif c == -1:
            total = t.builder.fsub(total, x)
        else:
            total = t.builder.call(t.fma, [x, _constant(t, c), total])
    return total


def _constant(t: Tile, value: Any) -> ir.Constant:
    return ir.Constant(t.vector, [float(value)] * t.lanes)


# ---------------------------------------------------------------------------------- the products


def _put_sums(t: Tile, sums: list, out: ir.Value, out_row: ir.Value, first: ir.Value) -> None:
    """Store the tile's sums, or add them to what is there."""
    builder = t.builder
    add, store, leave = map(t.block, ("add", "store", "leave"))
    builder.cbranch(builder.icmp_signed("==", first, int_constant(0)), add, store)
    for block in (store, add):
        builder.position_at_end(block)
        at = t.pointer(out)
        for r in range(t.rows):
            row = sums[r * t.vectors : (r + 1) * t.vectors]
            if block is add:
                row = [builder.fadd(*pair) for pair in zip(row, t.run(at), strict=True)]
            t.put(row, at)
            at = t.at(at, out_row)
        builder.branch(leave)
    builder.position_at_end(leave)
    builder.ret_void()
