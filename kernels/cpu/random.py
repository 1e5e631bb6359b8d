"""Philox4x32-10 and the numbers made from it; the layout is described in reference/random.py.

Blocks are made TASK at a time into a buffer that stays in the cache and turned into numbers there.
Everything that rounds is compiled without reordering and without fused a*b+c, so that the numbers
equal the reference's to the last bit, with any number of threads.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from .. import random_formulas as formulas
from .jit import inline_kernel, kernel, parallel_kernel

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


# Formulas that give the reference's bits: nothing is reordered and no a*b+c fused.
_block = inline_kernel(formulas.philox_block, fastmath=False)
_uniform_single = inline_kernel(formulas.uniform_single, fastmath=False)
_uniform_double = inline_kernel(formulas.uniform_double, fastmath=False)
_normal_pair = inline_kernel(formulas.normal_pair, fastmath=False)


@_exact
def _philox(key, low, high, first, last, words):
    """Blocks first..last after the 128-bit counter (high, low), four words each."""
    for i in range(last - first):
        w0, w1, w2, w3 = _block(key, low, high, np.uint64(first + i))
        words[4 * i] = w0
        words[4 * i + 1] = w1
        words[4 * i + 2] = w2
        words[4 * i + 3] = w3


@_exact
def _uniform_task(key, low, high, first, last, words, out):
    _philox(key, low, high, first, last, words)
    if out.itemsize == 4:
        numbers = out[4 * first : 4 * last]
        for i in range(4 * (last - first)):
            numbers[i] = _uniform_single(words[i])
    else:
        numbers = out[2 * first : 2 * last]
        for i in range(2 * (last - first)):
            numbers[i] = _uniform_double(words[2 * i], words[2 * i + 1])


@_exact
def _normal_task(key, low, high, first, last, words, out):
    _philox(key, low, high, first, last, words)
    numbers = out[4 * first : 4 * last]
    for i in range(2 * (last - first)):
        numbers[2 * i], numbers[2 * i + 1] = _normal_pair(words[2 * i], words[2 * i + 1])


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
