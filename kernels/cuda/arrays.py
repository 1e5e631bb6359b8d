"""Arrays on the device: how they are made, and brought into the memory order that kernels walk.

Beside the launcher the only file here that names cupy.
"""

from __future__ import annotations

import math
from typing import Any

import cupy
import numpy as np

from .launch import THREADS, launch

BLOCKS = 2112  # 16 on each of an H200's 132 multiprocessors; kernels stride over the rest


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """Uninitialised C-contiguous memory on the current device."""
    return cupy.empty(shape, dtype)


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros on the current device."""
    return cupy.zeros(shape, dtype)


def full(shape: tuple[int, ...], value: float, dtype: Any) -> Any:
    """One number everywhere, on the current device."""
    return cupy.full(shape, value, dtype)


def is_array(x: Any) -> bool:
    """Whether it is an array on a device, not a number."""
    return isinstance(x, cupy.ndarray)


def empty_like(x: Any, dtype: Any = None) -> Any:
    """Uninitialised and dense, in x's memory order."""
    return cupy.empty_like(x, dtype)


def is_dense(x: Any) -> bool:
    """Whether x lies in memory element beside element, its axes in any order."""
    flags = x.flags
    if flags.c_contiguous or flags.f_contiguous:
        return True
    order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])
    return x.transpose(order).flags.c_contiguous


def empty_images(n: int, c: int, height: int, width: int, dtype: Any) -> Any:
    """Uninitialised (N, C, H, W) whose memory is (N, H, W, C)."""
    return cupy.empty((n, height, width, c), dtype).transpose(0, 3, 1, 2)


def contiguous(x: Any, dtype: Any = None) -> Any:
    """x in C order and of a dtype, itself if it is so already."""
    made = cupy.ascontiguousarray(x, dtype)
    return made if x.ndim else made.reshape(())  # CuPy, as NumPy, gives a number an axis


def as_floats(name: str, x: Any) -> Any:
    """x in float32 or float64: other numbers, integers below 2**53 exactly, in a wider dtype."""
    if x.dtype.char in "fd":
        return x
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got {x.dtype}, expected real numbers")
    return x.astype(np.float32 if x.dtype.char == "e" else np.float64)


def readable(x: Any, dtype: Any) -> Any:
    """x of a dtype, for a kernel that takes any strides but negative ones; x has an axis."""
    return x if x.dtype == dtype and min(x.strides) >= 0 else contiguous(x, dtype)


def laid_out_like(x: Any, y: Any) -> Any:
    """x with y's shape, dtype and memory order: itself, or a (broadcast) copy."""
    alike = x.shape == y.shape and x.dtype == y.dtype
    if alike and (x.strides == y.strides or (x.flags.c_contiguous and y.flags.c_contiguous)):
        return x
    out = cupy.empty_like(y)
    out[...] = x
    return out


def channels_last(x: Any) -> Any:
    """(N, C, ...) as contiguous (N, ..., C), copied only where it does not lie so."""
    if x.ndim == 2:
        return contiguous(x)
    last = _last(x)
    if last.flags.c_contiguous or not x.flags.c_contiguous:
        return contiguous(last)
    return _transposed(x, last, x.shape[1], x.size // (x.shape[0] * x.shape[1]))


def contiguous_first(x: Any) -> Any:
    """(N, C, ...) in C order, copied only where it does not lie so."""
    if x.flags.c_contiguous or x.ndim < 3 or not _last(x).flags.c_contiguous:
        return contiguous(x)
    return _transposed(_last(x), x, x.size // (x.shape[0] * x.shape[1]), x.shape[1])


def _last(x):
    """The (N, ..., C) view of (N, C, ...)."""
    return x.transpose(0, *range(2, x.ndim), 1)


def _transposed(x, view, rows, columns):
    """A copy of `view`: contiguous x with the matrices (rows, columns) in it transposed."""
    if min(rows, columns) < 8 or x.dtype.char not in "fd":  # most lanes of a tile would idle
        return contiguous(view)
    out = empty(view.shape, x.dtype)
    tiles = -(-rows // 32) * -(-columns // 32) * (x.size // (rows * columns))
    launch("elementwise.transpose", (tiles,), THREADS, out, x, rows, columns, T=x.dtype.name)
    return out


def as_rows(x: Any) -> Any:
    """(N, C, ...) as a C-contiguous matrix (rows, C), copied only where it is not one already."""
    return channels_last(x).reshape(x.size // max(x.shape[1], 1), x.shape[1])


def like_rows(rows: Any, shape: tuple[int, ...]) -> Any:
    """A matrix of rows as the (N, C, ...) array that as_rows made it from."""
    if len(shape) == 2:
        return rows
    last = rows.reshape(shape[:1] + shape[2:] + shape[1:2])
    return last.transpose(0, last.ndim - 1, *range(1, last.ndim - 1))


def blocks_for(n: int, threads: int = THREADS) -> tuple[int]:
    """The grid of a kernel that strides over n elements."""
    return (min(-(-n // threads), BLOCKS),)


def image_grid(images: int, height: int, places: int) -> tuple[tuple[int, int, int], int]:
    """(blocks, threads) of a kernel whose x counts the places of a row, y rows, and z images.

    Kernels stride over rows and images; a block has less than THREADS threads for a short row.
    """
    threads = max(min(-(-places // 32) * 32, THREADS), 32)
    across, rows = -(-places // threads), min(height, 65535)
    enough = BLOCKS * THREADS // (threads * max(across * rows, 1))
    return (across, rows, min(images, max(enough, 1), 65535)), threads


def result_type(*arrays: Any) -> Any:
    """NumPy's promotion."""
    return np.result_type(*[a.dtype if hasattr(a, "dtype") else a for a in arrays])


def size(shape: tuple[int, ...]) -> int:
    """The number of elements."""
    return math.prod(shape)
