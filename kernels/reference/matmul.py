"""Matrix products in plain NumPy."""

from __future__ import annotations

import numpy as np

from .elementwise import leaky_relu, leaky_relu_grad


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix product with NumPy's broadcasting of leading axes: (..., m, k) @ (..., k, n)."""
    return np.matmul(a, b)


def linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, slope: float = 1.0
) -> np.ndarray:
    """x (..., I) @ weight (O, I).T + bias (O,) -> (..., O), results below 0 times `slope`."""
    y = np.matmul(x, weight.T)
    y = y if bias is None else y + bias
    return y if slope == 1 else leaky_relu(y, slope)


def linear_grads(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, y: np.ndarray | None, slope: float,
    needed: tuple[bool, bool, bool],
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Those of dx, dweight, dbias that are needed, of y = linear(x, weight, bias, slope)."""
    g = grad if slope == 1 else leaky_relu_grad(grad, y, slope)
    rows = g.reshape(-1, g.shape[-1])
    found = []
    if needed[0]:
        found.append(np.matmul(g, weight))
    if needed[1]:
        found.append(np.matmul(rows.T, x.reshape(len(rows), x.shape[-1])))
    if needed[2]:
        found.append(rows.sum(0))
    return tuple(found)
