"""Choosing element by element, and the gradients of what chooses, in plain NumPy.

Arrays may broadcast, and any of them may be a number.
"""

import numpy as np


def choose(x, y, condition) -> np.ndarray:
    """x where the condition holds, y elsewhere."""
    return np.where(condition, x, y)


def winner_share(grad, x, y) -> np.ndarray:
    """grad where x > y, half of it where they are equal, 0 elsewhere."""
    return np.where(np.greater(x, y), grad, np.where(np.equal(x, y), grad / 2, 0))


def band(grad, x, low: float, high: float, closed: bool) -> np.ndarray:
    """grad where low <= x <= high if closed; otherwise 0 where x <= low or x >= high."""
    if closed:
        return np.where((x >= low) & (x <= high), grad, 0).astype(grad.dtype, copy=False)
    return np.where((x <= low) | (x >= high), 0, grad).astype(grad.dtype, copy=False)


def times_sign(grad, x) -> np.ndarray:
    """grad times -1, 0 or 1, the sign of x."""
    return grad * np.sign(x)
