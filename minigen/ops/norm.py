"""Normalisation over the batch, a layer, groups of channels, an instance, a vector or a pixel.

Batch normalisation runs in fused kernels, together with the activation that follows it. Their
gradients are fused kernels too, declared as ops whose own VJPs are derived from the same formulas
written with plain ops.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.activation import leaky_relu_grad
from minigen.ops.cases import case, distinct, normal, positive
from minigen.ops.choosing import maximum, sign, where
from minigen.ops.elementwise import abs, sqrt, square
from minigen.ops.reduction import mean, sum, var
from minigen.ops.shape import pad, reshape
from minigen.tensor import Tensor, raw

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "pixel_norm",
]


# ---------------------------------------------------------------------------------- over the batch


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
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias by channel: (N, C, ...), the others (C,).

    In training, mean and (biased) variance are the batch's, and the running statistics move towards
    them (the unbiased variance) by `momentum`, in place; otherwise they are the running ones.
    `negative_slope` fuses the activation that follows: 0 is relu, 0.2 a leaky relu, None nothing.
    Raises ValueError for one value per channel in training, or shapes that do not fit. Ioffe &
    Szegedy 2015, algorithm 1.
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
    if count:
        _move(running_mean, statistics[0], momentum)
        _move(running_var, statistics[1], momentum, count / (count - 1))
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
    axes, count = _others(x), max(_per_channel(x.shape), 1)
    deviation = x - mean(x, axes, keepdims=True)
    inverse = (mean(square(deviation), axes, keepdims=True) + eps) ** -0.5
    normal = deviation * inverse
    grad = _before_activation(grad, normal, weight, bias, slope)
    dbias, dweight = sum(grad, axes, keepdims=True), sum(grad * normal, axes, keepdims=True)
    dx = inverse * (grad - dbias / count - normal * dweight / count)
    if weight is not None:
        dx = dx * _spread(weight, x.shape)
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
    axes = _others(x)
    inverse = (var + eps) ** -0.5
    scale = inverse if weight is None else inverse * weight
    deviation = x - _spread(mean, x.shape)
    normal = deviation * _spread(inverse, x.shape)
    grad = _before_activation(grad, normal, weight, bias, slope)
    total, moment = sum(grad, axes), sum(grad * deviation, axes)
    dvar = -0.5 * moment * scale * square(inverse)
    return grad * _spread(scale, x.shape), -scale * total, dvar, moment * inverse, total


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
    y = normal if weight is None else normal * _spread(weight, normal.shape)
    return leaky_relu_grad(grad, y if bias is None else y + _spread(bias, y.shape), slope)


def _move(running, found, momentum, scale=1.0):
    """running = (1 - momentum) running + momentum scale found, in place."""
    if running is None:
        return
    array = raw(running)
    array *= 1 - momentum
    array += (momentum * scale * found).astype(array.dtype, copy=False)
    if isinstance(running, Tensor):
        running.version[0] += 1


# ------------------------------------------------------------------ over a layer, groups, instances


@op(
    cases=[
        case(normal(2, 3, 4), (1, 2), 1e-5),
        case(normal(3, 4), (1,), 1e-2),
        case(normal(2, 3, 2, 2), (2, 3), 1e-5),
    ]
)
def standardize(x, axes, eps):
    """(x - mean) / sqrt(var + eps) over `axes`."""
    deviation = x - np.mean(x, axis=axes, keepdims=True)
    deviation /= np.sqrt(np.mean(np.square(deviation), axis=axes, keepdims=True) + eps)
    return deviation


standardize.vjp(
    x=lambda g, x, out, axes, eps: (
        (var(x, axes, keepdims=True) + eps) ** -0.5
        * (g - mean(g, axes, keepdims=True) - out * mean(g * out, axes, keepdims=True))
    )
)


@composed(
    cases=[
        case(normal(2, 3, 4), (3, 4), normal(3, 4), normal(3, 4)),
        case(normal(2, 4), 4, normal(4)),
    ]
)
def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last axes, of `normalized_shape`, then scale and shift. Ba et al. 2016."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        raise ValueError(
            f"layer_norm: input has shape {input.shape}, its last axes must be"
            f" normalized_shape {shape}"
        )
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(f"layer_norm: {name} has shape {value.shape}; expected {shape}")
    axes = tuple(range(input.ndim - len(shape), input.ndim))
    return _scale_shift(standardize(input, axes, eps), weight, bias)


@composed(cases=[case(normal(2, 4, 3), 2, normal(4), normal(4)), case(normal(1, 6, 2, 2), 3)])
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise `num_groups` groups of channels of (N, C, ...), scale, shift. Wu & He 2018."""
    if input.ndim < 2 or num_groups < 1 or input.shape[1] % num_groups:
        raise ValueError(
            f"group_norm: num_groups {num_groups} must divide the channels of input {input.shape}"
        )
    n, c, *rest = input.shape
    _check_channels("group_norm", c, weight, bias)
    groups = reshape(input, (n, num_groups, c // num_groups, *rest))
    y = reshape(standardize(groups, tuple(range(2, groups.ndim)), eps), input.shape)
    return _scale_shift(y, _over(weight, input), _over(bias, input))


@composed(
    cases=[
        case(normal(2, 3, 4), None, None, normal(3), normal(3)),
        case(normal(2, 2, 3, 2)),
        case(normal(2, 2, 3), normal(2), positive(2), normal(2), None, False),
    ]
)
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each example of (N, C, ...), scale, shift. Ulyanov et al. 2016.

    With `use_input_stats` False the running statistics take the place of the instance's; otherwise,
    if given, they move in place towards the mean over the batch of the instances'.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.ndim < 3:
        raise ValueError(f"instance_norm: input has shape {input.shape}; expected (N, C, ...)")
    _check_channels("instance_norm", input.shape[1], weight, bias)
    count = math.prod(input.shape[2:])
    if count == 1:
        raise ValueError(
            f"instance_norm: needs more than 1 value per channel, input has shape {input.shape}"
        )
    axes = tuple(range(2, input.ndim))
    if running_mean is not None and input.size:
        _move(running_mean, np.mean(raw(input), axis=(0, *axes)), momentum)
    if running_var is not None and input.size:
        _move(running_var, np.var(raw(input), axis=axes, ddof=1).mean(axis=0), momentum)
    return _scale_shift(standardize(input, axes, eps), _over(weight, input), _over(bias, input))


# ------------------------------------------------------------------------------------ of vectors


@composed(
    cases=[case(normal(2, 3, 2)), case(distinct(3, 4), p=1, dim=-1), case(normal(3, 4), p=3.0)]
)
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """input / max(its p-norm along `dim`, eps)."""
    return input / maximum(vector_norm(input, p, dim), eps)


@op(cases=[case(normal(2, 3), 2, 1), case(distinct(3, 2), 1, 0), case(normal(4), 3, 0)])
def vector_norm(x, p, axis):
    """The p-norm along an axis, which is kept."""
    size = np.abs(x)
    if p == math.inf:
        return size.max(axis=axis, keepdims=True)
    if p == 2:
        return np.sqrt(np.square(size).sum(axis=axis, keepdims=True))
    return (size**p).sum(axis=axis, keepdims=True) ** (1 / p)


def _vector_norm_x(g, x, out, p):
    if p == math.inf:
        return where(abs(x) == out, g, 0) * sign(x)
    direction = x / where(out == 0, 1, out)  # the norm's gradient at 0 is taken to be 0
    return g * direction if p == 2 else g * sign(x) * abs(direction) ** (p - 1)


vector_norm.vjp(x=_vector_norm_x)


@composed(cases=[case(normal(2, 3, 2, 2)), case(normal(3, 4))])
def pixel_norm(input: Tensor, eps: float = 1e-8) -> Tensor:
    """Divide (N, C, ...) by the root mean square over channels. Karras et al. 2017, sec. 4.2."""
    return input / sqrt(mean(square(input), 1, keepdims=True) + eps)


@composed(cases=[case(normal(2, 5, 2), 3), case(normal(1, 4, 2, 2), 2, 0.5, 0.6, 1.5)])
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """input / (k + alpha * mean square of `size` channels)^beta. Krizhevsky et al. 2012."""
    if input.ndim < 3 or size < 1:
        raise ValueError(
            f"local_response_norm: input has shape {input.shape}, size {size}; expected (N,"
            " C, L, ...)"
            " and at least 1"
        )
    around = [(0, 0)] * input.ndim
    around[1] = (size // 2, (size - 1) // 2)
    squares = pad(square(input), around)
    channels = input.shape[1]
    total = squares[:, :channels]
    for i in range(1, size):
        total = total + squares[:, i : i + channels]
    return input / (k + alpha / size * total) ** beta


# --------------------------------------------------------------------------------------- helpers


def _scale_shift(y, weight, bias):
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _spread(values, shape):
    """(C,) as (C, 1, ...), which broadcasts against (N, C, ...)."""
    return reshape(values, (-1,) + (1,) * (len(shape) - 2))


def _over(values, input):
    return None if values is None else _spread(values, input.shape)


def _others(x):
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _per_channel(shape):
    return math.prod(shape) // max(shape[1], 1)


def _check_channels(where, channels, weight, bias):
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != (channels,):
            raise ValueError(f"{where}: {name} has shape {value.shape}; expected {(channels,)}")
