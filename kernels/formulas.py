"""Formulas of single elements, shared by the CPU's kernels and the GPU's.

Plain Python on scalars of one precision, which each target compiles with its own decorator; where
the value of an exponential or the like is an argument, the target chooses how that is found.
Nothing here imports Numba, and no formula calls another.
"""

from __future__ import annotations

import math
from typing import Any

# ------------------------------------------------------------------------------------- activations


def leaky_element(x: Any, value: Any, slope: Any) -> Any:
    """value where x > 0 or NaN, slope * value elsewhere; with slope 0 that is 0, also of inf."""
    low = slope * value if slope != 0 else type(value)(0)
    return low if x <= 0 else value


def sigmoid_grad_element(grad: Any, y: Any) -> Any:
    """The gradient by x of y = sigmoid(x)."""
    return grad * (y * (type(y)(1) - y))


def tanh_grad_element(grad: Any, y: Any) -> Any:
    """The gradient by x of y = tanh(x)."""
    return grad * (type(y)(1) - y * y)


def silu_grad_element(grad: Any, x: Any, s: Any) -> Any:
    """The gradient of x * s, s = sigmoid(x)."""
    one = type(x)(1)
    return grad * (s * (one + x * (one - s)))


def gelu_grad_element(grad: Any, x: Any, below: Any, bell: Any) -> Any:
    """The gradient of x times the normal distribution, below = P(X <= x), bell = exp(-x^2 / 2)."""
    density = bell * type(x)(0.3989422804014327)  # 1 / sqrt(2 pi)
    return grad * (below + x * density)


# -------------------------------------------------------------------------------------- optimisers


def sgd_element(p: Any, g: Any, lr: Any, decay: Any) -> Any:
    """The new parameter without momentum."""
    return p - lr * (g + decay * p)


def momentum_element(
    p: Any, g: Any, v: Any, lr: Any, momentum: Any, share: Any, decay: Any, nesterov: Any
) -> Any:
    """The new parameter and velocity with momentum."""
    gradient = g + decay * p
    velocity = momentum * v + share * gradient
    return p - lr * (gradient + momentum * velocity if nesterov else velocity), velocity


def rmsprop_move(
    p: Any, g: Any, s: Any, a: Any, alpha: Any, share: Any, eps: Any, decay: Any, centered: Any
) -> Any:
    """The step before momentum and rate, and the new mean square and mean gradient."""
    g += decay * p
    s = alpha * s + share * g * g
    variance = s
    if centered:
        a += share * (g - a)
        # Rounding may leave a tiny negative number, whose root would be NaN.
        variance = max(s - a * a, type(s)(0))
    return g / (math.sqrt(variance) + eps), s, a


def adam_rates(
    lr: Any, beta1: Any, beta2: Any, weight_decay: Any, decoupled: Any, step: Any
) -> Any:
    """What one step of Adam multiplies by, in float64: keep, decay, rate and root below."""
    keep = 1.0 - lr * weight_decay if decoupled else 1.0
    decay = 0.0 if decoupled else weight_decay
    return keep, decay, lr / (1.0 - beta1**step), (1.0 - beta2**step) ** -0.5


def adam_element(
    p: Any, g: Any, m: Any, v: Any, keep: Any, decay: Any, share1: Any, beta2: Any, share2: Any,
    rate: Any, root: Any, eps: Any,
) -> Any:  # fmt: skip
    """The new parameter, mean and mean square."""
    p *= keep
    g += decay * p
    m += share1 * (g - m)
    v = beta2 * v + share2 * g * g
    return p - rate * m / (math.sqrt(v) * root + eps), m, v


def ema_element(average: Any, p: Any, keep: Any, take: Any) -> Any:
    """The new average."""
    return keep * average + take * p


# ---------------------------------------------------------------------------------------- sampling


def latent_element(mu: Any, noise: Any, spread: Any) -> Any:
    """A sample of N(mu, spread^2) from one of N(0, 1); spread = exp(log_var / 2)."""
    return mu + spread * noise


def kl_element(mu: Any, log_var: Any, excess: Any) -> Any:
    """The KL of N(mu, exp(log_var)) to N(0, 1) in nats; excess = exp(log_var) - 1."""
    return type(mu)(0.5) * (mu * mu + (excess - log_var))


def dmu_element(grad_z: Any, grad_kl: Any, mu: Any) -> Any:
    """The gradient by mu from those of the two above."""
    return grad_z + grad_kl * mu


def dlog_var_element(direct: Any, grad_kl: Any, excess: Any) -> Any:
    """And the one by log_var; direct = grad_z * noise * spread."""
    return type(direct)(0.5) * (direct + grad_kl * excess)
