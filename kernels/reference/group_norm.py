"""Normalisation of each example by groups of its channels, in plain NumPy.

Arrays are (N, C, ...), statistics (N, groups), weight and bias (C,) or None (ones and zeros). One
group of vectors (N, C) is layer normalisation, C groups are instance normalisation. Wu & He 2018.
The statistics are summed in float64 whatever the dtype of x.
"""

import numpy as np


def group_norm(x, weight, bias, groups: int, eps: float):
    """(x - mean) / sqrt(var + eps) * weight + bias, mean, var; var is the biased one."""
    grouped = _grouped(x, groups)
    wide = np.float64 if x.dtype.kind == "f" else None
    mean = grouped.mean(axis=2, dtype=wide).astype(x.dtype)
    var = np.square(grouped - mean[:, :, None]).mean(axis=2, dtype=wide).astype(x.dtype)
    y = ((grouped - mean[:, :, None]) * _inverse(var, eps)[:, :, None]).reshape(x.shape)
    if weight is not None:
        y = y * _spread(weight, x)
    return (y if bias is None else y + _spread(bias, x)), mean, var


def group_norm_grad(grad, x, mean, var, weight, groups: int, eps: float):
    """dx, dweight, dbias of group_norm's y; mean and var depend on x."""
    inverse = _inverse(var, eps)[:, :, None]
    normal = (_grouped(x, groups) - mean[:, :, None]) * inverse
    others = tuple(axis for axis in range(x.ndim) if axis != 1)
    dweight = (grad * normal.reshape(x.shape)).sum(axis=others, dtype=np.float64)
    dbias = grad.sum(axis=others, dtype=np.float64)
    inner = _grouped(grad if weight is None else grad * _spread(weight, x), groups)
    level = inner.mean(axis=2, keepdims=True)
    tilt = (inner * normal).mean(axis=2, keepdims=True)
    dx = (inverse * (inner - level - normal * tilt)).reshape(x.shape)
    return dx, dweight.astype(x.dtype), dbias.astype(x.dtype)


def _grouped(x, groups):
    size = x.size // max(x.shape[0] * groups, 1)
    return x.reshape(x.shape[0], groups, size)


def _inverse(var, eps):
    return (1 / np.sqrt(var.astype(np.float64) + eps)).astype(var.dtype)


def _spread(values, x):
    """(C,) -> (C, 1, ...), which broadcasts against x."""
    return values.reshape((-1,) + (1,) * (x.ndim - 2))
