"""Matrix products and linear layers; operands are read where they lie, whatever their strides.

float32 products keep float32 precision unless `kernels.precision()` is "tf32".
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import precision
from . import elementwise, tensor_core
from .arrays import contiguous, empty, laid_out_like
from .gemm_plan import (
    FLOATS,
    PARTS,
    Plan,
    add_parts,
    cut,
    is_aligned,
    operands,
    plan,
    reading,
    seconds,
    vector,
)
from .launch import THREADS, launch
from .reduction import channel_sum, leaky_relu_grad_sum


def matmul(a: Any, b: Any) -> Any:
    """Matrix product with NumPy's broadcasting of leading axes: (..., m, k) @ (..., k, n)."""
    if a.dtype not in FLOATS or b.dtype not in FLOATS:
        return a @ b  # other dtypes: the array library's own
    if a.ndim == 1:
        return matmul(a[None], b)[..., 0, :] if b.ndim > 1 else matmul(a[None], b)[0]
    if b.ndim == 1:
        return matmul(a, b[:, None])[..., 0]
    k = a.shape[-1]
    if k != b.shape[-2]:
        raise ValueError(f"matmul: a {a.shape} has {k} columns, b {b.shape} has {b.shape[-2]} rows")
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous:
        rows = a.reshape(math.prod(a.shape[:-1]), k)
        return _product("matmul", rows, b).reshape(*a.shape[:-1], b.shape[-1])
    return _product("matmul", a, b)


def linear(x: Any, weight: Any, bias: Any, slope: float = 1.0) -> Any:
    """x (..., I) @ weight (O, I).T + bias (O,) -> (..., O), results below 0 times `slope`."""
    o, features = weight.shape
    if x.shape[-1] != features:
        raise ValueError(
            f"linear: x {x.shape} has {x.shape[-1]} features, weight {weight.shape} takes "
            f"{features}"
        )
    if bias is not None and bias.shape != (o,):
        raise ValueError(
            f"linear: bias has shape {bias.shape}, weight {weight.shape} expects {(o,)}"
        )
    if x.ndim == 2:
        return _product("linear", x, weight.T, bias, slope)
    y = _product("linear", x.reshape(math.prod(x.shape[:-1]), features), weight.T, bias, slope)
    return y.reshape(*x.shape[:-1], o)


def linear_grads(
    grad: Any, x: Any, weight: Any, y: Any, slope: float, needed: tuple[bool, bool, bool]
) -> tuple[Any, ...]:
    """Those of dx, dweight, dbias that are needed, of y = linear(x, weight, bias, slope)."""
    o, features = weight.shape
    count = math.prod(grad.shape[:-1])
    alike = grad.dtype == x.dtype == weight.dtype and weight.dtype in FLOATS
    if alike and suits_together(count, o, features):
        return _grads_together(grad, x, weight, y, slope, needed, count)
    g, dbias = grad.reshape(count, o), None
    if slope != 1 and needed[2]:
        g, dbias = leaky_relu_grad_sum(g, y.reshape(count, o), slope)
    elif slope != 1:
        g = elementwise.leaky_relu_grad(g, y.reshape(count, o), slope)
    elif needed[2]:
        dbias = channel_sum(g)
    found = []
    if needed[0]:
        found.append(_product("linear_grads", g, weight).reshape(x.shape))
    if needed[1]:
        found.append(_product("linear_grads", g.T, x.reshape(count, features)))
    if needed[2]:
        found.append(dbias)
    return tuple(found)


def suits_together(count: int, outputs: int, inputs: int) -> bool:
    """Whether all gradients of a layer are so little work that they belong into one launch."""
    return 0 < count <= 512 and 0 < count * outputs * inputs <= 1 << 26


def _grads_together(
    grad: Any, x: Any, weight: Any, y: Any, slope: float, needed: tuple[bool, bool, bool],
    count: int,
) -> tuple[Any, ...]:  # fmt: skip
    o, features = weight.shape
    grad, x, weight, dtype = contiguous(grad), contiguous(x), contiguous(weight), weight.dtype
    y = grad if slope == 1 else contiguous(y, dtype)
    name = FLOATS[dtype]
    dx_plan, dweight_plan = linear_plans(count, o, features, name)
    dx = empty(x.shape, dtype) if needed[0] else None
    dweight = empty((o, features), dtype) if needed[1] else None
    dbias = empty((o,), dtype) if needed[2] else None
    sums, parts = dx, dx_plan.parts
    if needed[0] and parts > 1:
        sums = empty((parts, dx.size), dtype)
    dx_blocks = dx_plan.blocks if needed[0] else 0
    dweight_blocks = dweight_plan.blocks if needed[1] else 0
    blocks = dx_blocks * parts + dweight_blocks + (-(-o // 32) if needed[2] else 0)
    launch(
        "linear.grads", (blocks,), THREADS, sums, dweight, dbias, grad, y, x, weight, float(slope),
        count, o, features, dx_blocks, parts, dx_plan.share, dweight_blocks,
        int(o % 4 == 0 and is_aligned(grad) and is_aligned(y)),
        int(features % 4 == 0 and is_aligned(x) and is_aligned(weight)), T=name,
    )  # fmt: skip
    if sums is not dx:
        add_parts(dx, sums, None, 1.0, name)
    return tuple([d for d, wanted in zip((dx, dweight, dbias), needed, strict=True) if wanted])


@functools.lru_cache(maxsize=4096)
def linear_plans(count: int, outputs: int, inputs: int, dtype: str) -> tuple[Plan, Plan]:
    """How dx and dweight are cut into small tiles; only dx's sums into parts."""
    plans = [cut("small", count, inputs, outputs, 1, dtype, parts) for parts in PARTS]
    best = min(plans, key=lambda p: seconds(p, count * inputs, dtype))
    return best, cut("small", outputs, inputs, count, 1, dtype, 1)


def _product(name: str, a: Any, b: Any, bias: Any = None, slope: float = 1.0) -> Any:
    """a @ b + bias, and what is below 0 times slope."""
    if a.ndim == b.ndim == 2 and a.dtype.char == b.dtype.char == "f" and precision() == "tf32":
        y = tensor_core.matmul2d(a, b, vector(bias, a.dtype), slope)
        if y is not None:
            return y
    a, b, dtype = operands(name, a, b)
    bias = vector(bias, dtype)
    run = matmul_run(
        a.shape, a.strides, is_aligned(a), b.shape, b.strides, is_aligned(b), FLOATS[dtype]
    )
    if run is None:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return _product(name, _whole(a, lead), _whole(b, lead), bias, slope)
    y = empty(run.shape, dtype)
    sums = y if run.parts == 1 else empty((run.parts, y.size), dtype)
    launch(
        "matmul.matmul", (run.blocks, run.parts), THREADS, sums, a, b, bias, int(bias is not None),
        float(slope), *run.numbers, T=FLOATS[dtype], TILE=run.tile,
    )  # fmt: skip
    if run.parts > 1:
        add_parts(y, sums, bias, slope, FLOATS[dtype])
    return y


class Run(NamedTuple):
    """The result's shape, how it is cut, and the numbers that the kernel takes."""

    shape: tuple[int, ...]
    tile: str
    blocks: int
    parts: int
    numbers: tuple[int, ...]


@functools.lru_cache(maxsize=4096)
def matmul_run(
    a_shape: tuple[int, ...], a_strides: tuple[int, ...], a_aligned: bool,
    b_shape: tuple[int, ...], b_strides: tuple[int, ...], b_aligned: bool, dtype: str,
) -> Run | None:  # fmt: skip
    """How a @ b runs; None where the stacks have to be copied before."""
    itemsize = 4 if dtype == "float32" else 8
    *a_lead, a_m, a_k = [s // itemsize for s in a_strides]
    *b_lead, b_k, b_n = [s // itemsize for s in b_strides]
    (m, k), n = a_shape[-2:], b_shape[-1]
    lead = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    stack = stacked(lead, a_shape[:-2], a_lead, b_shape[:-2], b_lead)
    if stack is None:
        return None
    sizes, a_stack, b_stack = stack
    narrow = "thin" if m > n else "flat"
    tile, blocks, parts, share = plan(m, n, k, math.prod(sizes), dtype, narrow)
    numbers = (
        parts, share, m, n, k, a_m, a_k, b_k, b_n, *sizes, *a_stack, *b_stack,
        *reading(a_aligned, a_m, a_k, m, k, *a_stack),
        *reading(b_aligned, b_n, b_k, n, k, *b_stack),
    )  # fmt: skip
    return Run((*lead, m, n), tile, blocks, parts, numbers)


def stacked(
    lead: tuple[int, ...], a_shape: tuple[int, ...], a_strides: tuple[int, ...],
    b_shape: tuple[int, ...], b_strides: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:  # fmt: skip
    """A broadcast stack as three axes: (sizes, strides of a, strides of b); None if it has more."""
    axes = [(1, 0, 0)] * 3
    missing_a, missing_b = len(lead) - len(a_shape), len(lead) - len(b_shape)
    for axis, size in enumerate(lead):
        if size == 1:
            continue
        i, j = axis - missing_a, axis - missing_b
        a = a_strides[i] if i >= 0 and a_shape[i] > 1 else 0
        b = b_strides[j] if j >= 0 and b_shape[j] > 1 else 0
        before, a_before, b_before = axes[-1]
        if a_before == size * a and b_before == size * b:
            axes[-1] = (before * size, a, b)  # both go on evenly: one axis
        else:
            axes.append((size, a, b))
    if any(size > 1 for size, _, _ in axes[:-3]):
        return None
    return tuple(zip(*axes[-3:], strict=True))


def _whole(a: Any, lead: tuple[int, ...]) -> Any:
    """Every matrix of a broadcast stack in memory of its own."""
    return laid_out_like(a, empty((*lead, *a.shape[-2:]), a.dtype))
