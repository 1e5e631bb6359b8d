"""Philox4x32-10 and the numbers made from it; the layout is described in reference/random.py.

Blocks are made TASK at a time into a buffer that stays in the cache and turned into numbers there.
Everything that rounds is compiled without reordering and without fused a*b+c, so that the numbers
equal the reference's to the last bit, with any number of threads.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from ..reference import random as reference
from .jit import kernel, parallel_kernel

TASK = 2048  # blocks

_exact = functools.partial(kernel, fastmath=False)


def philox_bits(key: int, counter: int, n: int) -> np.ndarray:
    """n random uint32; key < 2**64, counter < 2**128 the first block."""
    blocks = -(-n // 4)
    words = np.empty(4 * blocks, np.uint32)
    _bits(*_words(key, counter), blocks, words)
    return words[:n]


def philox_uniform(key: int, counter: int, n: int, dtype) -> np.ndarray:
    """n uniform numbers in [0, 1): multiples of 2^-24 in float32, of 2^-53 in float64."""
    single = np.dtype(dtype) == np.float32
    blocks = -(-n // 4) if single else -(-n // 2)
    out = np.empty((4 if single else 2) * blocks, np.float32 if single else np.float64)
    _uniform(*_words(key, counter), blocks, out)
    return out[:n].astype(dtype, copy=False)


def philox_normal(key: int, counter: int, n: int, dtype) -> np.ndarray:
    """n standard normal numbers, |value| < 6.77."""
    blocks = -(-n // 4)
    out = np.empty(4 * blocks, np.float32 if np.dtype(dtype) == np.float32 else np.float64)
    _normal(*_words(key, counter), blocks, out)
    return out[:n].astype(dtype, copy=False)


def _words(key, counter):
    mask = 0xFFFFFFFFFFFFFFFF
    return np.uint64(key), np.uint64(counter & mask), np.uint64(counter >> 64)


_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_M0, _M1 = (np.uint64(m) for m in reference.MULTIPLIERS)
_W0, _W1 = (np.uint64(w) for w in reference.WEYL)
_ROUNDS = reference.ROUNDS


@_exact
def _philox(key, low, high, first, last, words):
    """Blocks first..last after the 128-bit counter (high, low), four words each."""
    for block in range(last - first):
        position = low + np.uint64(first + block)
        above = high + np.uint64(position < low)
        c0, c1 = position & _LOW, position >> _32
        c2, c3 = above & _LOW, above >> _32
        k0, k1 = key & _LOW, key >> _32
        for _ in range(_ROUNDS):
            p0, p1 = c0 * _M0, c2 * _M1
            c0, c1 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW
            c2, c3 = (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        words[4 * block] = np.uint32(c0)
        words[4 * block + 1] = np.uint32(c1)
        words[4 * block + 2] = np.uint32(c2)
        words[4 * block + 3] = np.uint32(c3)


@_exact
def _uniform_task(key, low, high, first, last, words, out):
    _philox(key, low, high, first, last, words)
    if out.itemsize == 4:
        numbers = out[4 * first : 4 * last]
        for i in range(4 * (last - first)):
            numbers[i] = np.float32(np.int32(words[i] >> 8)) * np.float32(2.0**-24)
    else:
        numbers = out[2 * first : 2 * last]
        for i in range(2 * (last - first)):
            top = np.float64(np.int32(words[2 * i] >> 5))
            bottom = np.float64(np.int32(words[2 * i + 1] >> 6))
            numbers[i] = (top * 2.0**26 + bottom) * 2.0**-53


_L1, _L2, _L3, _L4, _L5, _L6, _L7 = reference.LOG
_S1, _S2, _S3, _S4, _S5, _S6 = reference.SIN
_C1, _C2, _C3, _C4, _C5, _C6 = reference.COS
_LN2_HIGH, _LN2_LOW, _QUARTER = reference.LN2_HIGH, reference.LN2_LOW, reference.QUARTER
_SHIFT_EXPONENT = np.int64((0x3FF00000 - 0x3FE6A09E) << 32)
_ROOT_HALF = np.int64(0x3FE6A09E << 32)
_MANTISSA = np.int64(0x000FFFFFFFFFFFFF)


@_exact
def _normal_task(key, low, high, first, last, words, out):
    _philox(key, low, high, first, last, words)
    numbers = out[4 * first : 4 * last]
    for i in range(2 * (last - first)):
        # radius; the logarithm as in the reference
        u = (np.float64(words[2 * i]) + 0.5) * 2.0**-32
        bits = np.float64(u).view(np.int64) + _SHIFT_EXPONENT
        exponent = np.float64(np.int32(bits >> 52) - np.int32(1023))
        f = np.int64((bits & _MANTISSA) + _ROOT_HALF).view(np.float64) - 1.0
        s = f / (2.0 + f)
        half = 0.5 * f * f
        z = s * s
        p = _L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * (_L5 + z * (_L6 + z * _L7)))))
        series = s * (half + z * p) + exponent * _LN2_LOW
        radius = np.sqrt(-2.0 * (exponent * _LN2_HIGH + (f - (half - series))))
        # angle
        turn = words[2 * i + 1]
        quadrant = np.uint32(np.uint32(turn + np.uint32(1 << 29)) >> np.uint32(30))
        x = np.float64(np.int32(np.uint32(turn - np.uint32(quadrant << np.uint32(30)))))
        x = x * _QUARTER
        z = x * x
        p = _S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * _S6))))
        sin = x + x * z * p
        p = _C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * _C6))))
        cos = 1.0 - 0.5 * z + z * z * p
        odd = quadrant & np.uint32(1)
        even_part = sin if odd else cos
        odd_part = cos if odd else sin
        even_part = -even_part if quadrant == 1 or quadrant == 2 else even_part
        odd_part = -odd_part if quadrant >= 2 else odd_part
        numbers[2 * i] = radius * even_part
        numbers[2 * i + 1] = radius * odd_part


# One loop three times over: Numba keeps no function on disk that closes over another.


@parallel_kernel
def _bits(key, low, high, blocks, out):
    for t in prange(-(-blocks // TASK)):
        first, last = t * TASK, min((t + 1) * TASK, blocks)
        _philox(key, low, high, first, last, out[4 * first : 4 * last])


@parallel_kernel
def _uniform(key, low, high, blocks, out):
    for t in prange(-(-blocks // TASK)):
        first, last = t * TASK, min((t + 1) * TASK, blocks)
        _uniform_task(key, low, high, first, last, np.empty(4 * TASK, np.uint32), out)


@parallel_kernel
def _normal(key, low, high, blocks, out):
    for t in prange(-(-blocks // TASK)):
        first, last = t * TASK, min((t + 1) * TASK, blocks)
        _normal_task(key, low, high, first, last, np.empty(4 * TASK, np.uint32), out)
