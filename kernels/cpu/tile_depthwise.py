"""Register tiles for channels that do not mix: windows over a row of pixels, a channel a lane.

    sums[p] += A[p + j] * B[j]        for vectors A of neighbouring pixels and B of their taps

Each vector of the input serves all taps of the window that see it, so that there are fewer loads
than multiply-adds even where every load crosses a cache line. Pixels beyond the ends of a row read
as zeros, through masks, without a padded copy. See tile.py for the rest.

A *piece* is a run of taps in one row of the kernel, `hop` columns of the input apart. A table has
two addresses a piece: of the pixel that its first tap sees at output 0, and of the mask of that
column. Masks are int64, -1 for a column of the image and 0 beyond; one follows the other as columns
do.
"""

from __future__ import annotations

from llvmlite import ir

from .tile_code import INT64, Tile, int_constant
from .tile_library import tile

# A kind of window is taps * 16 + step, the hops from one output to the next. Kind -> pieces of a
# window_grad_tile. Windows of one tap take any step.
KINDS = {16: 9, 33: 4, 49: 3, 81: 2, 113: 1, 50: 3, 66: 2, 82: 2}
SINGLE, FEW = 16, 31  # kinds of one tap; FEW where outputs are few
RUN = 8  # output pixels of a window_tile, half as many of FEW


@tile(cases={**{kind: (RUN, 1) for kind in KINDS}, FEW: (RUN // 2, 1)})
def window_tile(
    typing_context, zero, kind, pieces, count, column, hop, step, pixel, masked, b, b_step, start,
    out, out_step, outputs, slices, limit, left, left_step, slope,
):  # fmt: skip
    """out[p, n] = leaky(start[n] + sum over pieces and taps j of A[p * step + j, n] * b[j, n]).

    Output p < outputs lies at p * out_step, and sees the pixel p * step hops after that of output
    0, which is `column` columns of `pixel` elements after the table's. Masks are heeded if `masked`
    is 1: those of all columns for windows of one tap, else of the first and last that not all taps
    see. n runs over the lanes of `slices` > 0 vectors, the next one lanes further on but at most at
    `limit`; those below left - p * left_step are stored. b holds a vector a tap, those of the next
    slice `b_step` elements on; `start` a vector a slice. leaky as in `gather_tile`.
    """


@tile(cases={kind: (pieces, 1) for kind, pieces in KINDS.items()})
def window_grad_tile(
    typing_context, zero, kind, pieces, hop, step, pixel, lane, grad, grad_step, outputs, begin,
    end, out, left, left_step,
):  # fmt: skip
    """out[j, i, n] += sum over outputs p of A[i][p * step + j, n] * grad[p * grad_step + n].

    i runs over as many pieces as KINDS lists, n over the lanes of a vector, those of A from `lane`.
    Where begin <= p < end, all columns and lanes are inside; elsewhere masks are heeded, and of
    grad the lanes below left - p * left_step are read, the rest count as zero. The rest as in
    `window_tile`.
    """


@window_tile.code
def _window(t: Tile) -> None:
    (
        pieces, count, column, hop, step, pixel, masked, b, b_step, start,
        out, out_step, outputs, slices, limit, left, left_step, slope,
    ) = t.args  # fmt: skip
    builder, table, (taps, fixed) = t.builder, t.pointer(pieces, INT64), divmod(t.case, 16)
    names = ("slice", "begin", "plain", "edge", "done", "whole", "part", "onward", "leave")
    outer, begins, plain, edge, done, whole, part, onward, leave = map(t.block, names)
    none = builder.fcmp_ordered("==", slope, ir.Constant(t.element, 1.0))
    heeded = builder.icmp_signed("!=", masked, int_constant(0))
    # Columns that several outputs share are loaded once.
    columns = (t.rows - 1) * fixed + taps if taps > 1 else t.rows
    apart = hop if taps > 1 else builder.mul(hop, step)
    begin, across = builder.mul(column, pixel), builder.mul(apart, pixel)
    last = builder.sub(left, builder.mul(left_step, int_constant(t.rows - 1)))
    starts = [int_constant(0), int_constant(0), *map(t.pointer, (b, start))]
    builder.branch(outer)

    builder.position_at_end(outer)
    v, lane, weights, shift = outer_phis = t.phis(starts, t.entry)
    at = builder.select(builder.icmp_signed("<", lane, limit), lane, limit)
    origin, first = builder.add(begin, at), t.run(shift)[0]
    builder.cbranch(builder.icmp_signed(">", count, int_constant(0)), begins, done)
    builder.position_at_end(begins)
    builder.cbranch(heeded, edge, plain)

    sources = [(outer, [first] * t.rows)]
    for block in (plain, edge):
        builder.position_at_end(block)
        values = [int_constant(0), table, weights, *[first] * t.rows]
        i, piece, here, *sums = phis = t.phis(values, begins)
        row = t.at(t.pointer(builder.load(piece)), origin)
        run = [t.run(t.at(here, j * t.lanes))[0] for j in range(taps)]
        inside: list[ir.Value | None] = [None] * columns
        if block is edge:
            held = t.at(t.pointer(builder.load(t.at(piece, 1)), INT64), column)
            for q, pointer in enumerate(_spaced(t, held, apart, columns)):
                if taps == 1 or not taps - 1 <= q < columns - taps + 1:
                    inside[q] = _mask(t, pointer)
        pixels = zip(_spaced(t, row, across, columns), inside, strict=True)
        vectors = [t.run(*pair)[0] for pair in pixels]
        for j in range(taps):
            for p in range(t.rows):
                seen = vectors[p * fixed + j if taps > 1 else p]
                sums[p] = builder.call(t.fma, [seen, run[j], sums[p]])
        here = t.at(here, taps * t.lanes)
        values = [builder.add(i, int_constant(1)), t.at(piece, 2), here, *sums]
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, block)
        builder.cbranch(builder.icmp_signed("<", values[0], count), block, done)
        sources.append((block, sums))

    builder.position_at_end(done)
    sums = t.phis(sources[0][1], outer)
    for block, made in sources[1:]:
        for phi, value in zip(sums, made, strict=True):
            phi.add_incoming(value, block)
    full = builder.and_(
        builder.icmp_signed(">=", builder.sub(last, at), int_constant(t.lanes)),
        builder.icmp_signed(">=", outputs, int_constant(t.rows)),
    )
    targets = _spaced(t, t.at(t.pointer(out), at), out_step, t.rows)
    builder.cbranch(builder.and_(full, none), whole, part)
    builder.position_at_end(whole)
    for value, target in zip(sums, targets, strict=True):
        t.put([value], target)
    builder.branch(onward)
    builder.position_at_end(part)
    remaining = builder.sub(left, at)
    for p, (value, low, target) in enumerate(zip(sums, t.leaky(sums, slope), targets, strict=True)):
        wanted = builder.icmp_signed("<", int_constant(p), outputs)
        mask = t.mask(builder.select(wanted, remaining, int_constant(0)))
        t.put([builder.select(none, value, low)], target, mask)
        remaining = builder.sub(remaining, left_step)
    builder.branch(onward)

    builder.position_at_end(onward)
    values = [
        builder.add(v, int_constant(1)), builder.add(lane, int_constant(t.lanes)),
        t.at(weights, b_step), t.at(shift, t.lanes),
    ]  # fmt: skip
    for phi, value in zip(outer_phis, values, strict=True):
        phi.add_incoming(value, onward)
    builder.cbranch(builder.icmp_signed("<", values[0], slices), outer, leave)
    builder.position_at_end(leave)
    builder.ret_void()


@window_grad_tile.code
def _window_grad(t: Tile) -> None:
    (
        pieces, hop, step, pixel, lane, grad, grad_step, outputs, begin,
        end, out, left, left_step,
    ) = t.args  # fmt: skip
    builder, table, (taps, fixed) = t.builder, t.pointer(pieces, INT64), divmod(t.case, 16)
    addresses, masks = (
        [builder.load(t.at(table, 2 * r + n)) for r in range(t.rows)] for n in range(2)
    )
    rows = [t.at(t.pointer(address), lane) for address in addresses]
    masks = [t.pointer(address, INT64) for address in masks]
    shared = t.rows if taps == 1 else 1  # pieces of several taps span the same columns
    step = builder.mul(hop, step if taps == 1 else int_constant(fixed))
    target, across = t.pointer(out), builder.mul(pixel, step)

    def column(rows: list, at: ir.Value, j: int, masked: bool) -> list[ir.Value]:
        """The vectors of tap j's column, one a piece."""
        inside: list[ir.Value | None] = [None] * shared
        offset = builder.mul(hop, int_constant(j))
        if masked:
            inside = [_mask(t, t.at(mask, builder.add(at, offset))) for mask in masks[:shared]]
        offset = builder.mul(pixel, offset)
        return [t.run(t.at(row, offset), inside[r % shared])[0] for r, row in enumerate(rows)]

    kept = max(taps - fixed, 0) if taps > 1 else 0  # columns that the next output sees too
    held = [value for j in range(kept) for value in column(rows, int_constant(0), j, True)]
    sums = [t.run(t.at(target, r * t.lanes))[0] for r in range(t.rows * taps)]
    state = [int_constant(0), int_constant(0), t.pointer(grad), left, *rows, *held, *sums]
    for name, stop in (("first", begin), ("inside", end), ("last", outputs)):
        enter, loop, leave = (t.block(f"{name}_{part}") for part in ("enter", "loop", "leave"))
        masked = name != "inside"
        builder.branch(enter)
        builder.position_at_end(enter)
        builder.cbranch(builder.icmp_signed("<", state[0], stop), loop, leave)
        builder.position_at_end(loop)
        p, at, here, valid, *rest = phis = t.phis(state, enter)
        rows, rest = rest[: t.rows], rest[t.rows :]
        run = t.run(here, t.mask(valid) if masked else None)[0]
        window = [rest[j * t.rows : (j + 1) * t.rows] for j in range(kept)]
        window += [column(rows, at, j, masked) for j in range(kept, taps)]
        sums = [
            builder.call(t.fma, [window[j][r], run, rest[(kept + j) * t.rows + r]])
            for j in range(taps)
            for r in range(t.rows)
        ]
        values = [
            builder.add(p, int_constant(1)), builder.add(at, step), t.at(here, grad_step),
            builder.sub(valid, left_step), *[t.at(row, across) for row in rows],
            *[value for vectors in window[taps - kept :] for value in vectors], *sums,
        ]  # fmt: skip
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", values[0], stop), loop, leave)
        builder.position_at_end(leave)
        merged = t.phis(state, enter)
        for phi, value in zip(merged, values, strict=True):
            phi.add_incoming(value, loop)
        state = merged

    for r, value in enumerate(state[-t.rows * taps :]):
        t.put([value], t.at(target, r * t.lanes))
    builder.ret_void()


def _spaced(t: Tile, pointer: ir.Value, step: ir.Value, count: int) -> list[ir.Value]:
    """Pointers `step` apart; few registers hold them: three share one."""
    steps, made = [t.builder.mul(step, int_constant(n)) for n in range(4)], []
    for n in range(count):
        if n and n % 3 == 0:
            pointer = t.at(pointer, steps[3])
        made.append(t.at(pointer, steps[n % 3]) if n % 3 else pointer)
    return made


def _mask(t: Tile, pointer: ir.Value) -> ir.Value:
    """The mask of lanes that an int64 of -1 or 0 stands for."""
    bits = t.builder.trunc(t.builder.load(pointer), ir.IntType(t.lanes))
    return t.builder.bitcast(bits, ir.VectorType(ir.IntType(1), t.lanes))
