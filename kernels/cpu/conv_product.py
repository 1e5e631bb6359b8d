"""Convolutions whose kernel covers the image, as matrix products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .conv_plan import Problem
from .matmul import linear, matmul


def suits_product(p: Problem) -> bool:
    """Whether each weight meets one pixel of each image: the kernel has the image's size."""
    image, pixel = (p.output_size, p.size) if p.transposed else (p.size, p.output_size)
    plain = p.groups == 1 and p.padding == (0, 0) and p.dilation == (1, 1)
    return plain and pixel == (1, 1) and p.kernel_size == image


def product_gather(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    problem: Problem,
    slope: float,
    flat: Callable[..., np.ndarray],
) -> np.ndarray:
    """conv2d or conv_transpose2d as a product; `flat` is that of conv.py."""
    p, dtype = problem, np.result_type(x, weight)
    matrix = flat(weight, dtype).reshape(len(weight), -1)
    if p.transposed:
        matrix = matrix.T
        bias = None if bias is None else np.tile(bias, len(matrix) // p.out_channels)
    y = linear(flat(x, dtype).reshape(p.batch, -1), matrix, bias, slope)
    return y.reshape(p.batch, *p.output_size, p.out_channels).transpose(0, 3, 1, 2)


def product_weight_grad(
    x: np.ndarray, grad: np.ndarray, problem: Problem, flat: Callable[..., np.ndarray]
) -> np.ndarray:
    """conv2d_weight_grad as a product."""
    p, dtype = problem, np.result_type(x, grad)
    y = flat(grad, dtype).reshape(p.batch, -1)
    result = matmul(y.T, flat(x, dtype).reshape(p.batch, -1))
    return result.reshape(p.out_channels, *p.kernel_size, p.channels).transpose(0, 3, 1, 2)
