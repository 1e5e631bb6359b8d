"""Register tiles for channels that hardly mix: one output channel a lane, vectors on both sides.

    sums[r] += A[r] * B        for vectors A[r] and B

Every multiply-add loads or shuffles its own A, and that is the limit: of rows, only as many as
cover the waiting for each sum's last addition. See tile.py for the rest.
"""

from __future__ import annotations

from llvmlite import ir

from .tile_code import INT32, INT64, Tile, int_constant
from .tile_library import tile

LANE_ROWS = 9  # at least 8 for the waiting; the 9 taps of a 3x3 kernel's gradient fill one tile
# (inputs, outputs of a group) that the tiles know, where the lanes allow it.
KINDS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (2, 4), (4, 2), (4, 4), (4, 8), (8, 4), (8, 8))


def known(inner: int, outer: int, lanes: int) -> bool:
    """Whether there are tiles for groups of so many inputs and outputs, in vectors of lanes."""
    whole = lanes % outer == 0 or outer % lanes == 0
    return whole and (inner, outer) in KINDS and vectors_of(inner, outer, lanes) <= 2


def vectors_of(inner: int, outer: int, lanes: int) -> int:
    """How many vectors of neighbouring inputs the lanes of one vector of outputs depend on."""
    return -(-(-(-lanes // outer) * inner) // lanes)


def outer_rows(inner: int) -> int:
    """Rows of a lane_outer_tile: rows * inner sums cover the waiting."""
    return max(1, LANE_ROWS // inner)


def _lane_cases(lanes: int) -> dict[int, tuple[int, int]]:
    kinds = [kind for kind in KINDS if known(*kind, lanes)]
    return {inner * 256 + outer: (LANE_ROWS, 1) for inner, outer in kinds}


def _outer_cases(lanes: int) -> dict[int, tuple[int, int]]:
    return {kind: (outer_rows(kind // 256), 1) for kind in _lane_cases(lanes)}


@tile(cases=_lane_cases)
def lane_tile(typing_context, zero, kind, a, rows, steps, count, b, start, out, outs, tail, slope):
    """out[outs[r] + n] = leaky(start[n] + sum_{k,j} a[rows[r] + steps[k] + i(n, j)] * b[k, j, n]).

    `zero` gives the dtype; kind = inner * 256 + outer, as KINDS lists, and i(n, j) = n // outer *
    inner + j. r runs over LANE_ROWS rows, n over the lanes of a vector, of which `tail` are stored,
    k over `count` >= 0 steps, j over inner. `slope` as in `gather_tile`.
    """


@lane_tile.code
def _lanes(t: Tile) -> None:
    a, rows, steps, count, b, start, out, outs, tail, slope = t.args
    builder, (inner, outer) = t.builder, divmod(t.case, 256)
    pointers, table = t.row_pointers(a, rows), t.pointer(steps, INT64)
    loop, body, done, store, leaky = map(t.block, ("loop", "body", "done", "store", "leaky"))
    run, sums = t.pointer(b), t.run(t.pointer(start)) * t.rows
    builder.branch(loop)

    builder.position_at_end(loop)
    k, here, *sums = phis = t.phis([int_constant(0), run, *sums], t.entry)
    builder.cbranch(builder.icmp_signed("<", k, count), body, done)

    builder.position_at_end(body)
    offset, new = builder.load(t.at(table, k)), []
    weights = [t.run(t.at(here, j * t.lanes))[0] for j in range(inner)]
    for pointer, total in zip(pointers, sums, strict=True):
        for pair in zip(_spread(t, t.at(pointer, offset), inner, outer), weights, strict=True):
            total = builder.call(t.fma, [*pair, total])
        new.append(total)
    values = [builder.add(k, int_constant(1)), t.at(here, inner * t.lanes), *new]
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


@tile(cases=_outer_cases)
def lane_outer_tile(typing_context, zero, kind, a, rows, steps, count, b, stride, out, tail):
    """out[r, j, n] += sum_k a[rows[r] + steps[k] + i(n, j)] * b[k * stride + n].

    kind, i and n as in `lane_tile`. r runs over outer_rows(inner) rows, k over `count` > 0 steps;
    only `tail` lanes of b are read, the rest count as zero.
    """


@lane_outer_tile.code
def _lane_outer(t: Tile) -> None:
    a, rows, steps, count, b, stride, out, tail = t.args
    builder, (inner, outer) = t.builder, divmod(t.case, 256)
    pointers, table, mask = t.row_pointers(a, rows), t.pointer(steps, INT64), t.mask(tail)
    loop, done = map(t.block, ("loop", "done"))
    run, target = t.pointer(b), t.pointer(out)
    sums = [t.run(t.at(target, r * t.lanes))[0] for r in range(t.rows * inner)]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, here, *sums = phis = t.phis([int_constant(0), run, *sums], t.entry)
    offset, run, totals = builder.load(t.at(table, k)), t.run(here, mask)[0], iter(sums)
    sums = [
        builder.call(t.fma, [vector, run, next(totals)])
        for pointer in pointers
        for vector in _spread(t, t.at(pointer, offset), inner, outer)
    ]
    values = [builder.add(k, int_constant(1)), t.at(here, stride), *sums]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", values[0], count), loop, done)

    builder.position_at_end(done)
    for r, value in enumerate(sums):
        t.put([value], t.at(target, r * t.lanes))
    builder.ret_void()


@tile()
def copy_tile(typing_context, zero, source, stride, target, pitch, count, tail):
    """target[p * pitch + n] = source[p * stride + n] for n < tail, 0 for the other lanes.

    p runs over `count` >= 0 pixels, n over the lanes of a vector.
    """


@copy_tile.code
def _copy(t: Tile) -> None:
    source, stride, target, pitch, count, tail = t.args
    builder = t.builder
    loop, body, done = map(t.block, ("loop", "body", "done"))
    mask, starts = t.mask(tail), [int_constant(0), t.pointer(source), t.pointer(target)]
    builder.branch(loop)
    builder.position_at_end(loop)
    k, here, there = phis = t.phis(starts, t.entry)
    builder.cbranch(builder.icmp_signed("<", k, count), body, done)
    builder.position_at_end(body)
    t.put(t.run(here, mask), there)
    values = [builder.add(k, int_constant(1)), t.at(here, stride), t.at(there, pitch)]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, body)
    builder.branch(loop)
    builder.position_at_end(done)
    builder.ret_void()


def _spread(t: Tile, pointer: ir.Value, inner: int, outer: int) -> list[ir.Value]:
    """For each of a group's inputs, a vector that holds in lane n that of the group of output n."""
    first = second = t.run(pointer)[0]
    if vectors_of(inner, outer, t.lanes) > 1:
        second = t.run(t.at(pointer, t.lanes))[0]
    made = []
    for j in range(inner):
        order = [n // outer * inner + j for n in range(t.lanes)]
        mask = ir.Constant(ir.VectorType(INT32, t.lanes), order)
        made.append(t.builder.shuffle_vector(first, second, mask))
    return made
