"""Distances between two arrays of one shape, summed as they are made, in plain NumPy.

Sums are made in float64 whatever the dtype.
"""

import numpy as np


def squared_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of (x - y)^2, 0-d."""
    return np.asarray(np.square(x - y).sum(dtype=_wide(x)), x.dtype)


def absolute_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of |x - y|, 0-d."""
    return np.asarray(np.abs(x - y).sum(dtype=_wide(x)), x.dtype)


def scaled_difference(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """scale (x - y), of a 0-d scale."""
    return (x - y) * scale


def scaled_sign(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """scale times the sign of x - y, of a 0-d scale."""
    return np.sign(x - y) * scale


def _wide(x):
    return np.float64 if x.dtype.kind == "f" else None
