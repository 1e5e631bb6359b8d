"""Convolutions as matrix products whose operands are read where they lie (implicit GEMM).

gather:       rows are pixels of the result, columns its channels, k = (tap, channel of the source)
weight_grad:  rows are channels of the gradient, columns (tap, channel of the source), k = pixels

A transposed convolution is `gather` once for each phase of its stride: the results at rows
phase, phase + stride, ... are reached by the same taps, and no product is with a zero between
pixels.
"""

from __future__ import annotations

from typing import NamedTuple

from .gemm import Operand, Result, absent, product
from .language import FLOATS, cuda, device, divide, int64, kernel
from .tiles import tile_of

# One axis of an image, for the results of one phase: an array of these numbers in shared memory,
# as all threads of a block have the same and no registers to spare. Result q < LENGTH lies at
# q * SPREAD + PHASE; its tap j < TAPS, which is number FIRST + j * EVERY of the kernel, reads the
# source at q * SCALE + START + j * MOVE.
LENGTH, SPREAD, PHASE, SCALE, START, TAPS, FIRST, EVERY, MOVE = range(9)


@device
def split(i, n):
    """(i % n, i // n)."""
    rest = divide(i, n)
    return i - rest * n, rest


@device
def set_axis(axis, transposed, phase, size, taps, stride, padding, dilation, common, inverse):
    """Fill in an axis whose result has `size` pixels; `common` and `inverse` come from the host.

    Transposed, tap i reaches result o from source (o + padding - i * dilation) / stride, if that is
    whole. With common = gcd(stride, dilation) and every = stride / common, those are i = first +
    j * every, where first = (o + padding) / common * inverse modulo every.
    """
    axis[PHASE] = phase
    if transposed:
        every, reach = divide(stride, common), divide(phase + padding, common)
        first, _ = split(reach * inverse, every)
        start = phase + padding - first * dilation
        whole = reach * common == phase + padding and first < taps
        axis[LENGTH], axis[SPREAD] = divide(size - phase + stride - 1, stride), stride
        axis[SCALE] = 1
        axis[START] = divide(start, stride) if start >= 0 else -divide(-start, stride)
        axis[TAPS] = divide(taps - first + every - 1, every) if whole else 0
        axis[FIRST], axis[EVERY], axis[MOVE] = first, every, -divide(dilation, common)
    else:
        axis[LENGTH], axis[SPREAD], axis[SCALE], axis[START] = size, 1, stride, -padding
        axis[TAPS], axis[FIRST], axis[EVERY], axis[MOVE] = taps, 0, 1, dilation


@device
def set_axes(
    h, w, phase, transposed, out_height, out_width, taps_h, taps_w, stride_h, stride_w,
    padding_h, padding_w, dilation_h, dilation_w, common_h, common_w, inverse_h, inverse_w,
):  # fmt: skip
    """Fill in both axes of a phase, in shared memory: a thread of one warp each."""
    phase_w, phase_h = split(phase, stride_w if transposed else int64(1))
    if cuda.threadIdx.x == 0:
        set_axis(
            h, transposed, phase_h, out_height, taps_h, stride_h, padding_h, dilation_h, common_h,
            inverse_h,
        )  # fmt: skip
    elif cuda.threadIdx.x == 32:
        set_axis(
            w, transposed, phase_w, out_width, taps_w, stride_w, padding_w, dilation_w, common_w,
            inverse_w,
        )  # fmt: skip


class Gather(NamedTuple):
    """What the pieces of `gather` know: of this block's phase and group."""

    h: object  # axes
    w: object
    group: int
    batch: int
    channels: int  # of the source, in a group
    outputs: int  # in a group
    x_n: int  # elements from one to the next: pictures, rows, columns, channels
    x_h: int
    x_w: int
    x_c: int
    w_o: int
    w_c: int
    w_h: int
    w_w: int
    w_g: int
    y_n: int
    y_h: int
    y_w: int


@device
def pixel(i, height, width):
    """i -> (picture, row, column)."""
    x, i = split(i, width)
    y, n = split(i, height)
    return n, y, x


@device
def tap(i, width, channels):
    """i -> (row of taps, column of taps, channel)."""
    c, i = split(i, channels)
    x, y = split(i, width)
    return y, x, c


@device
def source_row(g, i):
    if i >= g.batch * g.h[LENGTH] * g.w[LENGTH]:
        return absent()
    n, y, x = pixel(i, g.h[LENGTH], g.w[LENGTH])
    y, x = y * g.h[SCALE] + g.h[START], x * g.w[SCALE] + g.w[START]
    return g.group * g.channels * g.x_c + n * g.x_n + y * g.x_h + x * g.x_w, y, x


@device
def source_step(g, k):
    i, j, c = tap(k, g.w[TAPS], g.channels)
    y, x = i * g.h[MOVE], j * g.w[MOVE]
    return y * g.x_h + x * g.x_w + c * g.x_c, y, x


@device
def weight_row(g, o):
    return (g.group * g.w_g + o * g.w_o if o < g.outputs else int64(-1)), int64(0), int64(0)


@device
def weight_step(g, k):
    i, j, c = tap(k, g.w[TAPS], g.channels)
    i, j = g.h[FIRST] + i * g.h[EVERY], g.w[FIRST] + j * g.w[EVERY]
    return c * g.w_c + i * g.w_h + j * g.w_w, int64(0), int64(0)


@device
def result_row(g, i):
    if i >= g.batch * g.h[LENGTH] * g.w[LENGTH]:
        return int64(-1)
    n, y, x = pixel(i, g.h[LENGTH], g.w[LENGTH])
    y, x = y * g.h[SPREAD] + g.h[PHASE], x * g.w[SPREAD] + g.w[PHASE]
    return n * g.y_n + y * g.y_h + x * g.y_w + g.group * g.outputs


SIZES = (
    "batch: int, height: int, width: int, channels: int, out_height: int, out_width: int,"
    "outputs: int, groups: int, taps_h: int, taps_w: int, stride_h: int, stride_w: int,"
    "padding_h: int, padding_w: int, dilation_h: int, dilation_w: int,"
    "x_n: int, x_h: int, x_w: int, x_c: int,"
)  # of a convolution; channels and outputs are those of a group
GATHER = (
    f"y: T*, x: T*, weight: T*, bias: T*, biased: int, slope: float, {SIZES}"
    "transposed: int, common_h: int, common_w: int, inverse_h: int, inverse_w: int,"
    "w_o: int, w_c: int, w_h: int, w_w: int, w_g: int"
)
GRADIENT = f"d: T*, x: T*, grad: T*, {SIZES} g_n: int, g_h: int, g_w: int, g_c: int"


@kernel(
    f"{GATHER}, parts: int, share: int, x_rows: int, x_vector: int, w_rows: int, w_vector: int",
    registers=128,
    T=FLOATS,
    TILE=("large", "medium", "small", "thin"),
)
def gather(T, TILE):
    """y = conv2d(x, weight) or conv_transpose2d(x, weight), or `parts` of its sums one by one."""
    tile = tile_of(T, TILE)
    ROWS, COLUMNS = tile.rows, tile.columns
    make = product(
        T, TILE, source_row, source_step, weight_row, weight_step, result_row, image_a=True
    )

    def run(
        y, x, weight, bias, biased, slope, batch, height, width, channels, out_height, out_width,
        outputs, groups, taps_h, taps_w, stride_h, stride_w, padding_h, padding_w,
        dilation_h, dilation_w, x_n, x_h, x_w, x_c, transposed,
        common_h, common_w, inverse_h, inverse_w, w_o, w_c, w_h, w_w, w_g,
        parts, share, x_rows, x_vector, w_rows, w_vector,
    ):  # fmt: skip
        phases = stride_h * stride_w if transposed else int64(1)
        # The grid: tiles down, tiles across, phases, groups; beside it the parts of the sums.
        across = divide(outputs + COLUMNS - 1, COLUMNS)
        down = divide(int64(cuda.gridDim.x), across * phases * groups)
        row, rest = split(int64(cuda.blockIdx.x), down)
        column, rest = split(rest, across)
        phase, group = split(rest, phases)
        h = cuda.shared.array(9, int64)
        w = cuda.shared.array(9, int64)
        set_axes(
            h, w, phase, transposed, out_height, out_width, taps_h, taps_w, stride_h, stride_w,
            padding_h, padding_w, dilation_h, dilation_w, common_h, common_w, inverse_h, inverse_w,
        )  # fmt: skip
        cuda.syncthreads()
        part = int64(cuda.blockIdx.y)
        y_w = outputs * groups
        g = Gather(
            h, w, group, batch, channels, outputs, x_n, x_h, x_w, x_c, w_o, w_c, w_h, w_w, w_g,
            out_height * out_width * y_w, out_width * y_w, y_w,
        )  # fmt: skip
        first, last = part * share, h[TAPS] * w[TAPS] * channels
        last = min(last, first + share)
        make(
            y, x, weight, bias, g,
            Operand(x_rows, x_vector, height, width),
            Operand(w_rows, w_vector, int64(0), int64(0)),
            Result(
                outputs, part * batch * out_height * out_width * y_w, outputs % 4 == 0, parts == 1,
                biased, group * outputs, slope,
            ),
            row * ROWS, column * COLUMNS, first, last,
        )  # fmt: skip

    return run


class Patches(NamedTuple):
    """What the pieces of `weight_grad` know: of this block's group."""

    group: int
    pixels: int
    out_height: int
    out_width: int
    channels: int
    outputs: int
    taps: int
    taps_w: int
    stride_h: int
    stride_w: int
    padding_h: int
    padding_w: int
    dilation_h: int
    dilation_w: int
    x_n: int
    x_h: int
    x_w: int
    x_c: int
    g_n: int
    g_h: int
    g_w: int
    g_c: int


@device
def patch_row(g, i):
    if i >= g.taps * g.channels:
        return absent()
    y, x, c = tap(i, g.taps_w, g.channels)
    y, x, c = y * g.dilation_h, x * g.dilation_w, c + g.group * g.channels
    return y * g.x_h + x * g.x_w + c * g.x_c, y, x


@device
def patch_step(g, k):
    n, y, x = pixel(k, g.out_height, g.out_width)
    y, x = y * g.stride_h - g.padding_h, x * g.stride_w - g.padding_w
    return n * g.x_n + y * g.x_h + x * g.x_w, y, x


@device
def grad_row(g, o):
    there = o < g.outputs
    return ((g.group * g.outputs + o) * g.g_c if there else int64(-1)), int64(0), int64(0)


@device
def grad_step(g, k):
    n, y, x = pixel(k, g.out_height, g.out_width)
    return n * g.g_n + y * g.g_h + x * g.g_w, int64(0), int64(0)


@device
def weight_place(g, o):
    return o * g.taps * g.channels if o < g.outputs else int64(-1)


@kernel(
    f"{GRADIENT}, parts: int, share: int, x_rows: int, x_vector: int, g_rows: int, g_vector: int",
    registers=128,
    T=FLOATS,
    TILE=("large", "medium", "small", "flat"),
)
def weight_grad(T, TILE):
    """d (outputs, taps, channels) = conv2d_weight_grad(x, grad), or `parts` of its sums."""
    tile = tile_of(T, TILE)
    ROWS, COLUMNS = tile.rows, tile.columns
    make = product(T, TILE, grad_row, grad_step, patch_row, patch_step, weight_place, image_b=True)

    def run(
        d, x, grad, batch, height, width, channels, out_height, out_width, outputs, groups,
        taps_h, taps_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
        x_n, x_h, x_w, x_c, g_n, g_h, g_w, g_c,
        parts, share, x_rows, x_vector, g_rows, g_vector,
    ):  # fmt: skip
        size = taps_h * taps_w * channels
        down = divide(outputs + ROWS - 1, ROWS)
        across = divide(size + COLUMNS - 1, COLUMNS)
        row, rest = split(int64(cuda.blockIdx.x), down)
        column, group = split(rest, across)
        part = int64(cuda.blockIdx.y)
        taps, pixels = taps_h * taps_w, batch * out_height * out_width
        g = Patches(
            group, pixels, out_height, out_width, channels, outputs, taps, taps_w,
            stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
            x_n, x_h, x_w, x_c, g_n, g_h, g_w, g_c,
        )  # fmt: skip
        make(
            d, grad, x, d, g,
            Operand(g_rows, g_vector, int64(0), int64(0)),
            Operand(x_rows, x_vector, height, width),
            Result(
                size, (part * groups + group) * outputs * size, size % 4 == 0, False, int64(0),
                int64(0), 1.0,
            ),
            row * ROWS, column * COLUMNS, part * share, min(pixels, part * share + share),
        )  # fmt: skip

    return run
