"""Distances between two arrays, summed as they are made, and their gradients: one pass each."""

from __future__ import annotations

from typing import Any

from .arrays import contiguous, empty_like, laid_out_like, zeros
from .launch import THREADS, launch
from .reduction import spans, term_sums


def squared_error(x: Any, y: Any) -> Any:
    """The sum of (x - y)^2, 0-d."""
    return _error("squared_error", x, y)


def absolute_error(x: Any, y: Any) -> Any:
    """The sum of |x - y|, 0-d."""
    return _error("absolute_error", x, y)


def scaled_difference(x: Any, y: Any, scale: Any) -> Any:
    """scale (x - y), of a 0-d scale."""
    return _scaled(x, y, scale, False)


def scaled_sign(x: Any, y: Any, scale: Any) -> Any:
    """scale times the sign of x - y, of a 0-d scale."""
    return _scaled(x, y, scale, True)


def _error(term, x, y):
    if x.size == 0:
        return zeros((), x.dtype)
    x = x if x.flags.c_contiguous else laid_out_like(x, empty_like(x))
    return term_sums(term, x, laid_out_like(y, x), 1, x.size).reshape(())


def _scaled(x, y, scale, sign):
    out = empty_like(x)
    launch(
        "distance.scaled", spans(out.size), THREADS, out, laid_out_like(x, out),
        laid_out_like(y, out), contiguous(scale, x.dtype), out.size, T=x.dtype, SIGN=sign,
    )  # fmt: skip
    return out
