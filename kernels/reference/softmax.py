"""Softmax of the rows of a matrix, and its gradients, in plain NumPy."""

import numpy as np


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x) over its sum along a row, without overflow: (rows, C)."""
    y = np.exp(_below_largest(x))
    return y / y.sum(axis=1, keepdims=True)


def softmax_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient by x of y = softmax(x)."""
    return y * (grad - (grad * y).sum(axis=1, keepdims=True))


def log_softmax(x: np.ndarray) -> np.ndarray:
    """log(softmax(x)), without overflow or cancellation: (rows, C)."""
    low = _below_largest(x)
    return low - np.log(np.exp(low).sum(axis=1, keepdims=True))


def log_softmax_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient by x of y = log_softmax(x)."""
    return grad - np.exp(y) * grad.sum(axis=1, keepdims=True)


def _below_largest(x):
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as in torch
        return x - x.max(axis=1, keepdims=True)
