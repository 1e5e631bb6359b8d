"""Optimiser steps on the device: one fused pass over flat, contiguous memory, in place.

param, grad and state share one shape and dtype; state that a setting does not use may be None.
lr, step and decay are numbers, or 0-d float64 arrays on the device that the kernel reads when it
runs, so that a recorded step sees their present values in every replay. Both give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import blocks_for, full, is_array
from .launch import THREADS, launch


def sgd(
    param: Any, grad: Any, velocity: Any, lr: Any, momentum: float, dampening: float,
    weight_decay: float, nesterov: bool,
) -> None:  # fmt: skip
    """Gradient descent with momentum; velocity starts at zero.

    torch does not damp its first step: pass dampening 0 for that one to do the same.
    """
    arrays = _flat("sgd", param, grad, velocity if momentum else None)
    live, (lr_at,), (lr,) = _live(lr)
    _run(
        "optim.sgd", arrays, live, lr_at, lr, float(momentum), float(1 - dampening),
        float(weight_decay), int(nesterov),
    )  # fmt: skip


def rmsprop(
    param: Any, grad: Any, square: Any, velocity: Any, grad_avg: Any, lr: Any, alpha: float,
    eps: float, weight_decay: float, momentum: float, centered: bool,
) -> None:  # fmt: skip
    """RMSprop; velocity is used with momentum, grad_avg when centered."""
    state = square, velocity if momentum else None, grad_avg if centered else None
    arrays = _flat("rmsprop", param, grad, *state)
    live, (lr_at,), (lr,) = _live(lr)
    _run(
        "optim.rmsprop", arrays, live, lr_at, lr, float(alpha), float(1 - alpha), float(eps),
        float(weight_decay), float(momentum), int(centered),
    )  # fmt: skip


def adam(
    param: Any, grad: Any, m: Any, v: Any, lr: Any, beta1: float, beta2: float, eps: float,
    weight_decay: float, decoupled: bool, step: Any,
) -> None:  # fmt: skip
    """Adam, or AdamW when decoupled; step counts from 1.

    Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
    """
    arrays = _flat("adam", param, grad, m, v)
    live, places, numbers = _live(lr, step)
    _run(
        "optim.adam", arrays, live, *places, *numbers, float(beta1), float(beta2), float(eps),
        float(weight_decay), int(decoupled),
    )  # fmt: skip


def ema(average: Any, param: Any, decay: Any) -> None:
    """average = decay * average + (1 - decay) * param, in place."""
    arrays = _flat("ema", average, param)
    live, (decay_at,), (decay,) = _live(decay)
    _run("optim.ema", arrays, live, decay_at, decay)


def _run(kernel, arrays, *args):
    first = arrays[0]
    blocks = blocks_for(-(-first.size // 4))
    launch(kernel, blocks, THREADS, *arrays, first.size, *args, T=first.dtype.name)


def _live(*values):
    """Whether any is on the device; where all are then, or None; the numbers, or zeros."""
    if not any(is_array(value) for value in values):
        return 0, [None] * len(values), [float(value) for value in values]
    places = [v if is_array(v) else full((), float(v), np.float64) for v in values]
    return 1, places, [0.0] * len(values)


def _flat(name, first, *others):
    """All of them, after seeing that they lie in memory element beside element."""
    for array in (first, *others):
        if array is None:
            continue
        same = array.shape == first.shape and array.dtype == first.dtype
        if not same or not array.flags.c_contiguous:
            raise ValueError(
                f"{name}: got a {array.dtype} array of shape {array.shape}, strides "
                f"{array.strides}; expected {first.dtype} in C-contiguous memory of shape "
                f"{first.shape}, because it is updated in place"
            )
    return (first, *others)
