"""Batch normalisation fused with its activation, over channels-last memory: no pass too many.

Training reads x twice and writes y; the gradient reads grad and x twice and writes dx. What lies
between the passes is small: a block a channel joins the sums of all chunks of rows. Few rows are
read once, by one kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference.norm import move_statistics as one_by_one
from . import reduction
from .arrays import as_rows, blocks_for, contiguous, empty, empty_like, like_rows, zeros
from .launch import THREADS, launch
from .reduction import Tile, column_tile, whole_warps

WHOLE = 4096  # rows of float32 up to which one kernel does all
BLOCKS = 2112  # of a pass that joins nothing: several waves of them


def batch_norm_train(x: Any, weight: Any, bias: Any, eps: float, slope: float) -> tuple[Any, ...]:
    """y, mean, var with the batch's own statistics; var is the biased one, both (C,)."""
    rows = as_rows(x)
    if x.size == 0:
        return like_rows(empty_like(rows), x.shape), *zeros((2, x.shape[1]), x.dtype)
    if _is_whole(rows):
        y, mean, var = empty_like(rows), *empty((2, x.shape[1]), x.dtype)
        _, _, *affine, _, eps, slope = state(x, None, None, weight, bias, 1, eps, slope)
        launch(
            "whole_norm.train", (-(-x.shape[1] // 8),), 1024, y, mean, var, rows, *affine, eps,
            slope, *rows.shape, T=x.dtype,
        )  # fmt: skip
        return like_rows(y, x.shape), mean, var
    mean, var = moments(rows, column_tile(1, *rows.shape, reduction.SUM_BLOCKS), 1)
    y = normalise(rows, 1, *rows.shape, state(x, mean, var, weight, bias, 1, eps, slope))
    return like_rows(y, x.shape), mean, var


def move_statistics(
    mean: Any, var: Any, count: Any, found_mean: Any, found_var: Any, momentum: float, scale: float
) -> None:
    """Move running statistics towards those found, in place: the variance to `scale` times it.

    The int64 `count` grows by one. What is None is left alone.
    """
    if mean is None or var is None or not mean.flags.c_contiguous or not var.flags.c_contiguous:
        return one_by_one(mean, var, count, found_mean, found_var, momentum, scale)
    found = [contiguous(each, mean.dtype) for each in (found_mean, found_var)]
    launch(
        "norm.move_statistics", blocks_for(mean.size), THREADS, mean, var, count, *found,
        mean.size, int(count is not None), float(1 - momentum), float(momentum),
        float(momentum * scale), T=mean.dtype,
    )  # fmt: skip


def batch_norm_train_grad(
    grad: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float, slope: float
) -> tuple[Any, ...]:
    """dx, dweight, dbias of batch_norm_train's y; mean and var depend on x."""
    dx, sums = _backward(grad, x, mean, var, weight, bias, eps, slope, True)
    return dx, sums[0], sums[1]


def batch_norm_eval(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float, slope: float
) -> Any:
    """leaky((x - mean) / sqrt(var + eps) * weight + bias) with given statistics, all (C,)."""
    rows = as_rows(x)
    y = normalise(rows, 1, *rows.shape, state(x, mean, var, weight, bias, 1, eps, slope))
    return like_rows(y, x.shape)


def batch_norm_eval_grad(
    grad: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float, slope: float
) -> tuple[Any, ...]:
    """dx, dmean, dvar, dweight, dbias of batch_norm_eval; mean and var are independent of x."""
    dx, sums = _backward(grad, x, mean, var, weight, bias, eps, slope, False)
    return dx, sums[2], sums[3], sums[0], sums[1]


def _backward(grad, x, mean, var, weight, bias, eps, slope, train):
    rows, grad_rows = as_rows(x), as_rows(grad.astype(x.dtype, copy=False))
    channels, dx = x.shape[1], empty_like(rows)
    if x.size == 0:
        return like_rows(dx, x.shape), zeros((4, channels), x.dtype)
    given = state(x, mean, var, weight, bias, 1, eps, slope)
    if train and _is_whole(rows):
        sums, (*arrays, _, eps, slope) = empty((2, channels), x.dtype), given
        launch(
            "whole_norm.train_grad", (-(-channels // 8),), 1024, dx, sums, grad_rows, rows, *arrays,
            eps, slope, *rows.shape, T=x.dtype,
        )  # fmt: skip
        return like_rows(dx, x.shape), sums
    tile = column_tile(1, *rows.shape, reduction.SUM_BLOCKS)
    parts = grad_sums(None if train else dx, grad_rows, rows, tile, given)
    sums, (_, var, weight, *_) = empty((4, channels), x.dtype), given
    launch(
        "norm.join_batch_grad", (channels,), whole_warps(tile.chunks), sums, parts, parts.size // 2,
        var, weight, int(weight is not None), float(eps), len(rows), channels, tile.chunks,
        T=x.dtype, TRAIN=train,
    )  # fmt: skip
    if train:
        grad_input(dx, grad_rows, rows, sums[2], sums[3], 1, *rows.shape, given)
    return like_rows(dx, x.shape), sums


def _is_whole(rows):
    return len(rows) <= WHOLE and rows.dtype.char == "f"


# ---------------------------------------------------- passes over (outer, rows, channels) memory


def state(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, group: int, eps: float, slope: float
) -> tuple[Any, ...]:
    """What kernels take as the statistics, weights and activation of groups of `group` channels."""
    arrays = [None if a is None else contiguous(a, x.dtype) for a in (mean, var, weight, bias)]
    used = int(weight is not None), int(bias is not None)
    return *arrays, *used, group, float(eps), float(slope)


def moments(x: Any, tile: Tile, group: int) -> tuple[Any, Any]:
    """Mean and biased variance of each group of each matrix, flat."""
    rows, channels, *_, per, _, chunks = tile.numbers
    parts = empty((3, tile.outer * channels * chunks), np.float64)
    size = tile.outer * (channels // group)
    mean, var = empty((size,), x.dtype), empty((size,), x.dtype)
    launch(
        "norm.moments", tile.blocks, THREADS, parts, parts.size // 3, x, *tile.numbers, T=x.dtype
    )
    launch(
        "norm.join_moments", (size,), whole_warps(group * chunks), mean, var, parts,
        parts.size // 3, rows, per, chunks, group, T=x.dtype,
    )  # fmt: skip
    return mean, var


def normalise(x: Any, outer: int, rows: int, channels: int, given: tuple[Any, ...]) -> Any:
    """leaky((x - mean) scale + bias), by what `state` gave."""
    y = empty_like(x)
    if x.size:
        tile = column_tile(outer, rows, channels, BLOCKS)
        launch("norm.normalise", tile.blocks, THREADS, y, x, *given, *tile.numbers, T=x.dtype)
    return y


def grad_sums(dx: Any, grad: Any, x: Any, tile: Tile, given: tuple[Any, ...]) -> Any:
    """Sums of g, and of g (x - mean): (2, outer * channels * chunks); dx = scale g if asked for."""
    parts = empty((2, tile.outer * tile.numbers[1] * tile.chunks), np.float64)
    launch(
        "norm.grad_sums", tile.blocks, THREADS, dx, parts, parts.size // 2, grad, x, *given,
        *tile.numbers, T=x.dtype, WRITE=dx is not None,
    )  # fmt: skip
    return parts


def grad_input(
    dx: Any, grad: Any, x: Any, offset: Any, tilt: Any, outer: int, rows: int, channels: int,
    given: tuple[Any, ...],
) -> None:  # fmt: skip
    """dx = scale g - (offset + tilt (x - mean)), an offset and a tilt a group."""
    tile = column_tile(outer, rows, channels, BLOCKS)
    launch(
        "norm.grad_input", tile.blocks, THREADS, dx, grad, x, offset, tilt, *given, *tile.numbers,
        T=x.dtype,
    )  # fmt: skip
