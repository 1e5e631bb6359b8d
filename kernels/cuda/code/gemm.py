"""The matrix product behind convolutions and linear layers, without tensor cores.

sum over k of A[i, k] B[k, j], where the operands need not lie in memory as matrices. All that is
asked of an operand is that the place of an element is a sum of what its row (of A, or column of
B) gives and what its step k gives: `place = rows[PLACE, i] + steps[PLACE, k]`. So are strided
matrices, and so are the patches of an image: there also the y of a pixel, rows[Y, i] + steps[Y, k],
and its x are such sums, and what falls outside of the image is zero. A block keeps these numbers
in tables in shared memory, those of its rows from the start and those of the steps one step ahead,
so that no thread divides in order to find an element.

A step is `depth` products a sum: every thread has its part of the next tiles of A and B on the way
from memory into registers while it adds outer products from this step's tiles, in shared memory, to
its sums; then it puts the next ones into the other half of shared memory. One barrier a step.

The bound is the rate of instructions: in the inner loop on sm_90, 128 of 145 are multiply-adds with
the large tile, 32 of 45 with the others (a 16-byte load from shared memory brings 4 factors), and a
step has 150 to 250 more for what is carried. Small products are bound by the latency of memory,
about half a microsecond a step, which is why their sums are cut into parts (gemm_plan.py).
"""

from __future__ import annotations

from typing import NamedTuple

from .elementwise import leaky_element
from .intrinsics import read4, write4
from .language import FLOATS, cuda, device, divide, inline, int64, kernel, uint32
from .tiles import THREADS, tile_of

PLACE, Y, X = 0, 1, 2  # the rows of a table
AWAY = -(1 << 30)  # a coordinate outside of every image, whatever is added to it


class Operand(NamedTuple):
    """How A or B is read: four neighbours at a time, along rows or along k."""

    along_rows: int
    vector: int  # they lie side by side, 16 bytes in step, and are there or missing together
    height: int  # of an image
    width: int


class Result(NamedTuple):
    """Where sums go, and what is done to them before."""

    columns: int
    start: int  # added to the place of every row
    vector: int  # rows begin at multiples of 16 bytes
    finished: int  # 0 for parts of sums
    biased: int
    bias_start: int
    slope: float


@inline
def thread():
    """The thread in its block; the mask tells compilers that it is small and not negative."""
    return int64(cuda.threadIdx.x) & (THREADS - 1)


@device
def absent():
    """What stands in tables for rows and steps beyond the last."""
    return int64(-1), int64(AWAY), int64(AWAY)


@inline
def inside(y, x, height, width):
    """Whether a pixel is one of the image; as unsigned numbers, negative ones are large."""
    return uint32(y) < uint32(height) and uint32(x) < uint32(width)


@device
def finish(value, bias, biased, j, slope):
    """A whole sum -> its bias added, and what is below 0 multiplied by the slope."""
    if biased:
        value += bias[j]
    return leaky_element(value, value, slope)


@inline
def element(p, place):
    return p[place]


PLAIN = element, read4  # how one element and four neighbours are read


def carrier(T, image, read, length, depth, pitch):
    """Two device functions that carry a tile: from memory to registers, on to shared memory."""
    read_one, read_four = read
    QUADS = length * depth // 4
    ROUNDS = -(-QUADS // THREADS)
    DOWN_QUADS, NEAR = length // 4, min(4, depth // 4)

    @inline
    def there(rows, steps, row, k, operand):
        """Whether an element is not the zero around an image, or beyond the last row or k."""
        row, k = uint32(row), uint32(k)  # unsigned: Numba looks for no negative index
        if image:
            y, x = rows[Y, row] + steps[Y, k], rows[X, row] + steps[X, k]
            return inside(y, x, operand.height, operand.width)
        return rows[PLACE, row] >= 0 and steps[PLACE, k] >= 0

    @inline
    def place(rows, steps, row, k):
        return rows[PLACE, uint32(row)] + steps[PLACE, uint32(k)]

    @inline
    def one(p, rows, steps, row, k, operand):
        if there(rows, steps, row, k, operand):
            return read_one(p, place(rows, steps, row, k))
        return T(0)

    @inline
    def spot(quad, along_rows):
        """(row, k) of the first of four neighbours.

        Along k, a warp has 64 bytes of each of 8 rows: with more of fewer rows, its stores to
        shared memory, at k * pitch + row, would meet in the same banks.
        """
        if along_rows:
            return quad % DOWN_QUADS * 4, quad // DOWN_QUADS
        rest = quad // NEAR
        return rest % length, (rest // length * NEAR + quad % NEAR) * 4

    @inline
    def pick_up(p, rows, steps, slot, operand, held):
        down, along = operand.along_rows, 1 - operand.along_rows
        for i in range(ROUNDS):
            quad = thread() + i * THREADS
            if quad < QUADS:
                row, k = spot(quad, operand.along_rows)
                k += slot
                if operand.vector:
                    values = T(0), T(0), T(0), T(0)
                    if there(rows, steps, row, k, operand):
                        values = read_four(p, place(rows, steps, row, k))
                else:
                    values = (
                        one(p, rows, steps, row, k, operand),
                        one(p, rows, steps, row + down, k + along, operand),
                        one(p, rows, steps, row + 2 * down, k + 2 * along, operand),
                        one(p, rows, steps, row + 3 * down, k + 3 * along, operand),
                    )
                held[4 * i], held[4 * i + 1], held[4 * i + 2], held[4 * i + 3] = values

    @inline
    def put_down(held, tiles, start, operand):
        for i in range(ROUNDS):
            quad = thread() + i * THREADS
            if quad < QUADS:
                row, k = spot(quad, operand.along_rows)
                at = start + k * pitch + row
                if operand.along_rows:
                    h = 4 * i
                    write4(tiles, at, held[h], held[h + 1], held[h + 2], held[h + 3])
                else:
                    for j in range(4):
                        tiles[uint32(at + j * pitch)] = held[4 * i + j]

    return pick_up, put_down


def taker(count, spread):
    """The device function that reads a thread's elements of a row of a tile."""

    @inline
    def take(tiles, at, part):
        if count == 1:
            part[0] = tiles[uint32(at)]
        else:
            for i in range(0, count, 4):
                part[i], part[i + 1], part[i + 2], part[i + 3] = read4(tiles, at + i // 4 * spread)

    return take


def product(
    T, name, row_a, step_a, row_b, step_b, row_out, image_a=False, image_b=False, read_a=PLAIN
):
    """The device function that makes one tile of a product.

    `row_a(g, i)`, `step_a(g, k)`, `row_b(g, j)` and `step_b(g, k)` give (place, y, x), of rows
    beyond the last one, too; `row_out(g, i)` gives the place of a row of the result, or -1.
    """
    tile = tile_of(T, name)
    ROWS, COLUMNS, DEPTH, DOWN, ACROSS = tile
    TEAMS, SUMS = tile.teams, DOWN * ACROSS
    TEAM = THREADS // TEAMS
    TEAM_COLUMNS = COLUMNS // ACROSS
    UNIT_A, UNIT_B = min(4, DOWN), min(4, ACROSS)  # of a thread's rows lie side by side
    SPREAD_A, SPREAD_B = UNIT_A * ROWS // DOWN, UNIT_B * TEAM_COLUMNS
    PITCH_A, PITCH_B = ROWS + 4, COLUMNS + 4
    START_B = 2 * DEPTH * PITCH_A
    STAGED = UNIT_A * ROWS // DOWN  # rows that go to the result at a time
    SHARED = max(START_B + 2 * DEPTH * PITCH_B, TEAMS * STAGED * COLUMNS)
    HELD_A, HELD_B = (4 * -(-n * DEPTH // 4 // THREADS) for n in (ROWS, COLUMNS))
    STEPS = 2 * DEPTH
    PART = DEPTH // TEAMS
    pick_up_a, put_down_a = carrier(T, image_a, read_a, ROWS, DEPTH, PITCH_A)
    pick_up_b, put_down_b = carrier(T, image_b, PLAIN, COLUMNS, DEPTH, PITCH_B)

    take_a, take_b = taker(DOWN, SPREAD_A), taker(ACROSS, SPREAD_B)

    @inline
    def add_outer(tiles, at_a, at_b, sums):
        """A thread's rows of a column of A times its columns of a row of B."""
        part_a = cuda.local.array(DOWN, T)
        part_b = cuda.local.array(ACROSS, T)
        take_a(tiles, at_a, part_a)
        take_b(tiles, at_b, part_b)
        for i in range(DOWN):
            for j in range(ACROSS):
                sums[i * ACROSS + j] += part_a[i] * part_b[j]

    @device
    def note(table, at, entry):
        table[PLACE, at], table[Y, at], table[X, at] = entry

    @device
    def note_steps(g, steps_a, steps_b, slot, k, last):
        """Fill half of the tables of steps, from step k on."""
        t = thread()
        if t < DEPTH:
            note(steps_a, slot + t, step_a(g, k + t) if k + t < last else absent())
        elif t < 2 * DEPTH:
            k += t - DEPTH
            note(steps_b, slot + t - DEPTH, step_b(g, k) if k < last else absent())

    @inline
    def put_out(y, bias, g, result, sums, tiles, first, top, left):
        """Rows first .. first + UNIT_A of each thread's sums: to shared memory, on to the result.

        There, all threads add up what the teams have, in their order, and store whole rows.
        """
        t = thread()
        team, member = t // TEAM, t % TEAM
        down, across = member // TEAM_COLUMNS * UNIT_A, member % TEAM_COLUMNS * UNIT_B
        for i in range(UNIT_A):
            at = (team * STAGED + down + i) * COLUMNS + across
            for j in range(ACROSS):
                tiles[uint32(at + j // 4 * SPREAD_B + j % 4)] = sums[(first + i) * ACROSS + j]
        cuda.syncthreads()
        slope = T(result.slope)
        quad = t
        while quad < STAGED * COLUMNS // 4:
            row, column = quad // (COLUMNS // 4), quad % (COLUMNS // 4) * 4
            place = row_out(g, top + first // 4 * SPREAD_A + row)
            at = row * COLUMNS + column
            v0, v1, v2, v3 = read4(tiles, at)
            for _ in range(TEAMS - 1):
                at += STAGED * COLUMNS
                w0, w1, w2, w3 = read4(tiles, at)
                v0, v1, v2, v3 = v0 + w0, v1 + w1, v2 + w2, v3 + w3
            column += left
            some = result.columns - column  # of the four, how many there are
            if place >= 0 and some > 0:
                if result.finished:
                    at = result.bias_start + column
                    v0 = finish(v0, bias, result.biased, at, slope)
                    v1 = finish(v1, bias, result.biased and some > 1, at + 1, slope)
                    v2 = finish(v2, bias, result.biased and some > 2, at + 2, slope)
                    v3 = finish(v3, bias, result.biased and some > 3, at + 3, slope)
                place += result.start + column
                if result.vector:
                    write4(y, place, v0, v1, v2, v3)
                else:
                    y[place] = v0
                    if some > 1:
                        y[place + 1] = v1
                    if some > 2:
                        y[place + 2] = v2
                    if some > 3:
                        y[place + 3] = v3
            quad += THREADS

    @inline
    def run(y, a, b, bias, g, as_a, as_b, result, top, left, first, last):
        """Rows top.. and columns left.. of the sums over k in first..last."""
        tiles = cuda.shared.array(SHARED, T, alignment=16)
        rows_a = cuda.shared.array((3, ROWS), int64)
        rows_b = cuda.shared.array((3, COLUMNS), int64)
        steps_a = cuda.shared.array((3, STEPS), int64)
        steps_b = cuda.shared.array((3, STEPS), int64)
        held_a = cuda.local.array(HELD_A, T)
        held_b = cuda.local.array(HELD_B, T)
        sums = cuda.local.array(SUMS, T)
        t = thread()
        team, member = t // TEAM, t % TEAM
        down, across = member // TEAM_COLUMNS * UNIT_A, member % TEAM_COLUMNS * UNIT_B
        if t < ROWS:
            note(rows_a, t, row_a(g, top + t))
        if t < COLUMNS:
            note(rows_b, t, row_b(g, left + t))
        note_steps(g, steps_a, steps_b, 0, first, last)
        note_steps(g, steps_a, steps_b, DEPTH, first + DEPTH, last)
        for i in range(SUMS):
            sums[i] = T(0)
        cuda.syncthreads()
        pick_up_a(a, rows_a, steps_a, 0, as_a, held_a)
        pick_up_b(b, rows_b, steps_b, 0, as_b, held_b)
        put_down_a(held_a, tiles, 0, as_a)
        put_down_b(held_b, tiles, START_B, as_b)
        cuda.syncthreads()
        k, half = first, int64(0)
        while k < last:
            other = 1 - half
            pick_up_a(a, rows_a, steps_a, other * DEPTH, as_a, held_a)
            pick_up_b(b, rows_b, steps_b, other * DEPTH, as_b, held_b)
            at_a = (half * DEPTH + team * PART) * PITCH_A + down
            at_b = START_B + (half * DEPTH + team * PART) * PITCH_B + across
            for _ in range(PART // 2):  # two at a time: loads of one beside sums of the other
                add_outer(tiles, at_a, at_b, sums)
                add_outer(tiles, at_a + PITCH_A, at_b + PITCH_B, sums)
                at_a += 2 * PITCH_A
                at_b += 2 * PITCH_B
            k += DEPTH
            note_steps(g, steps_a, steps_b, half * DEPTH, k + DEPTH, last)
            put_down_a(held_a, tiles, other * DEPTH * PITCH_A, as_a)
            put_down_b(held_b, tiles, START_B + other * DEPTH * PITCH_B, as_b)
            half = other
            cuda.syncthreads()
        put_out(y, bias, g, result, sums, tiles, 0, top, left)
        if DOWN > 4:
            cuda.syncthreads()
            put_out(y, bias, g, result, sums, tiles, 4, top, left)

    return run


@kernel("y: T*, parts: T*, bias: T*, biased: int, channels: int, slope: float, count: int, n: int",
        T=FLOATS)  # fmt: skip
def add_parts(T):
    """y[i] = the sum of parts[0, i], parts[1, i], ..., finished; channels are last in memory."""

    def run(y, parts, bias, biased, channels, slope, count, n):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i < n:
            value, at, left = parts[i], i + n, count - 1
            while left >= 4:  # four loads under way
                p0, p1, p2, p3 = parts[at], parts[at + n], parts[at + 2 * n], parts[at + 3 * n]
                value = value + p0 + p1 + p2 + p3
                at += 4 * n
                left -= 4
            while left > 0:
                value += parts[at]
                at += n
                left -= 1
            y[i] = finish(value, bias, biased, i - divide(i, channels) * channels, T(slope))
            i += step

    return run
