"""Convolutions on channels-last memory, by register tiles over a padded copy of a few images.

x and grad may have any strides, but those whose memory is (N, H, W, C), and weights whose memory is
(O, kh, kw, I), are read where they lie. Results are (N, C, H, W) views of such memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import get_num_threads
from .conv_blocks import block, blocked_gather, blocked_weight_grad
from .conv_plan import MAX_PIXELS, WEIGHT_GRAD_PIXELS, Pair, Plan, Problem, plan, weight_rows
from .conv_tiles import (
    WORKERS,
    gather,
    pack_weight,
    to_channels_last,
    unpack_weight_grad,
    weight_grad,
)
from .tile import lanes


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Cross-correlate x (N, C, H, W) with weight (O, C/groups, kh, kw) -> (N, O, OH, OW)."""
    n, c, h, w = x.shape
    o, inner, kh, kw = weight.shape
    if inner * groups != c or o % groups:
        raise ValueError(
            f"conv2d: input has {c} channels, weight expects {inner * groups} "
            f"(weight shape {weight.shape}, groups {groups})"
        )
    oh = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (w + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    return _run(
        x, weight, bias,
        Problem(n, c, (h, w), o, (oh, ow), (kh, kw), stride, padding, dilation, groups, False),
    )  # fmt: skip


def conv_transpose2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    output_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Spread x (N, I, H, W) over the taps of weight (I, O/groups, kh, kw) -> (N, O, *output_size).

    The transpose (adjoint) in x of conv2d with the same weight, whose input has size output_size.
    """
    n, c, h, w = x.shape
    inputs, og, kh, kw = weight.shape
    if inputs != c or c % groups:
        raise ValueError(
            f"conv_transpose2d: input has {c} channels, weight expects {inputs} "
            f"(weight shape {weight.shape}, groups {groups})"
        )
    o = og * groups
    return _run(
        x, weight, bias,
        Problem(n, c, (h, w), o, output_size, (kh, kw), stride, padding, dilation, groups, True),
    )  # fmt: skip


def conv2d_weight_grad(
    x: np.ndarray,
    grad: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """The gradient of sum(grad * conv2d(x, weight)) in weight -> (O, C/groups, kh, kw)."""
    n, c, h, w = x.shape
    _, o, oh, ow = grad.shape
    if grad.shape[0] != n or c % groups or o % groups:
        raise ValueError(
            f"conv2d_weight_grad: input {x.shape} and gradient {grad.shape} must agree in batch, "
            f"and their channels divide into {groups} groups"
        )
    if 0 in x.shape or 0 in grad.shape:
        zeros = np.zeros((o, *kernel_size, c // groups), np.result_type(x, grad))
        return zeros.transpose(0, 3, 1, 2)
    problem = Problem(
        n, c, (h, w), o, (oh, ow), kernel_size, stride, padding, dilation, groups, False
    )
    if block(problem) is not None:
        result = blocked_weight_grad(x, grad, problem, _channels_last, _weight_grad)
        if _finite(result):
            return result
    return _weight_grad(x, grad, problem)


def _weight_grad(x: np.ndarray, grad: np.ndarray, problem: Problem) -> np.ndarray:
    """The weight gradient as tiles of outer products, summed over pixels."""
    dtype, o, groups = np.result_type(x, grad), problem.out_channels, problem.groups
    result = np.empty((o, *problem.kernel_size, problem.channels // groups), dtype)
    p = plan(problem, lanes(dtype), dtype.itemsize, get_num_threads(), WEIGHT_GRAD_PIXELS)
    rows = weight_rows(problem, p)
    # Every worker sums over its own blocks of pixels; the sums are added up in order.
    sums = np.empty(int(p.geometry[WORKERS]) * groups * p.columns * rows.size, dtype)
    weight_grad(
        _channels_last(x, dtype), _channels_last(grad, dtype), sums, p.geometry, p.phases,
        p.pixels, rows, p.panels,
    )  # fmt: skip
    depth = result.size // o
    unpack_weight_grad(sums, result.reshape(-1), depth, rows.size, p.geometry, p.panels)
    return result.transpose(0, 3, 1, 2)


def choose(problem: Problem) -> str:
    """The algorithm for a shape, a key of ALGORITHMS."""
    p = problem
    alone = p.transposed and p.size == (1, 1) and p.padding == (0, 0) and p.groups == 1
    if alone and p.output_size == p.kernel_size and p.dilation == (1, 1):
        return "one pixel"
    return "tiles" if block(p) is None else "blocks"


def _run(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem
) -> np.ndarray:
    """Serve conv2d and conv_transpose2d by the algorithm chosen for the shape."""
    if bias is not None and bias.shape != (problem.out_channels,):
        raise ValueError(f"{problem}: bias has shape {bias.shape}, expected one value a channel")
    if 0 in x.shape or 0 in weight.shape or 0 in problem.output_size:
        shape = (problem.batch, *problem.output_size, problem.out_channels)
        y = np.zeros(shape, np.result_type(x, weight))
        y += 0 if bias is None else bias
        return y.transpose(0, 3, 1, 2)
    algorithm = _chosen.get(problem)
    if algorithm is None:
        algorithm = _chosen[problem] = choose(problem)
    return ALGORITHMS[algorithm](x, weight, bias, problem)


def _tiles(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem
) -> np.ndarray:
    """The direct sum over taps: blocks of padded input, panels of packed weights, tiles of sums."""
    dtype = np.result_type(x, weight)
    n, o, groups = problem.batch, problem.out_channels, problem.groups
    y = np.empty((n, *problem.output_size, o), dtype)
    p = plan(problem, lanes(dtype), dtype.itemsize, get_num_threads(), MAX_PIXELS)
    packed = np.empty(p.packed_size + lanes(dtype), dtype)  # the kernels align it
    outer, inner, kh, kw = weight.shape
    row = kh * kw * inner  # the memory is (outer, kh, kw, inner)
    # Elements from one output channel, tap, input channel and group to the next.
    strides = (1, inner, row, outer // groups * row)
    if not problem.transposed:
        strides = (row, inner, 1, outer // groups * row)
    pack_weight(
        _channels_last(weight, dtype), packed, p.geometry, p.phases, p.taps, p.panels, strides
    )
    gather(
        _channels_last(x, dtype), packed, _padded_bias(bias, p, o, groups, dtype), y.reshape(-1),
        p.geometry, p.phases, p.segments, p.pixels, p.outputs, p.panels,
    )  # fmt: skip
    return y.transpose(0, 3, 1, 2)


def _blocks(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem
) -> np.ndarray:
    """Tiles over blocks of output pixels; single pixels where NaN or infinity would spread."""
    y = blocked_gather(x, weight, bias, problem, _channels_last, _tiles)
    return y if _finite(y) else _tiles(x, weight, bias, problem)


def _finite(y: np.ndarray) -> bool:
    """Whether y is free of NaN and infinity; a sum that overflows counts as not free."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(y.sum()))


def _one_pixel(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem
) -> np.ndarray:
    """One input pixel paints the whole output: a 1x1 convolution to kh * kw * O channels."""
    i, o, kh, kw = weight.shape
    wide = weight.transpose(0, 2, 3, 1).reshape(i, kh * kw * o)[:, :, None, None]
    y = _tiles(
        x, wide, None if bias is None else np.tile(bias, kh * kw),
        problem._replace(
            out_channels=kh * kw * o, output_size=(1, 1), kernel_size=(1, 1), stride=(1, 1)
        ),
    )  # fmt: skip
    y = y.transpose(0, 2, 3, 1).reshape(x.shape[0], kh, kw, o)
    return y.transpose(0, 3, 1, 2)


def _channels_last(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The flat (N, H, W, C) memory of an (N, C, H, W) array: a view where it lies so already."""
    turned = x.transpose(0, 2, 3, 1)
    if turned.flags.c_contiguous or not x.flags.c_contiguous or x.size < 4096:
        return np.ascontiguousarray(turned, dtype).reshape(-1)
    result = np.empty(x.size, dtype)  # NumPy's own copy is several times slower
    n, c, h, w = x.shape
    to_channels_last(x.reshape(-1).astype(dtype, copy=False), result, n, c, h * w)
    return result


def _padded_bias(
    bias: np.ndarray | None, p: Plan, outputs: int, groups: int, dtype: np.dtype
) -> np.ndarray:
    """The bias of each group, in whole vectors."""
    padded = np.zeros((groups, p.columns), dtype)
    if bias is not None:
        padded[:, : outputs // groups] = bias.reshape(groups, -1)
    return padded.reshape(-1)


def _choices() -> dict[str, str]:
    """For `kernels.explain`: each shape served so far, and its algorithm."""
    return {str(problem): algorithm for problem, algorithm in _chosen.items()}


ALGORITHMS: dict[str, Callable[..., np.ndarray]] = {
    "tiles": _tiles,
    "one pixel": _one_pixel,
    "blocks": _blocks,
}
_chosen: dict[Problem, str] = {}
conv2d.choices = conv_transpose2d.choices = _choices  # type: ignore[attr-defined]
