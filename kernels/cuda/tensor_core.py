"""Convolutions and matrix products on tensor cores, in TF32: where shapes suit them, else None.

What has None for an answer here the float32 kernels of `conv` and `matmul` do. Factors are rounded
to 10 bits after the point, sums are float32: what cuDNN does with PyTorch's convolutions unless it
is told otherwise. The results of one shape are the same bits on every run and every GPU.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from .arrays import channels_last, empty, empty_images
from .code.tensor_sizes import GATHER, TILES, WEIGHT_GRAD, Tile
from .conv_plan import phases_of
from .gemm_plan import add_parts, is_aligned
from .launch import launch

Pair = tuple[int, int]

MULTIPROCESSORS = 132  # of an H200: grids are made for it
# Of a tile: blocks that share a multiprocessor, and multiply-adds a second of it when it is full.
FULL = {
    "huge": (1, 0.9e12), "tall": (1, 0.85e12), "large": (2, 1e12), "narrow": (2, 1e12),
    "flat": (2, 1e12), "small": (4, 0.6e12),
}  # fmt: skip
L2, MEMORY = 5e12, 4e12  # bytes a second
LAUNCH = 3e-6  # seconds
MOST_PHASES = 512  # times 64 parts of a sum: the third number of a grid ends at 65535
LIMIT = 1 << 31  # elements of an array
LEAST, SMALLEST = 16, 1 << 18  # outputs and depth, and multiply-adds in all, that are worth it
ONE, NONE = (1, 1), (0, 0)


class Run(NamedTuple):
    """How a product is cut: by which tile, its grid, into how many parts sums are; the numbers."""

    tile: str
    blocks: tuple[int, int, int]
    parts: int
    numbers: tuple[int, ...]


def conv2d(
    x: Any,
    weight: Any,
    bias: Any | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    slope: float = 1.0,
) -> Any:
    """Cross-correlate x (N, C, H, W) with weight (O, C, kh, kw) -> (N, O, OH, OW), or None.

    Sums below 0 are multiplied by `slope`.
    """
    n, _, height, width = x.shape
    o, _, kh, kw = weight.shape
    oh = (height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    run = _suiting(x, weight, groups) and gather_run(
        x.shape, weight.shape, (oh, ow), stride, padding, dilation, "conv"
    )
    if not run:
        return None
    y = empty_images(n, o, oh, ow, x.dtype)
    _gather(run, "conv", y, _images(x), _images(weight), bias, slope)
    return y


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any | None,
    output_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    slope: float = 1.0,
) -> Any:
    """Spread x (N, I, H, W) over weight (I, O, kh, kw) -> (N, O, *output_size), or None.

    `slope` as in conv2d.
    """
    run = _suiting(x, weight, groups) and gather_run(
        x.shape, weight.shape, output_size, stride, padding, dilation, "transposed"
    )
    if not run:
        return None
    y = empty_images(len(x), weight.shape[1], *output_size, x.dtype)
    _gather(run, "transposed", y, _images(x), _images(weight), bias, slope)
    return y


def conv2d_weight_grad(
    x: Any,
    grad: Any,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Any:
    """The gradient of sum(grad * conv2d(x, weight)) in weight -> (O, C, kh, kw), or None."""
    run = _suiting(x, grad, groups) and weight_grad_run(
        x.shape, grad.shape, kernel_size, stride, padding, dilation
    )
    if not run:
        return None
    result = empty_images(grad.shape[1], x.shape[1], *kernel_size, x.dtype)
    _weight_grad(run, result, _images(x), _images(grad))
    return result


def matmul2d(a: Any, b: Any, bias: Any | None = None, slope: float = 1.0) -> Any:
    """a (M, K) @ b (K, N) + bias (N,), what is below 0 times `slope` -> (M, N), or None.

    Matrices as rows or as columns side by side in memory, but not both by columns; a by columns
    with neither bias nor slope.
    """
    (m, k), n, kind = a.shape, b.shape[1], None
    if a.flags.c_contiguous:
        kind = "conv" if b.T.flags.c_contiguous else "transposed" if b.flags.c_contiguous else None
    elif a.T.flags.c_contiguous and b.flags.c_contiguous and bias is None and slope == 1:
        kind = "weight_grad"
    if kind is None or not _suiting(a, b, 1):
        return None
    if kind == "weight_grad":  # k pixels
        run = weight_grad_run((1, n, 1, k), (1, m, 1, k), ONE, ONE, NONE, ONE)
    else:  # m pixels
        shape = (n, k, 1, 1) if kind == "conv" else (k, n, 1, 1)
        run = gather_run((1, k, 1, m), shape, (1, m), ONE, NONE, ONE, kind)
    if run is None:
        return None
    y = empty((m, n), a.dtype)
    a, b = (each if is_aligned(each) else each.copy(order="K") for each in (a, b))
    if kind == "weight_grad":
        _weight_grad(run, y, b, a)
    else:
        _gather(run, kind, y, a, b, bias, slope)
    return y


def _gather(run, kind, y, x, weight, bias, slope):
    tile, whole = TILES[run.tile], run.parts == 1
    sums = y if whole else empty((run.parts, y.size), y.dtype)
    biased = bias is not None and whole
    launch(
        "tensor_core.gather", run.blocks, tile.threads, sums, x, weight, bias if biased else None,
        int(biased), float(slope) if whole else 1.0, *run.numbers,
        shared=tile.shared(True, kind == "conv"), TILE=run.tile, KIND=kind,
    )  # fmt: skip
    if not whole:
        add_parts(y, sums, bias, slope, "float32")


def _weight_grad(run, result, x, grad):
    tile = TILES[run.tile]
    sums = result if run.parts == 1 else empty((run.parts, result.size), result.dtype)
    launch(
        "tensor_core.weight_grad", run.blocks, tile.threads, sums, x, grad, *run.numbers,
        shared=tile.shared(False, False), TILE=run.tile,
    )  # fmt: skip
    if run.parts > 1:
        add_parts(result, sums, None, 1.0, "float32")


@functools.lru_cache(maxsize=4096)
def gather_run(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], output_size: Pair, stride: Pair,
    padding: Pair, dilation: Pair, kind: str,
) -> Run | None:  # fmt: skip
    """conv2d or conv_transpose2d of x and a weight (w); None where it should be done otherwise."""
    (n, c, height, width), (kh, kw) = x_shape, w_shape[2:]
    transposed = kind == "transposed"
    o = w_shape[1] if transposed else w_shape[0]
    common, inverse, phases, rows, taps = phases_of(
        transposed, n, output_size, (kh, kw), stride, dilation
    )
    if not _pays(c, o, taps * c, rows) or phases > MOST_PHASES:
        return None
    name, parts = plan(GATHER, rows, o, taps * c, phases)
    blocks = (_tiles(TILES[name], rows, o), 1, phases * parts)
    geometry = (n, height, width, c, *output_size, o, kh, kw, *stride, *padding, *dilation)
    return Run(name, blocks, parts, (*map(int, (*geometry, *common, *inverse)), parts))


@functools.lru_cache(maxsize=4096)
def weight_grad_run(
    x_shape: tuple[int, ...], g_shape: tuple[int, ...], kernel_size: Pair, stride: Pair,
    padding: Pair, dilation: Pair,
) -> Run | None:  # fmt: skip
    """conv2d_weight_grad of x and a gradient (g); None where it should be done otherwise."""
    (n, c, height, width), (_, o, oh, ow) = x_shape, g_shape
    columns, pixels = math.prod(kernel_size) * c, n * oh * ow
    if not _pays(c, o, pixels, columns):
        return None
    name, parts = plan(WEIGHT_GRAD, o, columns, pixels, 1)
    geometry = (n, height, width, c, oh, ow, o, *kernel_size, *stride, *padding, *dilation)
    blocks = (_tiles(TILES[name], o, columns), 1, parts)
    return Run(name, blocks, parts, (*map(int, geometry), parts))


def _tiles(tile: Tile, rows: int, columns: int) -> int:
    return -(-rows // tile.rows) * -(-columns // tile.columns)


def plan(
    names: tuple[str, ...], rows: int, columns: int, depth: int, phases: int
) -> tuple[str, int]:
    """The tile, and how many blocks share the k of each tile, by an estimate of the time.

    The figures are estimates, too: no H200 was at hand when they were written.
    """
    best = (math.inf, names[-1], 1)
    for name in names:
        tile, (together, rate) = TILES[name], FULL[name]
        tiles, slices = _tiles(tile, rows, columns) * phases, -(-depth // tile.depth)
        for splits in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64):
            if splits > 1 and slices < 4 * splits:
                break
            # A multiprocessor's blocks share its speed; a lone one does not get all of it. The
            # ring takes two slices to fill.
            blocks, share = tiles * splits, (-(-slices // splits) + 2) * tile.depth
            busy = max(-(-blocks // MULTIPROCESSORS), (together + 1) / 2)
            seconds = busy * tile.rows * tile.columns * share / rate
            seconds = max(seconds, blocks * (tile.rows + tile.columns) * share * 4 / L2)
            if splits > 1:
                seconds += LAUNCH + 8 * splits * rows * columns * phases / MEMORY
            best = min(best, (seconds, name, splits))
    return best[1:]


def _pays(channels: int, outputs: int, depth: int, others: int) -> bool:
    """Whether tensor cores serve outputs x others sums of depth well: enough, by 16 bytes."""
    return (
        channels % 4 == outputs % 4 == 0
        and min(outputs, depth) >= LEAST
        and outputs * depth * others >= SMALLEST
    )


def _suiting(a: Any, b: Any, groups: int) -> bool:
    """Whether the operands can be served at all."""
    return a.dtype.char == b.dtype.char == "f" and groups == 1 and max(a.size, b.size) < LIMIT


def _images(x: Any) -> Any:
    """x itself if it lies channels-last at a multiple of 16 bytes, else a copy that does."""
    _, c, height, width = x.shape
    if x.strides == (4 * c * height * width, 4, 4 * c * width, 4 * c) and is_aligned(x):
        return x
    last = channels_last(x)
    return last if is_aligned(last) else last.copy()
