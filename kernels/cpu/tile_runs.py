"""Register tiles for weight gradients of odd shapes: vectors run along taps and channels.

    sums[r][v] += A[r] * B[v]        for scalars A of the outputs' gradient, vectors B of the input

The runs of taps and channels that are contiguous in memory fill the lanes, wherever they begin, and
each output takes a row: no lane waits for outputs that are not there. See tile.py for the rest.
"""

from __future__ import annotations

from llvmlite import ir

from .tile_code import INT64, Tile, int_constant, register_count
from .tile_library import tile

# Case -> (outputs, vectors) of a tile: the sums, the vectors and a scalar fill the registers.
_SHAPES = [(1, 8), (2, 8), (3, 8), (4, 6), (6, 4), (8, 3), (4, 3), (3, 4), (3, 3), (2, 4), (1, 3)]
RUN_TILES = {
    rows * 16 + vectors: (rows, vectors)
    for rows, vectors in _SHAPES
    if rows * vectors + vectors < register_count + 1
}


@tile(cases=RUN_TILES)
def run_tile(
    typing_context, zero, case, a, a_pixel, a_line, b, offsets, b_pixel, b_line, columns, lines, out
):
    """out[r, v, n] += sum over pixels (t, u) of a[t, u, r] * b[t, u, offsets[v] + n].

    a[t, u] lies at t * a_line + u * a_pixel, b[t, u] likewise; t < lines, u < columns, both > 0.
    """


@run_tile.code
def _runs(t: Tile) -> None:
    a, a_pixel, a_line, b, offsets, b_pixel, b_line, columns, lines, out = t.args
    builder, table, target = t.builder, t.pointer(offsets, INT64), t.pointer(out)
    places = [builder.load(t.at(table, v)) for v in range(t.vectors)]
    sums = [value for r in range(t.rows) for value in t.run(t.at(target, r * t.vectors * t.lanes))]
    outer, loop, leave, done = map(t.block, ("outer", "loop", "leave", "done"))
    starts = [int_constant(0), t.pointer(a), t.pointer(b), *sums]
    builder.branch(outer)

    builder.position_at_end(outer)
    line, left, right, *sums = outer_phis = t.phis(starts, t.entry)
    rows = [t.at(right, place) for place in places]
    builder.branch(loop)

    builder.position_at_end(loop)
    starts = [int_constant(0), int_constant(0), left, *sums]
    u, at, here, *sums = phis = t.phis(starts, outer)
    run = [_vector(t, t.at(row, at)) for row in rows]
    sums = t.step([t.at(here, r) for r in range(t.rows)], int_constant(0), run, sums)
    values = [builder.add(u, int_constant(1)), builder.add(at, b_pixel), t.at(here, a_pixel), *sums]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", values[0], columns), loop, leave)

    builder.position_at_end(leave)
    values = [builder.add(line, int_constant(1)), t.at(left, a_line), t.at(right, b_line), *sums]
    for phi, value in zip(outer_phis, values, strict=True):
        phi.add_incoming(value, leave)
    builder.cbranch(builder.icmp_signed("<", values[0], lines), outer, done)

    builder.position_at_end(done)
    for r in range(t.rows):
        row = sums[r * t.vectors : (r + 1) * t.vectors]
        t.put(row, t.at(target, r * t.vectors * t.lanes))
    builder.ret_void()


def _vector(t: Tile, pointer: ir.Value) -> ir.Value:
    return t.builder.load(t.builder.bitcast(pointer, t.vector.as_pointer()), align=t.size)
