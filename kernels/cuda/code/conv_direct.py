"""Convolutions in groups of very few channels, such as depthwise ones: no matrices to be seen.

gather:       a thread makes RUN results of one channel, side by side in a row of pixels
weight_grad:  a thread sums COLUMNS taps of one channel over its share of the pixels

Neighbouring threads have neighbouring channels, so that all accesses to images are coalesced; what
several taps read again comes from the caches.
"""

from __future__ import annotations

from .conv import (
    EVERY,
    FIRST,
    GATHER,
    GRADIENT,
    LENGTH,
    MOVE,
    SCALE,
    START,
    TAPS,
    pixel,
    set_axis,
    split,
    tap,
)
from .gemm import finish, inside
from .language import FLOATS, cuda, divide, int32, int64, kernel

RUN = 4
COLUMNS, LANES, LINES = 9, 32, 8  # LANES channels, LINES threads that share a channel's pixels
SUMS = COLUMNS * LANES * LINES


@kernel(GATHER, registers=128, T=FLOATS)
def gather(T):
    """y = conv2d(x, weight) or conv_transpose2d(x, weight)."""

    def run(
        y, x, weight, bias, biased, slope, batch, height, width, channels, out_height, out_width,
        outputs, groups, taps_h, taps_w, stride_h, stride_w, padding_h, padding_w,
        dilation_h, dilation_w, x_n, x_h, x_w, x_c, transposed,
        common_h, common_w, inverse_h, inverse_w, w_o, w_c, w_h, w_w, w_g,
    ):  # fmt: skip
        h, w = cuda.local.array(9, int32), cuda.local.array(9, int32)
        sums = cuda.local.array(RUN, T)
        phases_h = stride_h if transposed else int64(1)
        phases_w = stride_w if transposed else int64(1)
        runs = divide(divide(out_width + phases_w - 1, phases_w) + RUN - 1, RUN)
        count = batch * out_height * phases_w * runs * outputs * groups
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < count:
            o, rest = split(i, outputs * groups)
            start, rest = split(rest, runs)
            phase_w, rest = split(rest, phases_w)
            row, n = split(rest, out_height)
            phase_h, line = split(row, phases_h)
            set_axis(
                h, transposed, phase_h, out_height, taps_h, stride_h, padding_h, dilation_h,
                common_h, inverse_h,
            )  # fmt: skip
            set_axis(
                w, transposed, phase_w, out_width, taps_w, stride_w, padding_w, dilation_w,
                common_w, inverse_w,
            )  # fmt: skip
            start *= RUN
            in_group, group = split(o, outputs)
            end = w[LENGTH] - start  # how many results there are from here on
            at = (n * out_height + row) * out_width + start * phases_w + phase_w
            result = at * outputs * groups + o
            top, left = line * h[SCALE] + h[START], start * w[SCALE] + w[START]
            source = x_n * n + group * channels * x_c + top * x_h
            factors = group * w_g + in_group * w_o + h[FIRST] * w_h + w[FIRST] * w_w
            for r in range(RUN):
                sums[r] = T(0)
            for _ in range(h[TAPS]):
                if inside(top, 0, height, 1):
                    at, u = factors, left
                    for _ in range(w[TAPS]):
                        for c in range(channels):
                            factor = weight[at + c * w_c]
                            for r in range(RUN):
                                column = u + r * w[SCALE]
                                if inside(0, column, 1, width):
                                    sums[r] += factor * x[source + column * x_w + c * x_c]
                        u += w[MOVE]
                        at += w[EVERY] * w_w
                top += h[MOVE]
                source += h[MOVE] * x_h
                factors += h[EVERY] * w_h
            for r in range(RUN):
                if r < end:
                    y[result] = finish(sums[r], bias, biased, o, T(slope))
                result += phases_w * outputs * groups
            i += step

    return run


@kernel(f"{GRADIENT}, parts: int, share: int", registers=128, T=FLOATS)
def weight_grad(T):
    """d (outputs, taps, channels) = conv2d_weight_grad(x, grad) in `parts` of `share` pixels.

    A block has LANES channels, COLUMNS (tap, channel) and one part of the pixels.
    """

    def run(
        d, x, grad, batch, height, width, channels, out_height, out_width, outputs, groups,
        taps_h, taps_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w,
        x_n, x_h, x_w, x_c, g_n, g_h, g_w, g_c, parts, share,
    ):  # fmt: skip
        shared = cuda.shared.array(SUMS, T)
        columns = cuda.shared.array((3, COLUMNS), int32)
        sums = cuda.local.array(COLUMNS, T)
        t = int64(cuda.threadIdx.x)
        lane, line = t % LANES, t // LANES
        all_outputs, size = outputs * groups, taps_h * taps_w * channels
        chunk, piece = split(int64(cuda.blockIdx.x), divide(size + COLUMNS - 1, COLUMNS))
        part, first = int64(cuda.blockIdx.y), chunk * COLUMNS
        if t < COLUMNS:  # what the taps add to a pixel's place and coordinates
            a, b, c = tap(min(first + t, size - 1), taps_w, channels)
            a, b = a * dilation_h, b * dilation_w
            columns[0, t], columns[1, t], columns[2, t] = a * x_h + b * x_w + c * x_c, a, b
        for j in range(COLUMNS):
            sums[j] = T(0)
        cuda.syncthreads()
        o = piece * LANES + lane
        if o < all_outputs:
            start = divide(o, outputs) * channels * x_c
            k = part * share + line
            last = min(part * share + share, batch * out_height * out_width)
            while k < last:
                n, v, u = pixel(k, out_height, out_width)
                factor = grad[n * g_n + v * g_h + u * g_w + o * g_c]
                v, u = v * stride_h - padding_h, u * stride_w - padding_w
                at = start + n * x_n + v * x_h + u * x_w
                for j in range(COLUMNS):
                    top, left = v + columns[1, j], u + columns[2, j]
                    if inside(top, left, height, width):
                        sums[j] += factor * x[at + columns[0, j]]
                k += LINES
        for j in range(COLUMNS):
            shared[(line * COLUMNS + j) * LANES + lane] = sums[j]
        cuda.syncthreads()
        # Now a thread has a sum or two to end, over the lines in their order.
        while t < COLUMNS * LANES:
            j, lane = t // LANES, t % LANES
            o = piece * LANES + lane
            if o < all_outputs and first + j < size:
                total = shared[j * LANES + lane]
                for line in range(1, LINES):
                    total += shared[(line * COLUMNS + j) * LANES + lane]
                d[(part * all_outputs + o) * size + first + j] = total
            t += int64(cuda.blockDim.x)

    return run
