"""What threads do together: sums of a warp, of a block, and of the columns of a tile; loads.

A matrix (rows, channels), channels fastest, is summed by columns in tiles: a block of 256 threads
takes `fold` rows of `width` columns a time, so that it reads one run of memory even where there
are few channels, over one of `chunks` parts of the rows. `outer` matrices may lie one after
another. Thread t is in column t % width and takes every fold-th row from row t // width on.
"""

from __future__ import annotations

from .language import cuda, device, divide, int32, int64
from .loads import RUN

ALL = 0xFFFFFFFF  # lanes of a warp
TILE = "rows: int, channels: int, width: int, fold: int, per: int, tiles: int, chunks: int"


@device
def lanes_sum(value, lanes):
    """The sum over each team of `lanes` (a power of two) neighbours of a warp, in all of them."""
    half = lanes >> 1
    while half > 0:
        value += cuda.shfl_xor_sync(ALL, value, int32(half))
        half >>= 1
    return value


@device
def lanes_max(value, lanes):
    """The largest of each team of `lanes` neighbours of a warp; NaN is passed over."""
    half = lanes >> 1
    while half > 0:
        other = cuda.shfl_xor_sync(ALL, value, int32(half))
        value = other if other > value else value
        half >>= 1
    return value


@device
def block_sum(value, shared):
    """The sum over a block of whole warps, in every thread; `shared` has a place for each warp."""
    value = lanes_sum(value, 32)
    if cuda.threadIdx.x % 32 == 0:
        shared[cuda.threadIdx.x // 32] = value
    cuda.syncthreads()
    total = shared[0]
    for warp in range(1, cuda.blockDim.x // 32):
        total += shared[warp]
    cuda.syncthreads()  # before `shared` is written anew
    return total


@device
def block_max(value, shared):
    """The largest of a block of whole warps, in every thread."""
    value = lanes_max(value, 32)
    if cuda.threadIdx.x % 32 == 0:
        shared[cuda.threadIdx.x // 32] = value
    cuda.syncthreads()
    top = shared[0]
    for warp in range(1, cuda.blockDim.x // 32):
        top = shared[warp] if shared[warp] > top else top
    cuda.syncthreads()
    return top


@device
def share(length, thread, threads):
    """How many of `length` numbers one of some threads takes, every threads-th from its own on."""
    return divide(length - thread + threads - 1, threads) if thread < length else int64(0)


@device
def tile_place(rows, channels, width, fold, per, tiles, chunks):
    """This thread's first element, how many rows it takes, its matrix, chunk and column.

    A thread without a column takes no rows, and is told column 0.
    """
    item, thread = int64(cuda.blockIdx.x), int64(cuda.threadIdx.x)
    rest = divide(item, tiles)
    outer = divide(rest, chunks)
    chunk, lane = rest - outer * chunks, divide(thread, width)
    column = (item - rest * tiles) * width + thread - lane * width
    first, last = chunk * per, min(chunk * per + per, rows)
    count = int64(0)
    if lane < fold and column < channels:
        count = share(last - first, lane, fold)
    column = column if column < channels else int64(0)
    return (outer * rows + first + lane) * channels + column, count, outer, chunk, column


@device
def tile_sum(shared, width, fold):
    """shared[t], t < width, becomes the sum of column t of what `shared` holds, (fold, width)."""
    thread = int64(cuda.threadIdx.x)
    while fold > 1:
        half = (fold + 1) >> 1
        cuda.syncthreads()
        if thread < (fold - half) * width:
            shared[thread] += shared[thread + half * width]
        fold = half


@device
def lanes_place(lanes):
    """A warp's first row, this thread's row and its place in it, and how many rows are striden

    over at a time, where `lanes` neighbours of a warp take a row.
    """
    i = cuda.grid(1)
    row = divide(i, lanes)
    first = row - divide(int64(cuda.threadIdx.x) & 31, lanes)
    return first, row, i & (lanes - 1), divide(cuda.gridsize(1), lanes), lanes


@device
def span(n):
    """The first of the RUN elements, 256 apart, that this thread takes of n, and their count."""
    i = int64(cuda.blockIdx.x) * (RUN * 256) + cuda.threadIdx.x
    return i, (min(n - i, RUN * 256) + 255) >> 8 if i < n else int64(0)


@device
def load(values, x, at, step, count):
    """values[u] = x[at + u step] for all u; beyond `count`, which is not 0, the last one again.

    Without a branch all loads are under way before the first value is needed.
    """
    for u in range(values.shape[0]):
        values[u] = x[at]
        at += step if u + 1 < count else 0


@device
def store(y, values, at, step, count):
    """y[at + u step] = values[u] for u below `count`; most threads store all."""
    if count >= values.shape[0]:
        for u in range(values.shape[0]):
            y[at] = values[u]
            at += step
    else:
        for u in range(values.shape[0]):
            if u < count:
                y[at] = values[u]
            at += step


@device
def tree(v):
    """The sum of RUN values."""
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]))


@device
def tree4(v):
    """The sum of FEW values."""
    return (v[0] + v[1]) + (v[2] + v[3])
