"""Convolutions and patches: (N, C, H, W) images with weights (out, in/groups, kh, kw).

`convolution`, `convolution_transposed` and `convolution_weight_grad` are the three partial
derivatives of one trilinear form T(image, weight, response), so each one's VJPs are the other two:
a closed family, differentiable to any order. The public functions normalise their arguments, check
shapes and call these.
"""

from typing import Any

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.activation import before_activation, epilogue_slope
from minigen.ops.cases import case, normal
from minigen.ops.reduction import sum
from minigen.ops.shape import expand_dims, pad, squeeze
from minigen.ops.windows import Pair, convolving, pair, patches, transposing
from minigen.tensor import Tensor

__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "fold", "unfold"]


@composed(
    cases=[
        case(normal(2, 3, 5, 6), normal(4, 3, 3, 2), normal(4)),
        case(normal(1, 2, 6, 6), normal(2, 2, 3, 3), normal(2), stride=2, padding=1),
        case(normal(2, 2, 4, 5), normal(3, 2, 2, 3), padding="same"),
        case(normal(2, 6, 5), normal(4, 1, 3, 2), normal(4), groups=2, dilation=(1, 2)),
        case(normal(2, 2, 4, 4), normal(3, 2, 2, 2), normal(3), negative_slope=0.2),
    ]
)
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    negative_slope: float | None = None,
) -> Tensor:
    """Cross-correlate (N, C, H, W), or (C, H, W), with (O, C/groups, kh, kw): (N, O, H', W').

    H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1. `padding` may be "valid" (none) or
    "same" (H' = H, stride 1). `negative_slope` fuses the activation that follows: 0 is relu, 0.2 a
    leaky relu, None nothing. Raises ValueError for shapes that do not fit or a negative slope.
    """
    shape = input.shape
    if len(shape) == 3:
        batch, given = expand_dims(input, 0), (stride, padding, dilation, groups)
        return squeeze(conv2d(batch, weight, bias, *given, negative_slope=negative_slope), 0)
    if list in (type(stride), type(padding), type(dilation)):
        stride, padding, dilation = map(_hashable, (stride, padding, dilation))
    bias_shape = None if bias is None else bias.shape
    window, end = convolving(shape, weight.shape, bias_shape, stride, padding, dilation, groups)
    if end != (0, 0):
        input = pad(input, ((0, 0), (0, 0), (0, end[0]), (0, end[1])))
    slope = epilogue_slope("conv2d", negative_slope)
    if slope == 1:
        return convolution(input, weight, bias, *window, groups)
    return convolution_activated(input, weight, bias, *window, groups, slope)


@composed(
    cases=[
        case(normal(2, 3, 4, 3), normal(3, 2, 3, 2), normal(2)),
        case(normal(1, 2, 3, 3), normal(2, 2, 4, 4), stride=2, padding=1),
        case(normal(4, 3, 3), normal(4, 1, 3, 2), stride=3, output_padding=(2, 1), groups=2),
        case(normal(1, 2, 3, 3), normal(2, 1, 2, 2), normal(1), dilation=3, output_padding=2),
        case(normal(2, 2, 2, 3), normal(2, 3, 2, 2), normal(3), stride=2, negative_slope=0.2),
    ]
)
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
    *,
    negative_slope: float | None = None,
) -> Tensor:
    """The adjoint of conv2d in its input: (N, I, H, W) with (I, O/groups, kh, kw): (N, O, H', W').

    H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1. (I, H, W) is accepted
    too; `negative_slope` as in conv2d. Raises ValueError for shapes that do not fit.
    """
    shape, given = input.shape, (stride, padding, output_padding, groups, dilation)
    if len(shape) == 3:
        batch = expand_dims(input, 0)
        y = conv_transpose2d(batch, weight, bias, *given, negative_slope=negative_slope)
        return squeeze(y, 0)
    if list in map(type, given):
        given = tuple(map(_hashable, given))
    bias_shape = None if bias is None else bias.shape
    size, *window = transposing(shape, weight.shape, bias_shape, *given)
    slope = epilogue_slope("conv_transpose2d", negative_slope)
    if slope == 1:
        return convolution_transposed(input, weight, bias, size, *window, groups)
    return convolution_transposed_activated(input, weight, bias, size, *window, groups, slope)


@composed(cases=[case(normal(2, 2, 7), normal(3, 2, 3), normal(3), stride=2, padding=1)])
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] | str = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Tensor:
    """conv2d of one spatial axis: (N, C, L), or (C, L), with (O, C/groups, k) gives (N, O, L')."""
    _check_1d("conv1d", input, weight)
    if type(padding) is not str:
        padding = _beside("conv1d", "padding", padding, 0)
    stride = _beside("conv1d", "stride", stride, 1)
    dilation = _beside("conv1d", "dilation", dilation, 1)
    y = conv2d(
        expand_dims(input, -2), expand_dims(weight, -2), bias, stride, padding, dilation, groups
    )
    return squeeze(y, -2)


@composed(cases=[case(normal(2, 3, 4), normal(3, 2, 3), normal(2), stride=2, output_padding=1)])
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
) -> Tensor:
    """conv_transpose2d of one axis: (N, I, L), or (I, L), with (I, O/groups, k): (N, O, L')."""
    where = "conv_transpose1d"
    _check_1d(where, input, weight)
    y = conv_transpose2d(
        expand_dims(input, -2),
        expand_dims(weight, -2),
        bias,
        _beside(where, "stride", stride, 1),
        _beside(where, "padding", padding, 0),
        _beside(where, "output_padding", output_padding, 0),
        groups,
        _beside(where, "dilation", dilation, 1),
    )
    return squeeze(y, -2)


# ------------------------------------------------------------------------------- the closed family


@op(
    linear=("x", "weight"),
    cases=[
        case(normal(2, 4, 5, 4), normal(2, 2, 3, 2), normal(2), (2, 1), (1, 0), (1, 2), 2),
        case(normal(2, 3, 4, 4), normal(4, 3, 1, 1), None, (1, 1), (0, 0), (1, 1), 1),
    ],
)
def convolution(x, weight, bias, stride, padding, dilation, groups):
    """conv2d with its arguments normalised."""
    x, weight, bias = _one_dtype(x, weight, bias)
    return kernels.conv2d(x, weight, bias, stride, padding, dilation, groups)


@op(
    linear=("x", "weight"),
    cases=[
        case(normal(2, 4, 2, 3), normal(4, 2, 3, 2), normal(4), (4, 5), (2, 1), (1, 0), (1, 2), 2),
        case(normal(2, 3, 3, 2), normal(3, 2, 2, 2), None, (6, 5), (2, 2), (0, 0), (1, 1), 1),
    ],
)
def convolution_transposed(x, weight, bias, output_size, stride, padding, dilation, groups):
    """The adjoint of `convolution` in its image, of size `output_size`."""
    x, weight, bias = _one_dtype(x, weight, bias)
    return kernels.conv_transpose2d(x, weight, bias, output_size, stride, padding, dilation, groups)


@op(
    linear=("x", "response"),
    cases=[case(normal(2, 4, 5, 4), normal(2, 2, 3, 2), (3, 2), (2, 1), (1, 0), (1, 2), 2)],
)
def convolution_weight_grad(x, response, kernel_size, stride, padding, dilation, groups):
    """The adjoint of `convolution` in its weight, from the image and the response."""
    x, response, _ = _one_dtype(x, response, None)
    return kernels.conv2d_weight_grad(x, response, kernel_size, stride, padding, dilation, groups)


convolution.vjp(
    x=lambda g, weight, x_shape, stride, padding, dilation, groups: convolution_transposed(
        g, weight, None, x_shape[2:], stride, padding, dilation, groups
    ),
    weight=lambda g, x, weight_shape, stride, padding, dilation, groups: convolution_weight_grad(
        x, g, weight_shape[2:], stride, padding, dilation, groups
    ),
    bias=lambda g: sum(g, (0, 2, 3)),
)
convolution_transposed.vjp(
    x=lambda g, weight, x_shape, stride, padding, dilation, groups: _corner(
        convolution(g, weight, None, stride, padding, dilation, groups), x_shape
    ),
    weight=lambda g, x, weight_shape, stride, padding, dilation, groups: convolution_weight_grad(
        g, x, weight_shape[2:], stride, padding, dilation, groups
    ),
    bias=lambda g: sum(g, (0, 2, 3)),
)
convolution_weight_grad.vjp(
    x=lambda g, response, x_shape, stride, padding, dilation, groups: convolution_transposed(
        response, g, None, x_shape[2:], stride, padding, dilation, groups
    ),
    response=lambda g, x, response_shape, stride, padding, dilation, groups: _corner(
        convolution(x, g, None, stride, padding, dilation, groups), response_shape
    ),
)


@op(
    cases=[
        case(normal(2, 4, 5, 4), normal(2, 2, 3, 2), normal(2), (2, 1), (1, 0), (1, 2), 2, 0.2),
        case(normal(2, 3, 4, 4), normal(4, 3, 1, 1), None, (1, 1), (0, 0), (1, 1), 1, 0.0),
    ]
)
def convolution_activated(x, weight, bias, stride, padding, dilation, groups, slope):
    """`convolution` and the leaky relu that follows it; all VJPs take the gradient before that."""
    x, weight, bias = _one_dtype(x, weight, bias)
    return kernels.conv2d(x, weight, bias, stride, padding, dilation, groups, slope)


@op(
    cases=[
        case(normal(2, 4, 2, 3), normal(4, 2, 3, 2), None, (4, 5), (2, 1), (1, 0), (1, 2), 2, 0.2),
        case(normal(1, 2, 2, 1), normal(2, 2, 3, 2), None, (6, 2), (3, 2), (0, 0), (1, 1), 1, 0.0),
    ]
)
def convolution_transposed_activated(
    x, weight, bias, output_size, stride, padding, dilation, groups, slope
):
    """`convolution_transposed` and the leaky relu that follows it."""
    x, weight, bias = _one_dtype(x, weight, bias)
    return kernels.conv_transpose2d(
        x, weight, bias, output_size, stride, padding, dilation, groups, slope
    )


def _activated_grads(g, x, weight, out, stride, padding, dilation, groups, slope, needed):
    g, dbias = before_activation(g, out, slope, needed[2])
    dx = dweight = None
    if needed[0]:
        dx = convolution_transposed(g, weight, None, x.shape[2:], stride, padding, dilation, groups)
    if needed[1]:
        size = weight.shape[2:]
        dweight = convolution_weight_grad(x, g, size, stride, padding, dilation, groups)
    return dx, dweight, dbias


def _transposed_activated_grads(
    g, x, weight, out, stride, padding, dilation, groups, slope, needed
):
    g, dbias = before_activation(g, out, slope, needed[2])
    dx = dweight = None
    if needed[0]:
        dx = _corner(convolution(g, weight, None, stride, padding, dilation, groups), x.shape)
    if needed[1]:
        size = weight.shape[2:]
        dweight = convolution_weight_grad(g, x, size, stride, padding, dilation, groups)
    return dx, dweight, dbias


convolution_activated.vjp_together(("x", "weight", "bias"), _activated_grads)
convolution_transposed_activated.vjp_together(("x", "weight", "bias"), _transposed_activated_grads)


def _corner(response, shape):
    """The first rows and columns: an output_padding of a stride or more makes room for too many."""
    return response if response.shape == shape else response[:, :, : shape[2], : shape[3]]


# ------------------------------------------------------------------------------- patches as columns


@op(
    linear=("input",),
    cases=[
        case(normal(2, 2, 5, 4), (3, 2), padding=(1, 0), stride=(2, 1)),
        case(normal(2, 5, 4), 2, dilation=2),
    ],
)
def unfold(
    input: Any,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: int | Pair = 0,
    stride: int | Pair = 1,
) -> Any:
    """Sliding patches as columns: (N, C, H, W), or (C, H, W), -> (N, C kh kw, L); 0 outside."""
    shape = input.shape
    if len(shape) not in (3, 4):
        raise ValueError(f"unfold: input has shape {shape}; expected (N, C, H, W) or (C, H, W)")
    window, _ = patches("unfold", shape[-2:], kernel_size, dilation, padding, stride)
    if len(shape) == 3:
        return kernels.unfold(input[None], *window)[0]
    return kernels.unfold(input, *window)


@op(
    linear=("input",),
    cases=[
        case(normal(2, 12, 9), (5, 4), (3, 2), padding=(1, 0), stride=(2, 1)),
        case(normal(8, 6), (5, 4), 2, dilation=2),
    ],
)
def fold(
    input: Any,
    output_size: int | Pair,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: int | Pair = 0,
    stride: int | Pair = 1,
) -> Any:
    """The adjoint of unfold: adds patches up, (N, C kh kw, L), or unbatched, -> (N, C, H, W)."""
    output_size = pair("fold", "output_size", output_size, 1)
    window, count = patches("fold", output_size, kernel_size, dilation, padding, stride)
    taps = window[0][0] * window[0][1]
    if input.ndim not in (2, 3) or input.shape[-2] % taps or input.shape[-1] != count:
        raise ValueError(
            f"fold: input has shape {input.shape}; output {output_size} with kernel {window[0]}"
            f" needs (N, C * {taps}, {count})"
        )
    if input.ndim == 2:
        return kernels.fold(input[None], output_size, *window)[0]
    return kernels.fold(input, output_size, *window)


unfold.vjp(
    input=lambda g, input_shape, kernel_size, dilation, padding, stride: fold(
        g, input_shape[-2:], kernel_size, dilation, padding, stride
    )
)
fold.vjp(
    input=lambda g, kernel_size, dilation, padding, stride: unfold(
        g, kernel_size, dilation, padding, stride
    )
)


# ------------------------------------------------------------------------------------- arguments


def _hashable(value):
    return tuple(value) if isinstance(value, list) else value


def _beside(where, name, value, neutral):
    """The pair of a one-dimensional argument: the image is one row high."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise ValueError(f"{where}: {name} is {value!r}; expected one int")
        value = value[0]
    return neutral, pair(where, name, value, neutral)[1]


def _check_1d(where, input, weight):
    if input.ndim not in (2, 3) or weight.ndim != 3:
        raise ValueError(
            f"{where}: input has shape {input.shape}, weight {weight.shape}; expected (N, C, L)"
            " or (C, L), and 3 dimensions"
        )


def _one_dtype(x, weight, bias):
    """NumPy's promotion, for kernels that take one dtype."""
    if x.dtype == weight.dtype and (bias is None or bias.dtype == x.dtype):
        return x, weight, bias
    dtype = np.result_type(x, weight, *([] if bias is None else [bias]))
    cast = [None if a is None else a.astype(dtype, copy=False) for a in (x, weight, bias)]
    return tuple(cast)
