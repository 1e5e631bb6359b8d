"""Losses on logits in plain NumPy: the cost and its gradient, each in one pass on other targets."""

import numpy as np

from .elementwise import sigmoid, softplus


def logit_cost(x: np.ndarray, target: np.ndarray, keep: int) -> np.ndarray:
    """-log of sigmoid(x) where target is 1, of sigmoid(-x) where it is 0: softplus(x) - x target.

    Both have one shape; the cost is summed over all axes but the first `keep`.
    """
    wide = np.promote_types(x.dtype, np.float64)
    axes = tuple(range(keep, x.ndim))
    return (softplus(x) - x * target).sum(axis=axes, dtype=wide).astype(x.dtype)


def logit_cost_grad(grad: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """dx of logit_cost: grad (sigmoid(x) - target), grad of x's first axes."""
    return grad.reshape(grad.shape + (1,) * (x.ndim - grad.ndim)) * (sigmoid(x) - target)


def label_cost(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log softmax of x (N, C, ...) over its classes C at the labels (N, ...); 0 where label < 0.

    Labels are int64 below C.
    """
    shifted = x - x.max(axis=1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=1))
    chosen = np.take_along_axis(shifted, np.maximum(labels, 0)[:, None], 1)[:, 0]
    return np.where(labels < 0, 0, total - chosen).astype(x.dtype, copy=False)


def label_cost_grad(grad: np.ndarray, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """dx of label_cost: grad (softmax(x) - 1 at the label), 0 where label < 0."""
    y = np.exp(x - x.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    at = np.maximum(labels, 0)[:, None]
    np.put_along_axis(y, at, np.take_along_axis(y, at, 1) - 1, 1)
    return y * np.where(labels < 0, 0, grad)[:, None]
