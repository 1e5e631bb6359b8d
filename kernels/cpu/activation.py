"""Smooth activations and their gradients, each one pass over memory, in float32.

The formulas are the reference's; float64 goes there. All maps are loops of one compiled function,
and all gradients of another, chosen by a number: compiling one costs little more than one formula.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .. import formulas
from ..reference import activation as reference
from .elementwise import exp_element, expm1_element, sigmoid_element
from .jit import helper, inline_kernel, parallel_kernel
from .rows import SERIAL, flat, flat_like

ERF, GELU, SILU, ELU, SIGMOID, TANH = range(6)

_sigmoid_grad = inline_kernel(formulas.sigmoid_grad_element)
_tanh_grad = inline_kernel(formulas.tanh_grad_element)
_silu_grad = inline_kernel(formulas.silu_grad_element)
_gelu_grad = inline_kernel(formulas.gelu_grad_element)


def erf(x: np.ndarray) -> np.ndarray:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, to the last digit or two."""
    return reference.erf(x) if x.dtype != np.float32 else _run(ERF, x)


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution function."""
    return reference.gelu(x) if x.dtype != np.float32 else _run(GELU, x)


def gelu_grad(grad: np.ndarray, x: np.ndarray) -> np.ndarray:
    """grad times the derivative of gelu at x."""
    return reference.gelu_grad(grad, x) if x.dtype != np.float32 else _run_grad(GELU, grad, x)


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x)."""
    return reference.silu(x) if x.dtype != np.float32 else _run(SILU, x)


def silu_grad(grad: np.ndarray, x: np.ndarray) -> np.ndarray:
    """grad times the derivative of silu at x."""
    return reference.silu_grad(grad, x) if x.dtype != np.float32 else _run_grad(SILU, grad, x)


def elu(x: np.ndarray, alpha: float) -> np.ndarray:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""
    return reference.elu(x, alpha) if x.dtype != np.float32 else _run(ELU, x, alpha)


def elu_grad(grad: np.ndarray, x: np.ndarray, alpha: float) -> np.ndarray:
    """grad times the derivative of elu at x; at 0 it is alpha."""
    if x.dtype != np.float32:
        return reference.elu_grad(grad, x, alpha)
    return _run_grad(ELU, grad, x, alpha)


def sigmoid_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient by x of y = sigmoid(x)."""
    return reference.sigmoid_grad(grad, y) if y.dtype != np.float32 else _run_grad(SIGMOID, grad, y)


def tanh_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient by x of y = tanh(x)."""
    return reference.tanh_grad(grad, y) if y.dtype != np.float32 else _run_grad(TANH, grad, y)


def _run(kind, x, alpha=1.0):
    out = np.empty_like(x)
    _maps(kind, flat_like(x, out), alpha, flat(out))
    return out


def _run_grad(kind, grad, x, alpha=1.0):
    out = np.empty_like(x)
    _grads(kind, flat_like(grad, out), flat_like(x, out), alpha, flat(out))
    return out


@inline_kernel
def _erf_element(x):
    """A ratio of polynomials in x^2, within 7 units of the last place."""
    x = np.float32(-3.92) if x < np.float32(-3.92) else x  # from where on it rounds to 1
    x = np.float32(3.92) if x > np.float32(3.92) else x
    z = x * x
    p = np.float32(-2.72614225801306e-10)
    p = p * z + np.float32(2.77068142495902e-8)
    p = p * z + np.float32(-2.10102402082508e-6)
    p = p * z + np.float32(-5.69250639462346e-5)
    p = p * z + np.float32(-7.34990630326855e-4)
    p = p * z + np.float32(-2.95459980854025e-3)
    p = p * z + np.float32(-1.60960333262415e-2)
    q = np.float32(-1.45660718464996e-5)
    q = q * z + np.float32(-2.13374055278905e-4)
    q = q * z + np.float32(-1.68282697438203e-3)
    q = q * z + np.float32(-7.37332916720468e-3)
    q = q * z + np.float32(-1.42647390514189e-2)
    y = x * p / q
    return np.copysign(np.float32(1), x) if abs(x) >= np.float32(3.92) else y


@inline_kernel
def _normal_cdf(x):
    half = np.float32(0.5)
    return half + half * _erf_element(x * np.float32(0.70710678))


@helper
def _map_part(kind, x, alpha, out):
    if kind == ERF:
        for i in range(x.size):
            out[i] = _erf_element(x[i])
    elif kind == GELU:
        for i in range(x.size):
            out[i] = x[i] * _normal_cdf(x[i])
    elif kind == SILU:
        for i in range(x.size):
            out[i] = x[i] * sigmoid_element(x[i])
    else:
        for i in range(x.size):
            low = alpha * expm1_element(x[i])
            out[i] = x[i] if x[i] > 0 else low


@helper
def _grad_part(kind, grad, x, alpha, out):
    if kind == GELU:
        for i in range(x.size):
            v = x[i]
            bell = exp_element(np.float32(-0.5) * v * v)
            out[i] = _gelu_grad(grad[i], v, _normal_cdf(v), bell)
    elif kind == SILU:
        for i in range(x.size):
            out[i] = _silu_grad(grad[i], x[i], sigmoid_element(x[i]))
    elif kind == ELU:
        for i in range(x.size):
            low = grad[i] * (alpha * exp_element(x[i]))
            out[i] = low if x[i] <= 0 else grad[i]
    elif kind == SIGMOID:
        for i in range(x.size):
            out[i] = _sigmoid_grad(grad[i], x[i])
    else:
        for i in range(x.size):
            out[i] = _tanh_grad(grad[i], x[i])


@parallel_kernel
def _maps(kind, x, alpha, out):
    a = np.float32(alpha)
    if x.size < SERIAL // 4:
        _map_part(kind, x, a, out)
    else:
        for piece in prange(64):
            first, last = x.size * piece // 64, x.size * (piece + 1) // 64
            _map_part(kind, x[first:last], a, out[first:last])


@parallel_kernel
def _grads(kind, grad, x, alpha, out):
    a = np.float32(alpha)
    if x.size < SERIAL // 4:
        _grad_part(kind, grad, x, a, out)
    else:
        for piece in prange(64):
            first, last = x.size * piece // 64, x.size * (piece + 1) // 64
            _grad_part(kind, grad[first:last], x[first:last], a, out[first:last])
