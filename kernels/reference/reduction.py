"""Sums along axes, and what is summed in the same pass, in plain NumPy.

Sums are made in float64 whatever the dtype of x.
"""

import numpy as np

from .elementwise import leaky_relu_grad


def axis_sum(x: np.ndarray, axes: tuple[int, ...], over: int = 1) -> np.ndarray:
    """Sum over `axes`, given as positive ints, which go away; divided by `over`."""
    total = x.sum(axis=axes, dtype=_wide(x)).astype(x.dtype)
    return total if over == 1 else total / over


def channel_sum(x: np.ndarray) -> np.ndarray:
    """Sum over every axis but 1: (N, C, ...) -> (C,)."""
    return axis_sum(x, tuple(axis for axis in range(x.ndim) if axis != 1))


def leaky_relu_grad_sum(grad, x, slope: float):
    """leaky_relu_grad(grad, x, slope) and its channel_sum: a convolution's bias gradient too."""
    dx = leaky_relu_grad(grad, x, slope)
    return dx, channel_sum(dx)


def _wide(x):
    return np.float64 if x.dtype.kind == "f" else None
