"""Losses on logits: the cost, summed as it is made, and its gradient, each one pass over memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import as_rows, channels_last, contiguous, empty, empty_like, like_rows, zeros
from .launch import THREADS, launch
from .reduction import spans, term_sums
from .softmax import row_teams


def logit_cost(x: Any, target: Any, keep: int) -> Any:
    """softplus(x) - x target, summed over all axes but the first `keep`."""
    shape = x.shape[:keep]
    if x.size == 0:
        return zeros(shape, x.dtype)
    x, target, rows = *_in_one_order(x, target, keep), math.prod(shape)
    return term_sums("logit_cost", x, target, rows, x.size // rows).reshape(shape)


def logit_cost_grad(grad: Any, x: Any, target: Any) -> Any:
    """grad (sigmoid(x) - target), grad of x's first axes."""
    seen, target = _in_one_order(x, target, grad.ndim)
    dx, rows = empty_like(seen), grad.size
    if x.size:
        columns = x.size // rows
        if rows > 1 and columns > 1 and x.size >= 1 << 32:
            raise ValueError(f"logit_cost_grad: {x.size} logits, at most 2**32 in rows with grads")
        launch(
            "loss.logit_cost_grad", spans(x.size), THREADS, dx, contiguous(grad, x.dtype), seen,
            target, rows, columns, T=x.dtype,
        )  # fmt: skip
    return dx.transpose(0, 3, 1, 2) if _is_image(x, grad.ndim) else dx


def label_cost(x: Any, labels: Any) -> Any:
    """-log softmax of x (N, C, ...) over C at the labels (N, ...); 0 where label < 0.

    Labels are int64 below C; a larger one costs NaN here.
    """
    if x.size == 0:
        return zeros(labels.shape, x.dtype)
    rows, out = as_rows(x), empty(labels.shape, x.dtype)
    blocks, lanes, wide = row_teams(*rows.shape)
    launch(
        "loss.label_cost", blocks, THREADS, out, rows, contiguous(labels, np.int64),
        *rows.shape, lanes, T=x.dtype, WIDE=wide,
    )  # fmt: skip
    return out


def label_cost_grad(grad: Any, x: Any, labels: Any) -> Any:
    """grad (softmax(x) - 1 at the label), 0 where label < 0."""
    rows = as_rows(x)
    dx = empty_like(rows)
    if x.size:
        blocks, lanes, wide = row_teams(*rows.shape)
        launch(
            "loss.label_cost_grad", blocks, THREADS, dx, contiguous(grad, x.dtype), rows,
            contiguous(labels, np.int64), *rows.shape, lanes, T=x.dtype, WIDE=wide,
        )  # fmt: skip
    return like_rows(dx, x.shape)


def _in_one_order(x, target, keep):
    """Both contiguous, images with their channels last unless axes that are kept forbid it."""
    target = target.astype(x.dtype, copy=False)
    if _is_image(x, keep):
        return channels_last(x), channels_last(target)
    return contiguous(x), contiguous(target)


def _is_image(x, keep):
    return x.ndim == 4 and keep <= 1
