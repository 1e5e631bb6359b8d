"""What each PTX instruction does, for tests/cuda/ptx_machine.py.

`TABLE[name](frame, instruction)` binds an instruction to its registers, arrays with one element a
thread, and returns what executes it for the threads of a mask (True: all of them). What PTX has and
no kernel has used so far raises.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.cuda.ptx_memory import Fault

WARP = 32
KINDS = {"pred": np.dtype(bool), "f32": np.dtype(np.float32), "f64": np.dtype(np.float64)} | {
    f"{letter}{bits}": np.dtype(f"{'int' if letter == 's' else 'uint'}{bits}")
    for letter in "bus"
    for bits in (8, 16, 32, 64)
}
WIDE = {"s32": np.int64, "u32": np.uint64}
TABLE: dict[str, Callable[..., Callable[[Any], None]]] = {}


class Unknown(RuntimeError):
    """An instruction that this machine does not have."""


def instruction(*names: str, allowed: str = "") -> Callable:
    """Declare what binds the instructions of these names, with modifiers of those allowed."""

    def declare(bind):
        def checked(frame, each):
            if not set(each.modifiers) <= set(allowed.split()):
                raise Unknown(f"this machine does not know {each.text}")
            return bind(frame, each)

        TABLE.update(dict.fromkeys(names, checked))
        return bind

    return declare


def _apply(function, out, *sources):
    """Execution of out = function(*sources) by a ufunc of NumPy's."""
    if len(sources) == 1:
        (a,) = sources
        return lambda mask: function(a, out=out, where=mask)
    a, b = sources
    return lambda mask: function(a, b, out=out, where=mask)


def _compute(function, out, *sources):
    """Execution of out = function(*sources) by another function."""
    return lambda mask: np.copyto(out, function(*sources), where=mask)


def _operands(frame, each, kind=None):
    """The target and the sources, all of one kind."""
    kind = kind or each.kind
    return frame.target(each.operands[0], kind), *[frame.source(o, kind) for o in each.operands[1:]]


# ------------------------------------------------------------------------------------- arithmetic


@instruction("add", "sub", allowed="rn rz")
def _add(frame, each):
    out, a, b = _operands(frame, each)
    if "rz" in each.modifiers:
        assert each.name == "add" and each.kind == "f32", each.text
        one = np.ones_like(a)
        return _compute(functools.partial(_directed, "rz"), out, a, one, b)
    return _apply({"add": np.add, "sub": np.subtract}[each.name], out, a, b)


@instruction("mul", allowed="rn lo hi wide")
def _mul(frame, each):
    if each.kind[0] == "f":
        return _apply(np.multiply, *_operands(frame, each))
    function, kind = _product(each)
    a, b = (frame.source(o, each.kind) for o in each.operands[1:])
    return _compute(function, frame.target(each.operands[0], kind), a, b)


@instruction("mad", allowed="lo hi wide")
def _mad(frame, each):
    function, kind = _product(each)
    a, b = (frame.source(o, each.kind) for o in each.operands[1:3])
    c = frame.source(each.operands[3], kind)
    out = frame.target(each.operands[0], kind)
    return _compute(lambda a, b, c: function(a, b) + c, out, a, b, c)


def _product(each):
    """The product of two integers that is meant, and its kind."""
    if "lo" in each.modifiers:
        return np.multiply, each.kind
    wide = WIDE.get(each.kind)
    if wide is None:
        raise Unknown(f"this machine does not know {each.text}")
    if "wide" in each.modifiers:
        return lambda a, b: a.astype(wide) * b, f"{each.kind[0]}64"
    return lambda a, b: (a.astype(wide) * b >> wide(32)).astype(a.dtype), each.kind


@instruction("fma", allowed="rn rm rp rz")
def _fma(frame, each):
    out, a, b, c = _operands(frame, each)
    if "rn" in each.modifiers:
        return _compute(_fused(), out, a, b, c)
    assert each.kind == "f32", each.text
    return _compute(functools.partial(_directed, each.modifiers[0]), out, a, b, c)


@functools.cache
def _fused():
    """The ufunc a * b + c, rounded once; NumPy has none."""
    from numba import vectorize
    from numba.extending import intrinsic

    @intrinsic
    def fma(context, a, b, c):
        return a(a, b, c), lambda context, builder, signature, args: builder.fma(*args)

    kinds = ["float32(float32, float32, float32)", "float64(float64, float64, float64)"]
    return vectorize(kinds)(lambda a, b, c: fma(a, b, c)).ufunc


def _directed(mode, a, b, c):
    """a * b + c in float32, rounded down (rm), up (rp) or towards zero (rz)."""
    product, c = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + c
    part = total - product
    lost = (product - (total - part)) + (c - part)  # total + lost is the exact result
    near = total.astype(np.float32)
    above = (near > total) | ((near == total) & (lost < 0))
    below = (near < total) | ((near == total) & (lost > 0))
    down = {"rm": above, "rp": False, "rz": above & (total > 0)}[mode]
    up = {"rm": False, "rp": below, "rz": below & (total < 0)}[mode]
    found = np.where(down, np.nextafter(near, np.float32(-np.inf)), near)
    return np.where(up, np.nextafter(near, np.float32(np.inf)), found)


@instruction("div", allowed="rn approx full")
def _div(frame, each):
    out, a, b = _operands(frame, each)
    if each.kind[0] == "f":
        return _apply(np.divide, out, a, b)

    def divide(mask):
        _check_divisor(each, b, mask)
        rest = np.fmod(a, b)  # truncates, as does the division
        np.floor_divide(a - rest, b, out=out, where=mask)

    return divide


@instruction("rem")
def _rem(frame, each):
    out, a, b = _operands(frame, each)

    def remainder(mask):
        _check_divisor(each, b, mask)
        np.fmod(a, b, out=out, where=mask)

    return remainder


def _check_divisor(each, b, mask):
    if ((b == 0) & mask).any():
        raise Fault("a division by zero")


@instruction("min", "max", allowed="NaN")
def _extreme(frame, each):
    if each.kind[0] == "f" and "NaN" not in each.modifiers:
        return _apply({"min": np.fmin, "max": np.fmax}[each.name], *_operands(frame, each))
    return _apply({"min": np.minimum, "max": np.maximum}[each.name], *_operands(frame, each))


@instruction("neg", "abs", "not")
def _simple(frame, each):
    functions = {"neg": np.negative, "abs": np.absolute, "not": np.invert}
    return _apply(functions[each.name], *_operands(frame, each))


@instruction("copysign")
def _copysign(frame, each):
    out, sign, value = _operands(frame, each)
    return _apply(np.copysign, out, value, sign)


_FUNCTIONS = {  # of float64 numbers, here exact: others are off by an ulp or two on a GPU
    "ex2": np.exp2,
    "lg2": np.log2,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "rcp": np.reciprocal,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


@instruction(*_FUNCTIONS, allowed="rn approx ftz")
def _function(frame, each):
    out, x = _operands(frame, each)
    function = _FUNCTIONS[each.name]
    if each.kind == "f64" and "approx" in each.modifiers:  # the upper half of the result only
        upper = np.uint64(0xFFFFFFFF00000000)
        return _compute(lambda x: (function(x).view(np.uint64) & upper).view(np.float64), out, x)
    tiny = np.finfo(np.float32).tiny if "ftz" in each.modifiers else 0

    def run(x):
        found = function(np.where(np.abs(x) < tiny, 0 * x, x).astype(np.float64)).astype(x.dtype)
        return np.where(np.abs(found) < tiny, 0 * found, found)

    return _compute(run, out, x)


# ------------------------------------------------------------------- bits, comparisons, selection


@instruction("and", "or", "xor")
def _bitwise(frame, each):
    functions = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
    return _apply(functions[each.name], *_operands(frame, each))


@instruction("shl", "shr")
def _shift(frame, each):
    a, by = frame.source(each.operands[1], each.kind), frame.source(each.operands[2], "u32")
    out = frame.target(each.operands[0], each.kind)
    # NumPy, like PTX, fills with zeros or signs where more is shifted than there are bits.
    return _apply({"shl": np.left_shift, "shr": np.right_shift}[each.name], out, a, by)


@instruction("bfi", "bfe")
def _bit_field(frame, each):
    if each.kind[0] == "s":
        raise Unknown(f"this machine does not know {each.text}")
    values = [frame.source(o, each.kind) for o in each.operands[1:-2]]
    values += [frame.source(o, "u32") for o in each.operands[-2:]]
    out = frame.target(each.operands[0], each.kind)
    one = out.dtype.type(1)

    def insert(a, b, place, length):
        place, length = place & 255, length & 255
        field = ((one << length) - one) << place
        return (a << place & field) | (b & ~field)

    def extract(a, place, length):
        return (a >> (place & 255)) & ((one << (length & 255)) - one)

    return _compute({"bfi": insert, "bfe": extract}[each.name], out, *values)


_COMPARE = {
    "eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


@instruction("setp", allowed=" ".join(_COMPARE) + " ne num nan equ neu ltu leu gtu geu and or xor")
def _setp(frame, each):
    how, *combined = each.modifiers
    a, b = (frame.source(o, each.kind) for o in each.operands[1:3])
    out, *other = (frame.target(p, "pred") for p in each.operands[0].split("|"))
    if not combined and not other:
        if how in _COMPARE:
            return _apply(_COMPARE[how], out, a, b)
        if how in ("neu", "ne") and (how == "neu" or each.kind[0] != "f"):
            return _apply(np.not_equal, out, a, b)
    if combined:
        with_, last = frame.source(each.operands[3].lstrip("!"), "pred"), each.operands[3]
        join = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[combined[0]]

    def compare(mask):
        found = _comparison(how, a, b)
        opposite = ~found
        if combined:
            third = ~with_ if last[0] == "!" else with_.copy()
            found, opposite = join(found, third), join(opposite, third)
        np.copyto(out, found, where=mask)
        for each in other:
            np.copyto(each, opposite, where=mask)

    return compare


def _comparison(how, a, b):
    if how in _COMPARE:
        return _COMPARE[how](a, b)
    ordered = ~(np.isnan(a) | np.isnan(b)) if a.dtype.kind == "f" else np.ones(a.shape, bool)
    if how in ("num", "nan"):
        return ordered if how == "num" else ~ordered
    if how == "ne":
        return (a != b) & ordered
    return _COMPARE[how[:2]](a, b) | ~ordered if how != "neu" else a != b


@instruction("selp")
def _selp(frame, each):
    a, b = (frame.source(o, each.kind) for o in each.operands[1:3])
    p = frame.source(each.operands[3], "pred")
    return _compute(np.where, frame.target(each.operands[0], each.kind), p, a, b)


@instruction("mov", "cvta", allowed="to global")
def _mov(frame, each):
    target, source = each.operands
    if target[0] == "{":  # a number into its parts, the lowest first
        parts = [frame.whole(o) for o in parts_of(target)]
        value = frame.source(source, each.kind)

        def unpack(mask):
            for i, part in enumerate(value.view(parts[0].dtype).reshape(-1, len(parts)).T):
                np.copyto(parts[i], part, where=mask)

        return unpack
    out = frame.target(target, each.kind)
    if source[0] == "{":
        parts = [frame.whole(o) for o in parts_of(source)]
        return _compute(lambda: np.stack(parts, axis=1).reshape(-1).view(out.dtype), out)
    value = frame.source(source, each.kind)
    return lambda mask: np.copyto(out, value, where=mask)


def parts_of(operand: str) -> list[str]:
    """The registers of "{%f1, %f2}", or of one."""
    return [each.strip() for each in operand.strip("{}").split(",")]


# ------------------------------------------------------------------------------------ conversions

_ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@instruction("cvt", allowed=" ".join([*KINDS, *_ROUND]) + " rn rna tf32 sat")
def _cvt(frame, each):
    to, how = each.modifiers[-1], each.modifiers[0]
    if to == "tf32":
        x = frame.source(each.operands[1], "f32")
        return _compute(_to_tf32, frame.target(each.operands[0], "b32"), x)
    kind = KINDS[to]
    source, out = frame.whole(each.operands[1]), frame.whole(each.operands[0])
    integer = each.kind[0] != "f"  # the lower bits of a register

    def convert(mask):
        x = source.astype(KINDS[each.kind]) if integer else source
        if how in _ROUND:
            x = _ROUND[how](x)
        if "sat" in each.modifiers:
            x = np.fmin(np.fmax(x, 0), 1)  # NaN becomes 0
        if kind.kind in "iu" and x.dtype.kind == "f":
            x = _to_integer(x, kind)
        np.copyto(out, x.astype(kind).astype(out.dtype), where=mask)  # wider: signs before it

    return convert


def _to_integer(x, kind):
    """Whole numbers as integers; beyond their range its ends, and 0 for NaN."""
    info = np.iinfo(kind)
    x = x.astype(np.float64)
    inside = (x >= info.min) & (x < float(info.max) + 1)
    made = np.where(inside, x, 0).astype(kind)
    made[x > 0 & ~inside] = info.max
    made[x < info.min] = info.min
    return made


def _to_tf32(x):
    """Rounded to 10 bits after the point, halves away from zero."""
    rounded = (x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded, x.view(np.uint32))
