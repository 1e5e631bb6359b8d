"""Pooling of (N, C, H, W) images, with torch.nn.functional's semantics.

Max pooling is a search for indices, which has no gradient, and a linear gather whose adjoint is a
scatter. Average pooling is linear with its adjoint beside it.
"""

import numpy as np

import minigen.kernels as kernels
from minigen.autograd import composed, op
from minigen.ops.cases import case, distinct, integers, normal
from minigen.ops.resample import averaging, resample2d
from minigen.ops.shape import expand_dims, squeeze
from minigen.ops.windows import Pair, pair, pooling
from minigen.tensor import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "max_pool2d",
    "max_unpool2d",
]


@composed(
    cases=[
        case(distinct(2, 2, 4, 6), 2),
        case(distinct(1, 2, 5, 5), (3, 2), stride=(2, 1), padding=1),
        case(distinct(2, 6, 5), 2, stride=2, dilation=2, ceil_mode=True),
    ]
)
def max_pool2d(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of every window: (N, C, H, W), or (C, H, W), gives (N, C, H', W').

    `stride` is the kernel size if not given. With `return_indices` also the flat index in H*W of
    each value. Raises ValueError if no window fits, or if the padding is more than half of the
    kernel.
    """
    if input.ndim == 3:
        batch = expand_dims(input, 0)
        found = max_pool2d(batch, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return tuple(squeeze(t, 0) for t in found) if return_indices else squeeze(found, 0)
    window, size = pooling(
        "max_pool2d", input.shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    if not return_indices and window[3] == (1, 1) and window[0][0] * window[0][1] < 256:
        return max_windows(input, *window[:3], size, [])
    indices = max_pool2d_indices(input, *window, size)
    values = pool_gather(input, indices)
    return (values, indices) if return_indices else values


@op(cases=[case(distinct(2, 2, 4, 5), (2, 3), (2, 1), (1, 0), (3, 3))])
def max_windows(x, kernel_size, stride, padding, output_size, taps=None):
    """max_pool2d without dilation; the winning tap of each window is left in the list `taps`."""
    y, found = kernels.max_pool2d(x, kernel_size, stride, padding, output_size)
    if taps is not None:
        taps[:] = [found]
    return y


def _max_windows_x(g, x, kernel_size, stride, padding, output_size, taps):
    if not taps:
        taps = [kernels.max_pool2d(x.data, kernel_size, stride, padding, output_size)[1]]
    return max_spread(g, taps[0], kernel_size, stride, padding, x.shape[2:])


TAPS = np.array([[[[0, 1], [5, 3]], [[2, 4], [5, 0]]]], np.uint8)


@op(linear=("grad",), cases=[case(normal(1, 2, 2, 2), TAPS, (2, 3), (2, 1), (0, 0), (4, 4))])
def max_spread(grad, taps, kernel_size, stride, padding, input_size):
    """The adjoint of max_pick: each value is added up where its window's tap lies."""
    return kernels.max_pool2d_grad(grad, taps, kernel_size, stride, padding, input_size)


@op(linear=("x",), cases=[case(normal(1, 2, 4, 4), TAPS, (2, 3), (2, 1), (0, 0))])
def max_pick(x, taps, kernel_size, stride, padding):
    """The value at the given tap of each window."""
    return kernels.max_pool2d_pick(x, taps, kernel_size, stride, padding)


max_windows.vjp(x=_max_windows_x)
max_spread.vjp(
    grad=lambda g, taps, kernel_size, stride, padding: max_pick(
        g, taps, kernel_size, stride, padding
    )
)
max_pick.vjp(
    x=lambda g, taps, kernel_size, stride, padding, x_shape: max_spread(
        g, taps, kernel_size, stride, padding, x_shape[2:]
    )
)


@op(differentiable=False)
def max_pool2d_indices(x, kernel_size, stride, padding, dilation, output_size):
    """Where the largest value of every window lies, flat in H*W."""
    return kernels.max_pool2d_indices(x, kernel_size, stride, padding, dilation, output_size)


@op(linear=("x",), cases=[case(normal(2, 3, 4, 3), integers(0, 12, 2, 3, 2, 5))])
def pool_gather(x, indices):
    """Values at flat indices in H*W: (N, C, H, W), (N, C, H', W') -> (N, C, H', W')."""
    return kernels.pool_gather(x, indices)


@op(linear=("grad",), cases=[case(normal(2, 3, 2, 5), integers(0, 12, 2, 3, 2, 5), (4, 3))])
def pool_scatter(grad, indices, input_size):
    """The adjoint of pool_gather: values are added up where they came from."""
    return kernels.pool_scatter(grad, indices, input_size)


pool_gather.vjp(x=lambda g, indices, x_shape: pool_scatter(g, indices, x_shape[2:]))
pool_scatter.vjp(grad=lambda g, indices: pool_gather(g, indices))


@composed(
    cases=[
        case(normal(2, 2, 4, 6), 2),
        case(normal(1, 2, 5, 5), (3, 2), stride=(2, 1), padding=1),
        case(normal(2, 6, 5), 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        case(normal(1, 1, 4, 4), 2, stride=1, divisor_override=3),
    ]
)
def avg_pool2d(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window: (N, C, H, W), or (C, H, W), gives (N, C, H', W').

    `stride` is the kernel size if not given. The padding counts as zeros unless `count_include_pad`
    is False; `divisor_override` replaces the count. Raises ValueError as max_pool2d does, and for a
    divisor of zero.
    """
    if divisor_override == 0:
        raise ValueError(
            "avg_pool2d: divisor_override is 0; expected a number other than 0, or None"
        )
    window, size = pooling("avg_pool2d", input.shape, kernel_size, stride, padding, 1, ceil_mode)
    pooled = mean_windows(
        expand_dims(input, 0) if input.ndim == 3 else input,
        *window[:3], size, bool(count_include_pad), divisor_override,
    )  # fmt: skip
    return squeeze(pooled, 0) if input.ndim == 3 else pooled


@op(
    linear=("x",),
    cases=[case(normal(2, 2, 5, 4), (3, 2), (2, 1), (1, 0), (3, 3), False, None)],
)
def mean_windows(x, kernel_size, stride, padding, output_size, count_include_pad, divisor):
    """avg_pool2d with its arguments normalised."""
    return kernels.avg_pool2d(
        x, kernel_size, stride, padding, output_size, count_include_pad, divisor
    )


@op(
    linear=("grad",),
    cases=[case(normal(2, 2, 3, 3), (5, 4), (3, 2), (2, 1), (1, 0), (3, 3), True, None)],
)
def spread_windows(
    grad, input_size, kernel_size, stride, padding, output_size, count_include_pad, divisor
):
    """The adjoint of mean_windows: each value is spread evenly over its window."""
    return kernels.avg_pool2d_grad(
        grad, input_size, kernel_size, stride, padding, output_size, count_include_pad, divisor
    )


mean_windows.vjp(
    x=lambda g, x_shape, kernel_size, stride, padding, output_size, count_include_pad, divisor: (
        spread_windows(
            g, x_shape[2:], kernel_size, stride, padding, output_size, count_include_pad, divisor
        )
    )
)
spread_windows.vjp(
    grad=lambda g, kernel_size, stride, padding, output_size, count_include_pad, divisor: (
        mean_windows(g, kernel_size, stride, padding, output_size, count_include_pad, divisor)
    )
)


@composed(
    cases=[
        case(normal(2, 2, 6, 4), 2),
        case(normal(1, 2, 5, 7), (3, 2)),
        case(normal(2, 3, 4), (5, None)),
    ]
)
def adaptive_avg_pool2d(input: Tensor, output_size: int | tuple[int | None, int | None]) -> Tensor:
    """The means of `output_size` windows that tile (N, C, H, W) or (C, H, W).

    Window i of n covers rows floor(i H / n) to ceil((i + 1) H / n). None keeps a side as it is.
    """
    size = _adaptive("adaptive_avg_pool2d", input, output_size)
    height, width = input.shape[-2:]
    if height % size[0] == 0 and width % size[1] == 0:
        return avg_pool2d(input, (height // size[0], width // size[1]))
    batch = expand_dims(input, 0) if input.ndim == 3 else input
    means = resample2d(batch, averaging(height, size[0]), averaging(width, size[1]))
    return squeeze(means, 0) if input.ndim == 3 else means


@composed(cases=[case(distinct(2, 2, 6, 4), 2), case(distinct(2, 5, 7), (3, 2))])
def adaptive_max_pool2d(
    input: Tensor, output_size: int | tuple[int | None, int | None], return_indices: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """The maxima of `output_size` windows that tile the image, as in adaptive_avg_pool2d.

    With `return_indices` also the flat index in H*W of each value.
    """
    size = _adaptive("adaptive_max_pool2d", input, output_size)
    batch = expand_dims(input, 0) if input.ndim == 3 else input
    indices = adaptive_max_indices(batch, size)
    found = pool_gather(batch, indices), indices
    if input.ndim == 3:
        found = tuple(squeeze(t, 0) for t in found)
    return found if return_indices else found[0]


@op(differentiable=False)
def adaptive_max_indices(x, output_size):
    """Where the largest value of every adaptive window lies, flat in H*W; NaN wins."""
    n, c, height, width = x.shape
    edges = [_edges(height, output_size[0]), _edges(width, output_size[1])]
    rows = []
    for top, bottom in edges[0]:
        for left, right in edges[1]:
            window = x[:, :, top:bottom, left:right]
            inside = window.reshape(n, c, (bottom - top) * (right - left)).argmax(axis=2)
            row, column = np.divmod(inside, right - left)
            rows.append((row + top) * width + column + left)
    return np.stack(rows, axis=-1).reshape(n, c, *output_size)


@composed(cases=[case(normal(2, 1, 2, 2), np.array([[[[0, 3], [8, 10]]], [[[5, 2], [9, 15]]]]), 2)])
def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: tuple[int, ...] | None = None,
) -> Tensor:
    """Put max_pool2d's values back where `indices` say they came from, zeros elsewhere.

    Every index must occur once in its image (as windows that do not overlap give): values that
    share one are added.
    """
    where = "max_unpool2d"
    kernel_size = pair(where, "kernel_size", kernel_size, 1)
    stride = kernel_size if stride is None else pair(where, "stride", stride, 1)
    padding = pair(where, "padding", padding, 0)
    if input.shape != indices.shape:
        raise ValueError(f"{where}: input has shape {input.shape}, indices {indices.shape}")
    if output_size is None:
        n = input.shape[-2:]
        size = tuple((n[i] - 1) * stride[i] - 2 * padding[i] + kernel_size[i] for i in (0, 1))
    else:
        size = tuple(output_size[-2:])
    if input.ndim == 3:
        placed = pool_scatter(expand_dims(input, 0), expand_dims(indices, 0), size)
        return squeeze(placed, 0)
    return pool_scatter(input, indices, size)


def _adaptive(where, input, output_size):
    """The output's (height, width), None replaced by the input's."""
    if input.ndim not in (3, 4) or 0 in input.shape[-2:]:
        raise ValueError(
            f"{where}: input has shape {input.shape}; expected (N, C, H, W) or (C, H, W)"
        )
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(sizes) != 2:
        raise ValueError(f"{where}: output_size is {output_size!r}; expected an int or a pair")
    filled = [n if s is None else s for s, n in zip(sizes, input.shape[-2:], strict=True)]
    return pair(where, "output_size", tuple(filled), 1)


def _edges(extent, count):
    return [(i * extent // count, -(-(i + 1) * extent // count)) for i in range(count)]
