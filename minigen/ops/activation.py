"""Activations and dropout, as in torch.nn.functional (tanh, NumPy's, is in elementwise)."""

import math
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.cases import case, distinct, normal, uniform
from minigen.ops.choosing import minimum, where
from minigen.ops.elementwise import exp, tanh
from minigen.ops.reduction import sum
from minigen.ops.special import erf
from minigen.tensor import Tensor

__all__ = [
    "celu",
    "dropout",
    "dropout2d",
    "elu",
    "gelu",
    "glu",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
]

# ------------------------------------------------------------------------------ piecewise linear


@op(cases=[case(distinct(2, 3)), case(distinct(2, 3), 0.2), case(distinct(4), 0.0)])
def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """input where it is positive, negative_slope * input elsewhere; at 0 the derivative too."""
    return kernels.leaky_relu(_floating(input) if negative_slope else input, negative_slope)


@op(linear=("grad",), cases=[case(normal(2, 3), distinct(2, 3), 0.2)])
def leaky_relu_grad(grad, x, negative_slope):
    """The derivative of leaky_relu at x, times grad; constant in x between the kinks."""
    return kernels.leaky_relu_grad(grad, x, negative_slope)


leaky_relu.vjp(input=lambda g, input, negative_slope: leaky_relu_grad(g, input, negative_slope))
leaky_relu_grad.vjp(
    grad=lambda g, x, negative_slope: leaky_relu_grad(g, x, negative_slope),
    x=lambda: None,  # zero
)


@composed(cases=[case(distinct(2, 3))])
def relu(input: Tensor) -> Tensor:
    """max(input, 0); the derivative at 0 is 0."""
    return leaky_relu(input, 0.0)


@op(cases=[case(distinct(3, 7)), case(distinct(2, 3), -0.17, 0.12)])
def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """input within [min_val, max_val], else the nearer bound; the derivative at the bounds is 0."""
    return np.clip(input, min_val, max_val)


hardtanh.vjp(
    input=lambda g, input, min_val, max_val: where((input <= min_val) | (input >= max_val), 0, g)
)


@composed(cases=[case(uniform(5, 5.9, 3)), case(uniform(6.1, 7, 3)), case(uniform(-1, -0.1, 3))])
def relu6(input: Tensor) -> Tensor:
    """input within [0, 6], else the nearer bound."""
    return hardtanh(input, 0.0, 6.0)


# ----------------------------------------------------------------------------------- exponential

TAILS = [case(distinct(2, 3)), case(distinct(3, 20))]


@op(cases=TAILS)
def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-input)), without overflow."""
    return kernels.sigmoid(_floating(input))


sigmoid.vjp(input=lambda g, out: g * (out * (1 - out)))


@op(cases=TAILS)
def logsigmoid(input: Any) -> Any:
    """log(sigmoid(input)), without overflow or cancellation."""
    return -kernels.softplus(-_floating(input))


logsigmoid.vjp(input=lambda g, input: g * sigmoid(-input))


@op(cases=[*TAILS, case(distinct(2, 3), 2.0), case(uniform(1.1, 2, 3), 1, 1)])
def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta * input)) / beta, and input itself where beta * input > threshold."""
    input = _floating(input)
    scaled = input if beta == 1 else beta * input
    y = kernels.softplus(scaled) if beta == 1 else kernels.softplus(scaled) / beta
    return np.where(scaled > threshold, input, y)


def _softplus_slope(g, input, beta, threshold):
    scaled = input if beta == 1 else beta * input
    slope = sigmoid(scaled)
    if threshold < 20:  # above 20 the sigmoid is 1 to 2e-9
        slope = where(scaled > threshold, 1.0, slope)
    return g * slope


softplus.vjp(input=_softplus_slope)


@op(cases=[case(distinct(2, 3)), case(distinct(2, 3), 0.5)])
def elu(input: Any, alpha: float = 1.0) -> Any:
    """input where it is positive, alpha * (exp(input) - 1) elsewhere. Clevert et al. 2015."""
    return np.where(input > 0, input, alpha * np.expm1(np.minimum(input, 0)))


elu.vjp(input=lambda g, input, alpha: where(input <= 0, g * (alpha * exp(minimum(input, 0.0))), g))


@composed(cases=[case(distinct(2, 3))])
def selu(input: Tensor) -> Tensor:
    """The self-normalising elu, of fixed scale and alpha. Klambauer et al. 2017."""
    return 1.0507009873554804934193349852946 * elu(input, 1.6732632423543772848170429916717)


@composed(cases=[case(distinct(2, 3)), case(distinct(2, 3), 0.5)])
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)). Barron 2017."""
    return alpha * elu(input / alpha)


@composed(cases=[case(normal(2, 3)), case(normal(2, 3), approximate="tanh")])
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input times the normal distribution function, or nearly ("tanh"). Hendrycks & Gimpel 2016."""
    if approximate == "none":
        return input * (0.5 + 0.5 * erf(input * math.sqrt(0.5)))
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate is {approximate!r}; expected 'none' or 'tanh'")
    inner = math.sqrt(2 / math.pi) * (input + 0.044715 * (input * input * input))
    return input * (0.5 + 0.5 * tanh(inner))


@composed(cases=[case(normal(2, 3))])
def silu(input: Tensor) -> Tensor:
    """input * sigmoid(input)."""
    return input * sigmoid(input)


@composed(cases=[case(normal(2, 3))])
def mish(input: Tensor) -> Tensor:
    """input * tanh(softplus(input)). Misra 2019."""
    return input * tanh(softplus(input))


@composed(cases=[case(normal(2, 4)), case(normal(4, 3), 0)])
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second. Dauphin et al. 2016."""
    size = input.shape[dim]
    if size % 2:
        raise ValueError(
            f"glu: axis {dim} of input {input.shape} has odd size {size}; expected even"
        )
    lead = (slice(None),) * (dim % input.ndim)
    return input[(*lead, slice(size // 2))] * sigmoid(input[(*lead, slice(size // 2, None))])


# --------------------------------------------------------------------------------------- softmax


@op(cases=[case(normal(2, 3), 1), case(normal(3, 2), 0), case(normal(2, 3, 2), -2)])
def softmax(input: Any, dim: int) -> Any:
    """exp(input) over its sum along `dim`, without overflow."""
    y = np.exp(_below_largest(input, dim))
    return np.divide(y, y.sum(axis=dim, keepdims=True), out=y)


softmax.vjp(input=lambda g, out, dim: out * (g - sum(g * out, dim, keepdims=True)))


@op(cases=[case(normal(2, 3), 1), case(normal(3, 2), 0), case(normal(2, 3, 2), -2)])
def log_softmax(input: Any, dim: int) -> Any:
    """log(softmax(input)), without overflow or cancellation."""
    shifted = _below_largest(input, dim)
    if shifted.size == 0:
        return shifted
    return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


log_softmax.vjp(input=lambda g, out, dim: g - exp(out) * sum(g, dim, keepdims=True))


def _below_largest(x, axis):
    x = _floating(x)
    if x.size == 0:
        return x
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as in torch
        return x - x.max(axis=axis, keepdims=True)


# --------------------------------------------------------------------------------------- dropout


def dropout(input: Tensor, p: float = 0.5, training: bool = True, *, rng: Any) -> Tensor:
    """Zero each element with probability p, divide the rest by 1 - p. Hinton et al. 2012.

    Only in training; otherwise the input comes back. `rng` is a minigen Generator. Raises
    ValueError for p outside [0, 1].
    """
    return _dropout("dropout", input, p, training, rng, input.shape)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, *, rng: Any) -> Tensor:
    """In training, zero whole channels of (N, C, H, W) or (C, H, W), as `dropout` does."""
    if input.ndim not in (3, 4):
        raise ValueError(
            f"dropout2d: input has shape {input.shape}; expected (N, C, H, W) or (C, H, W)"
        )
    return _dropout("dropout2d", input, p, training, rng, (*input.shape[:-2], 1, 1))


def _dropout(where, input, p, training, rng, mask_shape):
    if not 0 <= p <= 1:
        raise ValueError(f"{where}: p is {p}; expected a probability in [0, 1]")
    if not training or p == 0:
        return input
    return masked(input, p, tuple(mask_shape), *rng.reserve(math.prod(mask_shape)))


@op(
    linear=("x",),
    cases=[case(normal(4, 3), 0.4, (4, 3), 7, 0), case(normal(2, 3, 2), 0.5, (2, 3, 1), 1, 5)],
)
def masked(x, p, mask_shape, key, counter):
    """x times a random mask, not stored: key and counter draw it again for the gradient."""
    if p == 1:
        return np.zeros_like(x)
    uniform, _ = kernels.implementation("philox_uniform", x)
    kept = uniform(key, counter, math.prod(mask_shape), np.dtype(np.float32)) >= p
    return np.where(kept.reshape(mask_shape), x * (1 / (1 - p)), 0).astype(x.dtype, copy=False)


masked.vjp(x=lambda g, p, mask_shape, key, counter: masked(g, p, mask_shape, key, counter))


def _floating(x):
    """Integers as floats, NumPy's promotion."""
    return (
        x if x.dtype.kind == "f" else x.astype(np.float32 if x.dtype.itemsize < 4 else np.float64)
    )
