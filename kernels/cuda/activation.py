"""Smooth activations and their gradients on the device, each one pass over memory."""

from __future__ import annotations

from typing import Any

from .elementwise import each, each_grad


def erf(x: Any) -> Any:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, to the last digit or two."""
    return each("erf", x)


def gelu(x: Any) -> Any:
    """x times the normal distribution function."""
    return each("gelu", x)


def gelu_grad(grad: Any, x: Any) -> Any:
    """grad times the derivative of gelu at x."""
    return each_grad("gelu", grad, x)


def silu(x: Any) -> Any:
    """x * sigmoid(x)."""
    return each("silu", x)


def silu_grad(grad: Any, x: Any) -> Any:
    """grad times the derivative of silu at x."""
    return each_grad("silu", grad, x)


def elu(x: Any, alpha: float) -> Any:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""
    return each("elu", x, alpha)


def elu_grad(grad: Any, x: Any, alpha: float) -> Any:
    """grad times the derivative of elu at x; at 0 it is alpha."""
    return each_grad("elu", grad, x, alpha)


def sigmoid_grad(grad: Any, y: Any) -> Any:
    """The gradient by x of y = sigmoid(x)."""
    return each_grad("sigmoid", grad, y)


def tanh_grad(grad: Any, y: Any) -> Any:
    """The gradient by x of y = tanh(x)."""
    return each_grad("tanh", grad, y)
