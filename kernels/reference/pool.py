"""Pooling of (N, C, H, W) images in plain NumPy.

Max pooling is a search for indices (not differentiated) and then a linear gather, whose adjoint is
the scatter. Sizes are (height, width) pairs.
"""

import numpy as np


def max_pool2d_indices(x, kernel_size, stride, padding, dilation, output_size) -> np.ndarray:
    """Where the largest value of every window lies: int64 (N, C, OH, OW), flat in H*W as in torch.

    The first of equal values wins, and the last NaN wins over everything.
    """
    n, c, height, width = x.shape
    indices = np.empty((n, c, *output_size), np.int64)
    window = (kernel_size, stride, padding, dilation, output_size)
    for i, rows in enumerate(_inside(height, 0, *window)):
        for j, columns in enumerate(_inside(width, 1, *window)):
            values = x[:, :, rows[:, None], columns].reshape(n, c, rows.size * columns.size)
            flat = (rows[:, None] * width + columns).reshape(-1)
            nan = np.isnan(values)
            last_nan = nan.shape[2] - 1 - np.argmax(nan[:, :, ::-1], axis=2)
            winner = np.where(nan.any(axis=2), last_nan, np.argmax(values, axis=2))
            indices[:, :, i, j] = flat[winner]
    return indices


def pool_gather(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """x's values at flat indices: (N, C, H, W), (N, C, OH, OW) -> (N, C, OH, OW)."""
    n, c, height, width = x.shape
    check_indices("pool_gather", indices, height, width)
    positions = indices.reshape(n, c, indices.shape[2] * indices.shape[3])
    flat = np.take_along_axis(x.reshape(n, c, height * width), positions, axis=2)
    return flat.reshape(indices.shape)


def pool_scatter(grad: np.ndarray, indices: np.ndarray, input_size) -> np.ndarray:
    """Adjoint of pool_gather: adds grad up at its indices, -> (N, C, *input_size)."""
    n, c = grad.shape[:2]
    height, width = input_size
    check_indices("pool_scatter", indices, height, width)
    total = np.zeros((n, c, height * width), grad.dtype)
    images, channels = np.arange(n)[:, None, None, None], np.arange(c)[:, None, None]
    np.add.at(total, (images, channels, indices), grad)
    return total.reshape(n, c, height, width)


def avg_pool2d(
    x, kernel_size, stride, padding, output_size, count_include_pad: bool, divisor
) -> np.ndarray:  # fmt: skip
    """Mean of every window; divisor replaces the count where it is not None."""
    y = np.zeros((*x.shape[:2], *output_size), x.dtype)
    for i, j, rows, columns, count in _averages(
        x.shape[2:], kernel_size, stride, padding, output_size, count_include_pad, divisor
    ):
        y[:, :, i, j] = x[:, :, rows, columns].sum(axis=(2, 3)) / count
    return y


def avg_pool2d_grad(
    grad, input_size, kernel_size, stride, padding, output_size, count_include_pad: bool, divisor
) -> np.ndarray:  # fmt: skip
    """Adjoint of avg_pool2d: (N, C, OH, OW) -> (N, C, *input_size)."""
    dx = np.zeros((*grad.shape[:2], *input_size), grad.dtype)
    for i, j, rows, columns, count in _averages(
        input_size, kernel_size, stride, padding, output_size, count_include_pad, divisor
    ):
        dx[:, :, rows, columns] += (grad[:, :, i, j] / count)[:, :, None, None]
    return dx


def _inside(extent, axis, kernel_size, stride, padding, dilation, output_size):
    """For every output position the input positions of its window that lie inside."""
    for position in range(output_size[axis]):
        first = position * stride[axis] - padding[axis]
        inside = np.arange(kernel_size[axis]) * dilation[axis] + first
        inside = inside[(inside >= 0) & (inside < extent)]
        # A window wholly in the padding points at the nearest pixel.
        yield inside if inside.size else np.array([min(max(first, 0), extent - 1)])


def _averages(size, kernel_size, stride, padding, output_size, count_include_pad, divisor):
    """i, j, row slice, column slice and divisor of every window that is not empty."""
    spans = [
        [_span(p, size[a], kernel_size[a], stride[a], padding[a]) for p in range(output_size[a])]
        for a in (0, 1)
    ]
    for i, (rows, full_rows) in enumerate(spans[0]):
        for j, (columns, full_columns) in enumerate(spans[1]):
            inside = (rows.stop - rows.start) * (columns.stop - columns.start)
            if rows.stop > rows.start and columns.stop > columns.start:
                whole = full_rows * full_columns if count_include_pad else inside
                yield i, j, rows, columns, whole if divisor is None else divisor


def _span(position, extent, kernel, stride, padding):
    """A window's slice of the image, and its length with the padding counted."""
    first = position * stride - padding
    last = min(first + kernel, extent + padding)
    return slice(max(first, 0), min(last, extent)), last - first


def check_indices(name: str, indices: np.ndarray, height: int, width: int) -> None:
    """Raise IndexError unless every index points into a height x width image."""
    if indices.size and not (indices.min() >= 0 and indices.max() < height * width):
        raise IndexError(
            f"{name}: indices span {indices.min()}..{indices.max()}, "
            f"expected them in 0..{height * width - 1} for an image of {height} x {width}"
        )
