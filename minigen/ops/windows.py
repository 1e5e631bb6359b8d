"""The arithmetic of sliding windows: arguments as pairs, output sizes, and what does not fit.

Nothing here touches an array. Answers depend on shapes alone and are remembered, so that a layer
called again pays for its checks with a look-up.
"""

from functools import lru_cache
from typing import Any

import numpy as np

Pair = tuple[int, int]
Shape = tuple[int, ...]


def pair(where: str, name: str, value: Any, least: int) -> Pair:
    """(h, w) from an int or a pair of ints, none below `least`."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values)
    if not whole or len(values) not in (1, 2) or min(values) < least:
        raise ValueError(
            f"{where}: {name} is {value!r}; expected ints of at least {least}, one or two"
        )
    return int(values[0]), int(values[-1])


@lru_cache(maxsize=4096, typed=True)
def convolving(
    x: Shape, w: Shape, bias: Shape | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple[tuple[Pair, Pair, Pair], Pair]:
    """((stride, padding, dilation), rows and columns that "same" adds at the end) of conv2d."""
    stride = pair("conv2d", "stride", stride, 1)
    dilation = pair("conv2d", "dilation", dilation, 1)
    _check_dimensions("conv2d", x, w)
    padding, end = _padding(w, stride, padding, dilation)
    if groups < 1 or w[0] % groups:
        raise ValueError(f"conv2d: groups {groups} must divide the {w[0]} outputs of weight {w}")
    if x[1] != w[1] * groups:
        raise ValueError(
            f"conv2d: input has {x[1]} channels, weight expects {w[1] * groups}"
            f" (weight shape {w}, groups {groups})"
        )
    if bias is not None and bias != w[:1]:
        raise ValueError(f"conv2d: bias has shape {bias}, weight {w} needs {w[:1]}")
    for i in (0, 1):
        reach = dilation[i] * (w[2 + i] - 1) + 1
        if not 1 <= reach <= x[2 + i] + 2 * padding[i] + end[i]:
            raise ValueError(
                f"conv2d: kernel {w[2:]} with dilation {dilation} spans {reach} pixels, more"
                f" than the input {x[2:]} with padding {padding}; use a smaller kernel or more"
                " padding"
            )
    return (stride, padding, dilation), end


def _padding(w, stride, padding, dilation):
    """The padding in numbers, and what "same" adds at the end only, as torch does."""
    if not isinstance(padding, str):
        return pair("conv2d", "padding", padding, 0), (0, 0)
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        raise ValueError(f"conv2d: padding is {padding!r}; expected ints, 'same' or 'valid'")
    if stride != (1, 1):
        raise ValueError(f"conv2d: padding 'same' needs stride 1, not {stride}")
    rows, columns = (dilation[i] * (w[2 + i] - 1) for i in (0, 1))
    return (rows // 2, columns // 2), (rows % 2, columns % 2)


@lru_cache(maxsize=4096, typed=True)
def transposing(
    x: Shape, w: Shape, bias: Shape | None,
    stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any,
) -> tuple[Pair, Pair, Pair, Pair]:  # fmt: skip
    """(output size, stride, padding, dilation) of conv_transpose2d."""
    where = "conv_transpose2d"
    stride = pair(where, "stride", stride, 1)
    padding = pair(where, "padding", padding, 0)
    extra = pair(where, "output_padding", output_padding, 0)
    dilation = pair(where, "dilation", dilation, 1)
    _check_dimensions(where, x, w)
    if groups < 1 or w[0] % groups:
        raise ValueError(f"{where}: groups {groups} must divide the {w[0]} inputs of weight {w}")
    if x[1] != w[0]:
        raise ValueError(
            f"{where}: input has {x[1]} channels, weight expects {w[0]} (weight shape {w})"
        )
    if bias is not None and bias != (w[1] * groups,):
        raise ValueError(
            f"{where}: bias has shape {bias}, weight {w} with groups {groups} needs"
            f" {(w[1] * groups,)}"
        )
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"{where}: output_padding {extra} must be smaller than stride {stride} or"
            f" dilation {dilation}"
        )
    height, width = (
        (x[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (w[2 + i] - 1) + extra[i] + 1
        for i in (0, 1)
    )
    if height < 1 or width < 1:
        raise ValueError(
            f"{where}: the output would have size {(height, width)} for input {x[2:]},"
            f" kernel {w[2:]}, stride {stride} and padding {padding}; use less padding"
        )
    return (height, width), stride, padding, dilation


def pooling(
    where: str,
    x: Shape,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> tuple[tuple[Pair, Pair, Pair, Pair], Pair]:
    """((kernel_size, stride, padding, dilation), output size) of a pooling window."""
    kernel_size = pair(where, "kernel_size", kernel_size, 1)
    stride = kernel_size if stride is None or stride == [] else pair(where, "stride", stride, 1)
    padding = pair(where, "padding", padding, 0)
    dilation = pair(where, "dilation", dilation, 1)
    if len(x) not in (3, 4):
        raise ValueError(f"{where}: input has shape {x}; expected (N, C, H, W) or (C, H, W)")
    size = []
    for n, k, s, p, d in zip(x[-2:], kernel_size, stride, padding, dilation, strict=True):
        if 2 * p > k:
            raise ValueError(
                f"{where}: padding {padding} is more than half of kernel_size {kernel_size}"
            )
        room = n + 2 * p - d * (k - 1) - 1
        count = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1  # the last window must start inside the image or its left padding
        if count < 1 or n == 0:
            raise ValueError(
                f"{where}: kernel_size {kernel_size} does not fit into the input {x[-2:]}"
                f" with padding {padding}"
            )
        size.append(count)
    return (kernel_size, stride, padding, dilation), tuple(size)


def patches(
    where: str, size: Shape, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[tuple[Pair, Pair, Pair, Pair], int]:
    """((kernel_size, dilation, padding, stride), how many patches an image of `size` has)."""
    window = (
        pair(where, "kernel_size", kernel_size, 1),
        pair(where, "dilation", dilation, 1),
        pair(where, "padding", padding, 0),
        pair(where, "stride", stride, 1),
    )
    rows, columns = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in zip(size, *window, strict=True)
    )
    if rows < 1 or columns < 1:
        raise ValueError(
            f"{where}: kernel_size {window[0]} with dilation {window[1]} does not fit into"
            f" {tuple(size)}"
            f" with padding {window[2]}"
        )
    return window, rows * columns


def _check_dimensions(where, x, w):
    if len(x) != 4 or len(w) != 4:
        raise ValueError(
            f"{where}: input has shape {x}, weight {w}; expected (N, C, H, W) or (C, H, W), and 4"
            " dimensions"
        )
