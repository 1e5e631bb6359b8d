"""Smooth activations and their gradients in plain NumPy."""

import math

import numpy as np

from .elementwise import sigmoid


def erf(x: np.ndarray) -> np.ndarray:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, to the last digit or two."""
    size = np.abs(x)
    near = np.minimum(size, 0.5)
    far = np.clip(size, 0.4, 6.0)  # beyond 6 it is 1 in float64
    inner = near * _ratio(near * near, ERF_NEAR)
    outer = 1 - np.exp(-far * far) * _ratio(far, ERF_FAR)
    return np.copysign(np.where(size > 0.46875, outer, inner), x)


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution function."""
    return x * (0.5 + 0.5 * erf(x * math.sqrt(0.5)))


def gelu_grad(grad: np.ndarray, x: np.ndarray) -> np.ndarray:
    """grad times the derivative of gelu at x."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        density = np.exp(-0.5 * np.square(x)) * (1 / math.sqrt(2 * math.pi))
        return grad * (0.5 + 0.5 * erf(x * math.sqrt(0.5)) + x * density)


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x)."""
    with np.errstate(invalid="ignore"):
        return x * sigmoid(x)


def silu_grad(grad: np.ndarray, x: np.ndarray) -> np.ndarray:
    """grad times the derivative of silu at x."""
    s = sigmoid(x)
    with np.errstate(invalid="ignore"):
        return grad * (s * (1 + x * (1 - s)))


def elu(x: np.ndarray, alpha: float) -> np.ndarray:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""
    with np.errstate(under="ignore"):
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_grad(grad: np.ndarray, x: np.ndarray, alpha: float) -> np.ndarray:
    """grad times the derivative of elu at x; at 0 it is alpha."""
    with np.errstate(under="ignore"):
        return np.where(x <= 0, grad * (alpha * np.exp(np.minimum(x, 0))), grad)


def sigmoid_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient by x of y = sigmoid(x)."""
    return grad * (y * (1 - y))


def tanh_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient by x of y = tanh(x)."""
    return grad * (1 - np.square(y))


def _ratio(x, coefficients):
    top, bottom = coefficients
    p, q = x * top[0] + top[1], x * bottom[0] + bottom[1]
    for a, b in zip(top[2:], bottom[2:], strict=True):
        p, q = p * x + a, q * x + b
    return p / q


# W. J. Cody, Rational Chebyshev approximations for the error function (1969)
ERF_NEAR = (  # erf(x) / x by x^2, for |x| < 0.47
    (
        1.85777706184603153e-1,
        3.16112374387056560,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (
        1.0,
        2.36012909523441209e1,
        2.44024637934444173e2,
        1.28261652607737228e3,
        2.84423683343917062e3,
    ),
)
ERF_FAR = (  # (1 - erf(x)) exp(x^2) by x, from there on
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
