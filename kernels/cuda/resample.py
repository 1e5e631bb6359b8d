"""Resampling of (N, C, H, W) images along both axes, in one pass over channels-last memory."""

from __future__ import annotations

from typing import Any

from .arrays import as_floats, channels_last, contiguous, empty_images, image_grid
from .launch import launch


def resample2d(
    x: Any, row_indices: Any, row_weights: Any, column_indices: Any, column_weights: Any
) -> Any:
    """(N, C, H, W) -> (N, C, OH, OW); indices are int64 (OH, K) and (OW, L), weights float64.

    The tables are on the device; their indices are not checked.
    """
    images = channels_last(as_floats("resample2d", x))
    n, height, width, c = images.shape
    (out_height, row_taps), (out_width, column_taps) = row_indices.shape, column_indices.shape
    y = empty_images(n, c, out_height, out_width, images.dtype)
    blocks, threads = image_grid(n, out_height, out_width * c)
    taps = row_taps, column_taps
    kernel, given, variant = "resample2d", taps, {}
    if taps in ((1, 1), (2, 2)):
        kernel, given, variant = "resample2d_few", (), {"TAPS": row_taps}
    launch(
        f"resample.{kernel}", blocks, threads, y, images, *given, contiguous(row_indices, "int64"),
        contiguous(row_weights, "float64"), contiguous(column_indices, "int64"),
        contiguous(column_weights, "float64"), n, out_height, out_width, height, width, c,
        T=images.dtype, **variant,
    )  # fmt: skip
    return y.astype(x.dtype, copy=False)
