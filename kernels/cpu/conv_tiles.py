"""The compiled loops of convolution: pad a block of input into scratch, run the tiles over it.

All arrays are flat (1-D) and contiguous, images channels-last; the integer tables are those of
`conv_plan.Plan`. Every output element is computed by one thread in a fixed order, so results do not
depend on the schedule. Weight gradients are shares summed by as many workers as there are threads,
and so depend on that number in their last bits.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .conv_plan import GEOMETRY
from .jit import helper, inline_kernel, parallel_kernel
from .tile import MAX_ROWS as MOST_ROWS
from .tile import RUN_ROWS, gather_tile, outer_run_tile, outer_tile
from .tile_code import VECTOR_BYTES
from .transpose import transpose_square

(
    BATCH, HEIGHT, WIDTH, CHANNELS, GROUP_CHANNELS, GROUPS, GROUP_OUTPUTS, COLUMNS,
    IMAGES, ROWS, ROW_BLOCKS, BLOCKS, SPLITS, WORKERS, DIRECT, TOP, LEFT, SPAN,
    STEP, PADDED_WIDTH, SCRATCH, IMAGE_OUT, ROW_OUT, MAX_ROWS,
) = range(len(GEOMETRY))  # fmt: skip


# Rows of a weight gradient from which copying a panel of grad to aligned memory pays.
COPY_DEPTH = 96
UNPACKED = 16  # rows of a weight gradient that one item unpacks


@parallel_kernel
def pack_weight(weight, packed, geo, phases, taps, panels, strides):
    """Lay the weights of each phase, group and panel out as the tiles read them: (k, column).

    strides = elements from one output channel, tap, input channel and group to the next.
    """
    for item in prange(len(taps) * geo[GROUPS] * len(panels)):
        _pack(np.int64(item), weight, packed, geo, phases, taps, panels, strides)


@helper
def _pack(item, weight, packed, geo, phases, taps, panels, strides):
    """One tap, group and panel of `pack_weight`."""
    stride_n, stride_tap, stride_c, stride_g = strides
    channels, columns, count = geo[GROUP_CHANNELS], geo[COLUMNS], len(panels)
    lanes = VECTOR_BYTES // weight.itemsize
    panel = item % count
    group = item // count % geo[GROUPS]
    which = item // count // geo[GROUPS]
    tap, phase, at = taps[which, 0], taps[which, 1], taps[which, 2]
    depth = phases[phase, 1] * phases[phase, 2]
    first, wide = panels[panel, 0], _panel_width(panel, panels, geo)
    outputs = min(wide, geo[GROUP_OUTPUTS] - first)
    source = group * stride_g + first * stride_n + tap * stride_tap
    target = phases[phase, 7] + (group * columns + first) * depth + at * channels * wide
    target += _skip(packed)
    if stride_n == 1:
        for c in range(channels):
            row = packed[target + c * wide : target + c * wide + wide]
            line = weight[source + c * stride_c : source + c * stride_c + outputs]
            for n in range(outputs):
                row[n] = line[n]
            for n in range(outputs, wide):
                row[n] = 0
        return
    for c0 in range(0, channels, lanes):  # squares, through registers where they are whole
        c1 = min(c0 + lanes, channels)
        for n0 in range(0, wide, lanes):
            corner, place = source + n0 * stride_n + c0, target + c0 * wide + n0
            if c1 - c0 == lanes and n0 + lanes <= outputs:
                transpose_square(weight, corner, stride_n, packed, place, wide)
                continue
            for n in range(min(n0 + lanes, outputs) - n0):
                line = weight[corner + n * stride_n : corner + n * stride_n + c1 - c0]
                for c in range(c1 - c0):
                    packed[place + c * wide + n] = line[c]
            for c in range(c1 - c0):
                for n in range(max(n0, outputs), n0 + lanes):
                    packed[target + (c0 + c) * wide + n] = 0


@parallel_kernel
def gather(x, packed, bias, slope, y, geo, phases, segments, pixels, outputs, panels):
    """y = leaky(the gather of x with packed weights, plus bias in whole vectors a group)."""
    workers = geo[WORKERS] if geo[SPLITS] == 1 else geo[BLOCKS] * geo[SPLITS]
    for worker in prange(workers):
        _gather(
            np.int64(worker), x, packed, bias, slope, y, geo, phases, segments, pixels, outputs,
            panels,
        )  # fmt: skip


@helper
def _gather(worker, x, packed, bias, slope, y, geo, phases, segments, pixels, outputs, panels):
    """One worker's share of `gather`."""
    units, splits = len(panels) * geo[GROUPS], geo[SPLITS]
    items = geo[BLOCKS] * splits
    workers = geo[WORKERS] if splits == 1 else items
    size, leak = x.itemsize, x.dtype.type(slope)
    scratch = np.empty(geo[SCRATCH], x.dtype)
    last_in, last_out = np.empty(MOST_ROWS, np.int64), np.empty(MOST_ROWS, np.int64)
    for item in range(worker * items // workers, (worker + 1) * items // workers):
        block, split = item // splits, item % splits
        n0, n1, t0, t1 = block_extent(block, geo)
        base = block_input(x, scratch, n0, n1, t0, t1, geo)
        target = y.ctypes.data + (n0 * geo[IMAGE_OUT] + t0 * geo[ROW_OUT]) * size
        for unit in range(split * units // splits, (split + 1) * units // splits):
            group, panel = unit // len(panels), unit % len(panels)
            first, vectors = panels[panel, 0], panels[panel, 1]
            rows, tail = panels[panel, 2], panels[panel, 3]
            start = bias.ctypes.data + (group * geo[COLUMNS] + first) * size
            a = base + group * geo[GROUP_CHANNELS] * size
            column = group * geo[GROUP_OUTPUTS] + first
            for f in range(len(phases)):
                seg, seg_count, length = phases[f, 0], phases[f, 1], phases[f, 2]
                pixel, height, width = phases[f, 3], phases[f, 4], phases[f, 5]
                out, pack = phases[f, 6], phases[f, 7]
                count = (n1 - n0) * (min(t1, height) - t0) * width
                depth = seg_count * length
                b = packed.ctypes.data + _skip(packed) * size
                b += (pack + (group * geo[COLUMNS] + first) * depth) * size
                to = target + (out + column) * size
                seg_at = segments.ctypes.data + seg * 8
                for p in range(0, count, rows):
                    at_in = pixels.ctypes.data + (pixel + p) * 8
                    at_out = outputs.ctypes.data + (pixel + p) * 8
                    if p + rows > count:  # a short tile: repeat its last pixel
                        for r in range(rows):
                            last_in[r] = pixels[pixel + min(p + r, count - 1)]
                            last_out[r] = outputs[pixel + min(p + r, count - 1)]
                        at_in, at_out = last_in.ctypes.data, last_out.ctypes.data
                    gather_tile(
                        x.dtype.type(0), vectors, a, at_in, seg_at, seg_count, length, b,
                        start, to, at_out, tail, leak,
                    )  # fmt: skip


@parallel_kernel
def weight_grad(x, grad, sums, depth, geo, phases, pixels, rows_table, panels):
    """sums[worker] = that worker's share of the weight gradient, as (group, panel, k, column)."""
    for worker in prange(geo[WORKERS]):
        _weight_grad(
            np.int64(worker), x, grad, sums, depth, geo, phases, pixels, rows_table, panels
        )


@helper
def _weight_grad(worker, x, grad, sums, depth, geo, phases, pixels, rows_table, panels):
    """One worker's share of `weight_grad`."""
    workers, blocks, size = geo[WORKERS], geo[BLOCKS], x.itemsize
    padded_depth = len(rows_table)
    outputs, width = geo[GROUP_OUTPUTS] * geo[GROUPS], phases[0, 5]
    lanes, widest = VECTOR_BYTES // size, _panel_width(np.int64(0), panels, geo)
    scratch = np.empty(geo[SCRATCH], x.dtype)
    copy = np.empty(len(pixels) * widest + lanes, x.dtype)
    begin = worker * blocks // workers
    for block in range(begin, (worker + 1) * blocks // workers):
        n0, n1, t0, t1 = block_extent(block, geo)
        base = block_input(x, scratch, n0, n1, t0, t1, geo)
        count = (n1 - n0) * (t1 - t0) * width
        source = grad.ctypes.data + (n0 * geo[IMAGE_OUT] + t0 * geo[ROW_OUT]) * size
        for group in range(geo[GROUPS]):
            a = base + group * geo[GROUP_CHANNELS] * size
            for panel in range(len(panels)):
                first, vectors = panels[panel, 0], panels[panel, 1]
                rows, tail = panels[panel, 2], panels[panel, 3]
                b = source + (group * geo[GROUP_OUTPUTS] + first) * size
                place = ((worker * geo[GROUPS] + group) * geo[COLUMNS] + first) * padded_depth
                wide, stride = _panel_width(panel, panels, geo), outputs
                if depth >= COPY_DEPTH:  # many passes over grad's panel: read it aligned
                    columns = wide - lanes + tail
                    skip = _skip(copy)
                    origin = (n0 * geo[IMAGE_OUT] + t0 * geo[ROW_OUT]) + first
                    origin += group * geo[GROUP_OUTPUTS]
                    for p in range(count):
                        row = copy[skip + p * wide : skip + p * wide + columns]
                        line = grad[origin + p * outputs : origin + p * outputs + columns]
                        for n in range(columns):
                            row[n] = line[n]
                    b, stride = copy.ctypes.data + skip * size, wide
                if vectors == 1 and geo[GROUP_CHANNELS] % RUN_ROWS == 0:
                    for k in range(0, depth, RUN_ROWS):
                        outer_run_tile(
                            x.dtype.type(0), a + rows_table[k] * size, pixels.ctypes.data,
                            count, b, stride, sums.ctypes.data + (place + k * wide) * size,
                            np.int64(block == begin), tail,
                        )  # fmt: skip
                    continue
                for k in range(0, depth, rows):
                    outer_tile(
                        x.dtype.type(0), vectors, a, rows_table.ctypes.data + k * 8,
                        pixels.ctypes.data, count, b, stride,
                        sums.ctypes.data + (place + k * wide) * size,
                        np.int64(block == begin), tail,
                    )  # fmt: skip


@parallel_kernel
def unpack_weight_grad(sums, result, depth, padded_depth, geo, panels):
    """result[o, k] = the sum over workers, in order, of sums[worker] in the tiles' layout."""
    strips = (depth + UNPACKED - 1) // UNPACKED
    for item in prange(geo[GROUPS] * len(panels) * strips):
        _unpack(np.int64(item), sums, result, depth, padded_depth, geo, panels)


@helper
def _unpack(item, sums, result, depth, padded_depth, geo, panels):
    """One group, panel and strip of `unpack_weight_grad`."""
    count, columns, workers = len(panels), geo[COLUMNS], geo[WORKERS]
    lanes = VECTOR_BYTES // sums.itemsize
    strips = (depth + UNPACKED - 1) // UNPACKED
    strip, panel, group = item % strips, item // strips % count, item // strips // count
    first = panels[panel, 0]
    wide = _panel_width(panel, panels, geo)
    outputs = min(wide, geo[GROUP_OUTPUTS] - first)
    k0, k1 = strip * UNPACKED, min(strip * UNPACKED + UNPACKED, depth)
    place = (group * columns + first) * padded_depth
    total = sums[place + k0 * wide : place + k1 * wide]
    for worker in range(1, workers):
        source = place + worker * geo[GROUPS] * columns * padded_depth
        share = sums[source + k0 * wide : source + k1 * wide]
        for i in range(len(total)):
            total[i] += share[i]
    target = (group * geo[GROUP_OUTPUTS] + first) * depth
    for n0 in range(0, outputs, lanes):
        n1 = min(n0 + lanes, outputs)
        for k in range(k0, k1, lanes):
            corner = place + k * wide + n0
            if k + lanes <= k1 and n1 - n0 == lanes:
                transpose_square(sums, corner, wide, result, target + n0 * depth + k, depth)
                continue
            for n in range(n0, n1):
                row = result[target + n * depth + k : target + n * depth + min(k + lanes, k1)]
                for i in range(len(row)):
                    row[i] = sums[corner + i * wide + n - n0]


@inline_kernel
def _skip(array):
    """Elements to skip so that what follows is aligned to whole vectors."""
    return -(array.ctypes.data // array.itemsize) % (VECTOR_BYTES // array.itemsize)


@inline_kernel
def _panel_width(panel, panels, geo):
    """Columns of a panel, whole vectors: up to the next panel's first."""
    if panel + 1 < len(panels):
        return panels[panel + 1, 0] - panels[panel, 0]
    return geo[COLUMNS] - panels[panel, 0]


@inline_kernel
def block_extent(block, geo):
    """The images n0..n1 and output rows t0..t1 of a block."""
    n0 = block // geo[ROW_BLOCKS] * geo[IMAGES]
    t0 = block % geo[ROW_BLOCKS] * geo[ROWS]
    return n0, min(n0 + geo[IMAGES], geo[BATCH]), t0, min(t0 + geo[ROWS], geo[MAX_ROWS])


@inline_kernel
def block_input(x, scratch, n0, n1, t0, t1, geo):
    """The address of a block's windows: in x itself, or of a zero-padded copy in scratch."""
    height, width, channels = geo[HEIGHT], geo[WIDTH], geo[CHANNELS]
    top, left = t0 * geo[STEP] + geo[TOP], geo[LEFT]
    if geo[DIRECT]:
        return x.ctypes.data + ((n0 * height + top) * width + left) * channels * x.itemsize
    image_rows = (geo[ROWS] - 1) * geo[STEP] + geo[SPAN]
    rows = (t1 - t0 - 1) * geo[STEP] + geo[SPAN]
    row = geo[PADDED_WIDTH] * channels
    before = min(max(-left, 0), geo[PADDED_WIDTH]) * channels
    start = max(left, 0)
    inside = max(min(width - start, geo[PADDED_WIDTH] - before // max(channels, 1)), 0) * channels
    for image in range(n1 - n0):
        for r in range(rows):
            to = (image * image_rows + r) * row
            target = scratch[to : to + row]  # slices: loops over them become plain copies
            if 0 <= top + r < height:
                source = (((n0 + image) * height + top + r) * width + start) * channels
                inner, pixels = target[before : before + inside], x[source : source + inside]
                for i in range(before):
                    target[i] = 0
                for i in range(inside):
                    inner[i] = pixels[i]
                for i in range(before + inside, row):
                    target[i] = 0
            else:
                for i in range(row):
                    target[i] = 0
    return scratch.ctypes.data
