"""Batch normalisation, with the activation that follows it, in fused kernels.

Their gradients are fused kernels too, declared as ops whose own VJPs are derived from the same
formulas written with plain ops.
"""

import math
from typing import Any

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.graph import recorded, written
from minigen.ops.activation import leaky_relu_grad
from minigen.ops.cases import case, distinct, normal, positive
from minigen.ops.elementwise import square
from minigen.ops.reduction import mean, sum
from minigen.ops.shape import reshape
from minigen.tensor import Tensor, raw

__all__ = ["batch_norm"]


@composed(
    cases=[
        case(normal(3, 2, 2), None, None, positive(2), normal(2), training=True),
        case(distinct(3, 2, 2), normal(2), positive(2), positive(2), normal(2), negative_slope=0.2),
    ]
)
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    negative_slope: float | None = None,
    num_batches_tracked: Tensor | None = None,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias by channel: (N, C, ...), the others (C,).

    In training, mean and (biased) variance are the batch's, and the running statistics move towards
    them (the unbiased variance) by `momentum`, in place; otherwise they are the running ones.
    `negative_slope` fuses the activation that follows: 0 is relu, 0.2 a leaky relu, None nothing.
    `num_batches_tracked` counts the calls in training. Raises ValueError for one value per channel
    in training, or shapes that do not fit. Ioffe & Szegedy 2015, algorithm 1.
    """
    if input.ndim < 2:
        raise ValueError(f"batch_norm: input has shape {input.shape}; expected (N, C, ...)")
    channels = input.shape[1:2]
    for name, value in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if value is not None and value.shape != channels:
            raise ValueError(
                f"batch_norm: {name} has shape {value.shape}, input {input.shape} needs {channels}"
            )
    slope = 1.0 if negative_slope is None else float(negative_slope)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError(
                "batch_norm: training is False, which needs running_mean and running_var"
            )
        return batch_norm_eval(input, running_mean, running_var, weight, bias, eps, slope)
    count = _per_channel(input.shape)
    if count == 1:
        raise ValueError(
            f"batch_norm: training needs more than 1 value per channel, input has shape"
            f" {input.shape}"
        )
    statistics: list[Any] = []
    y = batch_norm_train(input, weight, bias, eps, slope, statistics)
    if not count:
        running_mean = running_var = None
    mean, var = statistics
    scale = count / (count - 1)  # of the variance, to be unbiased
    move_running(running_mean, running_var, num_batches_tracked, mean, var, momentum, scale)
    return y


TRAIN = [
    case(normal(4, 3, 2, 2), normal(3), normal(3), 1e-5, 1.0),
    case(normal(5, 2), None, None, 1e-3, 1.0),
    case(distinct(3, 2, 2, 2), positive(2), normal(2), 1e-5, 0.2),
    case(distinct(4, 2, 3), positive(2), normal(2), 1e-5, 0.0),
]


@op(cases=TRAIN)
def batch_norm_train(x, weight, bias, eps, slope, statistics=None):
    """Normalise with the batch's own mean and variance, which are left in the list `statistics`."""
    y, *found = kernels.batch_norm_train(x, weight, bias, eps, slope)
    if statistics is not None:
        statistics[:] = found
    return y


@op(cases=[case(normal(*c.inputs[0].shape), *c.inputs) for c in TRAIN])
def batch_norm_train_grad(grad, x, weight, bias, eps, slope, statistics=None):
    """Gradients of batch_norm_train by x, weight and bias, given the statistics that it found."""
    mean, var = statistics or kernels.batch_norm_train(x, weight, bias, eps, slope)[1:]
    return kernels.batch_norm_train_grad(grad, x, mean, var, weight, bias, eps, slope)


def _train_grad(grad, x, weight, bias, eps, slope, statistics=None):
    """batch_norm_train_grad in plain ops, the statistics being functions of x."""
    axes, count = all_but_channels(x), max(_per_channel(x.shape), 1)
    deviation = x - mean(x, axes, keepdims=True)
    inverse = (mean(square(deviation), axes, keepdims=True) + eps) ** -0.5
    normal = deviation * inverse
    grad = _before_activation(grad, normal, weight, bias, slope)
    dbias, dweight = sum(grad, axes, keepdims=True), sum(grad * normal, axes, keepdims=True)
    dx = inverse * (grad - dbias / count - normal * dweight / count)
    if weight is not None:
        dx = dx * spread_channels(weight, x.shape)
    return dx, reshape(dweight, (-1,)), reshape(dbias, (-1,))


batch_norm_train.vjp_together(
    ("x", "weight", "bias"),
    lambda g, x, weight, bias, eps, slope, statistics: batch_norm_train_grad(
        g, x, weight, bias, eps, slope, statistics
    ),
)
batch_norm_train_grad.vjp_from(("grad", "x", "weight", "bias"), _train_grad)

EVAL = [
    case(normal(4, 3, 2, 2), normal(3), positive(3), normal(3), normal(3), 1e-5, 1.0),
    case(normal(5, 2), normal(2), positive(2), None, None, 1e-3, 1.0),
    case(distinct(2, 2, 2, 2), normal(2), positive(2), positive(2), normal(2), 1e-5, 0.2),
]


@op(cases=EVAL)
def batch_norm_eval(x, mean, var, weight, bias, eps, slope):
    """Normalise with given statistics."""
    return kernels.batch_norm_eval(x, mean, var, weight, bias, eps, slope)


@op(cases=[case(normal(*c.inputs[0].shape), *c.inputs) for c in EVAL])
def batch_norm_eval_grad(grad, x, mean, var, weight, bias, eps, slope):
    """Gradients of batch_norm_eval by x, mean, var, weight and bias."""
    return kernels.batch_norm_eval_grad(grad, x, mean, var, weight, bias, eps, slope)


def _eval_grad(grad, x, mean, var, weight, bias, eps, slope):
    """batch_norm_eval_grad in plain ops."""
    axes = all_but_channels(x)
    inverse = (var + eps) ** -0.5
    scale = inverse if weight is None else inverse * weight
    deviation = x - spread_channels(mean, x.shape)
    normal = deviation * spread_channels(inverse, x.shape)
    grad = _before_activation(grad, normal, weight, bias, slope)
    total, moment = sum(grad, axes), sum(grad * deviation, axes)
    dvar = -0.5 * moment * scale * square(inverse)
    return grad * spread_channels(scale, x.shape), -scale * total, dvar, moment * inverse, total


batch_norm_eval.vjp_together(
    ("x", "mean", "var", "weight", "bias"),
    lambda g, x, mean, var, weight, bias, eps, slope: batch_norm_eval_grad(
        g, x, mean, var, weight, bias, eps, slope
    ),
)
batch_norm_eval_grad.vjp_from(("grad", "x", "mean", "var", "weight", "bias"), _eval_grad)


def _before_activation(grad, normal, weight, bias, slope):
    """The gradient before the activation that follows the normalisation."""
    if slope == 1:
        return grad
    y = normal if weight is None else normal * spread_channels(weight, normal.shape)
    return leaky_relu_grad(grad, y if bias is None else y + spread_channels(bias, y.shape), slope)


@recorded
def move_running(mean, var, tracked, found_mean, found_var, momentum, scale):
    """running = (1 - momentum) running + momentum found, in place; of the variance, scale found.

    Statistics found example by example, (N, C), are averaged first.
    """
    running = [t for t in (mean, var, tracked) if t is not None]
    if running:
        found_mean, found_var = [f.mean(0) if f.ndim > 1 else f for f in (found_mean, found_var)]
        arrays = [None if t is None else raw(t) for t in (mean, var, tracked)]
        kernels.move_statistics(*arrays, found_mean, found_var, momentum, scale)
        written(*[t for t in running if isinstance(t, Tensor)])


def spread_channels(values, shape):
    """(C,) as (C, 1, ...), which broadcasts against (N, C, ...)."""
    return reshape(values, (-1,) + (1,) * (len(shape) - 2))


def all_but_channels(x):
    """Every axis but 1."""
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _per_channel(shape):
    return math.prod(shape) // max(shape[1], 1)
