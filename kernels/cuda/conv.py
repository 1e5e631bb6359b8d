"""Convolutions: products of matrices that are read where images and weights lie.

Arrays may have any strides; channels-last images, and weights whose memory is (O, kh, kw, I), are
read fastest. Results are (N, C, H, W) views of channels-last memory. float32 images go through the
tensor cores in TF32 where `kernels.precision()` allows it and the shape fits.
"""

from __future__ import annotations

from typing import Any

from .. import precision
from . import tensor_core
from .arrays import empty, empty_images
from .conv_plan import Pair, gather_run, weight_grad_run
from .gemm_plan import FLOATS, add_parts, is_aligned, operands, vector
from .launch import THREADS, launch


def conv2d(
    x: Any, weight: Any, bias: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int,
    slope: float = 1.0,
) -> Any:  # fmt: skip
    """Cross-correlate x (N, C, H, W) with weight (O, C/groups, kh, kw) -> (N, O, OH, OW).

    Sums below 0 are multiplied by `slope`: a leaky relu, or with slope 0 a relu.
    """
    _, c, h, w = x.shape
    o, inner, kh, kw = weight.shape
    if inner * groups != c or o % groups:
        raise ValueError(
            f"conv2d: input has {c} channels, weight expects {inner * groups} "
            f"(weight shape {weight.shape}, groups {groups})"
        )
    oh = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (w + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    return _gather(
        "conv2d", x, weight, bias, (oh, ow), stride, padding, dilation, groups, slope, o, False
    )


def conv_transpose2d(
    x: Any, weight: Any, bias: Any, output_size: Pair, stride: Pair, padding: Pair, dilation: Pair,
    groups: int, slope: float = 1.0,
) -> Any:  # fmt: skip
    """Spread x (N, I, H, W) over the taps of weight (I, O/groups, kh, kw) -> (N, O, *output_size).

    The transpose (adjoint) in x of conv2d with the same weight, whose input has size output_size;
    `slope` as there.
    """
    c, inputs = x.shape[1], weight.shape[0]
    if inputs != c or c % groups:
        raise ValueError(
            f"conv_transpose2d: input has {c} channels, weight expects {inputs} "
            f"(weight shape {weight.shape}, groups {groups})"
        )
    # For an image one pixel high the stride does not matter: with the kernel's own height, each
    # row of the result meets one row of taps, and none that would read beside the image.
    stride = tuple(
        [
            max(s, k) if size == d == 1 else s
            for s, k, d, size in zip(stride, weight.shape[2:], dilation, x.shape[2:], strict=True)
        ]
    )
    return _gather(
        "conv_transpose2d", x, weight, bias, output_size, stride, padding, dilation, groups, slope,
        weight.shape[1] * groups, True,
    )  # fmt: skip


def conv2d_weight_grad(
    x: Any, grad: Any, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """The gradient of sum(grad * conv2d(x, weight)) in weight -> (O, C/groups, kh, kw)."""
    c, o = x.shape[1], grad.shape[1]
    if len(grad) != len(x) or c % groups or o % groups:
        raise ValueError(
            f"conv2d_weight_grad: input {x.shape} and gradient {grad.shape} must agree in batch, "
            f"and their channels divide into {groups} groups"
        )
    if x.dtype.char == grad.dtype.char == "f" and precision() != "float32":
        d = tensor_core.conv2d_weight_grad(x, grad, kernel_size, stride, padding, dilation, groups)
        if d is not None:
            return d
    x, grad, dtype = operands("conv2d_weight_grad", x, grad)
    run = weight_grad_run(
        x.shape, x.strides, is_aligned(x), grad.shape, grad.strides, is_aligned(grad),
        FLOATS[dtype], kernel_size, stride, padding, dilation, groups,
    )  # fmt: skip
    d = empty((o, *kernel_size, c // groups), dtype)
    sums = d if run.parts == 1 else empty((run.parts, *d.shape), dtype)
    launch(run.kernel, run.blocks, THREADS, sums, x, grad, *run.numbers, **run.variant)
    if run.parts > 1:
        add_parts(d, sums, None, 1.0, FLOATS[dtype])
    return d.transpose(0, 3, 1, 2)


def _gather(
    name: str, x: Any, weight: Any, bias: Any, output_size: Pair, stride: Pair, padding: Pair,
    dilation: Pair, groups: int, slope: float, o: int, transposed: bool,
) -> Any:  # fmt: skip
    """Serve conv2d and conv_transpose2d."""
    if bias is not None and bias.shape != (o,):
        raise ValueError(
            f"{name}: bias has shape {bias.shape}, expected ({o},), one value an output channel"
        )
    if x.dtype.char == weight.dtype.char == "f" and precision() != "float32":
        sizes = (output_size,) if transposed else ()
        y = getattr(tensor_core, name)(
            x, weight, vector(bias, x.dtype), *sizes, stride, padding, dilation, groups, slope
        )
        if y is not None:
            return y
    x, weight, dtype = operands(name, x, weight)
    bias = vector(bias, dtype)
    run = gather_run(
        x.shape, x.strides, is_aligned(x), weight.shape, weight.strides, is_aligned(weight),
        FLOATS[dtype], output_size, stride, padding, dilation, groups, transposed,
    )  # fmt: skip
    y = empty_images(len(x), o, *output_size, dtype)
    sums = y if run.parts == 1 else empty((run.parts, y.size), dtype)
    launch(
        run.kernel, run.blocks, THREADS, sums, x, weight, bias, int(bias is not None),
        float(slope), *run.numbers, **run.variant,
    )  # fmt: skip
    if run.parts > 1:
        add_parts(y, sums, bias, slope, FLOATS[dtype])
    return y
