"""How arrays become what the kernels loop over: a matrix of (rows, channels), or one flat run.

Images keep their channels last in memory, so (N, C, H, W) is seen as (N*H*W, C) without a copy;
other layouts are copied into that form.
"""

from __future__ import annotations

import functools

import numpy as np

from .transpose import to_channels_last

# Below this many elements starting threads costs more than it saves.
SERIAL = 16384
LANES = 256


def as_rows(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) as a C-contiguous matrix (rows, C), copied only where it is not one already."""
    return contiguous_last(x).reshape(x.size // max(x.shape[1], 1), x.shape[1])


def like_rows(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A matrix of rows as the (N, C, ...) array that as_rows made it from."""
    if len(shape) == 2:
        return rows
    last = rows.reshape(shape[:1] + shape[2:] + shape[1:2])
    return last.transpose(0, 3, 1, 2) if len(shape) == 4 else np.moveaxis(last, -1, 1)


def contiguous_last(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) as contiguous (N, ..., C), copied only where it does not lie so."""
    last = channels_last(x)
    if last.flags.c_contiguous or not x.flags.c_contiguous or x.size < SERIAL:
        return np.ascontiguousarray(last)
    if x.dtype.char not in "fd":
        return np.ascontiguousarray(last)
    result = np.empty(last.shape, x.dtype)  # NumPy's own copy is several times slower
    n, c = x.shape[:2]
    to_channels_last(x.reshape(-1), result.reshape(-1), n, c, x.size // (n * c))
    return result


def contiguous_first(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) in C order, copied only where it does not lie so."""
    last = channels_last(x) if x.ndim > 2 else x
    if x.flags.c_contiguous or not last.flags.c_contiguous or x.size < SERIAL:
        return np.ascontiguousarray(x)
    result = np.empty(x.shape, x.dtype)
    n, c = x.shape[:2]
    to_channels_last(last.reshape(-1), result.reshape(-1), n, x.size // (n * c), c)
    return result


def channels_last(x: np.ndarray) -> np.ndarray:
    """The (N, ..., C) view of (N, C, ...)."""
    if x.ndim == 4:
        return x.transpose(0, 2, 3, 1)
    return x if x.ndim == 2 else np.moveaxis(x, 1, -1)


def empty_images(n: int, c: int, height: int, width: int, dtype: np.dtype) -> np.ndarray:
    """New memory for (N, C, H, W), as (N, H, W, C); return its transpose(0, 3, 1, 2)."""
    return np.empty((n, height, width, c), dtype)


@functools.cache
def lanes(rows: int, channels: int) -> tuple[int, int]:
    """Fold (rows, channels) to (rows/k, k*channels), which keeps vector units busy.

    Lane j of a folded row belongs to channel j % channels.
    """
    target = LANES if rows * channels >= SERIAL else LANES // 2
    most = max(target // max(channels, 1), 1)
    k = max(k for k in range(1, most + 1) if rows % k == 0) if rows else 1
    return rows // k, k * channels


def flat(x: np.ndarray) -> np.ndarray:
    """The elements of a dense array in memory order, without a copy; np.empty_like is dense."""
    return x.reshape(-1) if x.flags.c_contiguous else x.ravel(order="K")


def flat_like(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """y's elements, as x's dtype, in the order of flat(x); copied only if they lie otherwise."""
    both = y.flags.c_contiguous and x.flags.c_contiguous  # then axes of length 1 have any strides
    if y.shape != x.shape or y.dtype != x.dtype or not (both or y.strides == x.strides):
        if y.ndim == 4 and y.shape == x.shape and y.dtype == x.dtype:  # images laid out otherwise
            if x.flags.c_contiguous:
                return contiguous_first(y).reshape(-1)
            if channels_last(x).flags.c_contiguous:
                return contiguous_last(y).reshape(-1)
        same = np.empty_like(x)
        same[...] = y
        y = same
    return flat(y)
