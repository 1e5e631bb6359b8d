"""Softmax of the rows of a matrix: a row stays in the cache for all that is done to it.

float64 goes to the reference.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from ..reference import softmax as reference
from .elementwise import exp_element
from .jit import helper, inline_kernel, parallel_kernel
from .rows import SERIAL


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x) over its sum along a row, without overflow: (rows, C)."""
    return reference.softmax(x) if _plain(x) else _run(_softmax, x)


def softmax_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient by x of y = softmax(x)."""
    if _plain(y):
        return reference.softmax_grad(grad, y)
    return _run(_softmax_grad, np.asarray(grad, y.dtype), y)


def log_softmax(x: np.ndarray) -> np.ndarray:
    """log(softmax(x)), without overflow or cancellation: (rows, C)."""
    return reference.log_softmax(x) if _plain(x) else _run(_log_softmax, x)


def log_softmax_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient by x of y = log_softmax(x)."""
    if _plain(y):
        return reference.log_softmax_grad(grad, y)
    return _run(_log_softmax_grad, np.asarray(grad, y.dtype), y)


def _plain(x):
    return x.dtype != np.float32 or x.size == 0


def _run(fast, *arrays):
    out = np.empty(arrays[0].shape, np.float32)
    fast(*map(np.ascontiguousarray, arrays), out)
    return out


@inline_kernel
def _turned(bits):
    """A float's bits as an integer that sorts as the float does, and back."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inline_kernel
def _exp_row(row, out):
    """out = exp(row - largest); their sum, and the largest."""
    highest, total = np.int32(-(2**31)), np.float32(0)
    bits = row.view(np.int32)
    for i in range(bits.size):  # of integers that sort alike: for these LLVM has vector code
        key = _turned(bits[i])
        highest = key if key > highest else highest
    top = np.int32(_turned(highest)).view(np.float32)
    for i in range(row.size):
        e = exp_element(row[i] - top)
        out[i] = e
        total += e
    return total, top


@helper
def _softmax_row(row, out):
    total, _ = _exp_row(row, out)
    share = np.float32(1) / total
    for i in range(row.size):
        out[i] *= share


@parallel_kernel
def _softmax(x, out):
    if x.size < SERIAL // 4:
        for r in range(len(x)):
            _softmax_row(x[r], out[r])
    else:
        for r in prange(len(x)):
            _softmax_row(x[r], out[r])


@functools.partial(inline_kernel, fastmath={"contract"})
def _below(x, top, log):
    """x - top first: the two may be large, and close."""
    return (x - top) - log


@helper
def _log_softmax_row(row, out):
    total, top = _exp_row(row, out)
    log = np.float32(np.log(total))
    for i in range(row.size):
        out[i] = _below(row[i], top, log)


@parallel_kernel
def _log_softmax(x, out):
    if x.size < SERIAL // 4:
        for r in range(len(x)):
            _log_softmax_row(x[r], out[r])
    else:
        for r in prange(len(x)):
            _log_softmax_row(x[r], out[r])


@helper
def _softmax_grad_row(grad, y, out):
    total = np.float32(0)
    for i in range(y.size):
        total += grad[i] * y[i]
    for i in range(y.size):
        out[i] = y[i] * (grad[i] - total)


@parallel_kernel
def _softmax_grad(grad, y, out):
    if y.size < SERIAL // 4:
        for r in range(len(y)):
            _softmax_grad_row(grad[r], y[r], out[r])
    else:
        for r in prange(len(y)):
            _softmax_grad_row(grad[r], y[r], out[r])


@helper
def _log_softmax_grad_row(grad, y, out):
    total = np.float32(0)
    for i in range(y.size):
        total += grad[i]
    for i in range(y.size):
        out[i] = grad[i] - exp_element(y[i]) * total


@parallel_kernel
def _log_softmax_grad(grad, y, out):
    if y.size < SERIAL // 4:
        for r in range(len(y)):
            _log_softmax_grad_row(grad[r], y[r], out[r])
    else:
        for r in prange(len(y)):
            _log_softmax_grad_row(grad[r], y[r], out[r])
