"""All gradients of a linear layer in one launch.

With g the gradient before the activation, grad * (1 or slope): dx = g @ weight, dweight = g.T @ x,
and dbias, the sums of g's columns. g is made as grad is read and never stored. Blocks of three
kinds share the launch, since at the sizes of such layers one kind alone would leave most of a GPU
idle. Bound by the latency of memory: a block has 8 to 16 steps at most.
"""

from __future__ import annotations

from .elementwise import leaky_element
from .gemm import Operand, Result, product
from .intrinsics import read4
from .language import FLOATS, cuda, divide, inline, int64, kernel
from .matmul import Matrices, a_row, a_step, b_row, b_step, y_row
from .tiles import THREADS, tile_of

LANES = 32
LINES = THREADS // LANES


@inline
def read_one(source, place):
    grad, y, slope = source
    return leaky_element(y[place], grad[place], slope)


@inline
def read_four(source, place):
    grad, y, slope = source
    g0, g1, g2, g3 = read4(grad, place)
    y0, y1, y2, y3 = read4(y, place)
    return (
        leaky_element(y0, g0, slope),
        leaky_element(y1, g1, slope),
        leaky_element(y2, g2, slope),
        leaky_element(y3, g3, slope),
    )


@kernel(
    "dx: T*, dweight: T*, dbias: T*, grad: T*, y: T*, x: T*, weight: T*, slope: float,"
    "m: int, outputs: int, inputs: int, dx_blocks: int, parts: int, share: int,"
    "dweight_blocks: int, grad_vector: int, vector: int",
    registers=128,
    T=FLOATS,
)
def grads(T):
    """dx (`parts` of sums over outputs), dweight and dbias, of grad and y (m, outputs).

    Where slope is 1, y may be any numbers. The grid: parts times dx_blocks, dweight_blocks, and for
    dbias one block for LANES outputs; any of them may be none. All matrices are C-contiguous.
    """
    tile = tile_of(T, "small")
    ROWS, COLUMNS = tile.rows, tile.columns
    read = read_one, read_four
    make = product(T, "small", a_row, a_step, b_row, b_step, y_row, read_a=read)

    def run(
        dx, dweight, dbias, grad, y, x, weight, slope, m, outputs, inputs, dx_blocks, parts, share,
        dweight_blocks, grad_vector, vector,
    ):  # fmt: skip
        lines = cuda.shared.array(THREADS, T)
        source = (grad, y, T(slope))
        block, zero = int64(cuda.blockIdx.x), int64(0)
        first = dx_blocks * parts
        if block < first + dweight_blocks:
            if block < first:
                part = divide(block, dx_blocks)
                block -= part * dx_blocks
                rows, a_m, a_k = m, outputs, int64(1)
                start, last = part * share, min(outputs, part * share + share)
                result, place, other = dx, part * m * inputs, weight
            else:
                block -= first
                rows, a_m, a_k = outputs, int64(1), outputs
                start, last = zero, m
                result, place, other = dweight, zero, x
            column = divide(block, divide(rows + ROWS - 1, ROWS))
            row = block - column * divide(rows + ROWS - 1, ROWS)
            g = Matrices(rows, inputs, zero, a_m, a_k, zero, inputs, int64(1))
            make(
                result, source, other, dbias, g,
                Operand(int64(a_m == 1), grad_vector, zero, zero),
                Operand(int64(1), vector, zero, zero),
                Result(inputs, place, inputs % 4 == 0, False, zero, zero, 1.0),
                row * ROWS, column * COLUMNS, start, last,
            )  # fmt: skip
        else:
            lane, line = int64(cuda.threadIdx.x) % LANES, int64(cuda.threadIdx.x) // LANES
            o = (block - first - dweight_blocks) * LANES + lane
            total = T(0)
            row = line
            while row < m and o < outputs:
                total += read_one(source, row * outputs + o)
                row += LINES
            lines[line * LANES + lane] = total
            cuda.syncthreads()
            if line == 0 and o < outputs:
                for other_line in range(1, LINES):
                    total += lines[other_line * LANES + lane]
                dbias[o] = total

    return run
