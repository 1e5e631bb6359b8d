"""Depthwise convolutions: windows over rows of pixels, read where they lie.

Lanes run along the channels of a pixel; the last vector overlaps the one before, so that none is
cut. With fewer channels than lanes they run along a *period* of several pixels, after which
channels and lanes meet again. For those, and for images narrower than a tile, the rows that a
window sees are copied to a ring that stays in the cache, padded with zeros.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import prange

from .. import get_num_threads
from .conv_plan import Problem, phase_lines
from .jit import helper, inline_kernel, kernel, parallel_kernel
from .memory import empty
from .tile_code import VECTOR_BYTES, lanes
from .tile_depthwise import FEW, KINDS, RUN, SINGLE, window_grad_tile, window_tile
from .winograd_tile import prefetch


class DepthwisePlan(NamedTuple):
    """What the compiled loops need; every array is int64."""

    geometry: np.ndarray  # the scalars named in GEOMETRY
    phases: np.ndarray  # one row a phase, the columns named in PHASE
    pieces: np.ndarray  # of all phases: (row of the input, column) of the first tap, as offsets
    taps: np.ndarray  # of all pieces, in order
    masks: np.ndarray  # of the input's columns, from the first that a window sees


GEOMETRY = (
    "height", "width", "channels", "period", "slices", "limit", "ring", "ring_row", "span", "step",
    "top", "left", "right", "before", "inside", "pixel", "rows", "strips", "images", "image_out",
)  # fmt: skip
PHASE = (
    "first_tap", "first_piece", "pieces", "kind", "run", "column_step", "hop", "rows", "columns",
    "first_output", "row_out", "pixel_out",
)  # fmt: skip
(
    HEIGHT, WIDTH, CHANNELS, PERIOD, SLICES, LIMIT, RING, RING_ROW, SPAN, STEP,
    TOP, LEFT, RIGHT, BEFORE, INSIDE, PIXEL, ROWS, STRIPS, IMAGES, IMAGE_OUT,
) = range(len(GEOMETRY))  # fmt: skip
(
    FIRST_TAP, FIRST_PIECE, PIECES, KIND, RUN_OF, COLUMN_STEP, HOP, PHASE_ROWS, COLUMNS,
    FIRST_OUTPUT, ROW_OUT, PIXEL_OUT,
) = range(len(PHASE))  # fmt: skip


def suits_depthwise(p: Problem) -> bool:
    """Whether each group has one channel and one output."""
    return 1 < p.groups == p.channels == p.out_channels


def depthwise_gather(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    problem: Problem,
    slope: float,
    flat: Callable[..., np.ndarray],
) -> np.ndarray:
    """conv2d or conv_transpose2d, depthwise; `flat` is that of conv.py."""
    dtype, p = np.result_type(x, weight), problem
    x = flat(x, dtype)
    made = _plan(p, lanes(dtype), _aligned(x, p), get_num_threads())
    y = empty((p.batch, *p.output_size, p.channels), dtype)
    packed = np.empty((int(made.geometry[SLICES]), len(made.taps), lanes(dtype)), dtype)
    starts = np.zeros((len(packed), lanes(dtype)), dtype)
    taps = flat(weight, dtype).reshape(p.channels, -1)
    _pack(taps, made.taps, packed, made.geometry)
    if bias is not None:
        _pack(bias.astype(dtype)[:, None], _FIRST, starts[:, None], made.geometry)
    _gather(
        x, packed.reshape(-1), starts, float(slope), y.reshape(-1), made.geometry,
        made.phases, made.pieces, made.masks,
    )  # fmt: skip
    return y.transpose(0, 3, 1, 2)


def depthwise_weight_grad(
    x: np.ndarray, grad: np.ndarray, problem: Problem, flat: Callable[..., np.ndarray]
) -> np.ndarray:
    """conv2d_weight_grad, depthwise."""
    dtype, p = np.result_type(x, grad), problem
    x = flat(x, dtype)
    made = _plan(p, lanes(dtype), _aligned(x, p), get_num_threads())
    geo, kind, depth = made.geometry, int(made.phases[0, KIND]), math.prod(p.kernel_size)
    kind = SINGLE if kind == FEW else kind
    high, length = KINDS[kind], kind // 16
    tiles = -(-depth // (high * length))
    # Every worker sums over its own rows; the sums are added up in order.
    shares = int(min(get_num_threads(), geo[IMAGES] * geo[STRIPS]))
    sums = np.zeros((shares, geo[SLICES], tiles, length, high, lanes(dtype)), dtype)
    _weight_grad(
        x, flat(grad, dtype), sums.reshape(-1), shares, tiles, kind, high, geo,
        made.phases, made.pieces, made.masks,
    )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        total = sums.sum(0).swapaxes(2, 3)
    total = np.ascontiguousarray(total).reshape(geo[SLICES], -1, lanes(dtype))
    result = np.zeros((p.channels, depth), dtype)
    _unpack(total, made.taps[:depth], result, geo)
    return result.reshape(p.channels, *p.kernel_size, 1).transpose(0, 3, 1, 2)


def _aligned(x: np.ndarray, p: Problem) -> bool:
    """Whether all vectors of all pixels are whole cache lines."""
    return (x.ctypes.data | p.channels * x.itemsize) % VECTOR_BYTES == 0


@functools.lru_cache(maxsize=256)
def _plan(problem: Problem, wide: int, aligned: bool, threads: int) -> DepthwisePlan:
    p = problem
    step = (1, 1) if p.transposed else p.stride
    spread = p.stride if p.transposed else (1, 1)
    lines = [phase_lines(p, axis) for axis in (0, 1)]
    offsets = [[d for line in axis for _, d in line.taps] or [0] for axis in lines]
    (top, bottom), (left, right) = [(min(each), max(each)) for each in offsets]
    max_rows, max_columns = (max(line.count for line in axis) for axis in lines)
    (h, w), c, row_out = p.size, p.channels, p.output_size[1] * p.channels

    period, length = c, min(len(line.taps) for line in lines[1])
    if c < wide and step[1] == spread[1] == 1:
        period = c * wide // math.gcd(c, wide)
    # Outputs a tap's dilation apart see a window without gaps: then they are phases of their own.
    hop = p.dilation[1] if step[1] == spread[1] == 1 and period == c and length > 1 else 1
    columns = (max_columns - 1) * step[1] + right - left + 1
    far = max(-left, (max_columns - 1) * step[1] + right + 1 - w) >= hop * max(length, 1)
    ring = c < wide or max_columns < RUN * hop or far or not aligned
    pixel = -(-c // wide) * wide if ring and period == c else c
    slack = RUN * step[1] * hop * max(pixel, period)
    ring_row = -(-(columns * pixel + slack) // wide) * wide
    before = min(max(-left, 0), columns)
    inside = max(min(w - max(left, 0), columns - before), 0)
    strips = min(max_rows, -(-threads // p.batch))

    phases: list[tuple[int, ...]] = []
    pieces: list[tuple[int, int]] = []
    taps: list[int] = []
    for down in lines[0]:
        for across in lines[1]:
            places = [d for _, d in across.taps]
            joined = places == list(range(places[0], places[-1] + 1, hop)) if places else False
            length = len(places) if joined and period == c else 1
            kind = length * 16 + step[1] if length > 1 else SINGLE
            if kind not in KINDS:
                length, kind = 1, SINGLE
            run = RUN
            if period > c and max_columns * c <= RUN // 2 * period:
                kind, run = FEW, RUN // 2
            for shift in range(min(hop, across.count)):
                first = len(taps), len(pieces)
                for i, dy in down.taps:
                    for at in range(0, len(places), length):
                        pieces.append((dy, places[at] + shift))
                        taps += [i * p.kernel_size[1] + j for j, _ in across.taps[at : at + length]]
                phases.append((
                    *first, len(pieces) - first[1], kind, run, step[1], hop, down.count,
                    -(-(across.count - shift) // hop),
                    down.first * row_out + (across.first + shift) * c, spread[0] * row_out,
                    spread[1] * hop * c,
                ))  # fmt: skip
    geometry = (
        h, w, c, period, -(-period // wide), max(period - wide, 0), ring, ring_row,
        bottom - top + 1, step[0], top, left, right, before, inside, pixel, max_rows, strips,
        p.batch, p.output_size[0] * row_out,
    )  # fmt: skip
    seen = left + np.arange((max(max_columns, RUN * hop) + hop) * step[1] + right - left)
    masks = -(ring | (seen >= 0) & (seen < w)).astype(np.int64)
    tables = (geometry, phases, np.array(pieces).reshape(-1, 2), taps, masks)
    return DepthwisePlan(*(np.array(table, np.int64) for table in tables))


@kernel
def _pack(weight, taps, packed, geo):
    """packed (slice, tap, lane) = the weight of that lane's channel, 0 beyond the last."""
    slices, depth, wide = packed.shape
    for v in range(slices):
        for n in range(wide):
            column = min(v * wide, geo[LIMIT]) + n
            for k in range(depth):
                inside = column < geo[PERIOD]
                packed[v, k, n] = weight[column % geo[CHANNELS], taps[k]] if inside else 0


@kernel
def _unpack(sums, taps, result, geo):
    """The adjoint of `_pack`: the lanes of a channel are added up."""
    slices, _, wide = sums.shape
    for column in range(geo[PERIOD]):
        v = min(column // wide, slices - 1)
        for k in range(len(taps)):
            share = sums[v, k, column - min(v * wide, geo[LIMIT])]
            result[column % geo[CHANNELS], taps[k]] += share


@parallel_kernel
def _gather(x, packed, starts, slope, y, geo, phases, pieces, masks):
    """y = leaky(the taps of x times packed weights, plus bias in whole vectors)."""
    for item in prange(geo[IMAGES] * geo[STRIPS]):
        _strip(np.int64(item), x, packed, starts, slope, y, geo, phases, pieces, masks)


@helper
def _strip(item, x, packed, starts, slope, y, geo, phases, pieces, masks):
    """One strip of rows of an image of `_gather`."""
    size, leak, strips = x.itemsize, x.dtype.type(slope), geo[STRIPS]
    wide, b_step = VECTOR_BYTES // size, len(packed) // geo[SLICES]
    image, strip = item // strips, item % strips
    ring, base = _ring(x, geo)
    table = np.empty((len(pieces), 2), np.int64)
    t0, t1 = strip * geo[ROWS] // strips, (strip + 1) * geo[ROWS] // strips
    for t in range(t0, t1):
        _next_rows(x, ring, image, t, t == t0, geo)
        _ask_ahead(x, image, t, geo)
        for f in range(len(phases)):
            if t >= phases[f, PHASE_ROWS]:
                continue
            count, step, hop = phases[f, PIECES], phases[f, COLUMN_STEP], phases[f, HOP]
            columns, pixel, out_step, left, left_step = _columns(phases[f], geo)
            _table(table, x, base, masks, image, t, pieces, phases[f, FIRST_PIECE], count, geo)
            to = image * geo[IMAGE_OUT] + phases[f, FIRST_OUTPUT] + t * phases[f, ROW_OUT]
            b, run = packed.ctypes.data + phases[f, FIRST_TAP] * wide * size, phases[f, RUN_OF]
            for first in range(0, columns, run):
                u = max(0, min(first, columns - run))  # the last run overlaps the one before
                low = u * step * hop + geo[LEFT]
                high = (u + run) * step * hop + geo[RIGHT]
                masked = not geo[RING] and (low < 0 or high > geo[WIDTH])
                window_tile(
                    x.dtype.type(0), phases[f, KIND], table.ctypes.data, count, u * step * hop,
                    hop, step, pixel, np.int64(masked), b, b_step, starts.ctypes.data,
                    y.ctypes.data + (to + u * out_step) * size, out_step, columns - u,
                    geo[SLICES], geo[LIMIT], left - u * left_step, left_step, leak,
                )  # fmt: skip


@parallel_kernel
def _weight_grad(x, grad, sums, shares, tiles, kind, high, geo, phases, pieces, masks):
    """sums (share, slice, tile, tap, piece, lane) += that share's part of the weight gradient."""
    for share in prange(shares):
        _share(
            np.int64(share), x, grad, sums, shares, tiles, kind, high, geo, phases, pieces, masks
        )


@helper
def _share(share, x, grad, sums, shares, tiles, kind, high, geo, phases, pieces, masks):
    """One share of `_weight_grad`."""
    size, strips, slices, channels = x.itemsize, geo[STRIPS], geo[SLICES], geo[CHANNELS]
    wide, parts, count = VECTOR_BYTES // size, geo[IMAGES] * strips, phases[0, PIECES]
    ring, base = _ring(x, geo)
    table = np.empty((tiles * high, 2), np.int64)
    for part in range(share * parts // shares, (share + 1) * parts // shares):
        image, strip = part // strips, part % strips
        t0, t1 = strip * geo[ROWS] // strips, (strip + 1) * geo[ROWS] // strips
        for t in range(t0, t1):
            _next_rows(x, ring, image, t, t == t0, geo)
            _ask_ahead(x, image, t, geo)
            for f in range(len(phases)):
                step, hop = phases[f, COLUMN_STEP], phases[f, HOP]
                columns, pixel, out_step, left, left_step = _columns(phases[f], geo)
                begin, end = np.int64(0), columns  # outputs that see the image only
                if geo[PERIOD] > channels:
                    end -= 1
                elif geo[RING]:
                    end = columns if channels >= wide else begin
                else:
                    begin = min(columns, max(0, -(geo[LEFT] // (step * hop))))
                    end = (geo[WIDTH] - 1 - geo[RIGHT] - (hop - 1)) // (step * hop) + 1
                    end = max(begin, min(columns, end))
                first = phases[f, FIRST_PIECE]
                _table(table, x, base, masks, image, t, pieces, first, count, geo)
                for i in range(count, len(table)):  # whole tiles
                    table[i, 0], table[i, 1] = table[count - 1, 0], table[count - 1, 1]
                source = image * geo[IMAGE_OUT] + t * phases[f, ROW_OUT]
                source += phases[f, FIRST_OUTPUT]
                for v in range(slices):
                    lane, to = min(v * wide, geo[LIMIT]), (share * slices + v) * tiles
                    for i in range(tiles):
                        window_grad_tile(
                            x.dtype.type(0), kind, table.ctypes.data + i * high * 16, hop, step,
                            pixel, lane, grad.ctypes.data + (source + lane) * size, out_step,
                            columns, begin, end,
                            sums.ctypes.data + (to + i) * high * (kind // 16) * wide * size,
                            left - lane, left_step,
                        )  # fmt: skip


@inline_kernel
def _columns(phase, geo):
    """Of a phase's row: outputs, elements of a pixel, from output to output, lanes, less each."""
    columns, period, channels = phase[COLUMNS], geo[PERIOD], geo[CHANNELS]
    if period > channels:
        lanes_left = columns * channels
        return (lanes_left + period - 1) // period, period, period, lanes_left, period
    return columns, geo[PIXEL], phase[PIXEL_OUT], channels, 0 * period


@inline_kernel
def _ring(x, geo):
    """A ring of rows, and one more that stays zero; and its aligned address."""
    wide = VECTOR_BYTES // x.itemsize
    ring = np.zeros((geo[SPAN] + 1) * geo[RING_ROW] + wide, x.dtype)
    skip = -(ring.ctypes.data // x.itemsize) % wide
    return ring[skip:], ring.ctypes.data + skip * x.itemsize


@inline_kernel
def _table(table, x, ring, masks, image, t, pieces, first, count, geo):
    """The addresses of the pieces that output row t sees, and those of their masks."""
    for i in range(count):
        row, column = t * geo[STEP] + pieces[first + i, 0], pieces[first + i, 1] - geo[LEFT]
        inside = 0 <= row < geo[HEIGHT]
        if inside and not geo[RING]:
            pixel = (image * geo[HEIGHT] + row) * geo[WIDTH] + pieces[first + i, 1]
            table[i, 0] = x.ctypes.data + pixel * geo[CHANNELS] * x.itemsize
        else:
            slot = row % geo[SPAN] if inside else geo[SPAN]
            table[i, 0] = ring + (slot * geo[RING_ROW] + column * geo[PIXEL]) * x.itemsize
        table[i, 1] = masks.ctypes.data + (0 if geo[PERIOD] > geo[CHANNELS] else column) * 8


@inline_kernel
def _ask_ahead(x, image, t, geo):
    """Prefetch the input row that the next output row sees first, where rows are read in place."""
    if not geo[RING]:
        row = min((t + 1) * geo[STEP] + geo[TOP] + geo[SPAN] - 1, geo[HEIGHT] - 1)
        length = geo[WIDTH] * geo[CHANNELS] * x.itemsize
        start = x.ctypes.data + (image * geo[HEIGHT] + row) * length
        for line in range(0, length, VECTOR_BYTES):
            prefetch(start + line, 0)


@inline_kernel
def _next_rows(x, ring, image, t, fresh, geo):
    """Copy the input rows that output row t sees, those that the row before did not."""
    if not geo[RING]:
        return
    top, span, step, inside = t * geo[STEP] + geo[TOP], geo[SPAN], geo[STEP], geo[INSIDE]
    pixel, channels = geo[PIXEL], geo[CHANNELS]
    for row in range(top if fresh else max(top, top + span - step), top + span):
        if not 0 <= row < geo[HEIGHT]:
            continue
        source = ((image * geo[HEIGHT] + row) * geo[WIDTH] + max(geo[LEFT], 0)) * channels
        target = row % span * geo[RING_ROW] + geo[BEFORE] * pixel
        runs = 1 if pixel == channels else inside
        length = inside * channels // max(runs, 1)
        for u in range(runs):
            copy = ring[target + u * pixel : target + u * pixel + length]
            line = x[source + u * channels : source + u * channels + length]
            for n in range(len(line)):
                copy[n] = line[n]


_FIRST = np.zeros(1, np.int64)
