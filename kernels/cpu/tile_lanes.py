"""Register tiles for channels that do not mix: one channel a lane, vectors on both sides.

    sums[r] += A[r] * B        for vectors A[r] and B

Every multiply-add loads its own A, so two loads a cycle are the limit: of rows, only as many as
cover the waiting for each sum's last addition. See tile.py for the rest.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .tile import Tile, int_constant, single, tile_function

LANE_ROWS = 9  # at least 8 for the waiting; the 9 taps of a 3x3 kernel's gradient fill one tile


@intrinsic
def lane_tile(typing_context, zero, a, rows, steps, count, b, start, out, outs, tail, slope):
    """out[outs[r] + n] = leaky(start[n] + sum_k a[rows[r] + steps[k] + n] * b[k, n]).

    `zero` gives the dtype. r runs over LANE_ROWS rows, n over the lanes of a vector, of which
    `tail` are stored, k over `count` >= 0 steps. `slope` as in `gather_tile`.
    """
    code = single("lanes", LANE_ROWS, _lanes)
    return types.void(zero, *[types.intp] * 9, zero), code


@intrinsic
def lane_outer_tile(typing_context, zero, a, rows, steps, count, b, stride, out, tail):
    """out[r, n] += sum_k a[rows[r] + steps[k] + n] * b[k * stride + n].

    r runs over LANE_ROWS rows, n over the lanes of a vector, k over `count` > 0 steps; only `tail`
    lanes of b are read, the rest count as zero.
    """
    code = single("lane_outer", LANE_ROWS, _lane_outer)
    return types.void(zero, *[types.intp] * 8), code


@intrinsic
def spread_tile(typing_context, zero, kind, source, stride, target, pitch, count, tail):
    """Spread the channels of `count` pixels over lanes: target[p, j, n] = source[p, index].

    kind = inner * 256 + outer: index = n // outer * inner + j for j < inner, as SPREADS lists. A
    pixel has `stride` elements in source, of which `tail` at most are read, and `pitch` in target.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        element, kinds = context.get_value_type(signature.args[0]), [arg.type for arg in args[2:]]
        after = builder.append_basic_block("spread_done")
        switch = builder.switch(args[1], after)
        for inner, outer in SPREADS:
            name = f"spread_{inner}_{outer}"
            function = tile_function(
                builder.module, name, element, kinds, 1, 1,
                lambda t, inner=inner, outer=outer: _spread(t, inner, outer),
            )  # fmt: skip
            block = builder.append_basic_block(name)
            switch.add_case(int_constant(inner * 256 + outer), block)
            with builder.goto_block(block):
                builder.call(function, args[2:])
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(zero, *[types.intp] * 7), codegen


# (inputs, outputs of a group): those that spread_tile knows, where the lanes allow it.
SPREADS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (2, 4), (4, 2), (4, 4), (4, 8), (8, 4), (8, 8))


def spreads(inner: int, outer: int, lanes: int) -> bool:
    """Whether spread_tile takes groups of so many inputs and outputs, for a vector of lanes."""
    whole = lanes % outer == 0 or outer % lanes == 0
    return whole and (inner, outer) in SPREADS and -(-lanes // outer) * inner <= 2 * lanes


def _lanes(t: Tile) -> None:
    a, rows, steps, count, b, start, out, outs, tail, slope = t.function.args
    builder = t.builder
    pointers, table = t.row_pointers(a, rows), t.pointer(steps, _i64)
    loop, body, done, store, leaky = map(t.block, ("loop", "body", "done", "store", "leaky"))
    run, sums = t.pointer(b), t.run(t.pointer(start)) * t.rows
    builder.branch(loop)

    builder.position_at_end(loop)
    k, here, *sums = phis = t.phis([int_constant(0), run, *sums], t.entry)
    builder.cbranch(builder.icmp_signed("<", k, count), body, done)

    builder.position_at_end(body)
    new = _products(t, pointers, builder.load(t.at(table, k)), t.run(here)[0], sums)
    values = [builder.add(k, int_constant(1)), t.at(here, t.lanes), *new]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, body)
    builder.branch(loop)

    builder.position_at_end(done)
    mask, targets = t.mask(tail), t.row_pointers(out, outs)
    one = ir.Constant(t.element, 1.0)
    builder.cbranch(builder.fcmp_ordered("==", slope, one), store, leaky)
    for block in (store, leaky):
        builder.position_at_end(block)
        for value, pointer in zip(sums, targets, strict=True):
            t.put([value] if block is store else t.leaky([value], slope), pointer, mask)
        builder.ret_void()


def _lane_outer(t: Tile) -> None:
    a, rows, steps, count, b, stride, out, tail = t.function.args
    builder = t.builder
    pointers, table, mask = t.row_pointers(a, rows), t.pointer(steps, _i64), t.mask(tail)
    loop, done = map(t.block, ("loop", "done"))
    run, target = t.pointer(b), t.pointer(out)
    sums = [t.run(t.at(target, r * t.lanes))[0] for r in range(t.rows)]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, here, *sums = phis = t.phis([int_constant(0), run, *sums], t.entry)
    sums = _products(t, pointers, builder.load(t.at(table, k)), t.run(here, mask)[0], sums)
    values = [builder.add(k, int_constant(1)), t.at(here, stride), *sums]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", values[0], count), loop, done)

    builder.position_at_end(done)
    for r, value in enumerate(sums):
        t.put([value], t.at(target, r * t.lanes))
    builder.ret_void()


def _products(t: Tile, pointers: list, offset: ir.Value, vector: ir.Value, sums: list) -> list:
    """One multiply-add for every row."""
    return [
        t.builder.call(t.fma, [t.run(t.at(pointer, offset))[0], vector, total])
        for pointer, total in zip(pointers, sums, strict=True)
    ]


def _spread(t: Tile, inner: int, outer: int) -> None:
    source, stride, target, pitch, count, tail = t.function.args
    builder = t.builder
    span = -(-t.lanes // outer) * inner  # elements of a pixel that the lanes take
    if span > 2 * t.lanes:
        builder.ret_void()
        return
    loop, body, done = map(t.block, ("loop", "body", "done"))
    masks = [t.mask(tail), t.mask(builder.sub(tail, int_constant(t.lanes)))]
    starts = [int_constant(0), t.pointer(source), t.pointer(target)]
    builder.branch(loop)
    builder.position_at_end(loop)
    k, here, there = phis = t.phis(starts, t.entry)
    builder.cbranch(builder.icmp_signed("<", k, count), body, done)
    builder.position_at_end(body)
    first = second = t.run(here, masks[0])[0]
    if span > t.lanes:
        second = t.run(t.at(here, t.lanes), masks[1])[0]
    for j in range(inner):
        order = ir.Constant(
            ir.VectorType(_i32, t.lanes), [n // outer * inner + j for n in range(t.lanes)]
        )
        t.put([builder.shuffle_vector(first, second, order)], t.at(there, j * t.lanes))
    values = [builder.add(k, int_constant(1)), t.at(here, stride), t.at(there, pitch)]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, body)
    builder.branch(loop)
    builder.position_at_end(done)
    builder.ret_void()


_i32, _i64 = ir.IntType(32), ir.IntType(64)
