"""What register tiles are written with: LLVM vector code, piece by piece.

A tile's code is written when its library is compiled (tile_library.py), for one dtype and shape.
Addresses are plain integers, offsets count elements.

Nothing about any particular tile lives here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

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


class Tile:
    """The pieces that all tiles are made of: a function of floats of `size` bytes, being written.

    `args` are the arguments that it works with; `case` tells tiles of one name apart.
    """

    def __init__(
        self, function: ir.Function, args: Any, size: int, rows: int, vectors: int, case: int = 0
    ):
        self.function, self.args, self.size, self.case = function, args, size, case
        self.element = element = ir.FloatType() if size == 4 else ir.DoubleType()
        self.rows, self.vectors, self.lanes = rows, vectors, VECTOR_BYTES // size
        self.vector = ir.VectorType(element, self.lanes)
        self.entry = function.append_basic_block("entry")
        self.builder = ir.IRBuilder(self.entry)
        suffix = f"v{self.lanes}f{size * 8}"
        mask, pointer = ir.VectorType(ir.IntType(1), self.lanes), self.vector.as_pointer()
        store = ir.FunctionType(ir.VoidType(), [self.vector, pointer, INT32, mask])
        load = ir.FunctionType(self.vector, [pointer, INT32, mask, self.vector])
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
        order = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(lane, ir.Constant(kind, ir.Undefined), order)

    def mask(self, count: ir.Value) -> ir.Value:
        iota = ir.Constant(ir.VectorType(INT64, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", iota, self.splat(count))

    def run(self, pointer: ir.Value, mask: ir.Value | None = None) -> list[ir.Value]:
        """Load a row of vectors; the last one under the mask."""
        loaded = []
        for v in range(self.vectors):
            at = self.builder.bitcast(
                self.at(pointer, v * self.lanes), self.vector.as_pointer()
            )
            if mask is not None and v == self.vectors - 1:
                args = [at, ir.Constant(INT32, self.size), mask, self.nothing]
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
                args = [value, at, ir.Constant(INT32, self.size), mask]
                self.builder.call(self.masked_store, args)
            else:
                self.builder.store(value, at, align=self.size)

    def row_pointers(self, base: ir.Value, table: ir.Value) -> list[ir.Value]:
        base, table = self.pointer(base), self.pointer(table, INT64)
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

    def sum_segments(
        self, rows: list, table: ir.Value, count: ir.Value, length: ir.Value, run: ir.Value,
        sums: list,
    ) -> list[ir.Value]:  # fmt: skip
        """sums + the products of rows[r][table[s] + k] and run[s, k], over s < count, k < length.

        Goes on in a block after the loops; `length` is at least 1, and `run` one run after another.
        """
        builder, before = self.builder, self.builder.block
        outer, enter, inner, leave, done = map(
            self.block, ("outer", "enter", "inner", "leave", "summed")
        )
        builder.branch(outer)

        builder.position_at_end(outer)
        s, run, *sums = outer_phis = self.phis([int_constant(0), run, *sums], before)
        builder.cbranch(builder.icmp_signed("<", s, count), enter, done)

        builder.position_at_end(enter)
        offset = builder.load(self.at(table, s))
        shifted = [self.at(row, offset) for row in rows]
        builder.branch(inner)

        builder.position_at_end(inner)
        k, here, *partial = inner_phis = self.phis([int_constant(0), run, *sums], enter)
        partial = self.step(shifted, k, self.run(here), partial)
        after = self.at(here, self.vectors * self.lanes)
        values = [builder.add(k, int_constant(1)), after, *partial]
        for phi, value in zip(inner_phis, values, strict=True):
            phi.add_incoming(value, inner)
        builder.cbranch(builder.icmp_signed("<", values[0], length), inner, leave)

        builder.position_at_end(leave)
        values = [builder.add(s, int_constant(1)), *values[1:]]
        for phi, value in zip(outer_phis, values, strict=True):
            phi.add_incoming(value, leave)
        builder.branch(outer)

        builder.position_at_end(done)
        return sums

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
        n, kind = self.lanes, ir.VectorType(INT32, self.lanes)
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


INT32, INT64 = ir.IntType(32), ir.IntType(64)
_zero32 = ir.Constant(INT32, 0)


def int_constant(value: int) -> ir.Constant:
    return ir.Constant(INT64, value)


def _thrice(vector: ir.Type) -> tuple[ir.Type, list[ir.Type]]:
    return vector, [vector, vector, vector]
