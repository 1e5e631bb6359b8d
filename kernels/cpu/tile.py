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

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .cache import TARGET


def lanes(dtype: Any) -> int:
    """How many elements of a dtype one vector register holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def _processor() -> tuple[int, int]:
    """(bytes of a vector register, number of vector registers) that Numba compiles for."""
    triple, _, features = TARGET
    if "+avx512f" in features.split(","):
        return 64, 32
    if "+avx" in features.split(","):
        return 32, 16
    return 16, 32 if triple.startswith(("aarch64", "arm64")) else 16


VECTOR_BYTES, register_count = _processor()
# Vectors a row -> rows of a tile: sums, one run of B and a scalar of A fill the registers. Twelve
# rows of two vectors would fit, but LLVM then hoists loads until sums spill: half as fast.
TILE_ROWS = {1: 12, 2: 8, 3: 8, 4: 6} if register_count == 32 else {1: 12, 2: 6}
RUN_ROWS = 16 if register_count == 32 else 8  # of outer_run_tile
MAX_VECTORS = max(TILE_ROWS)
MAX_ROWS = max(TILE_ROWS.values())


@intrinsic
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
    return types.void(zero, *[types.intp] * 11, zero), _switch("gather", _gather)


@intrinsic
def outer_tile(typing_context, zero, vectors, a, rows, steps, count, b, stride, out, first, tail):
    """out[r, n] (+)= sum_k a[rows[r] + steps[k]] * b[k * stride + n].

    `first` = 1 stores, 0 adds to what is there. r and n run as in `gather_tile`, k over `count` > 0
    steps; only `tail` lanes of the last vector of b are read, the rest count as zero.
    """
    return types.void(zero, *[types.intp] * 10), _switch("outer", _outer)


@intrinsic
def outer_run_tile(typing_context, zero, a, steps, count, b, stride, out, first, tail):
    """outer_tile of one vector with rows that follow one another: rows[r] = r for r < RUN_ROWS.

    One address serves all rows, which leaves registers for more of them.
    """
    return types.void(zero, *[types.intp] * 8), single("outer_run", RUN_ROWS, _outer_run)


@intrinsic
def transpose_tile(typing_context, zero, source, source_stride, target, target_stride):
    """target[j, i] = source[i, j] for a square of lanes x lanes elements, rows at those strides."""

    return types.void(zero, *[types.intp] * 4), single("transpose", 1, _transpose)


def single(name: str, rows: int, build: Callable[..., None]) -> Callable[..., Any]:
    """Code that calls a tile of one vector a row."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        element, kinds = context.get_value_type(signature.args[0]), [arg.type for arg in args[1:]]
        function = tile_function(builder.module, name, element, kinds, rows, 1, build)
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return codegen


def _switch(name: str, build: Callable[..., None]) -> Callable[..., Any]:
    """Code that calls the tile for `vectors`, each a function of its own with all registers."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        element, kinds = context.get_value_type(signature.args[0]), [arg.type for arg in args[2:]]
        after = builder.append_basic_block("tile_done")
        switch = builder.switch(args[1], after)
        for vectors, rows in TILE_ROWS.items():
            function = tile_function(builder.module, name, element, kinds, rows, vectors, build)
            block = builder.append_basic_block(f"tile_{vectors}")
            switch.add_case(ir.Constant(_i64, vectors), block)
            with builder.goto_block(block):
                builder.call(function, args[2:])
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return codegen


def tile_function(
    module: ir.Module,
    name: str,
    element: ir.Type,
    kinds: list[ir.Type],
    rows: int,
    vectors: int,
    build: Callable[..., None],
) -> ir.Function:
    """A function of the module, of arguments of those kinds; built when it is first asked for."""
    size = 4 if isinstance(element, ir.FloatType) else 8
    full = f"minigen_{name}_{vectors}_{size * 8}"
    function = module.globals.get(full)
    if function is None:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), full)
        function.linkage = "internal"
        function.attributes.add("noinline")
        build(Tile(function, element, size, rows, vectors))
    return function


class Tile:
    """The pieces that all tiles are made of."""

    def __init__(self, function: ir.Function, element: ir.Type, size: int, rows: int, vectors: int):
        self.function, self.element, self.size = function, element, size
        self.rows, self.vectors, self.lanes = rows, vectors, VECTOR_BYTES // size
        self.vector = ir.VectorType(element, self.lanes)
        self.entry = function.append_basic_block("entry")
        self.builder = ir.IRBuilder(self.entry)
        suffix = f"v{self.lanes}f{size * 8}"
        mask, pointer = ir.VectorType(ir.IntType(1), self.lanes), self.vector.as_pointer()
        store = ir.FunctionType(ir.VoidType(), [self.vector, pointer, _i32, mask])
        load = ir.FunctionType(self.vector, [pointer, _i32, mask, self.vector])
        self.fma = self.declare(f"llvm.fmuladd.{suffix}", ir.FunctionType(*_thrice(self.vector)))
        self.masked_store = self.declare(f"llvm.masked.store.{suffix}.p0", store)
        self.masked_load = self.declare(f"llvm.masked.load.{suffix}.p0", load)
        self.nothing = ir.Constant(self.vector, None)

    def declare(self, name: str, function_type: ir.FunctionType) -> ir.Function:
        module = self.function.module
        return module.globals.get(name) or ir.Function(module, function_type, name)

    def block(self, name: str) -> ir.Block:
        return self.function.append_basic_block(name)

    def pointer(self, address: ir.Value, to: ir.Type | None = None) -> ir.Value:
        return self.builder.inttoptr(address, (to or self.element).as_pointer())

    def at(self, pointer: ir.Value, offset: ir.Value | int) -> ir.Value:
        if isinstance(offset, int):
            offset = int_constant(offset)
        return self.builder.gep(pointer, [offset])

    def splat(self, scalar: ir.Value) -> ir.Value:
        kind = ir.VectorType(scalar.type, self.lanes)
        lane = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _zero32)
        order = ir.Constant(ir.VectorType(_i32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(lane, ir.Constant(kind, ir.Undefined), order)

    def mask(self, count: ir.Value) -> ir.Value:
        iota = ir.Constant(ir.VectorType(_i64, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", iota, self.splat(count))

    def run(self, pointer: ir.Value, mask: ir.Value | None = None) -> list[ir.Value]:
        """Load a row of vectors; the last one under the mask."""
        loaded = []
        for v in range(self.vectors):
            at = self.builder.bitcast(
                self.at(pointer, v * self.lanes), self.vector.as_pointer()
            )
            if mask is not None and v == self.vectors - 1:
                args = [at, ir.Constant(_i32, self.size), mask, self.nothing]
                loaded.append(self.builder.call(self.masked_load, args))
            else:
                loaded.append(self.builder.load(at, align=self.size))
        return loaded

    def put(self, row: list[ir.Value], pointer: ir.Value, mask: ir.Value | None = None) -> None:
        for v, value in enumerate(row):
            at = self.builder.bitcast(
                self.at(pointer, v * self.lanes), self.vector.as_pointer()
            )
            if mask is not None and v == self.vectors - 1:
                args = [value, at, ir.Constant(_i32, self.size), mask]
                self.builder.call(self.masked_store, args)
            else:
                self.builder.store(value, at, align=self.size)

    def row_pointers(self, base: ir.Value, table: ir.Value) -> list[ir.Value]:
        base, table = self.pointer(base), self.pointer(table, _i64)
        offsets = [self.builder.load(self.at(table, r)) for r in range(self.rows)]
        return [self.at(base, offset) for offset in offsets]

    def step(self, pointers: list, offset: ir.Value, run: list, sums: list) -> list[ir.Value]:
        """One multiply-add for every sum of the tile."""
        new = []
        for r, pointer in enumerate(pointers):
            scalar = self.splat(self.builder.load(self.at(pointer, offset)))
            for v, vector in enumerate(run):
                args = [scalar, vector, sums[r * self.vectors + v]]
                new.append(self.builder.call(self.fma, args))
        return new

    def leaky(self, row: list[ir.Value], slope: ir.Value) -> list[ir.Value]:
        """value where it is > 0 or NaN, slope * value elsewhere; with slope 0 that is 0."""
        zero, made = self.nothing, []
        unused = self.builder.fcmp_ordered("==", slope, ir.Constant(self.element, 0.0))
        scale = self.splat(slope)
        for value in row:
            low = self.builder.select(unused, zero, self.builder.fmul(scale, value))
            negative = self.builder.fcmp_ordered("<=", value, zero)
            made.append(self.builder.select(negative, low, value))
        return made

    def scales(self) -> list[int]:
        """1, 2, 4 ... below the number of lanes."""
        return [1 << i for i in range(self.lanes.bit_length() - 1)]

    def halves(self, step: int) -> tuple[ir.Value, ir.Value]:
        """Masks for a pair of vectors: the lanes without and with the bit `step`, interleaved."""
        n, kind = self.lanes, ir.VectorType(_i32, self.lanes)
        low = [lane if not lane & step else n + lane - step for lane in range(n)]
        high = [lane + step if not lane & step else n + lane for lane in range(n)]
        return ir.Constant(kind, low), ir.Constant(kind, high)

    def totals(self, rows: list[ir.Value]) -> ir.Value:
        """A vector whose lane i is the sum over the lanes of rows[i], at most one row a lane."""
        rows = rows + [self.nothing] * (self.lanes - len(rows))
        for step in self.scales():
            low, high = self.halves(step)
            made = []
            for pair in zip(rows[::2], rows[1::2], strict=True):
                if pair[1] is self.nothing and pair[0] is self.nothing:
                    made.append(self.nothing)
                    continue
                swapped = [self.builder.shuffle_vector(*pair, mask) for mask in (low, high)]
                made.append(self.builder.fadd(*swapped))
            rows = made
        return rows[0]

    def phis(self, values: list[ir.Value], source: ir.Block) -> list[ir.Value]:
        made = []
        for value in values:
            phi = self.builder.phi(value.type)
            phi.add_incoming(value, source)
            made.append(phi)
        return made


def _gather(t: Tile) -> None:
    a, rows, segments, segment_count, length, b, start, out, outs, tail, slope = t.function.args
    builder = t.builder
    pointers, table = t.row_pointers(a, rows), t.pointer(segments, _i64)
    sums = t.run(t.pointer(start)) * t.rows
    names = ("outer", "enter", "inner", "leave", "done", "store", "leaky")
    outer, enter, inner, leave, done, store, leaky = map(t.block, names)
    run = t.pointer(b)
    builder.branch(outer)

    builder.position_at_end(outer)
    s, run, *sums = outer_phis = t.phis([int_constant(0), run, *sums], t.entry)
    builder.cbranch(builder.icmp_signed("<", s, segment_count), enter, done)

    builder.position_at_end(enter)
    offset = builder.load(t.at(table, s))
    shifted = [t.at(pointer, offset) for pointer in pointers]
    builder.branch(inner)

    builder.position_at_end(inner)
    k, here, *partial = inner_phis = t.phis([int_constant(0), run, *sums], enter)
    partial = t.step(shifted, k, t.run(here), partial)
    values = [builder.add(k, int_constant(1)), t.at(here, t.vectors * t.lanes), *partial]
    for phi, value in zip(inner_phis, values, strict=True):
        phi.add_incoming(value, inner)
    builder.cbranch(builder.icmp_signed("<", values[0], length), inner, leave)

    builder.position_at_end(leave)
    values = [builder.add(s, int_constant(1)), *values[1:]]
    for phi, value in zip(outer_phis, values, strict=True):
        phi.add_incoming(value, leave)
    builder.branch(outer)

    builder.position_at_end(done)
    mask, targets = t.mask(tail), t.row_pointers(out, outs)
    one = ir.Constant(t.element, 1.0)
    builder.cbranch(builder.fcmp_ordered("==", slope, one), store, leaky)
    for block in (store, leaky):
        builder.position_at_end(block)
        for r, pointer in enumerate(targets):
            row = sums[r * t.vectors : (r + 1) * t.vectors]
            t.put(row if block is store else t.leaky(row, slope), pointer, mask)
        builder.ret_void()


def _outer(t: Tile) -> None:
    a, rows, steps, count, b, stride, out, first, tail = t.function.args
    _outer_sums(t, t.row_pointers(a, rows), steps, count, b, stride, out, first, tail)


def _outer_run(t: Tile) -> None:
    a, steps, count, b, stride, out, first, tail = t.function.args
    pointers = [t.at(t.pointer(a), r) for r in range(t.rows)]
    _outer_sums(t, pointers, steps, count, b, stride, out, first, tail)


def _outer_sums(
    t: Tile, pointers: list, steps: ir.Value, count: ir.Value, b: ir.Value, stride: ir.Value,
    out: ir.Value, first: ir.Value, tail: ir.Value,
) -> None:  # fmt: skip
    builder, table, mask = t.builder, t.pointer(steps, _i64), t.mask(tail)
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


def _transpose(t: Tile) -> None:
    source, source_stride, target, target_stride = t.function.args
    source, target = t.pointer(source), t.pointer(target)
    rows = []
    for _ in range(t.lanes):
        rows += t.run(source)
        source = t.at(source, source_stride)
    for step in t.scales():  # swap the off-diagonal squares of step x step
        low, high = t.halves(step)
        for i in (i for i in range(t.lanes) if not i & step):
            pair = rows[i], rows[i + step]
            for at, mask in ((i, low), (i + step, high)):
                rows[at] = t.builder.shuffle_vector(*pair, mask)
    for row in rows:
        t.put([row], target)
        target = t.at(target, target_stride)
    t.builder.ret_void()


_i32, _i64 = ir.IntType(32), ir.IntType(64)
_zero32 = ir.Constant(_i32, 0)


def int_constant(value: int) -> ir.Constant:
    return ir.Constant(_i64, value)


def _thrice(vector: ir.Type) -> tuple[ir.Type, list[ir.Type]]:
    return vector, [vector, vector, vector]
