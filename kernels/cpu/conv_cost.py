"""Which algorithm a convolution's shape is served by: a count of vector instructions each.

The unit is one multiply-add of a whole vector, about an eighth of a nanosecond on a processor with
AVX-512. The constants were measured there, and only ratios matter: being a function of the shape
alone, the choice is the same in every run, on every day and with any number of threads.
"""

from __future__ import annotations

import functools

from .conv_plan import Problem
from .conv_runs import runs_cost, suits_runs
from .cook_toom import TILE
from .tile import TILE_ROWS
from .winograd import fits
from .winograd_plan import taps_of

LANES = 16  # vectors are counted in float32 with AVX-512; other ratios are much the same
# Multiply-adds as long as it takes to move and transform a vector, by points along an axis.
DATA = {5: 420.0, 6: 480.0}  # of a tile's input, or of its output gradient
OUTPUT = {5: 380.0, 6: 440.0}  # of a tile's products
FILTER = {5: 310.0, 6: 340.0}  # of a filter, or back to its gradient
DIRECT = 1.05  # time of the direct sum by its multiply-adds, weights and padding included
PRODUCT = 1.15  # the same of the products point by point
MOMENT = 1.3  # and of their sums over tiles, for weight gradients
PASSED_ON = 3.0  # a gradient's transforms go from thread to thread, through the shared cache
LEAST_CHANNELS = 12  # below, direct algorithms of their own serve better


@functools.lru_cache(maxsize=4096)
def winograd_pays(p: Problem, gradient: bool = False) -> bool:
    """Whether minimal filtering is faster than the direct sum (`gradient`: of the weights)."""
    if not fits(p) or min(p.channels, p.out_channels) < LEAST_CHANNELS:
        return False
    direct = direct_cost(p)
    if gradient and suits_runs(p):
        direct = min(direct, DIRECT * runs_cost(p))
    return winograd_cost(p, gradient) < direct


def direct_cost(p: Problem) -> float:
    """Multiply-adds of the direct sum over taps, in vectors."""
    taps = p.kernel_size[0] * p.kernel_size[1]
    if p.transposed:
        taps /= p.stride[0] * p.stride[1]
    pixels = p.batch * p.output_size[0] * p.output_size[1]
    return DIRECT * pixels * taps * (p.channels // p.groups) * _vectors(p.out_channels)


def winograd_cost(p: Problem, gradient: bool) -> float:
    """Products and transforms of minimal filtering, in vectors."""
    r = taps_of(p)
    m, n = TILE[r], TILE[r] + r - 1
    points = phases = 1.0
    spread = p.stride if p.transposed else (1, 1)
    tiles = float(p.batch)
    for kernel, stride, out, step in zip(
        p.kernel_size, p.stride, p.output_size, spread, strict=True
    ):
        taps = [len(range(a, kernel, stride)) for a in range(stride)]
        points *= sum(n if count == r else n - 1 for count in taps)  # of all phases
        phases *= stride
        tiles *= -(-out // (step * m))
    rows = TILE_ROWS[max(TILE_ROWS)]
    held = -(-tiles // rows) * rows
    inputs, outputs = _vectors(p.channels), _vectors(p.out_channels)
    products = held * points * p.channels * outputs * (MOMENT if gradient else PRODUCT)
    grids = phases if p.transposed else 1
    moved = tiles * (phases * inputs * DATA[n] + grids * outputs * OUTPUT[n])
    moved *= PASSED_ON if gradient else 1.0
    return products + moved + phases * p.channels * outputs * FILTER[n]


def _vectors(channels: int) -> int:
    return -(-channels // LANES)
