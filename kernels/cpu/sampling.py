"""The reparameterisation trick with its KL term: the noise, then one pass over memory."""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .. import formulas
from .elementwise import exp_element, expm1_element
from .jit import OPTIONS, inline_kernel, parallel_kernel
from .random import philox_normal
from .rows import SERIAL

INLINE = OPTIONS | {"forceinline": True}

_latent = inline_kernel(formulas.latent_element)
_kl = inline_kernel(formulas.kl_element)
_dmu = inline_kernel(formulas.dmu_element)
_dlog_var = inline_kernel(formulas.dlog_var_element)


def reparameterize(mu: np.ndarray, log_var: np.ndarray, key: int, counter: int):
    """z = mu + exp(log_var / 2) noise, the KL to N(0, 1) of every unit in nats, and the noise.

    All have mu's shape; noise is philox_normal(key, counter, mu.size) in C order.
    """
    mu, log_var = _contiguous(mu.dtype, mu, log_var)
    noise = philox_normal(key, counter, mu.size, mu.dtype).reshape(mu.shape)
    z, kl = np.empty_like(mu), np.empty_like(mu)
    _forward(*(a.reshape(-1) for a in (mu, log_var, noise, z, kl)))
    return z, kl, noise


def reparameterize_grad(grad_z, grad_kl, mu, log_var, noise):
    """dmu, dlog_var from the gradients of z and of the KL of every unit."""
    arrays = _contiguous(mu.dtype, grad_z, grad_kl, mu, log_var, noise)
    dmu, dlog_var = np.empty(mu.shape, mu.dtype), np.empty(mu.shape, mu.dtype)
    _backward(*(a.reshape(-1) for a in (*arrays, dmu, dlog_var)))
    return dmu, dlog_var


def _contiguous(dtype, *arrays):
    return [np.ascontiguousarray(array, dtype) for array in arrays]


def _exp(x):
    """e^x in the precision of x; called from compiled kernels only."""
    raise TypeError("_exp is called from compiled kernels only")


def _expm1(x):
    """e^x - 1 in the precision of x; called from compiled kernels only."""
    raise TypeError("_expm1 is called from compiled kernels only")


@overload(_exp, jit_options=INLINE)
def _exp_of(x):
    return (lambda x: exp_element(x)) if x == types.float32 else (lambda x: np.exp(x))


@overload(_expm1, jit_options=INLINE)
def _expm1_of(x):
    return (lambda x: expm1_element(x)) if x == types.float32 else (lambda x: np.expm1(x))


@inline_kernel
def _forward_element(i, mu, log_var, noise, z, kl):
    half = mu.dtype.type(0.5)
    z[i] = _latent(mu[i], noise[i], _exp(half * log_var[i]))
    kl[i] = _kl(mu[i], log_var[i], _expm1(log_var[i]))


@inline_kernel
def _backward_element(i, grad_z, grad_kl, mu, log_var, noise, dmu, dlog_var):
    half = mu.dtype.type(0.5)
    dmu[i] = _dmu(grad_z[i], grad_kl[i], mu[i])
    direct = grad_z[i] * noise[i] * _exp(half * log_var[i])
    dlog_var[i] = _dlog_var(direct, grad_kl[i], _expm1(log_var[i]))


@parallel_kernel
def _forward(mu, log_var, noise, z, kl):
    if mu.size < SERIAL:
        for i in range(mu.size):
            _forward_element(i, mu, log_var, noise, z, kl)
    else:
        for i in prange(mu.size):
            _forward_element(i, mu, log_var, noise, z, kl)


@parallel_kernel
def _backward(grad_z, grad_kl, mu, log_var, noise, dmu, dlog_var):
    if mu.size < SERIAL:
        for i in range(mu.size):
            _backward_element(i, grad_z, grad_kl, mu, log_var, noise, dmu, dlog_var)
    else:
        for i in prange(mu.size):
            _backward_element(i, grad_z, grad_kl, mu, log_var, noise, dmu, dlog_var)
