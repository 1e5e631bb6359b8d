"""Philox and what is made from its words, shared by the CPU's kernels and the GPU's.

As in formulas.py, plain Python on scalars, compiled by each target; here without fused a*b+c and
without reordering, so that all targets give the same bits. reference/random.py has the layout.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .reference import random as philox

_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = (np.uint64(m) for m in philox.MULTIPLIERS)
_W0, _W1 = (np.uint64(w) for w in philox.WEYL)
_ROUNDS = philox.ROUNDS


def philox_block(key: Any, low: Any, high: Any, index: Any) -> Any:
    """The four words (uint32) of a block, `index` after the 128-bit counter (high, low): uint64."""
    position = low + index
    above = high + np.uint64(position < low)
    c0, c1 = position & _LOW, position >> _32
    c2, c3 = above & _LOW, above >> _32
    k0, k1 = key & _LOW, key >> _32
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW
        c2, c3 = (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


def uniform_single(word: Any) -> Any:
    """A float32 in [0, 1) from a word."""
    return np.float32(np.int32(word >> np.uint32(8))) * np.float32(2.0**-24)


def uniform_double(first: Any, second: Any) -> Any:
    """A float64 in [0, 1) from two words."""
    top = np.float64(np.int32(first >> np.uint32(5)))
    bottom = np.float64(np.int32(second >> np.uint32(6)))
    return (top * 2.0**26 + bottom) * 2.0**-53


_L1, _L2, _L3, _L4, _L5, _L6, _L7 = philox.LOG
_S1, _S2, _S3, _S4, _S5, _S6 = philox.SIN
_C1, _C2, _C3, _C4, _C5, _C6 = philox.COS
_LN2_HIGH, _LN2_LOW, _QUARTER = philox.LN2_HIGH, philox.LN2_LOW, philox.QUARTER
_SHIFT_EXPONENT = np.int64((0x3FF00000 - 0x3FE6A09E) << 32)
_ROOT_HALF = np.int64(0x3FE6A09E << 32)
_MANTISSA = np.int64(0x000FFFFFFFFFFFFF)


def normal_pair(first: Any, turn: Any) -> Any:
    """Two standard normal float64 from two words (Box & Muller 1958)."""
    # radius; the logarithm as in the reference
    u = (np.float64(first) + 0.5) * 2.0**-32
    bits = np.float64(u).view(np.int64) + _SHIFT_EXPONENT
    exponent = np.float64(np.int32(bits >> 52) - np.int32(1023))
    f = np.int64((bits & _MANTISSA) + _ROOT_HALF).view(np.float64) - 1.0
    s = f / (2.0 + f)
    half = 0.5 * f * f
    z = s * s
    p = _L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * (_L5 + z * (_L6 + z * _L7)))))
    series = s * (half + z * p) + exponent * _LN2_LOW
    radius = math.sqrt(-2.0 * (exponent * _LN2_HIGH + (f - (half - series))))
    # angle
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
    return radius * even_part, radius * odd_part
