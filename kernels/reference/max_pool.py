"""Max pooling that remembers which tap of each window won, in plain NumPy.

Windows are not dilated and have at least one pixel inside the image. Tap i * kw + j of a window is
its row i, column j; the winners are uint8, so a window has at most 255 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Pair = tuple[int, int]


def max_pool2d(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, output_size: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, H, W) -> the largest value of every window, (N, C, OH, OW), and its tap.

    The first of equal values wins, and the last NaN wins over everything.
    """
    shape = (*x.shape[:2], *output_size)
    y, taps = np.empty(shape, x.dtype), np.zeros(shape, np.uint8)
    inside = np.ones((1, 1, *x.shape[2:]), bool)
    found = np.zeros((1, 1, *output_size), bool)
    geometry = (kernel_size, stride, padding, output_size)
    windows = zip(_taps(x, *geometry), _taps(inside, *geometry), strict=True)
    for tap, (value, here) in enumerate(windows):
        wins = here & (~found | (value > y) | np.isnan(value))
        y, taps, found = np.where(wins, value, y), np.where(wins, tap, taps), found | here
    return y, taps.astype(np.uint8)


def max_pool2d_grad(
    grad: np.ndarray, taps: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair,
    input_size: Pair,
) -> np.ndarray:  # fmt: skip
    """Adjoint of max_pool2d_pick: adds grad up where the taps say it came from."""
    dx = np.zeros((*grad.shape[:2], *input_size), grad.dtype)
    padded = _pad(dx, kernel_size, stride, padding, grad.shape[2:])
    for tap, window in enumerate(_views(padded, kernel_size, stride, grad.shape[2:])):
        window += np.where(taps == tap, grad, 0)
    top, left = padding
    return padded[:, :, top : top + input_size[0], left : left + input_size[1]]


def max_pool2d_pick(
    x: np.ndarray, taps: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """The value of x, (N, C, H, W), at the given tap of each window, (N, C, OH, OW)."""
    y = np.zeros(taps.shape, x.dtype)
    for tap, value in enumerate(_taps(x, kernel_size, stride, padding, taps.shape[2:])):
        y = np.where(taps == tap, value, y)
    return y


def _taps(x, kernel_size, stride, padding, output_size) -> Iterator[np.ndarray]:
    """What each tap sees, zeros (False) outside."""
    return _views(_pad(x, kernel_size, stride, padding, output_size), kernel_size, stride,
                  output_size)  # fmt: skip


def _views(padded, kernel_size, stride, output_size):
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            rows = slice(i, i + (output_size[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(j, j + (output_size[1] - 1) * stride[1] + 1, stride[1])
            yield padded[:, :, rows, columns]


def _pad(x, kernel_size, stride, padding, output_size):
    ends = [
        max((o - 1) * s + k - n - p, 0)
        for o, s, k, n, p in zip(
            output_size, stride, kernel_size, x.shape[2:], padding, strict=True
        )
    ]
    return np.pad(x, ((0, 0), (0, 0), (padding[0], ends[0]), (padding[1], ends[1])))
