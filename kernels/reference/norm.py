"""Batch normalisation with its activation, in plain NumPy.

Arrays are (N, C, ...): axis 1 holds the channels. `slope` is the leaky activation that follows the
normalisation (0 = relu, 1 = none). weight and bias have shape (C,) or are None (ones and zeros).
The statistics are summed in float64 whatever the dtype of x. Ioffe & Szegedy 2015, algorithm 1.
"""

import numpy as np

from .elementwise import leaky_relu, leaky_relu_grad
from .reduction import channel_sum


def batch_norm_train(x, weight, bias, eps: float, slope: float):
    """y, mean, var with the batch's own statistics; var is the biased one, both (C,)."""
    mean, var = _moments(x)
    return batch_norm_eval(x, mean, var, weight, bias, eps, slope), mean, var


def move_statistics(mean, var, count, found_mean, found_var, momentum: float, scale: float) -> None:
    """Move running statistics towards those found, in place: the variance to `scale` times it.

    The integer `count` grows by one. What is None is left alone.
    """
    for running, found, share in ((mean, found_mean, momentum), (var, found_var, momentum * scale)):
        if running is not None:
            running *= 1 - momentum
            running += (share * found).astype(running.dtype, copy=False)
    if count is not None:
        count[...] += 1


def batch_norm_train_grad(grad, x, mean, var, weight, bias, eps: float, slope: float):
    """dx, dweight, dbias of batch_norm_train's y; mean and var depend on x."""
    grad, deviation, scale = _before_activation(grad, x, mean, var, weight, bias, eps, slope)
    inverse = _inverse_std(var, eps)
    normal = deviation * _spread(inverse, x)
    dweight, dbias = channel_sum(grad * normal), channel_sum(grad)
    count = max(x.size // max(x.shape[1], 1), 1)
    dx = _spread(scale, x) * (
        grad - _spread(dbias / count, x) - normal * _spread(dweight / count, x)
    )
    return dx, dweight, dbias


def batch_norm_eval(x, mean, var, weight, bias, eps: float, slope: float):
    """leaky((x - mean) / sqrt(var + eps) * weight + bias) with given statistics, all (C,)."""
    y = (x - _spread(mean, x)) * _spread(_scale(var, weight, eps), x)
    if bias is not None:
        y = y + _spread(bias, x)
    return y if slope == 1 else leaky_relu(y, slope)


def batch_norm_eval_grad(grad, x, mean, var, weight, bias, eps: float, slope: float):
    """dx, dmean, dvar, dweight, dbias of batch_norm_eval; mean and var are independent of x."""
    grad, deviation, scale = _before_activation(grad, x, mean, var, weight, bias, eps, slope)
    inverse = _inverse_std(var, eps)
    total, moment = channel_sum(grad), channel_sum(grad * deviation)
    dweight = moment * inverse
    dvar = -0.5 * moment * scale * inverse * inverse
    return grad * _spread(scale, x), -scale * total, dvar, dweight, total


def _before_activation(grad, x, mean, var, weight, bias, eps, slope):
    """The gradient before the activation, x - mean, and weight / sqrt(var + eps)."""
    if slope != 1:
        before = batch_norm_eval(x, mean, var, weight, bias, eps, 1)
        grad = leaky_relu_grad(grad, before, slope)
    return grad, x - _spread(mean, x), _scale(var, weight, eps)


def _moments(x):
    if x.size == 0:
        return np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
    mean = x.mean(axis=_others(x), dtype=_wide(x))
    var = np.square(x - _spread(mean, x)).mean(axis=_others(x))
    return mean.astype(x.dtype), var.astype(x.dtype)


def _scale(var, weight, eps):
    inverse = _inverse_std(var, eps)
    return inverse if weight is None else inverse * weight


def _inverse_std(var, eps):
    return (1 / np.sqrt(var.astype(_wide(var)) + eps)).astype(var.dtype)


def _spread(values, x):
    """(C,) -> (C, 1, ...), which broadcasts against x."""
    return values.reshape((-1,) + (1,) * (x.ndim - 2))


def _others(x):
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _wide(x):
    return np.float64 if x.dtype.kind == "f" else None
