"""Choosing element by element in one pass, in the order in which memory lies.

float32 and float64 arrays of one dtype are served, and numbers beside them; other dtypes go
through CuPy's functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference import choosing as plain
from .arrays import blocks_for, contiguous, empty, empty_like, full, is_array, laid_out_like
from .launch import THREADS, launch

UNUSED = (None, -1, 0.0)


def choose(x: Any, y: Any, condition: Any) -> Any:
    """x where the condition holds, y elsewhere."""
    condition = condition if is_array(condition) else full((), bool(condition), bool)
    if not _served(x, y):
        return plain.choose(x, y, condition)
    out = _result(x, y, condition)
    truth = condition.astype(bool, copy=False).view("uint8")
    launch(
        "choosing.choose", _blocks(out), THREADS, out, *_array(truth, out), *_operand(x, out),
        *_operand(y, out), out.size, T=out.dtype,
    )  # fmt: skip
    return out


def winner_share(grad: Any, x: Any, y: Any) -> Any:
    """grad where x > y, half of it where they are equal, 0 elsewhere."""
    if not is_array(grad) or not _served(grad, x, y):
        return plain.winner_share(grad, x, y)
    out = _result(grad, x, y)
    return _gradient("winner_share", out, grad, _operand(x, out), _operand(y, out))


def band(grad: Any, x: Any, low: float, high: float, closed: bool) -> Any:
    """grad where low <= x <= high if closed; otherwise 0 where x <= low or x >= high."""
    if not is_array(grad) or not is_array(x) or not _served(grad, x):
        return plain.band(grad, x, low, high, closed)
    out, kind = _result(x, grad), "closed_band" if closed else "open_band"
    return _gradient(kind, out, grad, _operand(x, out), (None, -1, float(low)), float(high))


def times_sign(grad: Any, x: Any) -> Any:
    """grad times -1, 0 or 1, the sign of x."""
    if not is_array(grad) or not is_array(x) or not _served(grad, x):
        return plain.times_sign(grad, x)
    out = _result(x, grad)
    return _gradient("times_sign", out, grad, _operand(x, out), UNUSED)


def _gradient(of, out, grad, x, y, bound=0.0):
    launch(
        "choosing.gradient", _blocks(out), THREADS, out, *_array(grad, out), *x, *y, bound,
        out.size, OF=of, T=out.dtype,
    )  # fmt: skip
    return out


def _blocks(out):
    return blocks_for(-(-out.size // 4))


def _served(*values: Any) -> bool:
    """Whether the arrays are all float32, or all float64, and the rest plain numbers."""
    dtypes = {v.dtype.char for v in values if is_array(v)}
    plain_numbers = all(is_array(v) or type(v) in (int, float, bool) for v in values)
    return plain_numbers and dtypes in ({"f"}, {"d"})


def _result(*values: Any) -> Any:
    """A new array of the broadcast shape, in the order of the first value that has that shape."""
    arrays = [v for v in values if is_array(v)]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    same = next((a for a in arrays if a.shape == shape), None)
    dtype = next(a.dtype for a in arrays if a.dtype.char in "fd")
    return empty(shape, dtype) if same is None else empty_like(same, dtype)


def _operand(value: Any, out: Any) -> tuple[Any, int, float]:
    """(array, step, number) for the kernel: see code/choosing.py."""
    return (*_array(value, out), 0.0) if is_array(value) else (None, -1, float(value))


def _array(value: Any, out: Any) -> tuple[Any, int]:
    """(array, step): one element for all, or an array in out's memory order."""
    if value.size == 1:
        return contiguous(value), 0
    steps = [s // value.itemsize for s in value.strides]
    if value.shape == out.shape and steps == [s // out.itemsize for s in out.strides]:
        return value, 1
    return laid_out_like(value, empty_like(out, value.dtype)), 1
