"""Losses and similarities, as in torch.nn.functional, except that unequal shapes raise.

`reduction` is "mean" over all elements, "sum", or "none"; values are in nats where they are
likelihoods.
"""

import math
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.activation import log_softmax, softplus
from minigen.ops.cases import case, distinct, integers, normal, positive, uniform
from minigen.ops.choosing import maximum, times_sign, where
from minigen.ops.elementwise import abs, exp, log, square
from minigen.ops.index import take_along_axis
from minigen.ops.logits import label_cost, logit_cost
from minigen.ops.norm import vector_norm
from minigen.ops.reduction import mean, sum
from minigen.ops.shape import expand_dims, reshape, squeeze
from minigen.tensor import Tensor, asarray, raw

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_similarity",
    "cross_entropy",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
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
    return _reduced("mse_loss", square(_difference("mse_loss", input, target)), reduction)


@composed(cases=APART)
def l1_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|; the target has input's shape or is a number."""
    if reduction in ("mean", "sum") and _alike("l1_loss", input, target):
        total = absolute_error(input, target)
        return total / input.size if reduction == "mean" else total
    return _reduced("l1_loss", abs(_difference("l1_loss", input, target)), reduction)


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
        return _reduced("smooth_l1_loss", size, reduction)
    loss = where(size < beta, square(size) * (0.5 / beta), size - 0.5 * beta)
    return _reduced("smooth_l1_loss", loss, reduction)


@composed(cases=[*APART, case(uniform(-0.4, 0.4, 5), uniform(-0.4, 0.4, 5), "none", 2.0)])
def huber_loss(input: Tensor, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """difference^2 / 2 where |difference| < delta, delta (|difference| - delta / 2) elsewhere."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta is {delta}; expected more than 0")
    size = abs(_difference("huber_loss", input, target))
    loss = where(size < delta, 0.5 * square(size), delta * (size - 0.5 * delta))
    return _reduced("huber_loss", loss, reduction)


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


# ---------------------------------------------------------------------------------- class labels

LABELS = np.array([1, -100, 2, 0])


@composed(
    cases=[
        case(normal(4, 3), LABELS, positive(3)),
        case(normal(4, 3), LABELS, positive(3), label_smoothing=0.2),
        case(normal(2, 3, 2), integers(0, 3, 2, 2), reduction="none"),
        case(normal(3), np.array(2)),
        case(normal(3, 4), positive(3, 4), positive(4), label_smoothing=0.1),
    ]
)
def cross_entropy(
    input: Tensor,
    target: Any,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax of input (N, C, ...) or (C,) at labels (N, ...), or under probabilities.

    Labels of `ignore_index` do not count; the mean over labels is weighted by `weight` (C,), that
    over probabilities counts positions. Raises ValueError if shapes do not fit, IndexError for a
    label outside [0, C).
    """
    where_ = "cross_entropy"
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{where_}: label_smoothing is {label_smoothing}; expected it in [0, 1]")
    axis = _class_axis(where_, input)
    target = asarray(target)
    if target.dtype.kind not in "f":
        if weight is None and not label_smoothing and axis == 1 and input.dtype.char in "fd":
            return _label_cost(where_, input, target, ignore_index, reduction)
        scores = log_softmax(input, axis)
        return _nll(where_, scores, target, weight, ignore_index, reduction, label_smoothing)
    scores = log_softmax(input, axis)
    if target.shape != input.shape:
        raise ValueError(
            f"{where_}: target of probabilities has shape {target.shape}, input {input.shape};"
            " expected the same, or integer labels"
        )
    classes = input.shape[axis]
    _check_weight(where_, weight, classes)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    loss = scores * target if weight is None else scores * target * _along(weight, input.ndim, axis)
    loss = -sum(loss, axis)
    if reduction != "mean":
        return _reduced(where_, loss, reduction)
    return sum(loss) / (input.size / classes)


@composed(
    cases=[
        case(normal(4, 3), LABELS, positive(3)),
        case(normal(2, 3, 2), integers(0, 3, 2, 2), reduction="sum"),
    ]
)
def nll_loss(
    input: Tensor,
    target: Any,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-input, of log-probabilities (N, C, ...) or (C,), at labels (N, ...); see cross_entropy."""
    return _nll("nll_loss", input, asarray(target), weight, ignore_index, reduction, 0.0)


def _label_cost(name, input, target, ignore_index, reduction):
    """Plain cross entropy at labels: one kernel, and one for its gradient."""
    labels, counted = _labels(name, input, 1, target, ignore_index)
    loss = label_cost(input, np.where(counted, labels, -1))
    if reduction != "mean":
        return _reduced(name, loss, reduction)
    count = int(np.count_nonzero(counted))
    return sum(loss) / count if count else sum(loss) + math.nan  # as in _nll


def _labels(name, scores, axis, target, ignore_index):
    """The labels as int64, and which of them count, after checking them."""
    labels, classes = raw(target), scores.shape[axis]
    expected = scores.shape[:axis] + scores.shape[axis + 1 :]
    if labels.shape != expected or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: target has shape {labels.shape} and dtype {labels.dtype}, input"
            f" {scores.shape} needs"
            f" integer labels of shape {expected}"
        )
    counted = labels != ignore_index
    outside = counted & ((labels < 0) | (labels >= classes))
    if outside.any():
        raise IndexError(
            f"{name}: label {labels[outside][0]} is outside 0..{classes - 1} (and not ignore_index"
            f" {ignore_index})"
        )
    return np.where(counted, labels, 0).astype(np.int64), counted


def _nll(name, scores, target, weight, ignore_index, reduction, smoothing):
    axis = _class_axis(name, scores)
    classes = scores.shape[axis]
    labels, counted = _labels(name, scores, axis, target, ignore_index)
    _check_weight(name, weight, classes)
    shares = counted.astype(scores.dtype)  # the weight of each position
    if weight is not None:
        shares = take_along_axis(weight, Tensor(labels.reshape(-1)), 0).reshape(
            labels.shape
        ) * Tensor(shares)
    else:
        shares = Tensor(shares)
    chosen = take_along_axis(scores, expand_dims(Tensor(labels), axis), axis)
    loss = -squeeze(chosen, axis) * shares
    if smoothing:
        weighted = scores if weight is None else scores * _along(weight, scores.ndim, axis)
        uniform_loss = -sum(weighted, axis) * Tensor(counted.astype(scores.dtype))
        loss = (1 - smoothing) * loss + (smoothing / classes) * uniform_loss
    if reduction != "mean":
        return _reduced(name, loss, reduction)
    if not counted.any():
        return sum(loss) + math.nan  # the mean of nothing; its gradient is 0, as in torch
    return sum(loss) / sum(shares)


def _class_axis(name, input):
    if input.ndim == 0:
        raise ValueError(f"{name}: input has no axis of classes; expected (N, C, ...) or (C,)")
    return 0 if input.ndim == 1 else 1


def _along(values, ndim, axis):
    return reshape(values, tuple(-1 if i == axis else 1 for i in range(ndim)))


def _check_weight(name, weight, classes):
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{name}: weight has shape {weight.shape}; expected {(classes,)}")


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

    `weight` broadcasts. Raises ValueError if target has another shape, or for an input outside
    [0, 1].
    """
    target = _like("binary_cross_entropy", input, target)
    values = raw(input)
    if values.size and not (np.min(values) >= 0 and np.max(values) <= 1):
        raise ValueError(
            f"binary_cross_entropy: input spans {np.min(values)} to {np.max(values)}; expected"
            " probabilities in [0, 1] (for logits use binary_cross_entropy_with_logits)"
        )
    loss = bernoulli_cost(input, target)
    return _reduced("binary_cross_entropy", loss if weight is None else loss * weight, reduction)


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
    return _reduced(name, loss if weight is None else loss * weight, reduction)


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
    return _reduced("kl_div", loss, reduction)


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
    var = asarray(var)
    if var.shape != input.shape and var.ndim:
        if input.shape[:-1] == var.shape:
            var = expand_dims(var, -1)
        elif input.shape[:-1] != var.shape[:-1] or var.shape[-1] != 1:
            raise ValueError(f"{name}: var has shape {var.shape}, input {input.shape}")
    low = raw(var).min() if var.size else 0
    if low < 0:
        raise ValueError(f"{name}: var has the entry {low}; expected none below 0")
    var = var + Tensor(np.maximum(eps - raw(var), 0))  # raised to eps, the gradient as it was
    loss = 0.5 * (log(var) + square(_difference(name, input, target)) / var)
    return _reduced(name, loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


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


def _reduced(name, loss, reduction):
    if reduction == "mean":
        return mean(loss)
    if reduction == "sum":
        return sum(loss)
    if reduction == "none":
        return loss
    raise ValueError(f"{name}: reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")
