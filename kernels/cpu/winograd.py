"""Convolutions by minimal filtering (Winograd 1980; Lavin & Gray 2015), at any stride.

One product for each point, phase, tile and pair of channels, about a quarter to two fifths of the
direct sum's, at errors near 1e-5 in float32. NaN and infinity in an input pixel, and sums that
overflow, would spoil the whole tile: the functions then return None, and the caller sums directly.

Images and weights are flat channels-last memory, (N, H, W, C) and (O, kh, kw, C), transposed
convolutions' weights (C, kh, kw, O).
"""

from __future__ import annotations

import numpy as np

from .. import get_num_threads
from .conv_plan import Problem
from .cook_toom import TILE
from .memory import empty
from .tile_code import lanes
from .winograd_grad import moments, transform_grad
from .winograd_loops import channels_first, tiles_first, transform_weights
from .winograd_parts import BLOCK, HELD, transform_data
from .winograd_plan import GEOMETRY, taps_of, tiling


def fits(p: Problem) -> bool:
    """Whether minimal filtering can compute a convolution."""
    reached = all(k >= s for k, s in zip(p.kernel_size, p.stride, strict=True))
    return p.groups == 1 and p.dilation == (1, 1) and reached and taps_of(p) in TILE


def winograd_gather(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray | None:
    """conv2d or conv_transpose2d -> (N, OH, OW, O), or None where values are not finite."""
    p, wide = problem, lanes(x.dtype)
    t = tiling(p, wide, x.itemsize, get_num_threads(), False)
    geo = dict(zip(GEOMETRY, t.geometry.tolist(), strict=True))
    square = geo["points"] ** 2
    y = empty((p.batch, *p.output_size, p.out_channels), x.dtype)
    shift = np.zeros(geo["columns"], x.dtype)
    if bias is not None:
        shift[: p.out_channels] = bias
    spoiled = np.zeros(geo["workers"] * wide, x.dtype)
    flat, slope = y.reshape(-1), x.dtype.type(slope)
    if t.many:
        count = len(t.phases) * p.channels * geo["columns"] + len(t.passes) * len(t.panels) * wide
        weights = np.empty(square * count + wide, x.dtype)
        transform_weights(weight, weights, t.geometry, t.passes, t.phases, t.taps, t.panels)
        tiles_first(
            x, weights, shift, slope, flat, spoiled, t.geometry, t.passes, t.phases, t.lines,
            t.panels, t.segments, t.chunks,
        )  # fmt: skip
    else:
        data = np.empty(square * geo["data_stride"] + wide, x.dtype)
        for which, start, stop in t.chunks.tolist():
            transform_data(
                x, data, start, stop, which, t.geometry, t.passes, t.phases, t.lines
            )
            channels_first(
                data, weight, shift, slope, flat, spoiled, start, stop, which, t.geometry,
                t.passes, t.phases, t.lines, t.taps, t.panels, t.segments,
            )  # fmt: skip
    return None if np.isnan(spoiled).any() else y


def winograd_weight_grad(x: np.ndarray, grad: np.ndarray, problem: Problem) -> np.ndarray | None:
    """conv2d_weight_grad -> (O, kh, kw, C), or None where values are not finite."""
    p, wide = problem, lanes(x.dtype)
    t = tiling(p, wide, x.itemsize, get_num_threads(), True)
    geo = dict(zip(GEOMETRY, t.geometry.tolist(), strict=True))
    square = geo["points"] ** 2
    data = np.empty(square * geo["data_stride"] + wide, x.dtype)
    sums = np.empty(square * geo["sums_stride"] + wide, x.dtype)
    result = np.empty((p.out_channels, *p.kernel_size, p.channels), x.dtype)
    items = len(t.phases) * -(-p.channels // BLOCK) * len(t.panels)
    slots = geo["workers"] if len(t.chunks) == 1 else items
    gradients = np.empty(slots * square * (HELD * geo["wide"] + wide) + wide, x.dtype)
    for i, (which, start, stop) in enumerate(t.chunks.tolist()):
        place = (t.geometry, t.passes)
        transform_data(x, data, start, stop, which, *place, t.phases, t.lines)
        transform_grad(grad, sums, start, stop, which, *place, t.lines)
        begins, ends = i == 0, i == len(t.chunks) - 1
        kept = 0 if begins and ends else 1 if begins else 2 if ends else 3
        moments(
            data, sums, gradients, kept, result.reshape(-1), start, stop, t.geometry, t.phases,
            t.taps, t.panels,
        )  # fmt: skip
    return result if np.isfinite(result.sum()) else None
