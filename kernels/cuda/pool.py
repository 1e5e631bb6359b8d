"""Pooling of (N, C, H, W) images over channels-last memory, by flat indices and by means.

Gradients are gathered, so that nothing is added up by atomics. Indices are not checked, which
would wait for the device: one outside of its image gives NaN in pool_gather, and is left out by
pool_scatter.
"""

from __future__ import annotations

from typing import Any

from .arrays import as_floats, channels_last, contiguous, empty_images, image_grid
from .launch import launch

Pair = tuple[int, int]
SCATTERING = 1 << 17  # threads that keep the device busy


def max_pool2d_indices(
    x: Any, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, output_size: Pair
) -> Any:
    """Where the largest value of every window lies: int64 (N, C, OH, OW), flat in H*W as in torch.

    The first of equal values wins, and the last NaN wins over everything.
    """
    images = channels_last(as_floats("max_pool2d_indices", x))
    n, height, width, c = images.shape
    indices = empty_images(n, c, *output_size, "int64")
    blocks, threads = image_grid(n, output_size[0], output_size[1] * c)
    launch(
        "pool.max_pool2d_indices", blocks, threads, indices, images, n,
        *output_size, height, width, c, *kernel_size, *stride, *padding, *dilation,
        T=images.dtype,
    )  # fmt: skip
    return indices


def pool_gather(x: Any, indices: Any) -> Any:
    """x's values at flat indices: (N, C, H, W), (N, C, OH, OW) -> (N, C, OH, OW)."""
    images = channels_last(as_floats("pool_gather", x))
    n, c, out_height, out_width = indices.shape
    y = empty_images(n, c, out_height, out_width, images.dtype)
    places, pixels = out_height * out_width, x.shape[2] * x.shape[3]
    blocks, threads = image_grid(n, 1, places * c)
    launch(
        "pool.pool_gather", blocks, threads, y, images, _indices(indices), n, places,
        pixels, c, T=images.dtype,
    )  # fmt: skip
    return y.astype(x.dtype, copy=False)


def pool_scatter(grad: Any, indices: Any, input_size: Pair) -> Any:
    """Adjoint of pool_gather: adds grad up at its indices, -> (N, C, *input_size)."""
    rows = channels_last(as_floats("pool_scatter", grad))
    n, out_height, out_width, c = rows.shape
    pixels = input_size[0] * input_size[1]
    dx = empty_images(n, c, *input_size, rows.dtype)
    # Every part of an image reads all the indices, so no more parts than the device has use for.
    parts = min(max(SCATTERING // max(n * c, 1), 1), pixels, 2048)
    blocks, threads = image_grid(n, 1, parts * c)
    launch(
        "pool.pool_scatter", blocks, threads, dx, rows, _indices(indices), n, parts,
        out_height * out_width, pixels, c, T=rows.dtype,
    )  # fmt: skip
    return dx.astype(grad.dtype, copy=False)


def avg_pool2d(
    x: Any, kernel_size: Pair, stride: Pair, padding: Pair, output_size: Pair,
    count_include_pad: bool, divisor: int | None,
) -> Any:  # fmt: skip
    """Mean of every window; divisor replaces the count where it is not None."""
    images = channels_last(as_floats("avg_pool2d", x))
    n, height, width, c = images.shape
    y = empty_images(n, c, *output_size, images.dtype)
    blocks, threads = image_grid(n, output_size[0], output_size[1] * c)
    launch(
        "pool.avg_pool2d", blocks, threads, y, images, n, *output_size, height,
        width, c, *kernel_size, *stride, *padding, int(count_include_pad), int(divisor or 0),
        T=images.dtype, WINDOW=2 if kernel_size == (2, 2) else 0,
    )  # fmt: skip
    return y.astype(x.dtype, copy=False)


def avg_pool2d_grad(
    grad: Any, input_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair,
    output_size: Pair, count_include_pad: bool, divisor: int | None,
) -> Any:  # fmt: skip
    """Adjoint of avg_pool2d: (N, C, OH, OW) -> (N, C, *input_size)."""
    rows = channels_last(as_floats("avg_pool2d_grad", grad))
    n, _, _, c = rows.shape
    height, width = input_size
    dx = empty_images(n, c, height, width, rows.dtype)
    blocks, threads = image_grid(n, height, width * c)
    apart = rows.size and kernel_size[0] <= stride[0] and kernel_size[1] <= stride[1]
    kernel = "avg_pool2d_grad_apart" if apart else "avg_pool2d_grad"
    launch(
        f"pool.{kernel}", blocks, threads, dx, rows, n, height, width,
        *output_size, c, *kernel_size, *stride, *padding, int(count_include_pad),
        int(divisor or 0), T=rows.dtype,
    )  # fmt: skip
    return dx.astype(grad.dtype, copy=False)


def _indices(indices: Any) -> Any:
    return contiguous(indices.transpose(0, 2, 3, 1), "int64")
