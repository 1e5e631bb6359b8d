"""Optimiser steps: one fused pass over flat, contiguous parameters and their state, in place.

param, grad and state share one shape and dtype; state that a setting does not use may be None.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .. import formulas
from .jit import helper, inline_kernel, parallel_kernel
from .rows import SERIAL

PART = 8192  # elements of one task

_sgd_element = inline_kernel(formulas.sgd_element)
_momentum_element = inline_kernel(formulas.momentum_element)
_rmsprop_move = inline_kernel(formulas.rmsprop_move)
_adam_element = inline_kernel(formulas.adam_element)
_ema_element = inline_kernel(formulas.ema_element)


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
    rates = formulas.adam_rates(lr, beta1, beta2, weight_decay, decoupled, step)
    keep, decay, rate, root = rates
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
            p[i] = _sgd_element(p[i], g[i], lr, decay)
    else:
        for i in range(p.size):
            p[i], v[i] = _momentum_element(p[i], g[i], v[i], lr, momentum, share, decay, nesterov)


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
            a[i] = _ema_element(a[i], p[i], keep, take)
    else:
        for i in prange(p.size):
            a[i] = _ema_element(a[i], p[i], keep, take)
