"""Convolutions on channels-last memory, by register tiles over a padded copy of a few images.

x and grad may have any strides, but those whose memory is (N, H, W, C), and weights whose memory is
(O, kh, kw, I), are read where they lie. Results are (N, C, H, W) views of such memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import convolution, get_num_threads
from .conv_blocks import block, blocked_gather
from .conv_cost import winograd_pays
from .conv_depthwise import depthwise_gather, depthwise_weight_grad, suits_depthwise
from .conv_dilated import dilated_gather, dilated_weight_grad, undilated
from .conv_dots import dots_gather, suits_dots
from .conv_lanes import lanes_gather, lanes_weight_grad, suits_lanes
from .conv_plan import MAX_PIXELS, WEIGHT_GRAD_PIXELS, Pair, Plan, Problem, plan, weight_rows
from .conv_product import product_gather, product_weight_grad, suits_product
from .conv_runs import runs_weight_grad, suits_runs
from .conv_tiles import WORKERS, gather, pack_weight, unpack_weight_grad, weight_grad
from .elementwise import leaky_relu
from .memory import empty
from .tile_code import lanes
from .transpose import to_channels_last
from .winograd import fits, winograd_gather, winograd_weight_grad


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    slope: float = 1.0,
) -> np.ndarray:
    """Cross-correlate x (N, C, H, W) with weight (O, C/groups, kh, kw) -> (N, O, OH, OW).

    Sums below 0 are multiplied by `slope`: a leaky relu, or with slope 0 a relu.
    """
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
        slope,
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
    slope: float = 1.0,
) -> np.ndarray:
    """Spread x (N, I, H, W) over the taps of weight (I, O/groups, kh, kw) -> (N, O, *output_size).

    The transpose (adjoint) in x of conv2d with the same weight, whose input has size output_size;
    `slope` as there.
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
        slope,
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
    algorithm = _chosen_for(problem, gradient=True)
    if algorithm == "winograd":
        dtype = np.result_type(x, grad)
        filtered = winograd_weight_grad if problem.dilation == (1, 1) else dilated_weight_grad
        found = filtered(_channels_last(x, dtype), _channels_last(grad, dtype), problem)
        if found is not None:
            return found.transpose(0, 3, 1, 2)
        algorithm = choose(problem, gradient=True)
    if algorithm == "tiles":
        return _weight_grad(x, grad, problem)
    return WEIGHT_GRADS[algorithm](x, grad, problem, _channels_last)


def _weight_grad(x: np.ndarray, grad: np.ndarray, problem: Problem) -> np.ndarray:
    """The weight gradient as tiles of outer products, summed over pixels."""
    dtype, o, groups = np.result_type(x, grad), problem.out_channels, problem.groups
    result = np.empty((o, *problem.kernel_size, problem.channels // groups), dtype)
    p = plan(problem, lanes(dtype), dtype.itemsize, get_num_threads(), WEIGHT_GRAD_PIXELS)
    rows = weight_rows(problem, p)
    # Every worker sums over its own blocks of pixels; the sums are added up in order.
    sums = np.empty(int(p.geometry[WORKERS]) * groups * p.columns * rows.size, dtype)
    depth = result.size // o
    weight_grad(
        _channels_last(x, dtype), _channels_last(grad, dtype), sums, depth, p.geometry, p.phases,
        p.pixels, rows, p.panels,
    )  # fmt: skip
    unpack_weight_grad(sums, result.reshape(-1), depth, rows.size, p.geometry, p.panels)
    return result.transpose(0, 3, 1, 2)


def choose(p: Problem, gradient: bool = False) -> str:
    """The direct algorithm for a shape, or (`gradient`) for its weight gradient."""
    if suits_product(p):
        return "product"
    if suits_depthwise(p):
        return "depthwise"
    if suits_lanes(p):
        return "lanes"
    if gradient:
        return "runs" if suits_runs(p) else "tiles"
    if suits_dots(p):
        return "dots"
    return "tiles" if block(p) is None else "blocks"


def _run(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray:
    """Serve conv2d and conv_transpose2d by the algorithm chosen for the shape."""
    if bias is not None and bias.shape != (problem.out_channels,):
        name = "conv_transpose2d" if problem.transposed else "conv2d"
        raise ValueError(
            f"{name}: bias has shape {bias.shape}, expected ({problem.out_channels},), one value"
            " an output channel"
        )
    if 0 in x.shape or 0 in weight.shape or 0 in problem.output_size:
        shape = (problem.batch, *problem.output_size, problem.out_channels)
        y = np.zeros(shape, np.result_type(x, weight))
        y += 0 if bias is None else bias
        return leaky_relu(y, slope).transpose(0, 3, 1, 2)
    algorithm = _chosen_for(problem)
    return ALGORITHMS[algorithm](x, weight, bias, problem, slope)


def _chosen_for(problem: Problem, gradient: bool = False) -> str:
    """The algorithm for a shape, remembered; `kernels.use` may ask for one."""
    key = problem, gradient, convolution()
    algorithm = _chosen.get(key)
    if algorithm is None:
        wanted, plain = key[2], undilated(problem)
        fast = winograd_pays(plain, gradient) and not suits_product(problem)
        if wanted != "direct" and (fits(plain) if wanted == "winograd" else fast):
            algorithm = "winograd"
        else:
            algorithm = choose(problem, gradient)
        if len(_chosen) >= REMEMBERED:
            _chosen.clear()
        _chosen[key] = algorithm
    return algorithm


def _winograd(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray:
    """Minimal filtering; the direct sum where NaN or infinity would spread over a tile."""
    dtype = np.result_type(x, weight)
    flat = _channels_last(x, dtype), _channels_last(weight, dtype)
    filtered = winograd_gather if problem.dilation == (1, 1) else dilated_gather
    y = filtered(*flat, bias, problem, slope)
    if y is None:
        return ALGORITHMS[choose(problem)](x, weight, bias, problem, slope)
    return y.transpose(0, 3, 1, 2)


def _tiles(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray:
    """The direct sum over taps: blocks of padded input, panels of packed weights, tiles of sums."""
    dtype = np.result_type(x, weight)
    n, o, groups = problem.batch, problem.out_channels, problem.groups
    y = empty((n, *problem.output_size, o), dtype)
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
        _channels_last(x, dtype), packed, _padded_bias(bias, p, o, groups, dtype), float(slope),
        y.reshape(-1), p.geometry, p.phases, p.segments, p.pixels, p.outputs, p.panels,
    )  # fmt: skip
    return y.transpose(0, 3, 1, 2)


def _blocks(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray:
    """Tiles over blocks of output pixels; single pixels where NaN or infinity would spread."""
    y = blocked_gather(x, weight, bias, problem, slope, _channels_last, _tiles)
    return y if _finite(y) else _tiles(x, weight, bias, problem, slope)


def _dots(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray:
    """Dot products along the input channels, for few outputs."""
    return dots_gather(x, weight, bias, problem, slope, _channels_last)


def _lanes(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray:
    """One output channel a vector lane, for groups of few outputs."""
    return lanes_gather(x, weight, bias, problem, slope, _channels_last)


def _depthwise(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray:
    """Windows over rows of pixels, where channels do not mix."""
    return depthwise_gather(x, weight, bias, problem, slope, _channels_last)


def _finite(y: np.ndarray) -> bool:
    """Whether y is free of NaN and infinity; a sum that overflows counts as not free."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(y.sum()))


def _product(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, problem: Problem, slope: float
) -> np.ndarray:
    """A matrix product, where the kernel covers the image."""
    return product_gather(x, weight, bias, problem, slope, _channels_last)


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
    return {
        f"{problem}, weight gradient" if gradient else str(problem): algorithm
        for (problem, gradient, _), algorithm in _chosen.items()
    }


ALGORITHMS: dict[str, Callable[..., np.ndarray]] = {
    "winograd": _winograd,
    "tiles": _tiles,
    "product": _product,
    "blocks": _blocks,
    "depthwise": _depthwise,
    "lanes": _lanes,
    "dots": _dots,
}
WEIGHT_GRADS: dict[str, Callable[..., np.ndarray]] = {  # beside "winograd" and "tiles"
    "product": product_weight_grad,
    "depthwise": depthwise_weight_grad,
    "lanes": lanes_weight_grad,
    "runs": runs_weight_grad,
}
REMEMBERED = 4096  # shapes: pictures may come in any size
_chosen: dict[tuple[Problem, bool, str | None], str] = {}
for _kernel in (conv2d, conv_transpose2d, conv2d_weight_grad):
    _kernel.choices = _choices  # type: ignore[attr-defined]
