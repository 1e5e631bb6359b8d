"""A tile of a matrix product on tensor cores: a ring of slices in shared memory, sums in registers.

sums[row, column] += A[row, k] B[k, column]: a block has a tile of sums, each of its warps a square
of it. Slices of `depth` k travel through a ring of `stages` in shared memory: while one is
multiplied, the next ones are on their way. Factors are rounded to TF32 (10 bits after the point,
to nearest), as cuDNN does for PyTorch; products and sums are float32. The error of a result is
about 4e-4 of the root of the sum of its squared products.

Shared memory. A factor whose neighbours in memory are neighbours in k lies as [row][depth], its
16-byte chunks permuted by `swizzle`, and is read by ldmatrix. One whose neighbours are rows (or
columns) lies as [depth][row], padded by 8, and is read by pairs of rows (by columns), straight
into the registers that mma takes. Neither has conflicts between banks.

The limits on an H200, of a warp that multiplies a slice of 16 with 64 x 64 sums, eight of which
share a multiprocessor: tensor cores need 256 cycles for two of them at the datasheet's rate, about
410 at the 0.6 of it that mma.sync is known to reach (300 TFLOP/s). The warp issues some 360
instructions: 64 mma, 8 ldmatrix for each factor (or 16 loads of A, 32 of B), 64 roundings by two
instructions, 8 copies. Shared memory takes 16 KB for 524288 operations and gives 32 KB, 384 cycles
of 128 bytes. L2 gives 16 KB to large tiles, 12 KB to huge ones: its 5.5 TB/s or so are 180 and 240
TFLOP/s.
"""

from __future__ import annotations

from .elementwise import leaky_element
from .intrinsics import (
    commit_copies,
    load,
    load2,
    load_matrices,
    multiply_add,
    store2,
    tf32,
    wait_for_all_but,
)
from .language import cuda, float32, inline, int32, int64, uint32
from .tensor_sizes import PAD, TILES


def unrolled(make, count):
    """A device function that runs make(0), make(1), ... make(count - 1).

    Arrays stay in registers where they are indexed by constants alone. LLVM unrolls loops of a few
    lines by itself; what is longer is unrolled here.
    """
    first = make(count - 1)
    for i in range(count - 2, -1, -1):
        first = _both(make(i), first)
    return first


def _both(first, second):
    @inline
    def both(*args):
        first(*args)
        second(*args)

    return both


@inline
def next_slice(channel, tap_w, tap_h, depth, channels, taps_w):
    """The channel and tap that come `depth` numbers later."""
    channel = int32(channel + depth)
    while channel >= channels:
        channel = int32(channel - channels)
        tap_w = int32(tap_w + 1)
        if tap_w == taps_w:
            tap_w = int32(0)
            tap_h = int32(tap_h + 1)
    return channel, tap_w, tap_h


@inline
def inside(i, size):
    """0 <= i < size."""
    return uint32(i) < uint32(size)


def swizzler(DEPTH):
    """The permutation of the 16-byte chunks of rows of DEPTH numbers in shared memory."""
    CHUNKS, ROWS = DEPTH // 4, 32 // DEPTH  # ROWS share the 32 banks

    @inline
    def swizzle(row, chunk):
        return row * DEPTH + ((chunk ^ (row // ROWS % CHUNKS)) * 4)

    return swizzle


def multiplier(TILE, A_BY_K, B_BY_K):
    """The device function that multiplies one slice."""
    tile = TILES[TILE]
    ROWS, COLUMNS = tile.side // 16, tile.side // 8  # of 16 x 8 sums of a warp
    LEFT, RIGHT = ROWS * 4, COLUMNS * 2
    A_ACROSS, B_ACROSS = tile.rows + PAD, tile.columns + PAD
    swizzle = swizzler(tile.depth)

    def eighth(step):
        @inline
        def multiply(sums, shared, a, b, lane, row, column):
            """sums += A B from `row` and `column` on; A lies from shared[a] on, B from b."""
            g, t = lane // 4, lane % 4
            left = cuda.local.array(LEFT, float32)
            right = cuda.local.array(RIGHT, float32)
            if A_BY_K:
                for i in range(ROWS):
                    at = swizzle(row + 16 * i + lane % 16, 2 * step + lane // 16)
                    four = load_matrices(shared, a + at)
                    for e in range(4):
                        left[4 * i + e] = tf32(four[e])
            else:  # rows 2 g and 2 g + 1 instead of g and g + 8
                for i in range(ROWS):
                    for half in range(2):
                        at = (8 * step + 4 * half + t) * A_ACROSS + row + 16 * i + 2 * g
                        two = load2(shared, a + at)
                        left[4 * i + 2 * half] = tf32(two[0])
                        left[4 * i + 2 * half + 1] = tf32(two[1])
            if B_BY_K:
                for j in range(COLUMNS // 2):
                    at = swizzle(
                        column + 16 * j + lane // 16 * 8 + lane % 8, 2 * step + lane // 8 % 2
                    )
                    four = load_matrices(shared, b + at)
                    for e in range(4):
                        right[4 * j + e] = tf32(four[e])
            else:
                for j in range(COLUMNS):
                    for half in range(2):
                        at = (8 * step + 4 * half + t) * B_ACROSS + column + 8 * j + g
                        right[2 * j + half] = tf32(load(shared, b + at))
            for i in range(ROWS):
                for j in range(COLUMNS):
                    s = 4 * (i * COLUMNS + j)
                    c0, c1, c2, c3 = multiply_add(
                        left[4 * i], left[4 * i + 1], left[4 * i + 2], left[4 * i + 3],
                        right[2 * j], right[2 * j + 1],
                        sums[s], sums[s + 1], sums[s + 2], sums[s + 3],
                    )  # fmt: skip
                    sums[s], sums[s + 1], sums[s + 2], sums[s + 3] = c0, c1, c2, c3

        return multiply

    return unrolled(eighth, tile.depth // 8)


def starter(TILE):
    """The device function that makes the first sums: zeros, or a bias."""
    ROWS, COLUMNS = TILES[TILE].side // 16, TILES[TILE].side // 8

    @inline
    def start_sums(sums, column, columns, bias, biased):
        for j in range(COLUMNS):
            for side in range(2):
                at = column + 8 * j + side
                value = float32(0)
                if biased and at < columns:
                    value = bias[at]
                for i in range(ROWS):
                    sums[4 * (i * COLUMNS + j) + side] = value
                    sums[4 * (i * COLUMNS + j) + side + 2] = value

    return start_sums


def row_writer(TILE, i, half):
    """The device function that stores one of the rows of which a thread has sums."""
    COLUMNS = TILES[TILE].side // 8
    FIRST = 4 * i * COLUMNS + 2 * half

    @inline
    def write_row(y, place, sums, column, columns, slope):
        """y[place + column : ...] = what is left of y's `columns`."""
        for j in range(COLUMNS):
            low, high = sums[FIRST + 4 * j], sums[FIRST + 4 * j + 1]
            if column + 8 * j < columns:
                store2(
                    y, place + column + 8 * j,
                    leaky_element(low, low, slope), leaky_element(high, high, slope),
                )  # fmt: skip

    return write_row


def pipeline(TILE, A_BY_K, B_BY_K, load):
    """The device function that adds up all slices.

    `load(shared, at, constants, state)` starts this thread's copies of a slice to shared[at] on,
    and returns the state for the next slice.
    """
    tile = TILES[TILE]
    A_SIZE = tile.a_size(A_BY_K)
    SLICE = A_SIZE + tile.b_size(B_BY_K)
    AHEAD, PENDING = tile.stages - 1, tile.stages - 2
    LAST = AHEAD * SLICE
    multiply = multiplier(TILE, A_BY_K, B_BY_K)

    @inline
    def run(sums, slices, constants, state, lane, row, column):
        shared = cuda.shared.array(0, float32, 16)
        fill, drain, step = int32(0), int32(0), int64(0)
        while step < slices + AHEAD:
            if step >= AHEAD:  # slice step - AHEAD is there, and all have read the one before it
                wait_for_all_but(PENDING)
                cuda.syncthreads()
            if step < slices:
                state = load(shared, fill, constants, state)
                fill = int32(fill + SLICE) if fill < LAST else int32(0)
            commit_copies()
            if step >= AHEAD:
                multiply(sums, shared, drain, int32(drain + A_SIZE), lane, row, column)
                drain = int32(drain + SLICE) if drain < LAST else int32(0)
            step += 1

    return run
