"""Normalisation by groups of channels, over channels-last memory: group, layer and instance norm.

Images take batch norm's passes, over a matrix of (pixels, C) for each example. Vectors are read
and written once, and once more for the weights' gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import reduction
from .arrays import as_rows, contiguous, empty, empty_like, full, like_rows, zeros
from .launch import THREADS, launch
from .norm import grad_input, grad_sums, moments, normalise, state
from .reduction import column_tile, whole_warps
from .softmax import row_teams


def group_norm(x: Any, weight: Any, bias: Any, groups: int, eps: float) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(var + eps) * weight + bias, mean, var; var is the biased one."""
    n, c = x.shape[:2]
    if x.size == 0:
        return empty_like(x), *full((2, n, groups), np.nan, x.dtype)
    rows, pixels = as_rows(x), x.size // (n * c)
    if pixels > 1:
        tile = column_tile(n, pixels, c, reduction.SUM_BLOCKS)
        mean, var = moments(rows, tile, c // groups)
        given = state(x, mean, var, weight, bias, c // groups, eps, 1)
        y = normalise(rows, n, pixels, c, given)
    else:
        y, (mean, var) = empty_like(rows), empty((2, n * groups), x.dtype)
        weight, bias = _vector(weight, 1, x), _vector(bias, 0, x)
        blocks, lanes, wide = row_teams(n * groups, c // groups)
        launch(
            "group_norm.normalise_rows", blocks, THREADS, y, mean, var, rows, weight, bias,
            float(eps), n * groups, c // groups, groups, lanes, T=x.dtype, WIDE=wide,
        )  # fmt: skip
    return like_rows(y, x.shape), mean.reshape(n, groups), var.reshape(n, groups)


def group_norm_grad(
    grad: Any, x: Any, mean: Any, var: Any, weight: Any, groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """dx, dweight, dbias of group_norm's y; mean and var depend on x."""
    n, c = x.shape[:2]
    if x.size == 0:
        return empty_like(x), *zeros((2, c), x.dtype)
    rows, grad = as_rows(x), as_rows(grad.astype(x.dtype, copy=False))
    given = state(x, mean, var, weight, None, c // groups, eps, 1)
    run = _images_grad if x.size > n * c else _rows_grad
    dx, sums = run(grad, rows, n, c, groups, given)
    return like_rows(dx, x.shape), sums[0], sums[1]


def _images_grad(grad, x, n, c, groups, given):
    pixels, (_, var, weight, _, weighted, _, group, eps, _) = len(x) // n, given
    tile = column_tile(n, pixels, c, reduction.SUM_BLOCKS)
    parts = grad_sums(None, grad, x, tile, given)
    plane, chunks = parts.size // 2, tile.chunks
    (offset, tilt), sums = empty((2, n * groups), x.dtype), empty((2, c), x.dtype)
    launch(
        "group_norm.join_groups", (n * groups,), whole_warps(group * chunks), offset, tilt, parts,
        plane, var, weight, weighted, eps, pixels, group, groups, chunks, T=x.dtype,
    )  # fmt: skip
    launch(
        "group_norm.join_channels", (c,), whole_warps(n * chunks), sums, parts, plane, var, eps,
        n, c, group, chunks, T=x.dtype,
    )  # fmt: skip
    dx = empty_like(x)
    grad_input(dx, grad, x, offset, tilt, n, pixels, c, given)
    return dx, sums


def _rows_grad(grad, x, n, c, groups, given):
    mean, var, weight, *_, group, eps, _ = given
    dx, inverse = empty_like(x), empty_like(mean)
    blocks, lanes, wide = row_teams(n * groups, group)
    launch(
        "group_norm.rows_grad", blocks, THREADS, dx, inverse, grad, x, mean, var,
        _vector(weight, 1, x), eps, n * groups, group, groups, lanes, T=x.dtype, WIDE=wide,
    )  # fmt: skip
    tile, sums = column_tile(1, n, c, reduction.SUM_BLOCKS), empty((2, c), x.dtype)
    parts = empty((2, c * tile.chunks), np.float64)
    launch(
        "group_norm.weight_sums", tile.blocks, THREADS, parts, c * tile.chunks, grad, x, mean,
        inverse, group, *tile.numbers, T=x.dtype,
    )  # fmt: skip
    reduction.join(sums, parts, tile.chunks)
    return dx, sums


def _vector(values, default, x):
    """(C,) in x's dtype; None is all `default`."""
    if values is None:
        return full((x.shape[1],), default, x.dtype)
    return contiguous(values, x.dtype)
