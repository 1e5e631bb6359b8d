"""Philox4x32-10 and the numbers made from it, on the device; reference/random.py has the layout.

A counter is an int, or a pair (0-d uint64 or int64 array on the device, int): then it is their sum
when the kernel runs, so that a recorded draw gives new numbers in every replay.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import blocks_for, empty
from .launch import THREADS, launch

Counter = int | tuple[Any, int]


def philox_bits(key: int, counter: Counter, n: int) -> Any:
    """n random uint32; key < 2**64, counter < 2**128 the first block."""
    out = empty((n,), np.uint32)
    launch("random.bits", quarters(n), THREADS, out, *start(key, counter), n)
    return out


def philox_uniform(key: int, counter: Counter, n: int, dtype: Any) -> Any:
    """n uniform numbers in [0, 1): multiples of 2^-24 in float32, of 2^-53 in float64."""
    return _draw("random.uniform", key, counter, n, np.dtype(dtype))


def philox_normal(key: int, counter: Counter, n: int, dtype: Any) -> Any:
    """n standard normal numbers, |value| < 6.77."""
    return _draw("random.normal", key, counter, n, np.dtype(dtype))


def _draw(kernel, key, counter, n, dtype):
    made = np.dtype(np.float32 if dtype == np.float32 else np.float64)
    out = empty((n,), made)
    launch(kernel, quarters(n), THREADS, out, *start(key, counter), n, T=made.name)
    return out.astype(dtype, copy=False)


def start(key: int, counter: Counter) -> tuple[Any, ...]:
    """What kernels take for a key and counter: key, low, high, base, live."""
    base, low = counter if isinstance(counter, tuple) else (None, counter)
    live = None if base is None else base.view(np.int64)
    return _signed(key), _signed(low), _signed(low >> 64), live, int(live is not None)


def quarters(n: int) -> tuple[int]:
    """The grid where a thread makes four numbers at a time."""
    return blocks_for(-(-n // 4))


def _signed(value):
    """The lowest 64 bits as a signed number, which is what kernels take."""
    value &= (1 << 64) - 1
    return value - (value >> 63 << 64)
