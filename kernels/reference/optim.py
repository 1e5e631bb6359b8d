"""Optimiser steps in plain NumPy, in place, by the formulas of torch.optim.

param and the named state are updated in place, grad is left alone; all have one shape and
dtype. State that a setting does not use may be None.
"""

import numpy as np


def sgd(
    param, grad, velocity, lr: float, momentum: float, dampening: float, weight_decay: float,
    nesterov: bool,
) -> None:  # fmt: skip
    """Gradient descent with momentum; velocity starts at zero.

    torch does not damp its first step: pass dampening 0 for that one to do the same.
    """
    grad = _decayed(grad, param, weight_decay)
    if momentum:
        velocity *= momentum
        velocity += (1 - dampening) * grad
        grad = grad + momentum * velocity if nesterov else velocity
    param -= lr * grad


def rmsprop(
    param, grad, square, velocity, grad_avg, lr: float, alpha: float, eps: float,
    weight_decay: float, momentum: float, centered: bool,
) -> None:  # fmt: skip
    """RMSprop; velocity is used with momentum, grad_avg when centered."""
    grad = _decayed(grad, param, weight_decay)
    square *= alpha
    square += (1 - alpha) * grad * grad
    variance = square
    if centered:
        grad_avg += (1 - alpha) * (grad - grad_avg)
        # Rounding may leave a tiny negative number, whose root would be NaN.
        variance = np.maximum(square - grad_avg * grad_avg, 0)
    move = grad / (np.sqrt(variance) + eps)
    if momentum:
        velocity *= momentum
        velocity += move
        move = velocity
    param -= lr * move


def adam(
    param, grad, m, v, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
    decoupled: bool, step: int,
) -> None:  # fmt: skip
    """Adam, or AdamW when decoupled; step counts from 1.

    Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
    """
    if decoupled:
        param *= 1 - lr * weight_decay
    else:
        grad = _decayed(grad, param, weight_decay)
    m += (1 - beta1) * (grad - m)
    v *= beta2
    v += (1 - beta2) * grad * grad
    root = np.sqrt(v) / (1 - beta2**step) ** 0.5 + eps
    param -= lr / (1 - beta1**step) * m / root


def ema(average, param, decay: float) -> None:
    """average = decay * average + (1 - decay) * param, in place."""
    average *= decay
    average += (1 - decay) * param


def _decayed(grad, param, weight_decay):
    return grad + weight_decay * param if weight_decay else grad
