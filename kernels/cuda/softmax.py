"""Softmax of the rows of a matrix, and its gradients."""

from __future__ import annotations

from typing import Any

from .arrays import BLOCKS, blocks_for, contiguous, empty
from .code.loads import FEW
from .launch import THREADS, launch
from .reduction import SHORT, power_of_two


def softmax(x: Any) -> Any:
    """exp(x) over its sum along a row, without overflow: (rows, C)."""
    return _run("softmax.softmax", False, x)


def softmax_grad(grad: Any, y: Any) -> Any:
    """The gradient by x of y = softmax(x)."""
    return _run("softmax.softmax_grad", False, grad.astype(y.dtype, copy=False), y)


def log_softmax(x: Any) -> Any:
    """log(softmax(x)), without overflow or cancellation: (rows, C)."""
    return _run("softmax.softmax", True, x)


def log_softmax_grad(grad: Any, y: Any) -> Any:
    """The gradient by x of y = log_softmax(x)."""
    return _run("softmax.softmax_grad", True, grad.astype(y.dtype, copy=False), y)


def row_teams(rows: int, columns: int) -> tuple[tuple[int], int, bool]:
    """Blocks, threads that share a row, and whether these are a whole block."""
    if columns > SHORT:
        return (min(rows, BLOCKS),), THREADS, True
    lanes = min(power_of_two(-(-columns // FEW)), 32)
    return blocks_for(rows * lanes), lanes, False


def _run(name, log, *arrays):
    x = arrays[-1]
    out = empty(x.shape, x.dtype)
    if x.size:
        blocks, lanes, wide = row_teams(*x.shape)
        launch(
            name, blocks, THREADS, out, *map(contiguous, arrays), *x.shape, lanes, T=x.dtype,
            WIDE=wide, LOG=log,
        )  # fmt: skip
    return out
