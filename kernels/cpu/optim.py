"""Optimiser steps: one fused pass over flat, contiguous parameters and their state, in place.

param, grad and state share one shape and dtype; state that a setting does not use may be None.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .jit import helper, inline_kernel, parallel_kernel
from .rows import SERIAL

PART = 8192  # elements of one task


def sgd(
    param, grad, velocity, lr: float, momentum: float, dampening: float, weight_decay: float,
    nesterov: bool,
) -> None:  # fmt: skip
    """Gradient descent with momentum; velocity starts at zero.

    torch does not damp its first step: pass dampening 0 for that one to do the same.
    """
    p, g, v = _flat("sgd", param, grad, velocity if momentum else None)
    _sgd(p, g, v, lr, momentum, 1 - dampening, weight_decay, bool(nesterov))


def rmsprop(
    param, grad, square, velocity, grad_avg, lr: float, alpha: float, eps: float,
    weight_decay: float, momentum: float, centered: bool,
) -> None:  # fmt: skip
    """RMSprop; velocity is used with momentum, grad_avg when centered."""
    arrays = param, grad, square, velocity if momentum else None, grad_avg if centered else None
    p, g, s, v, a = _flat("rmsprop", *arrays)
    _rmsprop(p, g, s, v, a, lr, alpha, 1 - alpha, eps, weight_decay, momentum, bool(centered))


def adam(
    param, grad, m, v, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
    decoupled: bool, step: int,
) -> None:  # fmt: skip
    """Adam, or AdamW when decoupled; step counts from 1.

    Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
    """
    p, g, m, v = _flat("adam", param, grad, m, v)
    keep, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, root = lr / (1 - beta1**step), (1 - beta2**step) ** -0.5
    _adam(p, g, m, v, keep, decay, 1 - beta1, beta2, 1 - beta2, rate, root, eps)


def ema(average, param, decay: float) -> None:
    """average = decay * average + (1 - decay) * param, in place."""
    a, p = _flat("ema", average, param)
    _ema(a, p, decay, 1 - decay)


def _flat(name, first, *others):
    """One-dimensional views of all; None becomes an empty array that no kernel touches."""
    shape, dtype, views = first.shape, first.dtype, []
    for array in (first, *others):
        if array is None:
            views.append(np.empty(0, dtype))
            continue
        same = array.shape == shape and array.dtype == dtype
        if not same or not array.flags.c_contiguous:
            raise ValueError(
                f"{name}: got a {array.dtype} array of shape {array.shape}, strides "
                f"{array.strides}; expected {first.dtype} in C-contiguous memory of shape "
                f"{first.shape}, because it is updated in place"
            )
        views.append(array if len(shape) == 1 else array.reshape(-1))
    return views


@helper
def _sgd_part(p, g, v, lr, momentum, share, decay, nesterov):
    if momentum == 0:
        for i in range(p.size):
            p[i] -= lr * (g[i] + decay * p[i])
    else:
        for i in range(p.size):
            gradient = g[i] + decay * p[i]
            velocity = momentum * v[i] + share * gradient
            v[i] = velocity
            p[i] -= lr * (gradient + momentum * velocity if nesterov else velocity)


@parallel_kernel
def _sgd(p, g, v, lr, momentum, share, decay, nesterov):
    t = p.dtype.type
    lr_, momentum_, share_, decay_ = t(lr), t(momentum), t(share), t(decay)
    if p.size < SERIAL:
        _sgd_part(p, g, v, lr_, momentum_, share_, decay_, nesterov)
    else:
        for part in prange(-(-p.size // PART)):
            at = slice(part * PART, (part + 1) * PART)
            _sgd_part(p[at], g[at], v[at], lr_, momentum_, share_, decay_, nesterov)


@inline_kernel
def _rmsprop_move(p, g, s, a, alpha, share, eps, decay, centered):
    """The step before momentum and rate, and the new mean square and mean gradient."""
    g += decay * p
    s = alpha * s + share * g * g
    variance = s
    if centered:
        a += share * (g - a)
        # Rounding may leave a tiny negative number, whose root would be NaN.
        variance = max(s - a * a, type(s)(0))
    return g / (np.sqrt(variance) + eps), s, a


@helper
def _rmsprop_part(p, g, s, v, a, lr, alpha, share, eps, decay, momentum, centered):
    zero = p.dtype.type(0)
    if momentum == 0 and not centered:
        for i in range(p.size):
            move, s[i], _ = _rmsprop_move(p[i], g[i], s[i], zero, alpha, share, eps, decay, False)
            p[i] -= lr * move
    else:
        for i in range(p.size):
            average = a[i] if centered else zero
            move, s[i], average = _rmsprop_move(
                p[i], g[i], s[i], average, alpha, share, eps, decay, centered
            )
            if centered:
                a[i] = average
            if momentum != 0:
                move += momentum * v[i]
                v[i] = move
            p[i] -= lr * move


@parallel_kernel
def _rmsprop(p, g, s, v, a, lr, alpha, share, eps, decay, momentum, centered):
    t = p.dtype.type
    scalars = t(lr), t(alpha), t(share), t(eps), t(decay), t(momentum), centered
    if p.size < SERIAL:
        _rmsprop_part(p, g, s, v, a, *scalars)
    else:
        for part in prange(-(-p.size // PART)):
            at = slice(part * PART, (part + 1) * PART)
            _rmsprop_part(p[at], g[at], s[at], v[at], a[at], *scalars)


@inline_kernel
def _adam_element(p, g, m, v, keep, decay, share1, beta2, share2, rate, root, eps):
    """The new parameter, mean and mean square."""
    p *= keep
    g += decay * p
    m += share1 * (g - m)
    v = beta2 * v + share2 * g * g
    return p - rate * m / (np.sqrt(v) * root + eps), m, v


@parallel_kernel
def _adam(p, g, m, v, keep, decay, share1, beta2, share2, rate, root, eps):
    t = p.dtype.type
    scalars = t(keep), t(decay), t(share1), t(beta2), t(share2), t(rate), t(root), t(eps)
    if p.size < SERIAL:
        for i in range(p.size):
            p[i], m[i], v[i] = _adam_element(p[i], g[i], m[i], v[i], *scalars)
    else:
        for i in prange(p.size):
            p[i], m[i], v[i] = _adam_element(p[i], g[i], m[i], v[i], *scalars)


@parallel_kernel
def _ema(a, p, decay, share):
    keep, take = p.dtype.type(decay), p.dtype.type(share)
    if p.size < SERIAL:
        for i in range(p.size):
            a[i] = keep * a[i] + take * p[i]
    else:
        for i in prange(p.size):
            a[i] = keep * a[i] + take * p[i]
