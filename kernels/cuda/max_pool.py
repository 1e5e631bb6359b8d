"""Max pooling over channels-last memory, which remembers the winning tap of each window in a byte.

One pass each; a gradient is gathered from the windows on a pixel, so that nothing is added up by
atomics.
"""

from __future__ import annotations

from typing import Any

from .arrays import as_floats, channels_last, contiguous, empty_images, image_grid
from .launch import launch

Pair = tuple[int, int]


def max_pool2d(
    x: Any, kernel_size: Pair, stride: Pair, padding: Pair, output_size: Pair
) -> tuple[Any, Any]:
    """(N, C, H, W) -> the largest value of every window, (N, C, OH, OW), and its tap.

    The first of equal values wins, and the last NaN wins over everything.
    """
    images = channels_last(as_floats("max_pool2d", x))
    n, height, width, c = images.shape
    y = empty_images(n, c, *output_size, images.dtype)
    taps = empty_images(n, c, *output_size, "uint8")
    blocks, threads = image_grid(n, output_size[0], output_size[1] * c)
    square = kernel_size[0] if kernel_size in ((2, 2), (3, 3)) else 0
    launch(
        "max_pool.max_pool2d", blocks, threads, y, taps, images, n, *output_size,
        height, width, c, *kernel_size, *stride, *padding, T=images.dtype, WINDOW=square,
    )  # fmt: skip
    return y.astype(x.dtype, copy=False), taps


def max_pool2d_grad(
    grad: Any, taps: Any, kernel_size: Pair, stride: Pair, padding: Pair, input_size: Pair
) -> Any:
    """Adjoint of max_pool2d_pick: adds grad up where the taps say it came from."""
    rows = channels_last(as_floats("max_pool2d_grad", grad))
    n, out_height, out_width, c = rows.shape
    height, width = input_size
    dx = empty_images(n, c, height, width, rows.dtype)
    blocks, threads = image_grid(n, height, width * c)
    apart = rows.size and kernel_size[0] <= stride[0] and kernel_size[1] <= stride[1]
    kernel = "max_pool2d_grad_apart" if apart else "max_pool2d_grad"
    launch(
        f"max_pool.{kernel}", blocks, threads, dx, rows, _bytes(taps), n, height,
        width, out_height, out_width, c, *kernel_size, *stride, *padding, T=rows.dtype,
    )  # fmt: skip
    return dx.astype(grad.dtype, copy=False)


def max_pool2d_pick(x: Any, taps: Any, kernel_size: Pair, stride: Pair, padding: Pair) -> Any:
    """The value of x, (N, C, H, W), at the given tap of each window, (N, C, OH, OW)."""
    images = channels_last(as_floats("max_pool2d_pick", x))
    n, height, width, c = images.shape
    output_size = taps.shape[2:]
    y = empty_images(n, c, *output_size, images.dtype)
    blocks, threads = image_grid(n, output_size[0], output_size[1] * c)
    launch(
        "max_pool.max_pool2d_pick", blocks, threads, y, images, _bytes(taps), n,
        *output_size, height, width, c, *kernel_size, *stride, *padding, T=images.dtype,
    )  # fmt: skip
    return y.astype(x.dtype, copy=False)


def _bytes(taps: Any) -> Any:
    return contiguous(taps.transpose(0, 2, 3, 1), "uint8")
