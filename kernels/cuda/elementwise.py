"""Elementwise kernels: one pass over memory, in the order in which it lies."""

from __future__ import annotations

from typing import Any

from .arrays import as_floats, blocks_for, contiguous_first, empty_like, laid_out_like
from .launch import THREADS, launch


def leaky_relu(x: Any, slope: float) -> Any:
    """x where x > 0, slope * x elsewhere; slope 0 is relu (-inf becomes 0) and NaN stays NaN."""
    return _map("elementwise.leaky_relu", as_floats("leaky_relu", x), slope)


def leaky_relu_grad(grad: Any, x: Any, slope: float) -> Any:
    """grad where x > 0 (or NaN), slope * grad elsewhere: the derivative at 0 is slope."""
    return each_grad("leaky_relu", grad, x, slope)


def contiguous(x: Any) -> Any:
    """x itself where it is C-contiguous, else a copy that is."""
    return contiguous_first(x)


def exp(x: Any) -> Any:
    """e^x; overflow gives inf."""
    return each("exp", x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), without overflow on either side."""
    return each("sigmoid", x)


def softplus(x: Any) -> Any:
    """log(1 + e^x), without overflow."""
    return each("softplus", x)


def each(name: str, x: Any, setting: float = 0.0) -> Any:
    """A function of every element."""
    return _map("elementwise.each", as_floats(name, x), setting, OF=name)


def each_grad(name: str, grad: Any, kept: Any, setting: float = 0.0) -> Any:
    """A function of every element and its gradient, in the memory order of `kept`."""
    dx = empty_like(as_floats(name, kept))
    launch(
        "elementwise.each_grad", blocks_for(-(-dx.size // 4)), THREADS, dx,
        laid_out_like(grad, dx), laid_out_like(kept, dx), float(setting), dx.size, OF=name,
        T=dx.dtype.name,
    )  # fmt: skip
    return dx


def _map(kernel, x, setting, **variant):
    y = empty_like(x)
    launch(
        kernel, blocks_for(-(-y.size // 4)), THREADS, y, laid_out_like(x, y), float(setting),
        y.size, **variant, T=y.dtype.name,
    )  # fmt: skip
    return y
