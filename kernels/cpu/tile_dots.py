"""Register tiles for few outputs: vectors run along what is summed over, lanes are added at last.

    sums[r][o] += A[r] * B[o]        for vectors A[r] and B[o]

Where the tiles of tile.py would leave most lanes idle, here none is, as long as the runs that are
summed over are longer than a vector. See tile.py for the rest.
"""

from __future__ import annotations

from llvmlite import ir

from .tile_code import INT32, INT64, Tile, int_constant, register_count
from .tile_library import tile

DOT_OUTPUTS = 8  # at most
# Outputs -> rows of a tile: the sums, a run of B and a vector of A fill the registers.
DOT_ROWS = {o: max(1, min(8, (register_count * 3 // 4) // o)) for o in range(1, DOT_OUTPUTS + 1)}


@tile(cases={outputs: (rows, 1) for outputs, rows in DOT_ROWS.items()})
def dot_tile(
    typing_context,
    zero,
    outputs,
    a,
    rows,
    segments,
    segment_count,
    length,
    b,
    start,
    out,
    outs,
    slope,
):
    """out[outs[r] + o] = leaky(start[o] + sum_{s,k} a[rows[r] + segments[s] + k] * b[o, s, k]).

    `zero` gives the dtype. r runs over DOT_ROWS[outputs] rows, o over `outputs`, s over segments, k
    over `length` >= 1 elements. `start` holds as many copies of a row as fit in one vector. `slope`
    as in `gather_tile`.
    """


@dot_tile.code
def _dot(t: Tile) -> None:
    a, rows, segments, segment_count, length, b, start, out, outs, slope = t.args
    builder, outputs = t.builder, t.case
    pointers, table = t.row_pointers(a, rows), t.pointer(segments, INT64)
    depth = builder.mul(segment_count, length)
    runs = [t.at(t.pointer(b), builder.mul(depth, int_constant(o))) for o in range(outputs)]
    whole = builder.and_(length, int_constant(-t.lanes))
    mask = t.mask(builder.sub(length, whole))
    names = ("outer", "enter", "inner", "body", "leave", "rest", "next", "done", "store", "leaky")
    outer, enter, inner, body, leave, rest, onward, done, store, leaky = map(t.block, names)
    sums = [t.nothing] * (t.rows * outputs)
    builder.branch(outer)

    def add(offset: ir.Value, place: ir.Value, sums: list, mask: ir.Value | None) -> list:
        vectors = [t.run(t.at(run, place), mask)[0] for run in runs]
        new = []
        for r, pointer in enumerate(pointers):
            row = t.run(t.at(pointer, offset), mask)[0]
            for o, vector in enumerate(vectors):
                new.append(builder.call(t.fma, [row, vector, sums[r * outputs + o]]))
        return new

    builder.position_at_end(outer)
    s, place, *sums = outer_phis = t.phis([int_constant(0), int_constant(0), *sums], t.entry)
    builder.cbranch(builder.icmp_signed("<", s, segment_count), enter, done)

    builder.position_at_end(enter)
    offset = builder.load(t.at(table, s))
    builder.branch(inner)

    builder.position_at_end(inner)
    k, *partial = inner_phis = t.phis([int_constant(0), *sums], enter)
    builder.cbranch(builder.icmp_signed("<", k, whole), body, leave)

    builder.position_at_end(body)
    new = add(builder.add(offset, k), builder.add(place, k), partial, None)
    for phi, value in zip(inner_phis, [builder.add(k, int_constant(t.lanes)), *new], strict=True):
        phi.add_incoming(value, body)
    builder.branch(inner)

    builder.position_at_end(leave)
    builder.cbranch(builder.icmp_signed("<", whole, length), rest, onward)

    builder.position_at_end(rest)
    masked = add(builder.add(offset, whole), builder.add(place, whole), partial, mask)
    builder.branch(onward)

    builder.position_at_end(onward)
    merged = t.phis(partial, leave)
    for phi, value in zip(merged, masked, strict=True):
        phi.add_incoming(value, rest)
    values = [builder.add(s, int_constant(1)), builder.add(place, length), *merged]
    for phi, value in zip(outer_phis, values, strict=True):
        phi.add_incoming(value, onward)
    builder.branch(outer)

    builder.position_at_end(done)
    each = min(t.lanes // outputs, t.rows)  # rows that one vector of totals holds
    first, targets = t.run(t.pointer(start))[0], t.row_pointers(out, outs)
    totals = []
    for r in range(0, t.rows, each):
        totals.append(builder.fadd(t.totals(sums[r * outputs : (r + each) * outputs]), first))
    one, few = ir.Constant(t.element, 1.0), t.mask(int_constant(outputs))
    builder.cbranch(builder.fcmp_ordered("==", slope, one), store, leaky)
    for block in (store, leaky):
        builder.position_at_end(block)
        final = totals if block is store else t.leaky(totals, slope)
        for r, pointer in enumerate(targets):
            at = r % each * outputs
            order = [min(at + n, t.lanes - 1) for n in range(t.lanes)]
            mask = ir.Constant(ir.VectorType(INT32, t.lanes), order)
            t.put([builder.shuffle_vector(final[r // each], t.nothing, mask)], pointer, few)
        builder.ret_void()
