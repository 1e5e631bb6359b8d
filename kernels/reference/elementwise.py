"""Elementwise kernels in plain NumPy: activations that the CPU and GPU fuse into one pass."""

import numpy as np


def leaky_relu(x: np.ndarray, slope: float) -> np.ndarray:
    """x where x > 0, slope * x elsewhere; slope 0 is relu (-inf becomes 0) and NaN stays NaN."""
    negative = slope * x if slope else np.zeros_like(x)
    return np.where(x <= 0, negative, x)


def leaky_relu_grad(grad: np.ndarray, x: np.ndarray, slope: float) -> np.ndarray:
    """grad where x > 0 (or NaN), slope * grad elsewhere: the derivative at 0 is slope."""
    negative = slope * grad if slope else np.zeros_like(grad)
    return np.where(x <= 0, negative, grad)


def contiguous(x: np.ndarray) -> np.ndarray:
    """x itself where it is C-contiguous, else a copy that is."""
    return np.ascontiguousarray(x)


def exp(x: np.ndarray) -> np.ndarray:
    """e^x; overflow gives inf without a warning."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow on either side."""
    with np.errstate(under="ignore"):
        decay = np.exp(-np.abs(x))
        return np.where(x < 0, decay, 1) / (1 + decay)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + e^x), without overflow."""
    with np.errstate(under="ignore"):
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
