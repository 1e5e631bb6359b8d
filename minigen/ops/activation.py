"""Activations and dropout, as in torch.nn.functional (tanh, NumPy's, is in elementwise)."""

import math
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.cases import case, distinct, normal, uniform
from minigen.ops.choosing import band, minimum, where
from minigen.ops.elementwise import exp, square, tanh
from minigen.ops.reduction import sum
from minigen.ops.shape import reshape
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
    """input where it is positive, negative_slope * input elsewhere; at 0 the derivative too.

    NaN stays NaN, and its gradient passes as where input is positive.
    """
    if not negative_slope and input.dtype.kind in "biu":
        return np.maximum(input, input.dtype.type(0))
    return kernels.leaky_relu(_floating(input) if negative_slope else input, negative_slope)


@op(linear=("grad",), cases=[case(normal(2, 3), distinct(2, 3), 0.2)])
def leaky_relu_grad(grad, x, negative_slope):
    """The derivative of leaky_relu at x, times grad; constant in x between the kinks."""
    return kernels.leaky_relu_grad(grad, x, negative_slope)


@op(linear=("grad",), cases=[case(normal(2, 3, 2), distinct(2, 3, 2), 0.2)])
def leaky_relu_grad_sum(grad, x, negative_slope):
    """leaky_relu_grad, and its sum over every axis but 1: what an activated layer's VJPs share."""
    return kernels.leaky_relu_grad_sum(grad, x, negative_slope)


leaky_relu.vjp(input=lambda g, input, negative_slope: leaky_relu_grad(g, input, negative_slope))
leaky_relu_grad.vjp(
    grad=lambda g, x, negative_slope: leaky_relu_grad(g, x, negative_slope),
    x=lambda: None,  # zero
)
leaky_relu_grad_sum.vjp(
    grad=lambda g, x, negative_slope: leaky_relu_grad(
        g[0] + reshape(g[1], (-1,) + (1,) * (x.ndim - 2)), x, negative_slope
    ),
    x=lambda: None,
)


def before_activation(g, out, slope, with_sum):
    """The gradient before the leaky relu that made `out` (slope >= 0), and its sum by channel.

    The sum, over every axis but 1, is None unless asked for.
    """
    if with_sum:
        return leaky_relu_grad_sum(g, out, slope)
    return leaky_relu_grad(g, out, slope), None


def epilogue_slope(where, negative_slope):
    """The slope for a kernel that activates its own result; None is 1, no activation."""
    if negative_slope is None:
        return 1.0
    if not negative_slope >= 0:  # the sign of the result must tell that of what was activated
        raise ValueError(f"{where}: negative_slope is {negative_slope}; expected at least 0")
    return float(negative_slope)


@composed(cases=[case(distinct(2, 3))])
def relu(input: Tensor) -> Tensor:
    """max(input, 0); the derivative at 0 is 0."""
    return leaky_relu(input, 0.0)


@op(cases=[case(distinct(3, 7)), case(distinct(2, 3), -0.17, 0.12)])
def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """input within [min_val, max_val], else the nearer bound; the derivative at the bounds is 0."""
    return np.clip(input, min_val, max_val)


hardtanh.vjp(
    input=lambda g, input, min_val, max_val: band(g, input, min_val, max_val, False)
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


@op(linear=("grad",), cases=[case(normal(2, 3), normal(2, 3))])
def sigmoid_grad(grad, y):
    """sigmoid's gradient by its input, where it gave y."""
    return kernels.sigmoid_grad(grad, y)


sigmoid.vjp(input=lambda g, out: sigmoid_grad(g, out))
sigmoid_grad.vjp(
    grad=lambda g, y: sigmoid_grad(g, y), y=lambda g, grad, y: g * grad * (1 - 2 * y)
)


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
    if threshold >= 20 and y.dtype == np.float32:  # there y is input to the last digit
        return y
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
    return kernels.elu(_floating(input), alpha)


@op(linear=("grad",), cases=[case(normal(2, 3), distinct(2, 3), 0.5)])
def elu_grad(grad, x, alpha):
    """grad times elu's derivative at x."""
    return kernels.elu_grad(grad, x, alpha)


elu.vjp(input=lambda g, input, alpha: elu_grad(g, input, alpha))
elu_grad.vjp_from(
    ("grad", "x"),
    lambda grad, x, alpha: where(x <= 0, grad * (alpha * exp(minimum(x, 0.0))), grad),
)


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
        return gelu_exact(input)
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate is {approximate!r}; expected 'none' or 'tanh'")
    inner = math.sqrt(2 / math.pi) * (input + 0.044715 * (input * input * input))
    return input * (0.5 + 0.5 * tanh(inner))


@op(cases=[case(normal(2, 3))])
def gelu_exact(x):
    """x times the normal distribution function."""
    return kernels.gelu(_floating(x))


@op(linear=("grad",), cases=[case(normal(2, 3), normal(2, 3))])
def gelu_grad(grad, x):
    """grad times the derivative of gelu at x."""
    return kernels.gelu_grad(grad, x)


def _gelu_grad(grad, x):
    """gelu_grad in plain ops."""
    density = exp(-0.5 * square(x)) * (1 / math.sqrt(2 * math.pi))
    return grad * (0.5 + 0.5 * erf(x * math.sqrt(0.5)) + x * density)


gelu_exact.vjp(x=lambda g, x: gelu_grad(g, x))
gelu_grad.vjp_from(("grad", "x"), _gelu_grad)


@op(cases=[case(normal(2, 3))])
def silu(input: Any) -> Any:
    """input * sigmoid(input)."""
    return kernels.silu(_floating(input))


@op(linear=("grad",), cases=[case(normal(2, 3), normal(2, 3))])
def silu_grad(grad, x):
    """grad times the derivative of silu at x."""
    return kernels.silu_grad(grad, x)


def _silu_grad(grad, x):
    """silu_grad in plain ops."""
    s = sigmoid(x)
    return grad * (s * (1 + x * (1 - s)))


silu.vjp(input=lambda g, input: silu_grad(g, input))
silu_grad.vjp_from(("grad", "x"), _silu_grad)


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
    return _by_rows(kernels.softmax, dim, _floating(input))


@op(linear=("grad",), cases=[case(normal(2, 3), normal(2, 3), 1)])
def softmax_grad(grad, y, dim):
    """softmax's gradient by its input, where it gave y."""
    return _by_rows(kernels.softmax_grad, dim, grad, y)


softmax.vjp(input=lambda g, out, dim: softmax_grad(g, out, dim))
softmax_grad.vjp(
    grad=lambda g, y, dim: softmax_grad(g, y, dim),
    y=lambda g, grad, y, dim: (
        g * (grad - sum(grad * y, dim, keepdims=True)) - grad * sum(g * y, dim, keepdims=True)
    ),
)


@op(cases=[case(normal(2, 3), 1), case(normal(3, 2), 0), case(normal(2, 3, 2), -2)])
def log_softmax(input: Any, dim: int) -> Any:
    """log(softmax(input)), without overflow or cancellation."""
    return _by_rows(kernels.log_softmax, dim, _floating(input))


@op(linear=("grad",), cases=[case(normal(2, 3), normal(2, 3), 1)])
def log_softmax_grad(grad, y, dim):
    """log_softmax's gradient by its input, where it gave y."""
    return _by_rows(kernels.log_softmax_grad, dim, grad, y)


log_softmax.vjp(input=lambda g, out, dim: log_softmax_grad(g, out, dim))
log_softmax_grad.vjp(
    grad=lambda g, y, dim: g - sum(g * exp(y), dim, keepdims=True),
    y=lambda g, grad, y, dim: -g * exp(y) * sum(grad, dim, keepdims=True),
)


def _by_rows(kernel, dim, *arrays):
    """A kernel on the rows of matrices, run along axis `dim`."""
    first = arrays[0]
    if first.ndim == 2 and dim in (1, -1):
        return kernel(*arrays) if first.size else np.zeros_like(first)
    moved = [np.moveaxis(a, dim, -1) if a.ndim else a.reshape(1) for a in arrays]
    shape = moved[0].shape
    if first.size == 0:
        return np.zeros_like(first)
    rows = kernel(*[a.reshape(-1, shape[-1]) for a in moved]).reshape(shape)
    return np.moveaxis(rows, -1, dim) if first.ndim else rows.reshape(())


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
