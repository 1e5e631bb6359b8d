"""Rows by index and image patches as columns, each with its adjoint.

Adjoints add in a fixed order, without atomics. Indices are not checked, which would wait for the
device: one outside of the rows gives a row of NaN (anything, in other dtypes than float32 and
float64) in gather_rows, and is left out by scatter_add_rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..reference.gather import patch_grid
from .arrays import (
    as_floats,
    blocks_for,
    contiguous,
    contiguous_first,
    empty,
    empty_images,
    image_grid,
)
from .launch import THREADS, launch

Pair = tuple[int, int]

# Up to so many indices, and comparisons with them, nothing is sorted.
FEW, COMPARISONS = 1024, 1 << 26
TILE = 1024  # keys that a block sorts
DIGIT = 8  # bits that are sorted at a time
CHUNK = 128  # sorted positions that are summed ahead where they have one index; a multiple of 4


def gather_rows(table: Any, indices: Any) -> Any:
    """table[indices]: (rows, ...) and integers of any shape -> indices.shape + (...)."""
    if table.dtype.char not in "fd":
        return np.take(table, indices, axis=0)
    rows, index = contiguous(table), contiguous(indices, "int64")
    out = empty(indices.shape + table.shape[1:], table.dtype)
    width = math.prod(table.shape[1:])
    launch(
        "gather.gather_rows", blocks_for(out.size), THREADS, out, rows, index, out.size, width,
        len(table), T=table.dtype,
    )  # fmt: skip
    return out


def scatter_add_rows(grad: Any, indices: Any, rows: int) -> Any:
    """Adjoint of gather_rows: sums grad's rows that share an index, -> (rows, ...)."""
    tail = grad.shape[indices.ndim :]
    lines, index = contiguous(as_floats("scatter_add_rows", grad)), contiguous(indices, "int64")
    total = empty((rows, *tail), lines.dtype)
    count, width, n = indices.size, math.prod(tail), total.size
    blocks = blocks_for(n)
    if count <= FEW and count * n <= COMPARISONS:
        launch(
            "gather.scatter_few", blocks, THREADS, total, lines, index, n, width, count,
            T=lines.dtype,
        )  # fmt: skip
    elif n:
        keys, places = _sorted(index, rows)
        chunks = count // CHUNK
        sums = empty((chunks, width), lines.dtype)
        launch(
            "gather.sum_chunks", blocks_for(sums.size), THREADS, sums, lines, keys, places,
            sums.size, width, CHUNK, T=lines.dtype,
        )  # fmt: skip
        launch(
            "gather.sum_runs", blocks, THREADS, total, lines, sums, keys, places, n, width, count,
            CHUNK, T=lines.dtype,
        )  # fmt: skip
    return total.astype(grad.dtype, copy=False)


def _sorted(indices: Any, rows: int) -> tuple[Any, Any]:
    """The indices in ascending order, wrong ones as `rows`, and their positions: a stable sort."""
    n = indices.size
    tiles, base = -(-n // TILE), 1 << DIGIT
    counts = empty((base * tiles,), "int64")
    keys, places = empty((n,), "int64"), None
    launch("gather.sort_keys", blocks_for(n), THREADS, keys, indices, n, rows)
    for shift in range(0, rows.bit_length(), DIGIT):
        launch("gather.count_digits", (tiles,), TILE, counts, keys, shift, base, n, tiles)
        launch("gather.sums_before", (1,), TILE, counts, counts.size)
        after, their_places = empty((n,), "int64"), empty((n,), "int64")
        launch(
            "gather.place_keys", (tiles,), TILE, after, their_places, keys, places,
            int(places is not None), counts, shift, base, n, tiles,
        )  # fmt: skip
        keys, places = after, their_places
    return keys, places


def unfold(x: Any, kernel_size: Pair, dilation: Pair, padding: Pair, stride: Pair) -> Any:
    """Patches as columns: (N, C, H, W) -> (N, C*kh*kw, L), zeros outside the image."""
    (n, c, height, width), (kh, kw) = x.shape, kernel_size
    grid = patch_grid((height, width), kernel_size, dilation, padding, stride)
    patches = empty((n, c * kh * kw, grid[0] * grid[1]), x.dtype)
    word = _word(x.dtype)  # of the same size: values are only moved
    planes = contiguous_first(x).view(word)
    blocks, threads = image_grid(n * c, kh * kw, grid[0] * grid[1])
    launch(
        "patches.unfold", blocks, threads, patches.view(word), planes, n * c, kh * kw,
        *grid, height, width, kw, *dilation, *padding, *stride, T=word,
    )  # fmt: skip
    return patches


def fold(
    columns: Any, output_size: Pair, kernel_size: Pair, dilation: Pair, padding: Pair, stride: Pair
) -> Any:
    """Adjoint of unfold: adds the patches up, (N, C*kh*kw, L) -> (N, C, H, W)."""
    (kh, kw), (height, width) = kernel_size, output_size
    patches = contiguous(as_floats("fold", columns))
    n, c = columns.shape[0], columns.shape[1] // (kh * kw)
    grid = patch_grid(output_size, kernel_size, dilation, padding, stride)
    images = empty_images(n, c, height, width, patches.dtype)
    blocks, threads = image_grid(n * c, 1, height * width)
    launch(
        "patches.fold", blocks, threads, images, patches, n * c, c, *grid, height, width, kh, kw,
        *dilation, *padding, *stride, T=patches.dtype,
    )  # fmt: skip
    return images.astype(columns.dtype, copy=False)


def _word(dtype: Any) -> str:
    words = {1: "uint8", 4: "float32", 8: "float64"}
    if dtype.itemsize not in words:
        raise TypeError(f"unfold: got {dtype}, expected a dtype of 1, 4 or 8 bytes")
    return words[dtype.itemsize]
