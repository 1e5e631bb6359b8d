"""Normalisation over a layer, groups of channels, an instance, a vector or a pixel.

What may never live here: normalisation over the batch (batchnorm). The first three run in one
fused kernel, whose gradient is one too, declared as an op whose own VJPs are derived from the same
formulas written with plain ops.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.batchnorm import all_but_channels, batch_norm, move_running, spread_channels
from minigen.ops.cases import case, distinct, normal, positive
from minigen.ops.choosing import maximum, sign, where
from minigen.ops.elementwise import abs, sqrt, square
from minigen.ops.reduction import mean, sum, var
from minigen.ops.shape import pad, reshape
from minigen.tensor import Tensor

__all__ = [
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "pixel_norm",
]


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


GROUPS = [
    case(normal(2, 4, 3), normal(4), normal(4), 2, 1e-5),
    case(normal(2, 3, 2, 2), None, None, 3, 1e-5),
    case(normal(3, 5), normal(5), normal(5), 1, 1e-2),
]


@op(cases=GROUPS)
def grouped_norm(x, weight, bias, groups, eps, statistics=None):
    """Normalise each example of (N, C, ...) by groups of channels, then scale and shift them.

    The means and variances, (N, groups), are left in the list `statistics`.
    """
    y, *found = kernels.group_norm(x, weight, bias, groups, eps)
    if statistics is not None:
        statistics[:] = found
    return y


@op(cases=[case(normal(*c.inputs[0].shape), *c.inputs) for c in GROUPS])
def grouped_norm_grad(grad, x, weight, bias, groups, eps, statistics=None):
    """Gradients of grouped_norm by x, weight and bias, given the statistics that it found."""
    mean, var = statistics or kernels.group_norm(x, weight, bias, groups, eps)[1:]
    return kernels.group_norm_grad(grad, x, mean, var, weight, groups, eps)


def _grouped_grad(grad, x, weight, bias, groups, eps, statistics=None):
    """grouped_norm_grad in plain ops, the statistics being functions of x."""
    grouped = (x.shape[0], groups, -1)
    normal = reshape(standardize(reshape(x, grouped), (2,), eps), x.shape)
    inverse = (var(reshape(x, grouped), 2, keepdims=True) + eps) ** -0.5
    inner = reshape(grad if weight is None else grad * spread_channels(weight, x.shape), grouped)
    tilt = mean(inner * reshape(normal, grouped), 2, keepdims=True)
    dx = inverse * (inner - mean(inner, 2, keepdims=True) - reshape(normal, grouped) * tilt)
    axes = all_but_channels(x)
    return reshape(dx, x.shape), sum(grad * normal, axes), sum(grad, axes)


grouped_norm.vjp_together(
    ("x", "weight", "bias"),
    lambda g, x, weight, bias, groups, eps, statistics: grouped_norm_grad(
        g, x, weight, bias, groups, eps, statistics
    ),
)
grouped_norm_grad.vjp_from(("grad", "x", "weight", "bias"), _grouped_grad)


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
    flat = [v if v is None or v.ndim == 1 else reshape(v, -1) for v in (weight, bias)]
    rows = (math.prod(input.shape[: -len(shape)]), math.prod(shape))
    y = grouped_norm(reshape(input, rows), *flat, 1, eps, [])
    return reshape(y, input.shape)


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
    _check_channels("group_norm", input.shape[1], weight, bias)
    return grouped_norm(input, weight, bias, num_groups, eps, [])


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
    statistics: list[Any] = []
    y = grouped_norm(input, weight, bias, input.shape[1], eps, statistics)
    if input.size:
        (mean, var), scale = statistics, count / (count - 1)
        move_running(running_mean, running_var, None, mean, var, momentum, scale)
    return y


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


def _check_channels(where, channels, weight, bias):
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != (channels,):
            raise ValueError(f"{where}: {name} has shape {value.shape}; expected {(channels,)}")
