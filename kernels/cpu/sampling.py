"""The reparameterisation trick with its KL term: the noise, then one pass over memory."""

from __future__ import annotations

import numpy as np
from numba import prange

from .elementwise import exp_element, expm1_element
from .jit import inline_kernel, parallel_kernel
from .random import philox_normal
from .rows import SERIAL


def reparameterize(mu: np.ndarray, log_var: np.ndarray, key: int, counter: int):
    """z = mu + exp(log_var / 2) noise, the KL to N(0, 1) of every unit in nats, and the noise.

    All have mu's shape; noise is philox_normal(key, counter, mu.size) in C order.
    """
    mu, log_var = _contiguous(mu.dtype, mu, log_var)
    noise = philox_normal(key, counter, mu.size, mu.dtype).reshape(mu.shape)
    z, kl = np.empty_like(mu), np.empty_like(mu)
    forward, _ = _SINGLE if mu.dtype == np.float32 else _DOUBLE
    forward(*(a.reshape(-1) for a in (mu, log_var, noise, z, kl)))
    return z, kl, noise


def reparameterize_grad(grad_z, grad_kl, mu, log_var, noise):
    """dmu, dlog_var from the gradients of z and of the KL of every unit."""
    arrays = _contiguous(mu.dtype, grad_z, grad_kl, mu, log_var, noise)
    dmu, dlog_var = np.empty(mu.shape, mu.dtype), np.empty(mu.shape, mu.dtype)
    _, backward = _SINGLE if mu.dtype == np.float32 else _DOUBLE
    backward(*(a.reshape(-1) for a in (*arrays, dmu, dlog_var)))
    return dmu, dlog_var


def _contiguous(dtype, *arrays):
    return [np.ascontiguousarray(array, dtype) for array in arrays]


def _passes(exp, expm1):
    """The forward and backward pass with the exponentials of one precision."""

    @inline_kernel
    def forward_element(i, mu, log_var, noise, z, kl):
        half = mu.dtype.type(0.5)
        z[i] = mu[i] + exp(half * log_var[i]) * noise[i]
        kl[i] = half * (mu[i] * mu[i] + (expm1(log_var[i]) - log_var[i]))

    @inline_kernel
    def backward_element(i, grad_z, grad_kl, mu, log_var, noise, dmu, dlog_var):
        half = mu.dtype.type(0.5)
        dmu[i] = grad_z[i] + grad_kl[i] * mu[i]
        direct = grad_z[i] * noise[i] * exp(half * log_var[i])
        dlog_var[i] = half * (direct + grad_kl[i] * expm1(log_var[i]))

    @parallel_kernel
    def forward(mu, log_var, noise, z, kl):
        if mu.size < SERIAL:
            for i in range(mu.size):
                forward_element(i, mu, log_var, noise, z, kl)
        else:
            for i in prange(mu.size):
                forward_element(i, mu, log_var, noise, z, kl)

    @parallel_kernel
    def backward(grad_z, grad_kl, mu, log_var, noise, dmu, dlog_var):
        if mu.size < SERIAL:
            for i in range(mu.size):
                backward_element(i, grad_z, grad_kl, mu, log_var, noise, dmu, dlog_var)
        else:
            for i in prange(mu.size):
                backward_element(i, grad_z, grad_kl, mu, log_var, noise, dmu, dlog_var)

    return forward, backward


_SINGLE = _passes(exp_element, expm1_element)
_DOUBLE = _passes(np.exp, np.expm1)
