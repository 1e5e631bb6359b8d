"""Depthwise and narrowly grouped convolutions: one output channel a lane, groups side by side.

Where a group has few outputs, the tiles of tile.py leave most lanes of a vector idle. Here a slice
of neighbouring output channels fills the lanes, whatever groups they belong to. A block of the
inputs of a slice is copied, padded, and every tap and input of a group is one multiply-add of two
vectors: the inputs are shuffled so that each lane meets those of its group.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import prange

from .. import get_num_threads
from .conv_plan import Problem, cut, phase_lines
from .jit import inline_kernel, kernel, parallel_kernel
from .memory import empty
from .tile_code import VECTOR_BYTES, lanes
from .tile_lanes import (
    LANE_ROWS,
    copy_tile,
    known,
    lane_outer_tile,
    lane_tile,
    outer_rows,
    vectors_of,
)

SCRATCH = 256 << 10  # bytes of padded input for a block and a chunk of slices
PIXELS = 2048  # of a block: bounds the offset tables
CHUNK_SLICES = 8  # of inputs that are copied together: longer runs of memory


class LanePlan(NamedTuple):
    """What the compiled loops need; every array is int64."""

    geometry: np.ndarray  # the scalars named in GEOMETRY
    phases: np.ndarray  # one row a phase, the columns named in PHASE
    steps: np.ndarray  # offset in scratch of each tap, of all phases
    rows: np.ndarray  # the steps, padded to whole tiles of a weight gradient
    taps: np.ndarray  # the tap of each step, for packing weights
    pixels: np.ndarray  # offset of each pixel's window in the scratch of a block, of all phases
    outputs: np.ndarray  # offset of each pixel in the output, from the block's first


GEOMETRY = (
    "batch", "height", "width", "channels", "outputs", "inner", "outer", "slices", "kind", "pixel",
    "chunk", "chunks", "room", "images", "rows", "row_blocks", "blocks", "workers", "top", "left",
    "span", "step", "padded_width", "image_out", "row_out", "max_rows",
)  # fmt: skip
PHASE = ("first_step", "steps", "first_pixel", "rows", "columns", "first_output")
(
    BATCH, HEIGHT, WIDTH, CHANNELS, OUTPUTS, INNER, OUTER, SLICES, KIND, PIXEL,
    CHUNK, CHUNKS, ROOM, IMAGES, ROWS, ROW_BLOCKS, BLOCKS, WORKERS, TOP, LEFT,
    SPAN, STEP, PADDED_WIDTH, IMAGE_OUT, ROW_OUT, MAX_ROWS,
) = range(len(GEOMETRY))  # fmt: skip


def suits_lanes(problem: Problem) -> bool:
    """Whether one channel a lane does less work than tiles of one group's outputs."""
    p, wide = problem, lanes(np.float32)
    inner, outer = p.channels // p.groups, p.out_channels // p.groups
    if p.groups == 1 or 2 * outer > wide:
        return False
    return inner == 1 or known(inner, outer, wide)


def lanes_gather(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    problem: Problem,
    slope: float,
    flat: Callable[..., np.ndarray],
) -> np.ndarray:
    """conv2d or conv_transpose2d with one channel a lane; `flat` is that of conv.py."""
    dtype, p = np.result_type(x, weight), problem
    y = empty((p.batch, *p.output_size, p.out_channels), dtype)
    made = _plan(p, lanes(dtype), dtype.itemsize, get_num_threads())
    slices = made.geometry[SLICES]
    packed = np.empty(slices * len(made.steps) * made.geometry[INNER] * lanes(dtype), dtype)
    _pack(flat(weight, dtype), packed, made.geometry, made.taps, p.transposed)
    start = np.zeros(slices * lanes(dtype), dtype)
    if bias is not None:
        start[: p.out_channels] = bias
    _gather(
        flat(x, dtype), packed, start, float(slope), y.reshape(-1),
        made.geometry, made.phases, made.steps, made.pixels, made.outputs,
    )  # fmt: skip
    return y.transpose(0, 3, 1, 2)


def lanes_weight_grad(
    x: np.ndarray, grad: np.ndarray, problem: Problem, flat: Callable[..., np.ndarray]
) -> np.ndarray:
    """conv2d_weight_grad with one channel a lane."""
    dtype, p, threads = np.result_type(x, grad), problem, get_num_threads()
    made = _plan(p, lanes(dtype), dtype.itemsize, threads)
    slices, inner = int(made.geometry[SLICES]), int(made.geometry[INNER])
    depth, high = len(made.steps) * inner, outer_rows(inner)
    # Every worker sums over its own blocks of pixels; the sums are added up in order.
    shares = 1 if made.geometry[CHUNKS] % threads == 0 else min(threads, int(made.geometry[BLOCKS]))
    sums = np.zeros((shares, slices, made.rows.size * inner, lanes(dtype)), dtype)
    _weight_grad(
        flat(x, dtype), flat(grad, dtype), sums.reshape(-1), shares, made.geometry, made.phases,
        made.rows, high, made.pixels,
    )  # fmt: skip
    total = sums[0] if shares == 1 else sums.sum(0)
    total = total[:, :depth].transpose(0, 2, 1).reshape(-1, depth)[: p.out_channels]
    return np.ascontiguousarray(total).reshape(p.out_channels, *p.kernel_size, -1).transpose(
        0, 3, 1, 2
    )


@functools.lru_cache(maxsize=256)
def _plan(problem: Problem, wide: int, itemsize: int, threads: int) -> LanePlan:
    p = problem
    step = (1, 1) if p.transposed else p.stride
    spread = p.stride if p.transposed else (1, 1)
    lines = [phase_lines(p, axis) for axis in (0, 1)]
    offsets = [[d for line in axis for _, d in line.taps] or [0] for axis in lines]
    (top, bottom), (left, right) = [(min(each), max(each)) for each in offsets]
    max_rows, max_columns = (max(line.count for line in axis) for axis in lines)
    (h, w), o = p.size, p.out_channels
    inner, outer = p.channels // p.groups, o // p.groups
    kind = inner * 256 + outer if known(inner, outer, wide) else 257
    slices = -(-o // wide)
    pixel = wide * (vectors_of(inner, outer, wide) if kind != 257 else 1)
    chunk = min(slices, CHUNK_SLICES)
    chunk = -(-slices // -(-slices // chunk))  # even chunks
    chunks = -(-slices // chunk)
    span, width = bottom - top + 1, (max_columns - 1) * step[1] + right - left + 1
    images, rows = cut(
        p, max_rows, max_columns, step[0], span, width * pixel * itemsize * chunk,
        -(-threads // chunks),
        PIXELS, SCRATCH,
    )  # fmt: skip
    row_blocks = -(-max_rows // rows)
    blocks = -(-p.batch // images) * row_blocks
    image_in = ((rows - 1) * step[0] + span) * width * pixel
    image_out, row_out = p.output_size[0] * p.output_size[1] * o, spread[0] * p.output_size[1] * o

    phases, steps, taps, inputs, outputs = [], [], [], [], []
    for down in lines[0]:
        for across in lines[1]:
            here = (len(steps), len(down.taps) * len(across.taps), sum(map(len, inputs)))
            first = (down.first * p.output_size[1] + across.first) * o
            phases.append((*here, down.count, across.count, first))
            for i, dy in down.taps:
                for j, dx in across.taps:
                    taps.append(i * p.kernel_size[1] + j)
                    steps.append(((dy - top) * width + dx - left) * pixel)
            count = (images, min(rows, down.count), across.count)
            image, t, u = (index.ravel() for index in np.indices(count))
            inputs.append(image * image_in + (t * step[0] * width + u * step[1]) * pixel)
            outputs.append(image * image_out + t * row_out + u * spread[1] * o)
    geometry = (
        p.batch, h, w, p.channels, o, inner, outer, slices, kind, pixel,
        chunk, chunks, images * image_in, images, rows, row_blocks, blocks,
        min(threads, blocks * chunks), top, left,
        span, step[0], width, image_out, row_out, max_rows,
    )  # fmt: skip
    whole = steps + steps[-1:] * (-len(steps) % outer_rows(inner))
    tables = (geometry, phases, steps, whole, taps, np.concatenate(inputs), np.concatenate(outputs))
    return LanePlan(*(np.array(table, np.int64) for table in tables))


@kernel
def _pack(weight, packed, geo, taps, transposed):
    """packed (slice, step, lane) = the weight of that output channel; 0 beyond the last."""
    wide, inner, outer = VECTOR_BYTES // weight.itemsize, geo[INNER], geo[OUTER]
    count = len(weight) // (geo[OUTPUTS] * inner)
    depth = len(taps) * inner
    for channel in range(geo[SLICES] * wide):
        group, n = channel // outer, channel % outer
        target = channel // wide * depth * wide + channel % wide
        for step in range(depth):
            value = weight.dtype.type(0)
            if channel < geo[OUTPUTS]:
                tap, j = taps[step // inner], step % inner
                if transposed:
                    value = weight[((group * inner + j) * count + tap) * outer + n]
                else:
                    value = weight[(channel * count + tap) * inner + j]
            packed[target + step * wide] = value


@parallel_kernel
def _gather(x, packed, bias, slope, y, geo, phases, steps, pixels, outputs):
    """y = leaky(the taps of x times packed weights, plus bias in whole vectors)."""
    size, leak, chunks = x.itemsize, x.dtype.type(slope), geo[CHUNKS]
    depth, wide = len(steps) * geo[INNER], VECTOR_BYTES // size
    workers, items = geo[WORKERS], geo[BLOCKS] * chunks
    for worker in prange(workers):
        scratch = np.empty(geo[CHUNK] * geo[ROOM] + wide, x.dtype)
        skip = -(scratch.ctypes.data // size) % wide
        last_in, last_out = np.empty(LANE_ROWS, np.int64), np.empty(LANE_ROWS, np.int64)
        for item in range(worker * items // workers, (worker + 1) * items // workers):
            block, first = item // chunks, item % chunks * geo[CHUNK]
            last = min(first + geo[CHUNK], geo[SLICES])
            n0, n1, t0, t1 = _extent(block, geo)
            _fill(x, scratch, skip, first, last, n0, n1, t0, t1, geo)
            for part in range(first, last):
                base = scratch.ctypes.data + (skip + (part - first) * geo[ROOM]) * size
                tail = min(wide, geo[OUTPUTS] - part * wide)
                target = n0 * geo[IMAGE_OUT] + t0 * geo[ROW_OUT] + part * wide
                start = bias.ctypes.data + part * wide * size
                for f in range(len(phases)):
                    step, count, pixel = phases[f, 0], phases[f, 1], phases[f, 2]
                    total = (n1 - n0) * (min(t1, phases[f, 3]) - t0) * phases[f, 4]
                    b = packed.ctypes.data + (part * depth + step * geo[INNER]) * wide * size
                    to = y.ctypes.data + (target + phases[f, 5]) * size
                    for p in range(0, total, LANE_ROWS):
                        at_in = pixels.ctypes.data + (pixel + p) * 8
                        at_out = outputs.ctypes.data + (pixel + p) * 8
                        if p + LANE_ROWS > total:  # a short tile: repeat its last pixel
                            for r in range(LANE_ROWS):
                                last_in[r] = pixels[pixel + min(p + r, total - 1)]
                                last_out[r] = outputs[pixel + min(p + r, total - 1)]
                            at_in, at_out = last_in.ctypes.data, last_out.ctypes.data
                        lane_tile(
                            x.dtype.type(0), geo[KIND], base, at_in, steps.ctypes.data + step * 8,
                            count, b, start, to, at_out, tail, leak,
                        )  # fmt: skip


@parallel_kernel
def _weight_grad(x, grad, sums, shares, geo, phases, rows_table, high, pixels):
    """sums (share, slice, step, lane) += that share's part of the weight gradient."""
    size, chunks, depth, blocks = x.itemsize, geo[CHUNKS], len(rows_table), geo[BLOCKS]
    wide = VECTOR_BYTES // size
    for item in prange(shares * chunks):
        share, first = item // chunks, item % chunks * geo[CHUNK]
        last = min(first + geo[CHUNK], geo[SLICES])
        scratch = np.empty(geo[CHUNK] * geo[ROOM] + wide, x.dtype)
        skip = -(scratch.ctypes.data // size) % wide
        for block in range(share * blocks // shares, (share + 1) * blocks // shares):
            n0, n1, t0, t1 = _extent(block, geo)
            _fill(x, scratch, skip, first, last, n0, n1, t0, t1, geo)
            count = (n1 - n0) * (t1 - t0) * phases[0, 4]
            for part in range(first, last):
                base = scratch.ctypes.data + (skip + (part - first) * geo[ROOM]) * size
                tail = min(wide, geo[OUTPUTS] - part * wide)
                source = n0 * geo[IMAGE_OUT] + t0 * geo[ROW_OUT] + part * wide
                target = (share * geo[SLICES] + part) * depth
                for k in range(0, depth, high):
                    lane_outer_tile(
                        x.dtype.type(0), geo[KIND], base, rows_table.ctypes.data + k * 8,
                        pixels.ctypes.data, count, grad.ctypes.data + source * size, geo[OUTPUTS],
                        sums.ctypes.data + (target + k) * geo[INNER] * wide * size, tail,
                    )  # fmt: skip


@inline_kernel
def _extent(block, geo):
    """The images n0..n1 and output rows t0..t1 of a block."""
    n0 = block // geo[ROW_BLOCKS] * geo[IMAGES]
    t0 = block % geo[ROW_BLOCKS] * geo[ROWS]
    return n0, min(n0 + geo[IMAGES], geo[BATCH]), t0, min(t0 + geo[ROWS], geo[MAX_ROWS])


@inline_kernel
def _fill(x, scratch, skip, first, last, n0, n1, t0, t1, geo):
    """Copy a block's windows of a slice's inputs, padded with zeros, in whole vectors."""
    height, width, channels, inner = geo[HEIGHT], geo[WIDTH], geo[CHANNELS], geo[INNER]
    wide, padded, pixel = VECTOR_BYTES // x.itemsize, geo[PADDED_WIDTH], geo[PIXEL]
    by_hand = geo[KIND] == 257 and geo[OUTER] > 1  # one input a group: spread here
    top, left = t0 * geo[STEP] + geo[TOP], geo[LEFT]
    image_rows = (geo[ROWS] - 1) * geo[STEP] + geo[SPAN]
    before = min(max(-left, 0), padded)
    start = max(left, 0)
    inside = max(min(width - start, padded - before), 0)
    for image in range(n1 - n0):
        for r in range((t1 - t0 - 1) * geo[STEP] + geo[SPAN]):
            source = (((n0 + image) * height + top + r) * width + start) * channels
            for part in range(first, last):
                to = skip + (part - first) * geo[ROOM]
                to += (image * image_rows + r) * padded * pixel
                row = scratch[to : to + padded * pixel]
                if not 0 <= top + r < height:
                    row[:] = 0
                    continue
                row[: before * pixel] = 0
                row[(before + inside) * pixel :] = 0
                channel = part * wide // geo[OUTER] * inner
                if by_hand:
                    for u in range(inside):
                        for n in range(min(wide, geo[OUTPUTS] - part * wide)):
                            at = source + u * channels + (part * wide + n) // geo[OUTER]
                            row[(before + u) * pixel + n] = x[at]
                    continue
                for v in range(0, pixel, wide):
                    copy_tile(
                        x.dtype.type(0), x.ctypes.data + (source + channel + v) * x.itemsize,
                        channels, row.ctypes.data + (before * pixel + v) * x.itemsize, pixel,
                        inside, channels - channel - v,
                    )  # fmt: skip
