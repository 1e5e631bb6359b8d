"""Convolutions on tensor cores, read where they lie; plain matrices are images of one row.

gather:       rows are pixels of the result, columns its channels, k = (tap, channel of the source)
weight_grad:  rows are channels of the gradient, columns (tap, channel of the source), k = pixels

Images are channels-last, weights (outputs, taps, channels); channels and outputs are multiples of
4, addresses of 16 bytes, and no array has 2**31 elements. Where k is divided among blocks, they
leave one result each, and `gemm.add_parts` adds those in order: the same bits in every run.
"""

from __future__ import annotations

from .conv import (
    EVERY,
    FIRST,
    LENGTH,
    MOVE,
    PHASE,
    SCALE,
    SPREAD,
    START,
    TAPS,
    pixel,
    set_axis,
    split,
)
from .gemm import AWAY
from .intrinsics import copy_async
from .language import cuda, divide, float32, inline, int32, int64, kernel
from .tensor_sizes import GATHER, PAD, TILES, WEIGHT_GRAD
from .tensor_tiles import (
    inside,
    next_slice,
    pipeline,
    row_writer,
    starter,
    swizzler,
    unrolled,
)


def passes(TILE):
    """How many chunks of a slice of A, and of B, a thread copies."""
    tile = TILES[TILE]
    chunks = tile.depth // 4
    return tile.rows * chunks // tile.threads, tile.columns * chunks // tile.threads


def placer(TILE):
    """The device function that finds a thread's lane, and the rows and columns of its warp."""
    SIDE, ACROSS = TILES[TILE].side, TILES[TILE].warps_across

    @inline
    def place_in_tile(thread):
        warp = thread // 32
        return int32(thread % 32), int32(warp // ACROSS * SIDE), int32(warp % ACROSS * SIDE)

    return place_in_tile


def pixels_loader(TILE, CONV):
    """The device function that starts to copy a slice of pixels and one of weights."""
    tile = TILES[TILE]
    DEPTH, A_SIZE = tile.depth, tile.a_size(True)
    LANES = tile.threads // DEPTH  # that copy a row of [depth][columns] together
    A_PASSES, B_PASSES = passes(TILE)
    FURTHER = tile.rows // A_PASSES * DEPTH

    @inline
    def load(shared, at, constants, state):
        x, weight, place, top, edge, weights, height, width, channels, sizes, h, w, to, to_b = (
            constants
        )
        channel, tap_w, tap_h, weight_k, weight_w, weight_h = state
        taps_h, taps_w, outputs = sizes
        some = tap_h < int32(h[TAPS])
        down, right = int32(tap_h * h[MOVE]), int32(tap_w * w[MOVE])
        further = int32((down * width + right) * channels + channel)
        for i in range(A_PASSES):
            wanted = some & inside(top[i] + down, height) & inside(edge[i] + right, width)
            copy_async(shared, at + to + i * FURTHER, x, int32(place[i] + further), wanted)
        if CONV:
            for i in range(B_PASSES):
                wanted = some & (weights[i] >= 0)
                into = at + A_SIZE + to + i * FURTHER
                copy_async(shared, into, weight, int32(weights[i] + weight_k), wanted)
            weight_k = int32(weight_k + DEPTH)
        else:
            i, j = h[FIRST] + weight_h * h[EVERY], w[FIRST] + weight_w * w[EVERY]
            first = int32(((weight_k * taps_h + i) * taps_w + j) * outputs)
            for i in range(B_PASSES):
                wanted = (weight_h < int32(h[TAPS])) & (weights[i] >= 0)
                into = at + A_SIZE + to_b + i * LANES * 4
                copy_async(shared, into, weight, int32(weights[i] + first), wanted)
            weight_k, weight_w, weight_h = next_slice(
                weight_k, weight_w, weight_h, DEPTH, channels, int32(w[TAPS])
            )
        channel, tap_w, tap_h = next_slice(channel, tap_w, tap_h, DEPTH, channels, int32(w[TAPS]))
        return channel, tap_w, tap_h, weight_k, weight_w, weight_h

    return load


def pixel_writer(TILE):
    """The device function that stores rows of sums as pixels of an image."""

    def one(which):
        DOWN = which // 2 * 16 + which % 2 * 8
        write_row = row_writer(TILE, which // 2, which % 2)

        @inline
        def write(y, sums, image, row, rows, h, w, height, width, column, outputs, slope):
            row += DOWN
            if row < rows:
                n, at_h, at_w = pixel(row, h[LENGTH], w[LENGTH])
                at = (image + n) * height + at_h * h[SPREAD] + h[PHASE]
                at = at * width + at_w * w[SPREAD] + w[PHASE]
                write_row(y, at * outputs, sums, column, outputs, slope)

        return write

    return unrolled(one, TILES[TILE].side // 8)


@kernel(
    "y: float32*, x: float32*, weight: float32*, bias: float32*, biased: int, slope: float,"
    "images: int, height: int, width: int, channels: int,"
    "out_height: int, out_width: int, outputs: int, taps_h: int, taps_w: int,"
    "stride_h: int, stride_w: int, padding_h: int, padding_w: int,"
    "dilation_h: int, dilation_w: int, common_h: int, common_w: int,"
    "inverse_h: int, inverse_w: int, splits: int",
    registers=255,
    TILE=GATHER,
    KIND=("conv", "transposed"),
)
def gather(TILE, KIND):
    """y[pixel, output] = sum of what the taps find in x, times `weight`.

    "transposed": weight is (channels, taps, outputs), and each phase of the stride is a convolution
    of its own (`conv.set_axis`). With several `splits` of k, y is that many results, whose sum is
    wanted. Grid: (tiles, 1, phases * splits).
    """
    tile = TILES[TILE]
    ROWS, COLUMNS, DEPTH, CONV = tile.rows, tile.columns, tile.depth, KIND == "conv"
    CHUNKS, LANES, ACROSS = DEPTH // 4, tile.threads // DEPTH, COLUMNS + PAD
    A_PASSES, B_PASSES = passes(TILE)
    TOGETHER, SUMS = tile.threads // CHUNKS, tile.side**2 // 32
    swizzle, start_sums, place_in_tile = swizzler(DEPTH), starter(TILE), placer(TILE)
    add_slices = pipeline(TILE, True, CONV, pixels_loader(TILE, CONV))
    write_rows = pixel_writer(TILE)

    def run(
        y, x, weight, bias, biased, slope, images, height, width, channels,
        out_height, out_width, outputs, taps_h, taps_w, stride_h, stride_w,
        padding_h, padding_w, dilation_h, dilation_w, common_h, common_w,
        inverse_h, inverse_w, splits,
    ):  # fmt: skip
        thread = int64(cuda.threadIdx.x)
        column, row = split(int64(cuda.blockIdx.x), divide(outputs + COLUMNS - 1, COLUMNS))
        column, row = column * COLUMNS, row * ROWS
        part, phase = split(int64(cuda.blockIdx.z), splits)
        phase_w, phase_h = split(phase, int64(1) if CONV else stride_w)
        h = cuda.local.array(9, int64)
        w = cuda.local.array(9, int64)
        set_axis(
            h, not CONV, phase_h, out_height, taps_h, stride_h, padding_h, dilation_h, common_h,
            inverse_h,
        )  # fmt: skip
        set_axis(
            w, not CONV, phase_w, out_width, taps_w, stride_w, padding_w, dilation_w, common_w,
            inverse_w,
        )  # fmt: skip
        rows = images * h[LENGTH] * w[LENGTH]
        if row >= rows:
            return
        depth = h[TAPS] * w[TAPS] * channels
        slices = divide(depth + DEPTH - 1, DEPTH)
        share = divide(slices + splits - 1, splits)
        start = min(part * share, slices)
        slices = min(share, slices - start)

        # What this thread copies: chunks of pixels, and of rows of the weight, or (transposed) of
        # columns of it.
        place = cuda.local.array(A_PASSES, int32)
        top = cuda.local.array(A_PASSES, int32)
        edge = cuda.local.array(A_PASSES, int32)
        weights = cuda.local.array(B_PASSES, int32)
        for i in range(A_PASSES):
            down = row + thread // CHUNKS + i * TOGETHER
            n, at_h, at_w = pixel(down, h[LENGTH], w[LENGTH])
            at_h, at_w = at_h * h[SCALE] + h[START], at_w * w[SCALE] + w[START]
            place[i] = int32(((n * height + at_h) * width + at_w) * channels)
            top[i] = int32(at_h if down < rows else AWAY)
            edge[i] = int32(at_w)
        for i in range(B_PASSES):
            if CONV:
                output = column + thread // CHUNKS + i * TOGETHER
                weights[i] = int32(output * depth if output < outputs else -1)
            else:
                output = column + (thread % LANES + i * LANES) * 4
                weights[i] = int32(output if output < outputs else -1)
        none, c, across = int32(0), int32(channels), int32(w[TAPS])
        k = start * DEPTH + thread % CHUNKS * 4
        channel, tap_w, tap_h = next_slice(none, none, none, k, c, across)
        if CONV:
            weight_k, weight_w, weight_h = int32(k), none, none
        else:
            weight_k, weight_w, weight_h = next_slice(
                none, none, none, start * DEPTH + thread // LANES, c, across
            )
        constants = (
            x, weight, place, top, edge, weights, int32(height), int32(width), c,
            (int32(taps_h), int32(taps_w), int32(outputs)), h, w,
            int32(swizzle(thread // CHUNKS, thread % CHUNKS)),
            int32(thread // LANES * ACROSS + thread % LANES * 4),
        )  # fmt: skip

        lane, warp_row, warp_column = place_in_tile(thread)
        first = column + warp_column + lane % 4 * 2
        sums = cuda.local.array(SUMS, float32)
        start_sums(sums, first, outputs, bias, biased != 0)
        add_slices(
            sums, slices, constants, (channel, tap_w, tap_h, weight_k, weight_w, weight_h),
            lane, warp_row, warp_column,
        )  # fmt: skip
        write_rows(
            y, sums, part * images, row + warp_row + lane // 4, rows, h, w, out_height, out_width,
            first, outputs, float32(slope),
        )  # fmt: skip

    return run


def gradient_loader(TILE):
    """The device function that starts to copy a slice of a gradient and of the source."""
    tile = TILES[TILE]
    DEPTH, A_SIZE, LANES = tile.depth, tile.a_size(False), tile.threads // tile.depth
    A_ACROSS, B_ACROSS = tile.rows + PAD, tile.columns + PAD
    A_PASSES, B_PASSES = passes(TILE)

    @inline
    def load(shared, at, constants, state):
        x, grad, rows, down, right, further, images, shape, out_shape, strides, k, chunk = constants
        at_w, at_h, n = state
        height, width, channels = shape
        out_height, out_width, outputs = out_shape
        top, edge, some = int32(at_h * strides[0]), int32(at_w * strides[1]), n < images
        place = int32(((n * height + top) * width + edge) * channels)
        pixel_at = int32(((n * out_height + at_h) * out_width + at_w) * outputs)
        into = at + k * A_ACROSS + chunk
        for i in range(A_PASSES):
            wanted = some & (rows[i] >= 0)
            copy_async(shared, into + i * LANES * 4, grad, int32(pixel_at + rows[i]), wanted)
        into = at + A_SIZE + k * B_ACROSS + chunk
        for i in range(B_PASSES):
            wanted = some & inside(top + down[i], height) & inside(edge + right[i], width)
            copy_async(shared, into + i * LANES * 4, x, int32(place + further[i]), wanted)
        return next_slice(at_w, at_h, n, DEPTH, out_width, out_height)

    return load


def channel_writer(TILE):
    """The device function that stores rows of sums, by pairs, as a matrix."""

    def one(which):
        i, half = which // 2, which % 2
        DOWN = 16 * i + half  # rows 2 g and 2 g + 1
        write_row = row_writer(TILE, i, half)

        @inline
        def write(y, sums, first, row, rows, column, columns):
            row += DOWN
            if row < rows:
                write_row(y, (first + row) * columns, sums, column, columns, float32(1))

        return write

    return unrolled(one, TILES[TILE].side // 8)


@kernel(
    "result: float32*, x: float32*, grad: float32*,"
    "images: int, height: int, width: int, channels: int,"
    "out_height: int, out_width: int, outputs: int, taps_h: int, taps_w: int,"
    "stride_h: int, stride_w: int, padding_h: int, padding_w: int,"
    "dilation_h: int, dilation_w: int, splits: int",
    registers=255,
    TILE=WEIGHT_GRAD,
)
def weight_grad(TILE):
    """result[output, tap, channel] = sum over pixels of grad times what the tap finds in x.

    With several `splits` of the pixels, result is that many, whose sum is wanted. Grid: (tiles, 1,
    splits).
    """
    tile = TILES[TILE]
    ROWS, COLUMNS, DEPTH, LANES = tile.rows, tile.columns, tile.depth, tile.threads // tile.depth
    A_PASSES, B_PASSES = passes(TILE)
    SUMS = tile.side**2 // 32
    start_sums, write_rows, place_in_tile = starter(TILE), channel_writer(TILE), placer(TILE)
    add_slices = pipeline(TILE, False, False, gradient_loader(TILE))

    def run(
        result, x, grad, images, height, width, channels, out_height, out_width, outputs,
        taps_h, taps_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, splits,
    ):  # fmt: skip
        thread = int64(cuda.threadIdx.x)
        columns = taps_h * taps_w * channels
        column, row = split(int64(cuda.blockIdx.x), divide(columns + COLUMNS - 1, COLUMNS))
        column, row = column * COLUMNS, row * ROWS
        part = int64(cuda.blockIdx.z)
        slices = divide(images * out_height * out_width + DEPTH - 1, DEPTH)
        share = divide(slices + splits - 1, splits)
        start = min(part * share, slices)
        slices = min(share, slices - start)

        # What this thread copies of one pixel: chunks of the gradient, and of the source at taps.
        rows = cuda.local.array(A_PASSES, int32)
        down = cuda.local.array(B_PASSES, int32)
        right = cuda.local.array(B_PASSES, int32)
        further = cuda.local.array(B_PASSES, int32)
        for i in range(A_PASSES):
            output = row + (thread % LANES + i * LANES) * 4
            rows[i] = int32(output if output < outputs else -1)
        for i in range(B_PASSES):
            at = column + (thread % LANES + i * LANES) * 4
            channel, tap = split(at, channels)
            tap_w, tap_h = split(tap, taps_w)
            tap_h, tap_w = tap_h * dilation_h - padding_h, tap_w * dilation_w - padding_w
            down[i] = int32(tap_h if at < columns else AWAY)
            right[i] = int32(tap_w)
            further[i] = int32((tap_h * width + tap_w) * channels + channel)
        n, at_h, at_w = pixel(start * DEPTH + thread // LANES, out_height, out_width)
        constants = (
            x, grad, rows, down, right, further, int32(images),
            (int32(height), int32(width), int32(channels)),
            (int32(out_height), int32(out_width), int32(outputs)),
            (int32(stride_h), int32(stride_w)),
            int32(thread // LANES), int32(thread % LANES * 4),
        )  # fmt: skip

        lane, warp_row, warp_column = place_in_tile(thread)
        first = column + warp_column + lane % 4 * 2
        sums = cuda.local.array(SUMS, float32)
        start_sums(sums, first, columns, result, False)
        add_slices(
            sums, slices, constants, (int32(at_w), int32(at_h), int32(n)), lane, warp_row,
            warp_column,
        )  # fmt: skip
        write_rows(
            result, sums, part * outputs, row + warp_row + lane // 4 * 2, outputs, first, columns
        )

    return run
