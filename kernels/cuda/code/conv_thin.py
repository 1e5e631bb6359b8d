"""Convolutions to at most four channels, such as those that make pictures: dot products.

A tile of a matrix with so few columns would load much more than it multiplies. Here a team of TEAM
threads has ROWS pixels of the result, and each thread every TEAM-th four of the channels that they
read, 16 bytes a load: a team reads whole lines of memory, and nothing of the image goes through
shared memory. The weights do, as [step][channel of four][thread][output]: 16 bytes a load there,
too, from different banks. A step is one tap and CHANNELS channels.

For four channels of one pixel: a load of x, a load of weights for each channel (shared by ROWS
pixels), 16 multiply-adds. Bound by instructions: on sm_90, 171 for 64 multiply-adds.
"""

from __future__ import annotations

from .conv import (
    GATHER,
    TAPS,
    Gather,
    result_row,
    set_axes,
    source_row,
    source_step,
    split,
    weight_step,
)
from .gemm import PLACE, X, Y, finish, inside
from .intrinsics import read4
from .language import FLOATS, cuda, divide, int64, kernel, uint32
from .tiles import THIN_ROWS, THREADS, name_of

TEAM, OUTPUTS = 8, 4
CHANNELS = 4 * TEAM
TEAMS = THREADS // TEAM
STEPS = 32  # of which the weights are in shared memory at a time
ALL = STEPS * CHANNELS * OUTPUTS
LEFT = 3  # beside PLACE, Y and X: how many channels are left of a tap


@kernel(GATHER, registers=128, T=FLOATS)
def gather(T):
    """y = conv2d(x, weight) or conv_transpose2d(x, weight), one phase a row of the grid.

    There is one group; x is channels-last, its places multiples of 16 bytes.
    """
    ROWS = THIN_ROWS[name_of(T)]
    SUMS = ROWS * OUTPUTS

    def run(
        y, x, weight, bias, biased, slope, batch, height, width, channels, out_height, out_width,
        outputs, groups, taps_h, taps_w, stride_h, stride_w, padding_h, padding_w,
        dilation_h, dilation_w, x_n, x_h, x_w, x_c, transposed,
        common_h, common_w, inverse_h, inverse_w, w_o, w_c, w_h, w_w, w_g,
    ):  # fmt: skip
        h = cuda.shared.array(9, int64)
        w = cuda.shared.array(9, int64)
        weights = cuda.shared.array(ALL, T, alignment=16)
        steps = cuda.shared.array((4, STEPS), int64)
        places = cuda.local.array((3, ROWS), int64)
        sums = cuda.local.array(SUMS, T)
        values = cuda.local.array(SUMS, T)
        t = int64(cuda.threadIdx.x) & (THREADS - 1)
        team, lane = t // TEAM, t % TEAM
        set_axes(
            h, w, int64(cuda.blockIdx.y), transposed, out_height, out_width, taps_h, taps_w,
            stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, common_h, common_w,
            inverse_h, inverse_w,
        )  # fmt: skip
        cuda.syncthreads()
        g = Gather(
            h, w, int64(0), batch, channels, outputs, x_n, x_h, x_w, x_c, w_o, w_c, w_h, w_w, w_g,
            out_height * out_width * outputs, out_width * outputs, outputs,
        )  # fmt: skip
        top = int64(cuda.blockIdx.x) * TEAMS * ROWS + team
        for r in range(ROWS):
            places[PLACE, r], places[Y, r], places[X, r] = source_row(g, top + r * TEAMS)
        for i in range(SUMS):
            sums[i] = T(0)
        pieces = divide(channels + CHANNELS - 1, CHANNELS)  # of a tap, a step each
        first, last = int64(0), h[TAPS] * w[TAPS] * pieces
        while first < last:
            cuda.syncthreads()
            if t < STEPS and first + t < last:
                piece, index = split(first + t, pieces)
                k = index * channels + piece * CHANNELS
                steps[PLACE, t], steps[Y, t], steps[X, t] = source_step(g, k)
                steps[LEFT, t] = channels - piece * CHANNELS
            i = t
            while i < ALL:  # [step][channel of four][thread][output]
                o, rest = i % OUTPUTS, i // OUTPUTS
                c, rest = rest % TEAM * 4 + rest // TEAM % 4, rest // CHANNELS
                piece, index = split(first + rest, pieces)
                c += piece * CHANNELS
                value = T(0)
                if first + rest < last and c < channels and o < outputs:
                    value = weight[weight_step(g, index * channels + c)[0] + o * w_o]
                weights[uint32(i)] = value
                i += THREADS
            cuda.syncthreads()
            for s in range(min(last - first, STEPS)):
                at = steps[PLACE, s] + 4 * lane
                for r in range(ROWS):
                    v, u = places[Y, r] + steps[Y, s], places[X, r] + steps[X, s]
                    four = T(0), T(0), T(0), T(0)
                    if inside(v, u, height, width) and 4 * lane < steps[LEFT, s]:
                        four = read4(x, places[PLACE, r] + at)
                    for j in range(4):
                        values[4 * r + j] = four[j]
                for j in range(4):
                    w0, w1, w2, w3 = read4(weights, ((s * 4 + j) * TEAM + lane) * OUTPUTS)
                    for r in range(ROWS):
                        value = values[4 * r + j]
                        sums[4 * r] += value * w0
                        sums[4 * r + 1] += value * w1
                        sums[4 * r + 2] += value * w2
                        sums[4 * r + 3] += value * w3
            first += STEPS
        cuda.syncthreads()
        for i in range(SUMS):  # over the weights
            weights[uint32(i * THREADS + t)] = sums[i]
        cuda.syncthreads()
        while t < TEAMS * ROWS * OUTPUTS:  # each thread ends a sum or two, in the team's order
            o, row = t % OUTPUTS, t // OUTPUTS
            place = result_row(g, int64(cuda.blockIdx.x) * TEAMS * ROWS + row)
            if place >= 0 and o < outputs:
                at = (row // TEAMS * OUTPUTS + o) * THREADS + row % TEAMS * TEAM
                value = T(0)
                for i in range(TEAM):
                    value += weights[uint32(at + i)]
                y[place + o] = finish(value, bias, biased, o, T(slope))
            t += THREADS

    return run
