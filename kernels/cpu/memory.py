"""Where results lie: memory that begins at a cache line."""

from __future__ import annotations

import math

import numpy as np

LINE = 64  # bytes
LEAST = 16384  # bytes below which a straddled line costs less than looking for one


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """np.empty, but large arrays begin at a cache line.

    NumPy's begin 16 bytes after one: every vector of 64 bytes that is read from them then straddles
    two lines, which takes twice the time.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < LEAST:
        return np.empty(shape, dtype)
    memory = np.empty(size + LINE, np.uint8)
    skip = -memory.__array_interface__["data"][0] % LINE
    return memory[skip : skip + size].view(dtype).reshape(shape)
