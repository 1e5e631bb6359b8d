"""The reparameterisation trick with its KL term on the device."""

from __future__ import annotations

from typing import Any

from .arrays import blocks_for, contiguous, empty
from .launch import THREADS, launch
from .random import Counter, quarters, start


def reparameterize(mu: Any, log_var: Any, key: int, counter: Counter) -> tuple[Any, Any, Any]:
    """z = mu + exp(log_var / 2) noise, the KL to N(0, 1) of every unit in nats, and the noise.

    All have mu's shape; noise is philox_normal(key, counter, mu.size) in C order.
    """
    mu, log_var = contiguous(mu), contiguous(log_var, mu.dtype)
    z, kl, noise = (empty(mu.shape, mu.dtype) for _ in range(3))
    launch(
        "sampling.reparameterize", quarters(mu.size), THREADS, z, kl, noise, mu, log_var,
        *start(key, counter), mu.size, T=mu.dtype.name,
    )  # fmt: skip
    return z, kl, noise


def reparameterize_grad(
    grad_z: Any, grad_kl: Any, mu: Any, log_var: Any, noise: Any
) -> tuple[Any, Any]:
    """dmu, dlog_var from the gradients of z and of the KL of every unit."""
    dtype = mu.dtype
    arrays = [contiguous(x, dtype) for x in (grad_z, grad_kl, mu, log_var, noise)]
    dmu, dlog_var = empty(mu.shape, dtype), empty(mu.shape, dtype)
    launch(
        "sampling.reparameterize_grad", blocks_for(mu.size), THREADS, dmu, dlog_var, *arrays,
        mu.size, T=dtype.name,
    )  # fmt: skip
    return dmu, dlog_var
