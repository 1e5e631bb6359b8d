"""Matrix products in plain NumPy."""

from __future__ import annotations

import numpy as np


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix product with NumPy's broadcasting of leading axes: (..., m, k) @ (..., k, n)."""
    return np.matmul(a, b)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """x (..., I) @ weight (O, I).T + bias (O,) -> (..., O)."""
    y = np.matmul(x, weight.T)
    return y if bias is None else y + bias
