"""Convolutions in plain NumPy: one strided view of the input for each tap of the kernel.

The three functions are the partial derivatives of one trilinear form, the sum of
grad * conv2d(x, weight): in grad the convolution, in x its transpose, and in weight its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .elementwise import leaky_relu

Pair = tuple[int, int]


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    slope: float = 1.0,
) -> np.ndarray:
    """Cross-correlate x (N, C, H, W) with weight (O, C/groups, kh, kw) -> (N, O, OH, OW).

    Results below 0 are multiplied by `slope` (0 = relu, 1 = no activation).
    """
    n, _, h, w = x.shape
    o, _, kh, kw = weight.shape
    oh = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (w + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    padded = _grouped(_pad(x, padding), groups)
    taps = _grouped_weight(weight, groups)
    y = np.zeros((n, groups, o // groups, oh, ow), np.result_type(x, weight))
    for i, j, window in _taps((kh, kw), (oh, ow), stride, dilation):
        y += np.einsum("ngchw,goc->ngohw", padded[window], taps[..., i, j])
    y = y.reshape(n, o, oh, ow)
    return _activate(y if bias is None else y + bias[:, None, None], slope)


def conv_transpose2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    output_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    slope: float = 1.0,
) -> np.ndarray:
    """Spread x (N, I, H, W) over the taps of weight (I, O/groups, kh, kw) -> (N, O, *output_size).

    The transpose (adjoint) in x of conv2d with the same weight, whose input has size output_size.
    `slope` as there.
    """
    n, _, h, w = x.shape
    _, og, kh, kw = weight.shape
    height, width = output_size
    room = (height + 2 * padding[0], width + 2 * padding[1])
    room = (max(room[0], (h - 1) * stride[0] + dilation[0] * (kh - 1) + 1), room[1])
    room = (room[0], max(room[1], (w - 1) * stride[1] + dilation[1] * (kw - 1) + 1))
    grouped = _grouped(x, groups)
    taps = _grouped_weight(weight, groups)
    padded = np.zeros((n, groups, og, *room), np.result_type(x, weight))
    for i, j, window in _taps((kh, kw), (h, w), stride, dilation):
        padded[window] += np.einsum("ngihw,gio->ngohw", grouped, taps[..., i, j])
    y = padded[..., padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    y = y.reshape(n, groups * og, height, width)
    return _activate(y if bias is None else y + bias[:, None, None], slope)


def conv2d_weight_grad(
    x: np.ndarray,
    grad: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """The gradient of sum(grad * conv2d(x, weight)) in weight -> (O, C/groups, kh, kw)."""
    o = grad.shape[1]
    padded = _grouped(_pad(x, padding), groups)
    grouped = _grouped(grad, groups)
    shape = (groups, o // groups, padded.shape[2], *kernel_size)
    result = np.zeros(shape, np.result_type(x, grad))
    for i, j, window in _taps(kernel_size, grad.shape[2:], stride, dilation):
        result[..., i, j] = np.einsum("ngohw,ngchw->goc", grouped, padded[window])
    return result.reshape(o, *shape[2:])


def _activate(y: np.ndarray, slope: float) -> np.ndarray:
    return y if slope == 1 else leaky_relu(y, slope)


def _taps(
    kernel_size: Pair, output_size: Pair, stride: Pair, dilation: Pair
) -> Iterator[tuple[int, int, tuple]]:
    """Each tap (i, j) with the window of the padded input that it multiplies."""
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + (output_size[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (output_size[1] - 1) * stride[1] + 1, stride[1])
            if 0 in output_size:
                rows = columns = slice(0, 0)
            yield i, j, (..., rows, columns)


def _pad(x: np.ndarray, padding: Pair) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _grouped_weight(weight: np.ndarray, groups: int) -> np.ndarray:
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
