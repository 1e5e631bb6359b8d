"""Losses and similarities, as in torch.nn.functional, except that unequal shapes raise.

`reduction` is "mean" over all elements, "sum", or "none"; values are in nats where they are
likelihoods. Losses at class labels are in labels.
"""

import math
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.activation import softplus
from minigen.ops.cases import case, distinct, normal, positive, uniform
from minigen.ops.choosing import maximum, times_sign, where
from minigen.ops.creation import full_like
from minigen.ops.elementwise import abs, exp, log, square
from minigen.ops.logits import logit_cost
from minigen.ops.norm import vector_norm
from minigen.ops.reduction import mean, sum
from minigen.ops.shape import expand_dims
from minigen.tensor import Tensor, asarray, raw

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_similarity",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]

# ------------------------------------------------------------------------------------ distances

PAIR = [case(normal(2, 3), normal(2, 3)), case(normal(2, 3), normal(2, 3), "none")]
APART = [
    case(distinct(2, 3), uniform(2, 3, 2, 3)),
    case(distinct(4), uniform(0.06, 0.09, 4), "sum"),
]


@composed(cases=PAIR)
def mse_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)^2; the target has input's shape or is a number."""
    if reduction in ("mean", "sum") and _alike("mse_loss", input, target):
        total = squared_error(input, target)
        return total / input.size if reduction == "mean" else total
    return reduced("mse_loss", square(_difference("mse_loss", input, target)), reduction)


@composed(cases=APART)
def l1_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|; the target has input's shape or is a number."""
    if reduction in ("mean", "sum") and _alike("l1_loss", input, target):
        total = absolute_error(input, target)
        return total / input.size if reduction == "mean" else total
    return reduced("l1_loss", abs(_difference("l1_loss", input, target)), reduction)


@op(cases=[case(normal(2, 3), normal(2, 3))])
def squared_error(x, y):
    """The sum of (x - y)^2 over all elements of two arrays of one shape."""
    return kernels.squared_error(x, y)


@op(cases=APART[:1])
def absolute_error(x, y):
    """The sum of |x - y| over all elements of two arrays of one shape."""
    return kernels.absolute_error(x, y)


@op(linear=("scale",), cases=[case(normal(2, 3), normal(2, 3), normal())])
def scaled_difference(x, y, scale):
    """scale (x - y), of a 0-d scale."""
    return kernels.scaled_difference(x, y, scale)


@op(linear=("scale",), cases=[case(*APART[0].inputs, normal())])
def scaled_sign(x, y, scale):
    """scale times the sign of x - y, of a 0-d scale."""
    return kernels.scaled_sign(x, y, scale)


squared_error.vjp(
    x=lambda g, x, y: scaled_difference(x, y, 2 * g),
    y=lambda g, x, y: scaled_difference(y, x, 2 * g),
)
absolute_error.vjp(
    x=lambda g, x, y: scaled_sign(x, y, g), y=lambda g, x, y: scaled_sign(y, x, g)
)
scaled_difference.vjp(
    x=lambda g, scale: g * scale,
    y=lambda g, scale: -g * scale,
    scale=lambda g, x, y: sum(g * (x - y)),
)
scaled_sign.vjp(x=lambda: None, y=lambda: None, scale=lambda g, x, y: sum(times_sign(g, x - y)))


@composed(cases=[*APART, case(uniform(-0.4, 0.4, 5), uniform(-0.4, 0.4, 5), "none", 1.0)])
def smooth_l1_loss(
    input: Tensor, target: Any, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """difference^2 / (2 beta) where |difference| < beta, |difference| - beta / 2 elsewhere."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta is {beta}; expected at least 0")
    size = abs(_difference("smooth_l1_loss", input, target))
    if beta == 0:
        return reduced("smooth_l1_loss", size, reduction)
    loss = where(size < beta, square(size) * (0.5 / beta), size - 0.5 * beta)
    return reduced("smooth_l1_loss", loss, reduction)


@composed(cases=[*APART, case(uniform(-0.4, 0.4, 5), uniform(-0.4, 0.4, 5), "none", 2.0)])
def huber_loss(input: Tensor, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """difference^2 / 2 where |difference| < delta, delta (|difference| - delta / 2) elsewhere."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta is {delta}; expected more than 0")
    size = abs(_difference("huber_loss", input, target))
    loss = where(size < delta, 0.5 * square(size), delta * (size - 0.5 * delta))
    return reduced("huber_loss", loss, reduction)


@composed(
    cases=[
        case(normal(3, 4), normal(3, 4)),
        case(normal(3, 4), normal(3, 4), 0),
        case(normal(2, 1, 4), normal(3, 4), -1),
    ]
)
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosines of the angles between vectors along `dim`, norms at least eps; broadcasts."""
    ndim = max(x1.ndim, x2.ndim)
    axis = dim % ndim - ndim
    a = x1 / maximum(vector_norm(x1, 2, axis), eps)
    return sum(a * (x2 / maximum(vector_norm(x2, 2, axis), eps)), axis)


# ----------------------------------------------------------------------------------- likelihoods

PROBABILITIES = [
    case(uniform(0.2, 0.8, 2, 3), uniform(0, 1, 2, 3)),
    case(uniform(0.2, 0.8, 2, 3), uniform(0, 1, 2, 3), positive(3), "sum"),
]


@composed(cases=PROBABILITIES)
def binary_cross_entropy(
    input: Tensor, target: Any, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(target log(input) + (1 - target) log(1 - input)), the logarithms at least -100.

    `weight` broadcasts. Raises ValueError if target has another shape, or (on the CPU) for an input
    outside [0, 1].
    """
    target = _like("binary_cross_entropy", input, target)
    values = raw(input)
    on_host = isinstance(values, np.ndarray)  # a look at a GPU's values would wait for them
    if on_host and values.size and not (np.min(values) >= 0 and np.max(values) <= 1):
        raise ValueError(
            f"binary_cross_entropy: input spans {np.min(values)} to {np.max(values)}; expected"
            " probabilities in [0, 1] (for logits use binary_cross_entropy_with_logits)"
        )
    loss = bernoulli_cost(input, target)
    return reduced("binary_cross_entropy", loss if weight is None else loss * weight, reduction)


@op(cases=[case(uniform(0.2, 0.8, 2, 3), uniform(0, 1, 2, 3))])
def bernoulli_cost(p, target):
    """-(target log p + (1 - target) log(1 - p)), the logarithms at least -100."""
    yes, no = _logarithms(p)
    return -(target * yes + (1 - target) * no)


bernoulli_cost.vjp(
    p=lambda g, p, target: g * ((p - target) / maximum(p * (1 - p), 1e-12)),  # as in torch
    target=lambda g, p: -g * clamped_logit(p),
)


@op(cases=[case(uniform(0.2, 0.8, 2, 3))])
def clamped_logit(p):
    """log(p) - log(1 - p), the logarithms at least -100."""
    yes, no = _logarithms(p)
    return yes - no


clamped_logit.vjp(p=lambda g, p: g / maximum(p * (1 - p), 1e-12))


def _logarithms(p):
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)


@composed(
    cases=[
        case(normal(2, 3), uniform(0, 1, 2, 3)),
        case(distinct(3, 20), 1.0),
        case(normal(2, 3), uniform(0, 1, 2, 3), positive(2, 1), "sum", positive(3)),
    ]
)
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Any,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """binary_cross_entropy of sigmoid(input), without overflow, in nats.

    The target is a number or of input's shape; `weight` and `pos_weight` (of the positive part)
    broadcast. Raises ValueError if the target has another shape.
    """
    name = "binary_cross_entropy_with_logits"
    target = _like(name, input, target)
    if pos_weight is None and weight is None:
        if reduction == "mean":
            return logit_cost(input, target, 0) / input.size
        if reduction in ("sum", "none"):
            return logit_cost(input, target, 0 if reduction == "sum" else input.ndim)
    if pos_weight is None:
        loss = log1p_exp(input) - input * target
    else:
        # (1 - t) x + (1 + (w - 1) t) log(1 + e^-x)
        loss = (1 - target) * input + ((pos_weight - 1) * target + 1) * log1p_exp(-input)
    return reduced(name, loss if weight is None else loss * weight, reduction)


def log1p_exp(x):
    """log(1 + e^x), never rounded to x."""
    return softplus(x, 1.0, math.inf)


@composed(
    cases=[
        case(normal(2, 3), positive(2, 3)),
        case(normal(2, 3), normal(2, 3), "batchmean", True),
        case(normal(2, 3), positive(2, 3), "none"),
    ]
)
def kl_div(
    input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """target (log(target) - input), of input = log-probabilities, in nats.

    `log_target` says that the target too is given as logarithms. `reduction` may also be
    "batchmean": the sum over the length of the first axis, which is the divergence.
    """
    target = _like("kl_div", input, target)
    if log_target:
        loss = exp(target) * (target - input)
    else:  # 0 log 0 is 0
        loss = target * log(where(target > 0, target, 1.0)) - target * input
    if reduction == "batchmean":
        return sum(loss) / input.shape[0]
    return reduced("kl_div", loss, reduction)


@composed(
    cases=[
        case(normal(2, 3), normal(2, 3), positive(2, 3), True),
        case(normal(2, 3), normal(2, 3), positive(2, 1), reduction="none"),
    ]
)
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log(var) + (input - target)^2 / var) / 2, and log(2 pi) / 2 if `full`, in nats.

    var counts as at least eps; it is a number, of input's shape, or with 1 on or without the last
    axis. As in torch, no gradient is lost where var is below eps. Raises ValueError for shapes that
    do not fit or a negative var.
    """
    name = "gaussian_nll_loss"
    var = full_like(input, var) if isinstance(var, (int, float)) else asarray(var)
    if var.shape != input.shape and var.ndim:
        if input.shape[:-1] == var.shape:
            var = expand_dims(var, -1)
        elif input.shape[:-1] != var.shape[:-1] or var.shape[-1] != 1:
            raise ValueError(f"{name}: var has shape {var.shape}, input {input.shape}")
    var = var + shortfall(var, eps)  # raised to eps, the gradient as it was
    loss = 0.5 * (log(var) + square(_difference(name, input, target)) / var)
    return reduced(name, loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


@op(differentiable=False)
def shortfall(var, eps):
    """What var lacks of eps, 0 where nothing; raises ValueError for a negative var on the CPU."""
    low = var.min() if var.size and isinstance(var, np.ndarray) else 0
    if low < 0:
        raise ValueError(f"gaussian_nll_loss: var has the entry {low}; expected none below 0")
    return np.maximum(eps - var, 0)


# --------------------------------------------------------------------------------------- helpers


def _like(name, input, target):
    """The target, whose shape must be input's unless it is a number."""
    if not isinstance(target, (int, float)) and target.shape != input.shape:
        raise ValueError(
            f"{name}: target has shape {tuple(target.shape)}, input {tuple(input.shape)};"
            " expected the same"
        )
    return target


def _alike(name, input, target):
    """Whether both are floating arrays of one dtype, whose distance a kernel sums up."""
    dtype = getattr(_like(name, input, target), "dtype", None)
    return dtype is not None and dtype == input.dtype and dtype.kind == "f" and input.size > 0


def _difference(name, input, target):
    return input - _like(name, input, target)


def reduced(name, loss, reduction):
    """A loss of each element, reduced as asked."""
    if reduction == "mean":
        return mean(loss)
    if reduction == "sum":
        return sum(loss)
    if reduction == "none":
        return loss
    raise ValueError(f"{name}: reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")
