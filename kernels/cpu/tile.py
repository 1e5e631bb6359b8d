"""Register tiles: the inner loops of convolution, written as LLVM vector code.

A tile holds `rows` x (`vectors` * lanes) sums in vector registers, and each step of its loop takes
one scalar from each row of A and one run of B, `vectors` registers long:

    sums[r][v] += A[r] * B[v]        rows * vectors multiply-adds for rows + vectors loads

A processor does two multiply-adds and two loads a cycle, and each sum waits about four cycles for
its last addition. So a tile wants more sums than 2 * 4, for the waiting, and at least as many
multiply-adds as loads; what bounds it is the number of registers. With AVX-512 (16 float32 lanes,
32 registers) 8 rows x 3 vectors take 24 sums, 3 of B and 1 scalar: 24 multiply-adds for 11 loads.
LLVM turns this into about 90 % of the processor's multiply-add peak, which loops over scalars do
not reach. A is read where it lies, through tables of offsets, so that no patches are gathered; B
comes as panels, `vectors` * lanes columns wide.

Addresses are plain integers (`array.ctypes.data`), offsets int64 counts of elements. Nothing here
knows what a convolution is.
"""

from __future__ import annotations

from llvmlite import ir

from .tile_code import INT64, Tile, int_constant, register_count
from .tile_library import tile

# Vectors a row -> rows of a tile: sums, one run of B and a scalar of A fill the registers. Twelve
# rows of two vectors would fit, but LLVM then hoists loads until sums spill: half as fast.
TILE_ROWS = {1: 12, 2: 8, 3: 8, 4: 6} if register_count == 32 else {1: 12, 2: 6}
RUN_ROWS = 16 if register_count == 32 else 8  # of outer_run_tile
_CASES = {vectors: (rows, vectors) for vectors, rows in TILE_ROWS.items()}
MAX_VECTORS = max(TILE_ROWS)
MAX_ROWS = max(TILE_ROWS.values())


@tile(cases=_CASES)
def gather_tile(
    typing_context,
    zero,
    vectors,
    a,
    rows,
    segments,
    segment_count,
    length,
    b,
    start,
    out,
    outs,
    tail,
    slope,
):
    """out[outs[r] + n] = leaky(start[n] + sum_{s,k} a[rows[r] + segments[s] + k] * b[s, k, n]).

    `zero` gives the dtype. r runs over TILE_ROWS[vectors] rows, n over vectors * lanes columns, of
    which the last vector stores `tail` only; s over segments, k over `length` >= 1 elements.
    leaky multiplies what is negative by `slope`, of that dtype too; with slope 0, -inf becomes 0.
    """


@gather_tile.code
def _gather(t: Tile) -> None:
    a, rows, segments, segment_count, length, b, start, out, outs, tail, slope = t.args
    builder = t.builder
    pointers, table = t.row_pointers(a, rows), t.pointer(segments, INT64)
    sums = t.run(t.pointer(start)) * t.rows
    sums = t.sum_segments(pointers, table, segment_count, length, t.pointer(b), sums)
    store, leaky = t.block("store"), t.block("leaky")
    mask, targets = t.mask(tail), t.row_pointers(out, outs)
    one = ir.Constant(t.element, 1.0)
    builder.cbranch(builder.fcmp_ordered("==", slope, one), store, leaky)
    for block in (store, leaky):
        builder.position_at_end(block)
        for r, pointer in enumerate(targets):
            row = sums[r * t.vectors : (r + 1) * t.vectors]
            t.put(row if block is store else t.leaky(row, slope), pointer, mask)
        builder.ret_void()


@tile(cases=_CASES)
def outer_tile(typing_context, zero, vectors, a, rows, steps, count, b, stride, out, first, tail):
    """out[r, n] (+)= sum_k a[rows[r] + steps[k]] * b[k * stride + n].

    `first` = 1 stores, 0 adds to what is there. r and n run as in `gather_tile`, k over `count` > 0
    steps; only `tail` lanes of the last vector of b are read, the rest count as zero.
    """


@outer_tile.code
def _outer(t: Tile) -> None:
    a, rows, steps, count, b, stride, out, first, tail = t.args
    _outer_sums(t, t.row_pointers(a, rows), steps, count, b, stride, out, first, tail)


@tile(shape=(RUN_ROWS, 1))
def outer_run_tile(typing_context, zero, a, steps, count, b, stride, out, first, tail):
    """outer_tile of one vector with rows that follow one another: rows[r] = r for r < RUN_ROWS.

    One address serves all rows, which leaves registers for more of them.
    """


@outer_run_tile.code
def _outer_run(t: Tile) -> None:
    a, steps, count, b, stride, out, first, tail = t.args
    pointers = [t.at(t.pointer(a), r) for r in range(t.rows)]
    _outer_sums(t, pointers, steps, count, b, stride, out, first, tail)


def _outer_sums(
    t: Tile, pointers: list, steps: ir.Value, count: ir.Value, b: ir.Value, stride: ir.Value,
    out: ir.Value, first: ir.Value, tail: ir.Value,
) -> None:  # fmt: skip
    builder, table, mask = t.builder, t.pointer(steps, INT64), t.mask(tail)
    nothing = [t.nothing] * (t.rows * t.vectors)
    loop, done, add, store, leave = map(t.block, ("loop", "done", "add", "store", "leave"))
    run, target = t.pointer(b), t.pointer(out)
    builder.branch(loop)

    builder.position_at_end(loop)
    k, here, *sums = phis = t.phis([int_constant(0), run, *nothing], t.entry)
    offset = builder.load(t.at(table, k))
    sums = t.step(pointers, offset, t.run(here, mask), sums)
    values = [builder.add(k, int_constant(1)), t.at(here, stride), *sums]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", values[0], count), loop, done)

    builder.position_at_end(done)
    builder.cbranch(builder.icmp_signed("==", first, int_constant(0)), add, store)
    for block in (store, add):
        builder.position_at_end(block)
        for r in range(t.rows):
            row = sums[r * t.vectors : (r + 1) * t.vectors]
            at = t.at(target, r * t.vectors * t.lanes)
            if block is add:
                row = [builder.fadd(*pair) for pair in zip(row, t.run(at), strict=True)]
            t.put(row, at)
        builder.branch(leave)
    builder.position_at_end(leave)
    builder.ret_void()
