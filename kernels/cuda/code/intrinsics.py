"""Instructions that Numba has no name for: tensor cores, asynchronous copies, wide accesses.

Places in memory are an array (shared) or a pointer (global) and the number of an element, which
must be a multiple of how many are moved at once. Of matrices, a warp holds fragments: lane
4 g + t (g < 8, t < 4) has, of 16 x 8 elements A[row, k], A[g, t], A[g + 8, t], A[g, t + 4] and
A[g + 8, t + 4]; of 8 x 8 elements B[k, column], B[t, g] and B[t + 4, g]; and of 16 x 8 sums
C[row, column], C[g, 2t], C[g, 2t + 1], C[g + 8, 2t] and C[g + 8, 2t + 1] (PTX ISA, "Matrix
fragments for mma.m16n8k8").
"""

from __future__ import annotations

from llvmlite import ir
from numba.cuda.extending import intrinsic
from numba.types import UniTuple, void

from .language import float32

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_TWO = ir.VectorType(_FLOAT, 2)


@intrinsic
def multiply_add(context, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """C + A B of 16 x 8 sums, from fragments: (c0, c1, c2, c3). Factors round by `tf32` first."""

    def code(context, builder, signature, args):
        factors = [builder.bitcast(a, _INT) for a in args[:6]]
        result = ir.LiteralStructType([_FLOAT] * 4)
        kind = ir.FunctionType(result, [_INT] * 6 + [_FLOAT] * 4)
        text = (
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
        )
        asm = ir.InlineAsm(kind, text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", side_effect=True)
        return _as_tuple(context, builder, signature, builder.call(asm, [*factors, *args[6:]]))

    return UniTuple(float32, 4)(*[float32] * 10), code


@intrinsic
def tf32(context, x):
    """x rounded to the 10 bits after the point that tensor cores multiply, halves away from 0."""

    def code(context, builder, signature, args):
        asm = ir.InlineAsm(ir.FunctionType(_INT, [_FLOAT]), "cvt.rna.tf32.f32 $0, $1;", "=r,f")
        return builder.bitcast(builder.call(asm, args), _FLOAT)

    return float32(float32), code


@intrinsic
def load_matrices(context, shared, at):
    """Four 8 x 4 matrices from shared memory, one element of each to every lane.

    Lane 8 i + r gives the place of row r of matrix i, whose 4 elements lie there; every lane
    4 g + t gets element t of row g of matrices 0 to 3.
    """

    def code(context, builder, signature, args):
        words = ir.LiteralStructType([_INT] * 4)
        asm = ir.InlineAsm(
            ir.FunctionType(words, [_INT]),
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];",
            "=r,=r,=r,=r,r,~{memory}",
            side_effect=True,
        )
        found = builder.call(asm, [_in_shared(context, builder, signature.args[0], args)])
        return _as_tuple(context, builder, signature, found)

    return UniTuple(float32, 4)(shared, at), code


@intrinsic
def load(context, shared, at):
    """shared[at], without a look at whether `at` is negative, which Numba's own indexing takes."""

    def code(context, builder, signature, args):
        asm = ir.InlineAsm(
            ir.FunctionType(_FLOAT, [_INT]), "ld.shared.f32 $0, [$1];", "=f,r,~{memory}",
            side_effect=True,
        )  # fmt: skip
        return builder.call(asm, [_in_shared(context, builder, signature.args[0], args)])

    return float32(shared, at), code


@intrinsic
def load2(context, shared, at):
    """shared[at] and shared[at + 1] by one instruction; `at` is even."""

    def code(context, builder, signature, args):
        kind = ir.FunctionType(ir.LiteralStructType([_FLOAT] * 2), [_INT])
        text = "ld.shared.v2.f32 {$0, $1}, [$2];"
        asm = ir.InlineAsm(kind, text, "=f,=f,r,~{memory}", side_effect=True)
        found = builder.call(asm, [_in_shared(context, builder, signature.args[0], args)])
        return _as_tuple(context, builder, signature, found)

    return UniTuple(float32, 2)(shared, at), code


@intrinsic
def store2(context, pointer, at, a, b):
    """pointer[at : at + 2] = a, b by one instruction; `at` is even."""

    def code(context, builder, signature, args):
        place = builder.bitcast(builder.gep(args[0], [args[1]]), _TWO.as_pointer())
        values = ir.Constant(_TWO, ir.Undefined)
        for i, each in enumerate(args[2:]):
            values = builder.insert_element(values, each, _INT(i))
        builder.store(values, place, align=8)

    return void(pointer, at, float32, float32), code


@intrinsic
def store4(context, pointer, at, a, b, c, d):
    """pointer[at : at + 4] = a, b, c, d by one instruction, or two where numbers have 8 bytes."""

    def code(context, builder, signature, args):
        four = ir.VectorType(args[0].type.pointee, 4)
        place = builder.bitcast(builder.gep(args[0], [args[1]]), four.as_pointer())
        values = ir.Constant(four, ir.Undefined)
        for i, each in enumerate(args[2:]):
            values = builder.insert_element(values, each, _INT(i))
        builder.store(values, place, align=16)

    return void(pointer, at, *[pointer.dtype] * 4), code


@intrinsic
def read4(context, source, at):
    """source[at : at + 4] of a pointer or shared array, of either precision; compilers may move it.

    16 bytes an instruction, which the place must be a multiple of.
    """

    def code(context, builder, signature, args):
        found = builder.load(_four(context, builder, signature, args), align=16)
        values = [builder.extract_element(found, _INT(i)) for i in range(4)]
        return context.make_tuple(builder, signature.return_type, values)

    return UniTuple(source.dtype, 4)(source, at), code


@intrinsic
def write4(context, target, at, a, b, c, d):
    """target[at : at + 4] = a, b, c, d, where read4 would read them."""

    def code(context, builder, signature, args):
        place = _four(context, builder, signature, args)
        values = ir.Constant(place.type.pointee, ir.Undefined)
        for i, each in enumerate(args[2:]):
            values = builder.insert_element(values, each, _INT(i))
        builder.store(values, place, align=16)

    return void(target, at, *[target.dtype] * 4), code


@intrinsic
def copy_async(context, shared, to, pointer, at, wanted):
    """Start to copy 4 elements to shared memory, or where `wanted` is false to put zeros there."""

    def code(context, builder, signature, args):
        array, to, pointer, at, wanted = args
        asm = ir.InlineAsm(
            ir.FunctionType(ir.VoidType(), [_INT, pointer.type, _INT]),
            "cp.async.cg.shared.global.L2::128B [$0], [$1], 16, $2;",
            "r,l,r,~{memory}",
            side_effect=True,
        )
        size = builder.select(wanted, _INT(16), _INT(0))
        place = _in_shared(context, builder, signature.args[0], [array, to])
        builder.call(asm, [place, builder.gep(pointer, [at]), size])

    return void(shared, to, pointer, at, wanted), code


@intrinsic
def commit_copies(context):
    """Make a group of the copies that this thread started since the last one."""
    return void(), _instruction("cp.async.commit_group;")


@intrinsic
def wait_for_all_but(context, groups):
    """Wait until all but the newest `groups` (a constant) groups of this thread are copied."""
    if not hasattr(groups, "literal_value"):
        return None
    return void(groups), _instruction(f"cp.async.wait_group {groups.literal_value};")


def _instruction(text):
    def code(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(ir.InlineAsm(kind, text, "~{memory}", side_effect=True), [])

    return code


def _as_tuple(context, builder, signature, struct):
    count = len(struct.type.elements)
    values = [builder.bitcast(builder.extract_value(struct, i), _FLOAT) for i in range(count)]
    return context.make_tuple(builder, signature.return_type, values)


def _in_shared(context, builder, array_type, args):
    """The 32-bit address of an element of an array in shared memory."""
    array = context.make_array(array_type)(context, builder, args[0])
    first = builder.addrspacecast(array.data, ir.PointerType(_FLOAT, 3))
    at = args[1] if args[1].type == _INT else builder.trunc(args[1], _INT)
    return builder.add(builder.ptrtoint(first, _INT), builder.mul(at, _INT(4)))


def _four(context, builder, signature, args):
    """The address of four elements behind a pointer or of an array."""
    kind, start = signature.args[0], args[0]
    if not isinstance(start.type, ir.PointerType):
        start = context.make_array(kind)(context, builder, start).data
    place = builder.gep(start, [args[1]])
    return builder.bitcast(place, ir.VectorType(place.type.pointee, 4).as_pointer())
