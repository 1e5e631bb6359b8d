"""Which kernel runs a convolution without tensor cores, on how many blocks, with which numbers.

Found once for all calls of the same shapes and strides: a call costs a look-up.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from .code.tiles import THIN_ROWS
from .gemm_plan import MULTIPROCESSORS, plan, reading

Pair = tuple[int, int]
MANY = 8192  # pixels that keep the teams of conv_thin busy


class Run(NamedTuple):
    """A kernel, its grid, the numbers it takes, its variant, and into how many parts sums are."""

    kernel: str
    blocks: tuple[int, ...]
    numbers: tuple[int, ...]
    variant: dict[str, str]
    parts: int = 1


@functools.lru_cache(maxsize=4096)
def gather_run(
    x_shape: tuple[int, ...], x_strides: tuple[int, ...], x_aligned: bool,
    w_shape: tuple[int, ...], w_strides: tuple[int, ...], w_aligned: bool, dtype: str,
    output_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int, transposed: bool,
) -> Run:  # fmt: skip
    """conv2d or conv_transpose2d of x and a weight (w)."""
    (n, c, h, w), (kh, kw), (height, width) = x_shape, w_shape[2:], output_size
    itemsize = 4 if dtype == "float32" else 8
    x_n, x_c, x_h, x_w = [s // itemsize for s in x_strides]
    w_o, w_c, w_h, w_w = [s // itemsize for s in w_strides]
    inner, outer = c // groups, w_shape[1] if transposed else w_shape[0] // groups
    w_g = w_o * (inner if transposed else outer)
    if transposed:
        w_o, w_c = w_c, w_o
    common, inverse, phases, rows, taps = phases_of(
        transposed, n, output_size, (kh, kw), stride, dilation
    )
    numbers = (
        n, h, w, inner, height, width, outer, groups, kh, kw, *stride, *padding, *dilation,
        x_n, x_h, x_w, x_c, int(transposed), *common, *inverse, w_o, w_c, w_h, w_w, w_g,
    )  # fmt: skip
    if suits_direct(groups, inner, outer):
        blocks = (min(-(-n * outer * groups * height * width // 1024), 16 * MULTIPROCESSORS),)
        return Run("conv_direct.gather", blocks, numbers, {"T": dtype})
    reading_x = reading(x_aligned, x_w, x_c, width, inner, x_n, x_h, uneven="rows")
    if groups == 1 and outer <= 4 and rows * phases >= MANY and reading_x == (0, 1):
        blocks = (-(-rows // (32 * THIN_ROWS[dtype])), phases)
        return Run("conv_thin.gather", blocks, numbers, {"T": dtype})
    # Of a transposed convolution, one product for each phase of the stride, over its taps alone.
    tile, count, parts, share = plan(rows, outer, taps * inner, phases * groups, dtype, "thin")
    reading_w = reading(w_aligned, w_o, w_c, outer, inner, w_h, w_w, w_g)
    numbers += (parts, share, *reading_x, *reading_w)
    return Run("conv.gather", (count, parts), numbers, {"T": dtype, "TILE": tile}, parts)


@functools.lru_cache(maxsize=4096)
def weight_grad_run(
    x_shape: tuple[int, ...], x_strides: tuple[int, ...], x_aligned: bool,
    g_shape: tuple[int, ...], g_strides: tuple[int, ...], g_aligned: bool, dtype: str,
    kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int,
) -> Run:  # fmt: skip
    """conv2d_weight_grad of x and a gradient (g)."""
    (n, c, h, w), (_, o, oh, ow) = x_shape, g_shape
    itemsize = 4 if dtype == "float32" else 8
    x_n, x_c, x_h, x_w = [s // itemsize for s in x_strides]
    g_n, g_c, g_h, g_w = [s // itemsize for s in g_strides]
    inner, outer = c // groups, o // groups
    pixels, size = n * oh * ow, math.prod(kernel_size) * inner
    numbers = (
        n, h, w, inner, oh, ow, outer, groups, *kernel_size, *stride, *padding, *dilation,
        x_n, x_h, x_w, x_c, g_n, g_h, g_w, g_c,
    )  # fmt: skip
    if suits_direct(groups, inner, outer):
        count = -(-o // 32) * -(-size // 9)
        parts = max(1, min(4 * MULTIPROCESSORS // max(count, 1), pixels // 64))
        numbers += (parts, -(-pixels // parts))
        return Run("conv_direct.weight_grad", (count, parts), numbers, {"T": dtype}, parts)
    tile, count, parts, share = plan(outer, size, pixels, groups, dtype, "flat")
    reading_x = reading(x_aligned, x_c, x_w, inner, ow, x_n, x_h, uneven="k")
    reading_g = reading(g_aligned, g_c, g_w, outer, ow, g_n, g_h)
    numbers += (parts, share, *reading_x, *reading_g)
    return Run("conv.weight_grad", (count, parts), numbers, {"T": dtype, "TILE": tile}, parts)


def suits_direct(groups: int, inner: int, outer: int) -> bool:
    """Whether groups have so few channels that tiles of matrices would be empty for the most."""
    return groups > 1 and outer <= 2 and inner <= 8


def phases_of(
    transposed: bool, batch: int, output_size: Pair, kernel_size: Pair, stride: Pair, dilation: Pair
) -> tuple[Pair, Pair, int, int, int]:
    """(common, inverse, how many phases, most results of one, most taps of one), for both axes.

    What `common` and `inverse` are for stands at `set_axis` in the device code.
    """
    if not transposed:
        return (1, 1), (0, 0), 1, batch * math.prod(output_size), math.prod(kernel_size)
    common = [math.gcd(s, d) for s, d in zip(stride, dilation, strict=True)]
    every = [s // c for s, c in zip(stride, common, strict=True)]
    inverse = [
        pow(d // c, -1, e) if e > 1 else 0 for d, c, e in zip(dilation, common, every, strict=True)
    ]
    rows = [-(-size // s) for size, s in zip(output_size, stride, strict=True)]
    taps = [-(-k // e) for k, e in zip(kernel_size, every, strict=True)]
    return (
        tuple(common), tuple(inverse), math.prod(stride), batch * math.prod(rows), math.prod(taps),
    )  # fmt: skip
